"""The clients under test: how each is started, and what it prints. A client gets its address, token, device and store from the environment,
and prints one line of JSON for each message, gap and end. Here it is a process, and its lines are facts to wait for.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from partner import BOUND_S, Failure

EXAMPLES = Path(__file__).resolve().parent.parent
STOP_S = 10

COMMANDS = {
    "websocket": [sys.executable, "websocket/bot.py"],
    "http": [sys.executable, "http/bot.py"],
    "sdk": ["node", "sdk/bot.mjs"],
    "socketio": ["node", "socketio/bot.mjs"],
}


class Client:
    """One of the four, as the user of the same name."""

    def __init__(self, name, service):
        self.name, self.service = name, service
        self.lines = []
        self.changed = asyncio.Condition()
        self.process = self.reader = None

    async def start(self):
        settings = {
            "RESTANTE_URL": self.service.url,
            "RESTANTE_TOKEN": self.service.token(self.name),
            "RESTANTE_DEVICE": "bot",
            "RESTANTE_STORE": str(self.service.folder / f"{self.name}.store"),
        }
        self.lines = []
        with open(self.log_file, "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *COMMANDS[self.name], cwd=EXAMPLES, env={**os.environ, **settings}, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        self.reader = asyncio.create_task(self._read())

    async def stop(self):
        """Stops it as planned, and returns when it is gone. It may have ended before."""
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_S)
        except TimeoutError:
            self.process.kill()
            raise Failure(f"{self.name} did not stop within {STOP_S} s") from None
        finally:
            await self.reader

    async def kill(self):
        """Ends it as a crash would, if it runs."""
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
            await self.reader

    def said(self, event, **fields):
        """Its lines of this event since its start that have these fields."""
        return [line for line in self.lines if line["event"] == event and fields.items() <= line.items()]

    async def until_said(self, event, count=1, **fields):
        """Waits for so many of these lines, or for the end of the client, which is a failure."""
        def is_over():
            return len(self.said(event, **fields)) >= count or self.reader.done()

        with suppress(TimeoutError):
            async with asyncio.timeout(BOUND_S), self.changed:
                await self.changed.wait_for(is_over)
        found = len(self.said(event, **fields))
        if found < count:
            raise Failure(f"{self.name} said {event} {found} times of {count}; its log:\n{self.log()}")

    async def until_drained(self):
        """Waits until all messages that were waiting have come. Each of the three inboxes is told apart."""
        await self.until_said("drained", **{"class": "chat"})

    async def until_ended(self):
        try:
            await asyncio.wait_for(self.process.wait(), BOUND_S)
        except TimeoutError:
            raise Failure(f"{self.name} did not end by itself") from None

    @property
    def log_file(self):
        return self.service.folder / f"{self.name}.log"

    def log(self):
        return self.log_file.read_text(errors="replace")[-2000:]

    async def _read(self):
        async for line in self.process.stdout:
            # A kill may cut off the last one.
            if not line.endswith(b"\n"):
                break
            async with self.changed:
                self.lines.append(json.loads(line))
                self.changed.notify_all()
        async with self.changed:
            self.changed.notify_all()
