"""A shop that tells its customers of their orders from its own transactions: the order, a message (`restante_send`) and an event
(`restante_publish`) are committed together, or none of them is. The service delivers what is committed, at once or when the customer
comes, and need not run when the order is placed.

    DATABASE_URL=postgres://… RESTANTE_URL=http://127.0.0.1:8080 RESTANTE_TOKEN=… python orders.py CUSTOMER PRODUCT…

The token is that of the user who sends: `shop`, or RESTANTE_USER. RESTANTE_URL is asked only for the chat with a new customer. Each line
that it prints is JSON. The service's own PostgreSQL has the DATABASE_URL "host=DATA_DIR/postgres user=postgres dbname=restante". Where
Restante has a schema of its own, its functions are called as `restante.restante_send` (docs/operations.md).
"""

import json
import os
import sys
from urllib.request import Request, urlopen

import psycopg
from psycopg.types.json import Jsonb

SHOP = os.environ.get("RESTANTE_USER", "shop")

SCHEMA = """
create table if not exists products (name text primary key, stock integer not null check (stock >= 0));
create table if not exists customers (name text primary key, chat_id uuid not null);
create table if not exists orders (
  id       bigint generated always as identity primary key,
  customer text not null references customers,
  product  text not null references products
);
insert into products values ('pen', 1000), ('globe', 1) on conflict do nothing;
"""


def place_order(connection, customer, product):
    """Returns the order's id, and that of the message. Raises where nothing is left of the product; nothing is sent then."""
    with connection.transaction():
        insert = "insert into orders (customer, product) values (%s, %s) returning id"
        [order] = connection.execute(insert, [customer, product]).fetchone()
        send = "select restante_send(chat_id, %s, %s, 'order') from customers where name = %s"
        [message] = connection.execute(send, [SHOP, f"order {order}: {product}", customer]).fetchone()
        publish = "select restante_publish(%s, 'order_placed', %s, array[%s])"
        connection.execute(publish, [SHOP, Jsonb({"order": order, "product": product}), customer])
        # Checked last on purpose: the message is taken back with the order.
        connection.execute("update products set stock = stock - 1 where name = %s", [product])
    return order, message


def know_customer(connection, customer):
    """Makes the direct chat of shop and customer once."""
    if connection.execute("select 1 from customers where name = %s", [customer]).fetchone():
        return
    body = json.dumps({"kind": "direct", "members": [customer]}).encode()
    headers = {"Authorization": f"Bearer {os.environ['RESTANTE_TOKEN']}", "Content-Type": "application/json"}
    with urlopen(Request(f"{os.environ['RESTANTE_URL']}/v1/chats", body, headers), timeout=30) as answer:
        chat = json.load(answer)["chatId"]
    connection.execute("insert into customers values (%s, %s) on conflict do nothing", [customer, chat])


def say(event, **what):
    print(json.dumps({"event": event, **what}), flush=True)


def main(customer, *products):
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(SCHEMA)
        know_customer(connection, customer)
        for product in products:
            try:
                order, message = place_order(connection, customer, product)
                say("order", order=order, messageId=str(message), product=product)
            except psycopg.errors.CheckViolation:
                say("refused", product=product, reason="sold out")


if __name__ == "__main__":
    main(*sys.argv[1:])
