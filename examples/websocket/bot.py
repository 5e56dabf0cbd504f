"""A bot over a plain WebSocket: it answers each message once, also when it or the service is killed in the middle. It acks a
message when its answer is stored, sends with ids of its own, says where it goes on when it comes back, and comes back as the
table of close codes in docs/protocol.md says.

    RESTANTE_URL=http://127.0.0.1:8080 RESTANTE_TOKEN=… python bot.py

RESTANTE_DEVICE names this installation, RESTANTE_STORE the file that it keeps. Each line that it prints is JSON.
"""

import asyncio
import json
import os
import random
import signal
from contextlib import suppress
from urllib.parse import urlencode

from store import Store
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

URL = os.environ["RESTANTE_URL"].rstrip("/").replace("http", "ws", 1)
TOKEN = os.environ["RESTANTE_TOKEN"]
DEVICE = os.environ.get("RESTANTE_DEVICE", "bot")

# After these close codes a client stays away: the same client would be closed again. 4401 is among them, since this bot has one token.
FINAL_CLOSES = {4400, 4401, 4403, 4413, 4509}
PLANNED_RESTART = 1012
# A send that is refused with one of these goes again later, with the same id.
LATER = {"busy", "unavailable", "rate_limited", "too_many_chats", "policy_unavailable"}


def say(event, **what):
    print(json.dumps({"event": event, **what}), flush=True)


class Session:
    """One connection, from `ready` to its close."""

    def __init__(self, socket, store):
        self.socket, self.store = socket, store
        self.is_ready = False
        self.retry_after_ms = self.reconnect_after_ms = None
        self.answers = {}
        self.has_more = asyncio.Event()

    async def run(self):
        """Returns when the connection has ended, however it did."""
        sender = asyncio.create_task(self.send_answers())
        try:
            with suppress(ConnectionClosed):
                async for text in self.socket:
                    frame = json.loads(text)
                    if answer := self.answers.pop(frame.get("id"), None):
                        answer.set_result(frame)
                    elif take := self.TAKES.get(frame["event"]):
                        await take(self, frame.get("data", {}))
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError):
                await sender

    async def ready(self, data):
        self.store.begin(data)
        self.is_ready = True
        self.has_more.set()

    async def message(self, message):
        # A bot that answers answers never stops.
        answer = None if message["messageType"] == "answer" else f"echo: {message['content']}"
        is_new = self.store.take(message, answer)
        await self.tell("message:delivered", {"messageIds": [message["messageId"]]})
        await self.tell("message:read", {"chatId": message["chatId"], "seq": message["seq"]})
        self.has_more.set()
        if is_new:
            say("message", messageId=message["messageId"], senderId=message["senderId"], content=message["content"])

    async def event(self, event):
        """This bot has no use for events. It acks them, or they would come again."""
        await self.tell("message:delivered", {"messageIds": [event["eventId"]]})

    async def recalled(self, notice):
        if "recallId" in notice:
            await self.tell("message:delivered", {"messageIds": [notice["recallId"]]})

    async def gap(self, gap):
        if gap["class"] == "chat":
            self.store.pass_gap(gap)
        await self.tell("message:delivered", {"upTo": gap["toSeq"], "class": gap["class"]})
        say("gap", **gap)

    async def drained(self, data):
        say("drained", **data)

    async def draining(self, data):
        self.reconnect_after_ms = data["reconnectAfterMs"]

    async def error(self, data):
        self.retry_after_ms = data.get("retryAfterMs")
        say("error", **data)

    TAKES = {
        "ready": ready,
        "message:receive": message,
        "event:receive": event,
        "message:recalled": recalled,
        "queue:gap": gap,
        "queue:drained": drained,
        "server:draining": draining,
        "error": error,
    }

    async def send_answers(self):
        """Sends what the store holds, one after another: that keeps the order, whatever is refused."""
        while True:
            await self.has_more.wait()
            self.has_more.clear()
            with suppress(ConnectionClosed):
                while message := self.store.first_unsent():
                    await self.send(message)

    async def send(self, message):
        answer = self.answers[message["messageId"]] = asyncio.get_running_loop().create_future()
        await self.tell("message:send", message, id=message["messageId"])
        frame = await answer
        if frame["event"] == "error" and frame["data"]["code"] in LATER:
            await asyncio.sleep(frame["data"].get("retryAfterMs", 500) / 1000)
            return
        if frame["event"] == "error":
            say("refused", messageId=message["messageId"], **frame["data"])
        self.store.sent(message["messageId"])

    async def tell(self, event, data, **frame_id):
        await self.socket.send(json.dumps({"event": event, "data": data, **frame_id}))


def address(store):
    epoch, contiguous = store.position()
    position = {} if epoch is None else {"epoch": epoch, "since": contiguous}
    return f"{URL}/ws?{urlencode({'device': DEVICE, **position})}"


async def live(store):
    """One connection. Returns whether it was open, and the seconds to wait before the next one: None is a growing pause."""
    # A client that offers the subprotocol is refused over the socket, with a close code.
    headers = {"Authorization": f"Bearer {TOKEN}"}
    try:
        async with connect(address(store), subprotocols=["restante.v1"], additional_headers=headers) as socket:
            session = Session(socket, store)
            await session.run()
    except InvalidStatus as refusal:
        status = refusal.response.status_code
        if status < 500 and status not in (408, 429):
            raise SystemExit(f"refused: HTTP {status}") from refusal
        return False, None
    except (OSError, TimeoutError, ConnectionClosed, InvalidHandshake):
        return False, None
    if socket.close_code in FINAL_CLOSES:
        say("stopped", code=socket.close_code, reason=socket.close_reason)
        raise SystemExit(1)
    told_ms = session.retry_after_ms
    if socket.close_code == PLANNED_RESTART:
        told_ms = next((told for told in (session.reconnect_after_ms, told_ms) if told is not None), 0)
    return session.is_ready, None if told_ms is None else told_ms / 1000


async def main():
    # A bot that is stopped as planned closes its connection, and what it has acked is written.
    bot = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, bot.cancel)
    store = Store(os.environ.get("RESTANTE_STORE", "bot.db"))
    attempt = 0
    while True:
        was_open, pause = await live(store)
        attempt = 0 if was_open else attempt + 1
        await asyncio.sleep(min(30, 0.5 * 2**attempt) * random.uniform(0.5, 1) if pause is None else pause)


if __name__ == "__main__":
    with suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(main())
