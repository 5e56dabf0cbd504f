//! Enough of PostgreSQL's protocol (version 3, "Message Formats" in its manual) to refuse a statement in the server's name. The
//! client's messages are gathered up to a Sync, and a group that would write is answered with SQLSTATE 53100 instead of being
//! passed on. This is done only while no transaction is open, so that none is left half done. Pure.

use std::collections::HashSet;

/// Texts by which a statement that writes is known.
const WRITING: [&str; 9] = [
    "restante_accept(",
    "restante_settle(",
    "restante_attempt(",
    "restante_read(",
    "restante_add_members(",
    "restante_add_named_members(",
    "restante_remove_members(",
    "restante_create_group(",
    "restante_expire(",
];

/// A group of messages: those up to a Sync, or a single message of another kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// The messages as they came.
    pub(super) bytes: Vec<u8>,
    /// The server will answer the group with `ReadyForQuery`.
    is_answered: bool,
    /// The group executes a statement that writes.
    writes: bool,
}

/// The client's bytes, cut into groups.
#[derive(Debug, Default)]
pub(super) struct ClientStream {
    bytes: Vec<u8>,
    group: Group,
    has_started: bool,
    writing: HashSet<Vec<u8>>,
    binds_writing: bool,
}

impl ClientStream {
    /// Adds bytes of the client.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next group that is complete.
    pub(super) fn next_group(&mut self) -> Option<Group> {
        loop {
            let (kind, message) = self.next_message()?;
            self.group.bytes.extend_from_slice(&message);
            match kind {
                Some(b'P') => self.parse(&message[5..]),
                Some(b'B') => self.binds_writing |= self.is_writing(&message[5..]),
                Some(b'E') => self.group.writes |= self.binds_writing,
                Some(b'D' | b'C' | b'd' | b'f') => {}
                Some(kind) => {
                    self.group.is_answered = matches!(kind, b'S' | b'Q' | b'F');
                    self.binds_writing = false;
                    return Some(std::mem::take(&mut self.group));
                }
                None => {
                    // The start of the connection ends with a `ReadyForQuery` as well.
                    self.group.is_answered = true;
                    return Some(std::mem::take(&mut self.group));
                }
            }
        }
    }

    /// A whole message and its kind; the first message of a connection has no kind.
    fn next_message(&mut self) -> Option<(Option<u8>, Vec<u8>)> {
        let kind_bytes = usize::from(self.has_started);
        let length = self.bytes.get(kind_bytes..kind_bytes + 4)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let whole = kind_bytes + usize::try_from(length).ok()?.max(4);
        if self.bytes.len() < whole {
            return None;
        }
        let message: Vec<u8> = self.bytes.drain(..whole).collect();
        let kind = self.has_started.then(|| message[0]);
        self.has_started = true;
        Some((kind, message))
    }

    /// Reads a Parse message: the name of the statement, and its text.
    fn parse(&mut self, body: &[u8]) {
        let mut parts = body.split(|byte| *byte == 0);
        let (Some(name), Some(text)) = (parts.next(), parts.next()) else { return };
        let text = String::from_utf8_lossy(text);
        if WRITING.iter().any(|word| text.contains(word)) {
            self.writing.insert(name.to_vec());
        } else {
            self.writing.remove(name);
        }
    }

    /// Reads a Bind message: the name of the portal, and the name of the statement.
    fn is_writing(&self, body: &[u8]) -> bool {
        body.split(|byte| *byte == 0).nth(1).is_some_and(|name| self.writing.contains(name))
    }
}

/// The server's state as its answers show it.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// Answers that are still to come.
    open: u64,
    /// The last `ReadyForQuery` said that no transaction is open.
    is_idle: bool,
    header: Vec<u8>,
    skip: usize,
}

impl Server {
    /// The answer in the server's name; `None`: the group is to be passed on.
    pub(super) fn refuse_or_expect(&mut self, group: &Group, is_full: bool) -> Option<Vec<u8>> {
        if is_full && group.writes && self.is_idle && self.open == 0 {
            return Some(disk_full());
        }
        self.open += u64::from(group.is_answered);
        None
    }

