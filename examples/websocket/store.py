"""The memory of the bot, in a file of SQLite: ids of messages that it has answered, answers without a confirmation, and
how far it has got. A message's id and its answer are written in one transaction, so a message that comes twice is answered once.
It knows no socket.
"""

import secrets
import sqlite3
import time
import uuid

SCHEMA = """
create table if not exists processed (message_id text primary key) without rowid;
create table if not exists outbox (place integer primary key, message_id text, chat_id text, content text);
create table if not exists position (one integer primary key check (one = 1), epoch text, contiguous integer);
"""


class Store:
    def __init__(self, path):
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.executescript(SCHEMA)

    def position(self):
        """The epoch, and the inbox number up to which everything is stored; both are None at first."""
        return self.database.execute("select epoch, contiguous from position").fetchone() or (None, None)

    def begin(self, ready):
        """Takes over where this connection begins. Numbers of another epoch say nothing."""
        epoch, contiguous = self.position()
        if epoch != ready["epoch"] or contiguous is None or not ready["resumed"]:
            self._move(ready["epoch"], ready["ackedSeq"])

    def take(self, message, answer):
        """Stores the message's id with the answer to it; None is no answer. Returns False where the id is stored already.

        Ids are kept for ever here; docs/protocol.md ("Once in effect") says when they may be forgotten.
        """
        with self._transaction():
            known = "insert into processed values (?) on conflict do nothing"
            is_new = self.database.execute(known, [message["messageId"]]).rowcount == 1
            if is_new and answer is not None:
                send = [uuid7(), message["chatId"], answer]
                self.database.execute("insert into outbox (message_id, chat_id, content) values (?, ?, ?)", send)
            self._pass(message["inboxSeq"], message["inboxSeq"])
        return is_new

    def pass_gap(self, gap):
        with self._transaction():
            self._pass(gap["fromSeq"], gap["toSeq"])

    def first_unsent(self):
        """The oldest answer that the service has not confirmed, as data of `message:send`, or None."""
        row = self.database.execute("select message_id, chat_id, content from outbox order by place limit 1").fetchone()
        return row and {"messageId": row[0], "chatId": row[1], "content": row[2], "messageType": "answer"}

    def sent(self, message_id):
        self.database.execute("delete from outbox where message_id = ?", [message_id])

    def _pass(self, first, last):
        epoch, contiguous = self.position()
        if first <= contiguous + 1 and last > contiguous:
            self._move(epoch, last)

    def _move(self, epoch, contiguous):
        self.database.execute("insert or replace into position values (1, ?, ?)", [epoch, contiguous])

    def _transaction(self):
        self.database.execute("begin immediate")
        return self.database


def uuid7():
    """A UUID of version 7 (RFC 9562), which says when it was made."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=number))
