"""The facts of the application that sends from SQL. Its orders are placed in a process of their own; what they bring about is looked at where
it arrives, at a customer, and at the shop, which is told of its messages.
"""

import asyncio
import json
import os
import sys

from clients import EXAMPLES
from partner import BOUND_S, Failure, hold

ORDERS = 10
CUSTOMER, SHOP, EVENT = "customer", "shop", "order_placed"


async def offline(service, customer, shop):
    """Orders that are placed while the customer is away come in order when the customer is there, each with its event."""
    placed = await place(service, ["pen"] * ORDERS)
    async with customer:
        await arrive(customer, placed)


async def kill(service, customer, shop):
    """Orders need no service: what is placed before and after a kill comes once, when it is started again."""
    async with customer:
        placed = await place(service, ["pen"] * ORDERS)
        await service.kill()
        placed += await place(service, ["pen"] * ORDERS)
        await service.start()
        await arrive(customer, placed)


async def receipts(service, customer, shop):
    """The user in whose name SQL sends is told that each message was delivered, and that it was read."""
    async with shop, customer:
        placed = await place(service, ["pen"] * 3)
        await arrive(customer, placed)
        messages = [line["messageId"] for line in placed]
        await shop.until_status(messages, "delivered")
        await shop.until_status(messages, "read")


async def rollback(service, customer, shop):
    """The second globe is sold out: of its order there is neither a message nor an event, and the orders around it are there."""
    async with customer:
        had = len(customer.contents(SHOP)), len(customer.events(EVENT))
        lines = await place(service, ["globe", "globe", "pen"])
        hold("the orders", [line["event"] for line in lines], ["order", "refused", "order"])
        placed = [line for line in lines if line["event"] == "order"]
        await arrive(customer, placed)
        hold("messages since then", customer.contents(SHOP)[had[0] :], messages_of(placed))
        hold("events since then", customer.events(EVENT)[had[1] :], events_of(placed))


async def place(service, products):
    """Places orders, and returns what was printed of each."""
    settings = {
        "DATABASE_URL": service.database_url,
        "RESTANTE_URL": service.url,
        "RESTANTE_USER": SHOP,
        "RESTANTE_TOKEN": service.token(SHOP),
    }
    command = [sys.executable, "sql/orders.py", CUSTOMER, *products]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=EXAMPLES, env={**os.environ, **settings}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, log = await asyncio.wait_for(process.communicate(), BOUND_S)
    except TimeoutError:
        process.kill()
        raise Failure(f"{len(products)} orders were not placed within {BOUND_S} s") from None
    if process.returncode:
        raise Failure(f"orders.py ended with {process.returncode}:\n{log.decode()[-2000:]}")
    return [json.loads(line) for line in out.splitlines()]


async def arrive(customer, placed):
    """Waits for the messages and the events of these orders, and holds what came of them against their order."""
    messages, events = messages_of(placed), events_of(placed)

    def came():
        return [one for one in customer.contents(SHOP) if one in messages], [one for one in customer.events(EVENT) if one in events]

    await customer.until(lambda: min(map(len, came())) >= len(placed), lambda: f"of {len(placed)} orders each has come: {came()}")
    hold("messages of orders", came()[0], messages)
    hold("events of orders", came()[1], events)


def messages_of(placed):
    return [f"order {line['order']}: {line['product']}" for line in placed]


def events_of(placed):
    return [{"order": line["order"], "product": line["product"]} for line in placed]
