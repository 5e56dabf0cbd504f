"""The facts of the application that sends from SQL. Its orders are placed in a process of their own; what they bring about is looked at where
it arrives, at a customer, and at the shop, which is told of its messages.
"""

import asyncio
import json
import os
import sys

from clients import EXAMPLES
from partner import Failure, Partner

ORDERS = 10
PLACE_S = 20
CUSTOMER, SHOP = "customer", "shop"


async def offline(service):
    """Orders that are placed while the customer is away come in order when the customer is there, each with its event."""
    placed = await place(service, ["pen"] * ORDERS)
    async with Partner(service, CUSTOMER) as customer:
        await arrive(customer, placed)


async def kill(service):
    """Orders need no service: what is placed before and after a kill comes once, when it is started again."""
    async with Partner(service, CUSTOMER) as customer:
        placed = await place(service, ["pen"] * ORDERS)
        await service.kill()
        placed += await place(service, ["pen"] * ORDERS)
        await service.start()
        await arrive(customer, placed)


async def receipts(service):
    """The user in whose name SQL sends is told that each message was delivered, and that it was read."""
    async with Partner(service, SHOP) as shop, Partner(service, CUSTOMER) as customer:
        placed = await place(service, ["pen"] * 3)
        await arrive(customer, placed)
        messages = [line["messageId"] for line in placed]
        await shop.until_status(messages, "delivered")
        await shop.until_status(messages, "read")


async def rollback(service):
    """The second globe is sold out: of its order there is neither a message nor an event, and the orders around it are there."""
    async with Partner(service, CUSTOMER) as customer:
        lines = await place(service, ["globe", "globe", "pen"])
        if [line["event"] for line in lines] != ["order", "refused", "order"]:
            raise Failure(f"the orders became {lines}")
        await arrive(customer, [line for line in lines if line["event"] == "order"])


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
        out, log = await asyncio.wait_for(process.communicate(), PLACE_S)
    except TimeoutError:
        process.kill()
        raise Failure(f"{len(products)} orders were not placed within {PLACE_S} s") from None
    if process.returncode:
        raise Failure(f"orders.py ended with {process.returncode}:\n{log.decode()[-2000:]}")
    return [json.loads(line) for line in out.splitlines()]


async def arrive(customer, placed):
    """Waits for the message and the event of the last order, and holds everything that came against the orders."""
    messages = [f"order {line['order']}: {line['product']}" for line in placed]
    events = [{"order": line["order"], "product": line["product"]} for line in placed]

    def is_there():
        return messages[-1] in customer.contents(SHOP) and events[-1] in customer.events("order_placed")

    await customer.until(is_there, f"the order {messages[-1]} arrives with its event")
    if customer.contents(SHOP) != messages or customer.events("order_placed") != events:
        raise Failure(f"of the orders {messages} came {customer.contents(SHOP)}, and events {customer.events('order_placed')}")
