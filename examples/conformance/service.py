"""The service under test, with a database of its own in a folder that is removed at the end. It can be killed as a crash would, and
comes back on its data and port. It also signs the tokens of its users.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from pathlib import Path

START_S = 180
STOP_S = 60


class Service:
    def __init__(self, program):
        self.program = program
        # A folder in memory where there is one: a run waits for the disk at each commit.
        self.folder = Path(tempfile.mkdtemp(prefix="restante-conformance-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        # The database server of a service that runs as root has an account of its own.
        self.folder.chmod(0o755)
        self.secret = secrets.token_hex(32)
        self.address = "127.0.0.1:0"
        self.process = None

    @property
    def url(self):
        return f"http://{self.address}"

    @property
    def database_url(self):
        return f"host={self.folder}/data/postgres user=postgres dbname=restante"

    async def start(self):
        settings = {"DATA_DIR": f"{self.folder}/data", "JWT_SECRET": self.secret, "LISTEN_ADDR": self.address}
        with open(self.folder / "service.log", "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.program, "serve", env={**os.environ, **settings}, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        line = await asyncio.wait_for(self.process.stdout.readline(), START_S)
        said = re.match(r"listening on http://(\S+)", line.decode())
        if not said:
            raise RuntimeError(f"the service did not start:\n{self.log()}")
        self.address = said[1]

    async def kill(self):
        """Ends it as a crash would, and returns when it is gone."""
        self.process.kill()
        await self.process.wait()

    async def revive(self):
        """Starts it where it does not run."""
        if self.process.returncode is not None:
            await self.start()

    async def remove(self):
        """Stops it with its database, which a killed one would leave behind, and removes the folder."""
        await self.revive()
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_S)
        except TimeoutError:
            await self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        return (self.folder / "service.log").read_text(errors="replace")[-4000:]

    def token(self, user, **claims):
        """A token of HS256, good for an hour."""
        head, body = {"alg": "HS256", "typ": "JWT"}, {"sub": user, "exp": int(time.time()) + 3600, **claims}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in (head, body))
        return f"{signed}.{encoded(hmac.digest(self.secret.encode(), signed.encode(), hashlib.sha256))}"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
