"""The other side of each scenario: a user on a WebSocket that sends, keeps what it gets, and keeps what it is told of its messages. It sends
with ids of its own until each is stored, so a kill of the service loses nothing of it. A wait here is for
a fact, and never longer than a bound.
"""

import asyncio
import json
import uuid
from contextlib import suppress
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

BOUND_S = 30
RANKS = {"sent": 0, "delivered": 1, "read": 2, "failed": 3, "expired": 3}


class Failure(Exception):
    """A fact that does not hold."""


def hold(words, found, expected):
    """Says in few words how the one differs from the other."""
    if found != expected:
        missing, beside = ([one for one in these if one not in those] for these, those in ((expected, found), (found, expected)))
        raise Failure(f"{words}: {len(found)} of {len(expected)}; missing {missing[:5]}, beside them {beside[:5]}, else twice or in another order")


class Partner:
    """May be entered again after it was left, as the same device: it knows what it had."""

    def __init__(self, service, user, device="partner"):
        self.service, self.user, self.device = service, user, device
        # Messages and events by their ids, in the order in which they came first.
        self.received = {}
        # Own messages without a confirmation, in their order, the places of those that are stored, and what all of them say.
        self.outbox, self.stored, self.said = {}, {}, []
        self.statuses = {}
        self.ready, self.connections = None, 0
        self.changed = asyncio.Condition()
        self.socket = self.task = None

    async def __aenter__(self):
        self.ready, self.connections = None, 0
        self.task = asyncio.create_task(self._run())
        await self.until(lambda: self.ready, f"{self.user} is connected")
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def send(self, to, contents, **fields):
        """Sends them in their order, and returns their ids at once."""
        messages = [{"messageId": str(uuid.uuid4()), "to": to, "content": content, **fields} for content in contents]
        self.said += contents
        self.outbox |= {message["messageId"]: message for message in messages}
        if self.ready:
            await self._say("message:send", messages)
        return [message["messageId"] for message in messages]

    async def until(self, fact, words, bound_s=BOUND_S):
        """Returns what `fact` says as soon as that is true."""
        try:
            async with asyncio.timeout(bound_s), self.changed:
                await self.changed.wait_for(fact)
                return fact()
        except TimeoutError:
            raise Failure(f"not within {bound_s} s: {words() if callable(words) else words}") from None

    async def until_stored(self):
        await self.until(lambda: not self.outbox, lambda: f"{len(self.outbox)} messages of {self.user} are stored")

    async def until_status(self, messages, status):
        def are_told():
            return all(RANKS[self.statuses.get(one, "sent")] >= RANKS[status] for one in messages)

        await self.until(are_told, f"{self.user} is told that {len(messages)} messages are {status}")
        if RANKS[status] == 3 and any(self.statuses[one] != status for one in messages):
            raise Failure(f"the messages of {self.user} are not {status}")

    def contents(self, sender):
        """The messages of this sender, in the order in which they came first."""
        return [message["content"] for message in self.received.values() if message.get("senderId") == sender]

    def events(self, kind):
        """The data of the events of this type, in the order in which they came first."""
        return [event["data"] for event in self.received.values() if event.get("type") == kind]

    async def _run(self):
        """Connects again and again. The bound of whoever waits is the bound of this."""
        while True:
            with suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                async with opened(self.service, self.user, self.device) as self.socket:
                    async for text in self.socket:
                        await self._hear(json.loads(text))
            self.ready = None
            await asyncio.sleep(0.1)

    async def _hear(self, frame):
        event, data = frame["event"], frame.get("data", {})
        if event == "ready":
            self.ready = data
            self.connections += 1
            await self._say("message:send", list(self.outbox.values()))
        elif event in ("message:receive", "event:receive"):
            await self._take(data.get("messageId") or data["eventId"], data)
        elif event == "message:sent":
            self.outbox.pop(data["messageId"], None)
            self.stored[data["messageId"]] = (data["chatId"], data["seq"])
        elif event == "message:status":
            self._learn(data)
        elif event == "error" and frame.get("id") in self.outbox:
            # It comes back, and sends again what is not stored.
            await self.socket.close()
        async with self.changed:
            self.changed.notify_all()

    async def _take(self, envelope, data):
        self.received.setdefault(envelope, data)
        await self._say("message:delivered", [{"messageIds": [envelope]}])
        if "chatId" in data:
            await self._say("message:read", [{"chatId": data["chatId"], "seq": data["seq"]}])

    def _learn(self, data):
        named = {one: data["status"] for one in data.get("messageIds", [])}
        if data["kind"] == "mark":
            up_to = [one for one, (chat, seq) in self.stored.items() if chat == data["chatId"] and seq <= data["seq"]]
            named = dict.fromkeys(up_to, data["status"])
            named |= {one["messageId"]: one["status"] for one in data.get("except", [])}
        for one, status in named.items():
            if RANKS[status] > RANKS[self.statuses.get(one, "sent")]:
                self.statuses[one] = status

    async def _say(self, event, frames):
        for data in frames:
            await self.socket.send(json.dumps({"event": event, "id": data.get("messageId"), "data": data}))


def opened(service, user, device):
    headers = {"Authorization": f"Bearer {service.token(user)}"}
    return connect(f"ws{service.url[4:]}/ws?{urlencode({'device': device})}", additional_headers=headers)


async def pending(service, user, device):
    """The number of envelopes that wait for a device. Takes none of them, and pushes a connection of the device out."""
    async with opened(service, user, device) as socket:
        return json.loads(await socket.recv())["data"]["pending"]
