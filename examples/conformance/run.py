"""The conformance run: leads the clients of this folder's neighbours through one scenario each, against a service that it starts and kills, and
prints a table of what held. It ends with 1 where something failed.

    python examples/conformance/run.py [--program target/debug/restante] [CLIENT …]
"""

import argparse
import asyncio
import functools
import signal
import sys
import time

import orders
import scenario
from clients import COMMANDS, Client
from partner import Failure, Partner
from service import Service

FACTS = ["offline", "kill", "crash", "receipts", "acked", "gap", "displaced", "once", "rollback"]
SQL = "sql"
NAMES = [*COMMANDS, SQL]


def scenario_of_client(client, service, partner):
    """The facts of a client that receives, each as a function without arguments."""
    return {
        "offline": lambda: scenario.offline(client, partner),
        "kill": lambda: scenario.kill(client, service, partner),
        "crash": lambda: scenario.crash(client, partner),
        "receipts": lambda: scenario.receipts(client, partner),
        "acked": lambda: scenario.acked(client, service),
        "gap": lambda: scenario.gap(client, partner),
        "displaced": lambda: scenario.displaced(client, service),
        "once": lambda: scenario.once(client, service, partner),
    }


def scenario_of_orders(service):
    """The facts of the sender in SQL. The others are about receiving."""
    customer, shop = Partner(service, orders.CUSTOMER), Partner(service, orders.SHOP)
    facts = {"offline": orders.offline, "kill": orders.kill, "receipts": orders.receipts, "rollback": orders.rollback}
    return {name: functools.partial(holds, service, customer, shop) for name, holds in facts.items()}


async def outcomes(name, service, facts):
    """Tries every fact, also after one that failed: the service runs again then, whatever became of it."""
    found = {}
    for fact, holds in facts.items():
        began = time.monotonic()
        try:
            await holds()
            found[fact] = "ok"
        except Exception as failure:
            # An error that nobody foresaw fails the fact too, and the others are tried all the same.
            found[fact] = "FAILED"
            words = failure if isinstance(failure, Failure) else repr(failure)
            print(f"{name}: {fact}: {words}", file=sys.stderr, flush=True)
        finally:
            await service.revive()
        print(f"{name}: {fact}: {found[fact]} ({time.monotonic() - began:.1f} s)", flush=True)
    return found


async def lead(name, service):
    if name == SQL:
        return await outcomes(name, service, scenario_of_orders(service))
    client = Client(name, service)
    try:
        async with Partner(service, f"partner-of-{name}") as partner:
            return await outcomes(name, service, scenario_of_client(client, service, partner))
    finally:
        await client.kill()


def table(found):
    width = max(map(len, found))
    rows = [["", *FACTS]] + [[name, *(facts.get(fact, "n/a") for fact in FACTS)] for name, facts in found.items()]
    return "\n".join("  ".join([row[0].ljust(width), *(cell.ljust(9) for cell in row[1:])]).rstrip() for row in rows)


async def run(program, names):
    # A run that is told to end must leave neither a service nor its database behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    service = Service(program)
    try:
        await service.start()
        return {name: await lead(name, service) for name in names}
    finally:
        await service.remove()


def main():
    options = argparse.ArgumentParser(description="Leads clients through one scenario, and prints what held.")
    options.add_argument("--program", default="target/debug/restante", help="the service")
    options.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(NAMES)}; all of them if none is named")
    chosen = options.parse_args()
    if unknown := set(chosen.clients) - set(NAMES):
        options.error(f"there is no client {', '.join(unknown)}")
    found = asyncio.run(run(chosen.program, chosen.clients or NAMES))
    print(f"\n{table(found)}")
    sys.exit(any("FAILED" in facts.values() for facts in found.values()))


if __name__ == "__main__":
    main()
