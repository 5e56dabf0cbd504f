"""The scenario that every client is led through: each function is one fact of the table, in their order. It ends, or it
raises `Failure` with what did not hold. A client answers each message `text` with `echo: text`, so its effects are counted where they
arrive: at the partner that has sent.
"""

import asyncio
import time
from datetime import datetime, timedelta, timezone

from partner import BOUND_S, Failure, Partner, hold, pending

WAITING = 20
BEFORE_KILL = 20
AFTER_KILL = 20
CRASHES, PER_CRASH = 3, 10
EXPIRES_MS = 3_000


def texts(word, count):
    return [f"{word} {n}" for n in range(1, count + 1)]


async def offline(client, partner):
    """Messages wait while the client is away. They come in order when it is there, and then it is told that nothing waits."""
    await client.start()
    await client.until_drained()
    await client.stop()
    said = texts("waiting", WAITING)
    await partner.send(client.name, said)
    await partner.until_stored()
    await client.start()
    await client.until_drained()
    heard = [line["content"] for line in client.said("message")]
    hold(f"what {client.name} had before it was drained", heard, said)
    await effects_are(client, partner, said)


async def kill(client, service, partner):
    """The service is killed while the client is at work, and started again: nothing is lost, and each effect is there once."""
    before, after = texts("before", BEFORE_KILL), texts("after", AFTER_KILL)
    seen = len(client.said("message"))
    await partner.send(client.name, before)
    # Lines of messages only: the client says other things too.
    await client.until_said("message", seen + BEFORE_KILL // 2)
    await service.kill()
    await partner.send(client.name, after)
    await service.start()
    await effects_are(client, partner, before + after)


async def crash(client, partner):
    """The client itself is killed at work, three times, and started again: nothing is lost, and each effect is there once."""
    said = []
    for round_no in range(1, CRASHES + 1):
        messages = texts(f"crash {round_no},", PER_CRASH)
        said += messages
        seen = len(client.said("message"))
        await partner.send(client.name, messages)
        await client.until_said("message", seen + PER_CRASH // 2)
        await client.kill()
        await client.start()
    await effects_are(client, partner, said)


async def receipts(client, partner):
    """The sender is told that each message was delivered, and that it was read."""
    messages = await partner.send(client.name, texts("receipt", 3))
    await partner.until_stored()
    await partner.until_status(messages, "delivered")
    await partner.until_status(messages, "read")


async def acked(client, service):
    """Everything that came was acked: nothing waits for this device when it comes back."""
    await client.stop()
    end = time.monotonic() + BOUND_S
    # The last acks may be on their way to the database still.
    while waiting := await pending(service, client.name, "bot"):
        if time.monotonic() > end:
            raise Failure(f"{waiting} envelopes still wait for {client.name}")
        await asyncio.sleep(0.1)


async def gap(client, partner):
    """A message expires while the client is away: it is told the gap, the sender that it expired, and the others come."""
    await client.stop()
    expires_at = datetime.now(timezone.utc) + timedelta(milliseconds=EXPIRES_MS)
    await partner.send(client.name, ["gap 1"])
    short = await partner.send(client.name, ["gap 2"], expiresAt=expires_at.isoformat())
    await partner.send(client.name, ["gap 3"])
    await partner.until_stored()
    await until_past(expires_at)
    await client.start()
    await client.until_drained()
    await effects_are(client, partner, ["gap 1", "gap 3"])
    told = [(line["reason"], line["count"]) for line in client.said("gap")]
    hold(f"the gaps that {client.name} was told", told, [("expired", 1)])
    await partner.until_status(short, "expired")


async def displaced(client, service):
    """Another connection of the device takes over: the client says so, ends, and does not push that one out."""
    await client.until_drained()
    async with Partner(service, client.name, device="bot") as newer:
        await client.until_said("stopped")
        await client.until_ended()
        if newer.connections != 1:
            raise Failure(f"{client.name} came back after it was displaced")


async def once(client, service, partner):
    """Nothing was answered twice, and nothing that had expired: looked at behind a last message in the same chat."""
    async with Partner(service, client.name, device="bot") as same:
        await same.send(partner.user, ["the last"])
        await partner.until(lambda: "the last" in partner.contents(client.name), "the last message arrives")
    expected = [f"echo: {one}" for one in partner.said if one != "gap 2"] + ["the last"]
    hold(f"everything that {client.name} has said", partner.contents(client.name), expected)


async def until_past(moment):
    """The time is the fact here: the service looks at the same clock."""
    await asyncio.sleep(max(0, (moment - datetime.now(timezone.utc)).total_seconds()))


async def effects_are(client, partner, said):
    """Waits for the answers, and holds them against what was said: each once, in its order."""
    def answers():
        return [content for content in partner.contents(client.name) if content.removeprefix("echo: ") in said]

    expected = [f"echo: {content}" for content in said]
    await partner.until(
        lambda: set(answers()) >= set(expected), lambda: f"{len(set(answers()))} of {len(expected)} answers of {client.name}"
    )
    hold(f"the answers of {client.name}", answers(), expected)
