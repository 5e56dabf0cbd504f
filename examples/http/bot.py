"""A bot without WebSocket, with Python's standard library alone: messages come as server-sent events, acks and answers go over HTTP. It
keeps no file: each answer has a key that is made of the message's id (`Idempotency-Key`), so a message that comes twice is answered
once, and the device's cursor says where the stream goes on.

    RESTANTE_URL=http://127.0.0.1:8080 RESTANTE_TOKEN=… python bot.py

RESTANTE_DEVICE names this installation. Each line that it prints is JSON.
"""

import json
import os
import random
import sys
import time
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

URL = os.environ["RESTANTE_URL"].rstrip("/")
TOKEN = os.environ["RESTANTE_TOKEN"]
DEVICE = quote(os.environ.get("RESTANTE_DEVICE", "bot"))

# The service says something every 20 s. After twice that time without a word the connection is dead.
SILENCE_S = 45
# A request that is refused with one of these is made again later.
LATER = {408, 429, 500, 503}


def say(event, **what):
    print(json.dumps({"event": event, **what}), flush=True)


def pause(attempt, told_s=None):
    """Waits for as long as the service says, else for a time that grows with each attempt, with chance in it."""
    time.sleep(min(30, 0.5 * 2**attempt) * random.uniform(0.5, 1) if told_s is None else told_s)


def request(path, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers |= {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    return Request(URL + path, data, {name.replace("_", "-"): value for name, value in headers.items()})


def retry_after(refusal):
    told = refusal.headers["Retry-After"]
    return None if told is None else float(told)


def post(path, body, **headers):
    """Posts until there is an answer that is final. Everything that is posted here may be repeated."""
    attempt = 0
    while True:
        try:
            with urlopen(request(path, body, **headers), timeout=SILENCE_S) as answer:
                return json.load(answer)
        except HTTPError as refusal:
            if refusal.code not in LATER:
                say("refused", path=path, status=refusal.code)
                return None
            pause(attempt, retry_after(refusal))
        except (OSError, HTTPException):
            pause(attempt)
        attempt += 1


def take(message):
    # A bot that answers answers never stops.
    if message["messageType"] != "answer":
        answer = {"chatId": message["chatId"], "content": f"echo: {message['content']}", "messageType": "answer"}
        post("/v1/messages", answer, Idempotency_Key=f"answer to {message['messageId']}")
    post(f"/v1/inbox/ack?device={DEVICE}", {"messageId": message["messageId"]})
    post(f"/v1/chats/{message['chatId']}/read", {"seq": message["seq"]})
    say("message", messageId=message["messageId"], senderId=message["senderId"], content=message["content"])


def take_event(event):
    """This bot has no use for events. It acks them, or they would come again."""
    post(f"/v1/inbox/ack?device={DEVICE}", {"messageId": event["eventId"]})


def take_recall(notice):
    if "recallId" in notice:
        post(f"/v1/inbox/ack?device={DEVICE}", {"messageId": notice["recallId"]})


def take_gap(gap):
    post(f"/v1/inbox/ack?device={DEVICE}", {"upTo": gap["toSeq"], "class": gap["class"]})
    say("gap", **gap)


TAKES = {
    "message:receive": take,
    "event:receive": take_event,
    "message:recalled": take_recall,
    "queue:gap": take_gap,
    "queue:drained": lambda data: say("drained", **data),
    "error": lambda data: say("error", **data),
}


class Stream:
    """Server-sent events as a browser reads them: it keeps the last id and the time to wait, over connections."""

    def __init__(self):
        self.last_id, self.retry_s, self.attempt = None, None, 0

    def run(self):
        """Takes events until the service says that this client must stay away."""
        while True:
            self.retry_s = None
            try:
                with urlopen(self.request(), timeout=SILENCE_S) as answer:
                    if answer.status == 204:
                        return "ended"
                    for event, data in self.events(answer):
                        self.attempt = 0
                        if event in TAKES:
                            TAKES[event](json.loads(data))
            except HTTPError as refusal:
                if refusal.code not in LATER:
                    return f"HTTP {refusal.code}"
                self.retry_s = retry_after(refusal)
            except (OSError, HTTPException):
                pass
            pause(self.attempt, self.retry_s)
            self.attempt += 1

    def request(self):
        position = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        return request(f"/v1/stream?device={DEVICE}", **position)

    def events(self, lines):
        event, data = "message", []
        for line in lines:
            line = line.decode().rstrip("\r\n")
            if not line and data:
                yield event, "\n".join(data)
            if not line:
                event, data = "message", []
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                self.last_id = value
            elif field == "retry":
                self.retry_s = int(value) / 1000
            elif field == "event":
                event = value
            elif field == "data":
                data.append(value)


if __name__ == "__main__":
    say("stopped", reason=Stream().run())
    sys.exit(1)