    /// Reads the server's bytes; only `ReadyForQuery` matters.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = &rest[skipped..];
            while self.skip == 0 && !rest.is_empty() && self.header.len() < 6 {
                self.header.push(rest[0]);
                rest = &rest[1..];
                self.look();
            }
        }
    }

    /// Reads the header of a message: kind, length, and the first byte of the body if there is one.
    fn look(&mut self) {
        let [kind, a, b, c, d, body @ ..] = self.header.as_slice() else { return };
        let length = u32::from_be_bytes([*a, *b, *c, *d]);
        match (length, body) {
            (0..=4, _) => self.header.clear(),
            (_, [first]) => {
                if *kind == b'Z' {
                    self.open = self.open.saturating_sub(1);
                    self.is_idle = *first == b'I';
                }
                self.skip = usize::try_from(length).unwrap_or_default() - 5;
                self.header.clear();
            }
            _ => {}
        }
    }
}

/// `ErrorResponse` with SQLSTATE 53100 and `ReadyForQuery`, outside of a transaction.
fn disk_full() -> Vec<u8> {
    let mut fields = Vec::new();
    for (kind, text) in
        [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', "53100"), (b'M', "could not extend file: No space left on device (as the proxy says)")]
    {
        fields.push(kind);
        fields.extend_from_slice(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let mut answer = vec![b'E'];
    answer.extend_from_slice(&u32::try_from(fields.len() + 4).unwrap_or_default().to_be_bytes());
    answer.extend_from_slice(&fields);
    answer.extend_from_slice(b"Z\0\0\0\x05I");
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn started() -> (ClientStream, Server) {
        let (mut asked, mut server) = (ClientStream::default(), Server::default());
        asked.hear(&[0, 0, 0, 9, 0, 3, 0, 0, 0]);
        assert!(server.refuse_or_expect(&asked.next_group().unwrap(), true).is_none());
        server.hear(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
        (asked, server)
    }

    fn execute(name: &str) -> Vec<u8> {
        [message(b'B', format!("\0{name}\0rest").as_bytes()), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat()
    }

    #[test]
    fn only_what_writes_is_refused_and_only_while_the_disk_is_full() {
        let (mut asked, mut server) = started();
        let prepare = |name: &str, text: &str| [message(b'P', format!("{name}\0{text}\0\0\0").as_bytes()), message(b'S', b"")].concat();
        for part in [prepare("s1", "select * from restante_accept($1)"), prepare("s2", "select 1")] {
            asked.hear(&part);
            assert!(server.refuse_or_expect(&asked.next_group().unwrap(), true).is_none());
            server.hear(b"1\0\0\0\x04Z\0\0\0\x05I");
        }
        asked.hear(&[execute("s1"), execute("s2"), execute("s1")].concat());
        let (writing, reading, later) = (asked.next_group().unwrap(), asked.next_group().unwrap(), asked.next_group().unwrap());
        let refusal = server.refuse_or_expect(&writing, true).unwrap();
        assert!(refusal.windows(5).any(|window| window == b"53100") && refusal.ends_with(b"Z\0\0\0\x05I"));
        assert!(server.refuse_or_expect(&reading, true).is_none());
        assert!(server.refuse_or_expect(&later, true).is_none(), "an answer is still to come");
        server.hear(b"Z\0\0\0\x05IZ\0\0\0\x05I");
        assert!(server.refuse_or_expect(&writing, false).is_none());
        assert_eq!(later.bytes, execute("s1"));
    }

    #[test]
    fn nothing_is_refused_in_an_open_transaction() {
        let (mut asked, mut server) = started();
        asked.hear(&message(b'Q', b"begin\0"));
        assert!(server.refuse_or_expect(&asked.next_group().unwrap(), true).is_none());
        server.hear(b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T");
        asked.hear(&[message(b'P', b"s1\0select restante_read($1)\0\0\0"), execute("s1")].concat());
        assert!(server.refuse_or_expect(&asked.next_group().unwrap(), true).is_none());
    }

    #[test]
    fn messages_may_come_in_pieces() {
        let (mut asked, mut server) = started();
        let words = [message(b'Q', b"select 1\0"), message(b'X', b"")].concat();
        let mut groups = Vec::new();
        for byte in words.chunks(1) {
            asked.hear(byte);
            groups.extend(asked.next_group());
        }
        assert_eq!(groups.iter().map(|group| group.is_answered).collect::<Vec<_>>(), [true, false]);
        assert!(server.refuse_or_expect(&groups[0], true).is_none());
        for byte in b"T\0\0\0\x06\0\0D\0\0\0\x0aZ\0\0\0\x05IZ\0\0\0\x05E" {
            server.hear(&[*byte]);
        }
        assert_eq!((server.open, server.is_idle), (0, false));
    }
}
