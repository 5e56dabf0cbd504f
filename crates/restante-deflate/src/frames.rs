//! Frames as they come in (RFC 6455 section 5.2), and the same frames as if nothing had been compressed: what carries no compressed message
//! passes as it is, byte by byte.
//!
//! Nothing is judged here but what only this place can see. A frame that breaks a rule passes too, and the library above refuses it.

use bytes::{Buf, BufMut, BytesMut};

use super::TAIL;
use super::inflater::Inflater;

/// Bytes that may wait to be read by the library above before nothing more is inflated.
const OUTPUT_BYTES_MAX: usize = 8 * 1024;
/// A longer head is for the library above to judge.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";
const SWITCHES: &[u8] = b"HTTP/1.1 101";
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
/// The bits of extensions that are never agreed on.
const RSV_OTHERS: u8 = 0x30;
const OPCODE: u8 = 0x0f;
const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
/// Opcodes from here on are of control frames.
const CONTROL: u8 = 0x8;
const MASKED: u8 = 0x80;

/// The end of a connection that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The frames that come are masked.
    Server,
    /// The frames that come are not masked.
    Client,
}

/// The reason for which a message cannot be inflated. It is the inner error of the [`std::io::Error`] that reading ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The payload of a compressed message is none that deflate writes.
    #[error("a compressed message cannot be inflated")]
    NotDeflate,
    /// A message begins in the middle of another one.
    #[error("a message begins before the compressed one before it has ended")]
    OutOfOrder,
    /// A compressed message has more bytes than its inflated form may have.
    #[error("a compressed message is too large")]
    TooLarge,
}

/// The frames of one direction.
#[derive(Debug)]
pub(crate) struct Frames {
    side: Side,
    message_bytes_max: u64,
    /// Read, and not yet looked at.
    input: BytesMut,
    /// Compressed, without its mask, and not yet inflated.
    payload: BytesMut,
    /// For the library above.
    pub(crate) output: BytesMut,
    place: Place,
    message: Option<Message>,
}

/// The place in the stream of frames.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Before the first frame, in the head of the answer to a handshake.
    Head,
    Header,
    /// A payload that passes.
    Plain {
        left: u64,
    },
    /// A payload that is inflated.
    Deflated {
        left: u64,
        mask: [u8; 4],
        is_last: bool,
    },
    /// All payloads of the message have come: this is how much of [`TAIL`] has followed.
    Ending {
        fed: usize,
    },
    Broken(Broken),
}

/// A compressed message that is under way.
#[derive(Debug)]
struct Message {
    inflater: Inflater,
    /// Of the next fragment for the library above: that of the message, then that of a continuation.
    opcode: u8,
    /// Compressed, by the headers that have come.
    bytes: u64,
}

/// The header of a frame.
struct Header {
    first: u8,
    length: u64,
    mask: Option<[u8; 4]>,
    /// Its own length.
    bytes: usize,
}

impl Frames {
    /// No frame yet. A compressed message has at most this many bytes on the wire.
    pub(crate) fn new(side: Side, message_bytes_max: u64) -> Self {
        let (input, payload, output) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        Self { side, message_bytes_max, input, payload, output, place: Place::Header, message: None }
    }

    /// The same behind the head of an answer.
    pub(crate) fn after_answer(side: Side, message_bytes_max: u64) -> Self {
        Self { place: Place::Head, ..Self::new(side, message_bytes_max) }
    }

    /// Takes what was read.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Goes on until there is enough output, or input is missing.
    pub(crate) fn work(&mut self) {
        while self.output.len() < OUTPUT_BYTES_MAX && self.step() {}
    }

    /// The reason for which nothing more comes.
    pub(crate) fn broken(&self) -> Option<Broken> {
        if let Place::Broken(broken) = self.place { Some(broken) } else { None }
    }

    /// Gives its memory back between two messages.
    pub(crate) fn shrink(&mut self) {
        if self.input.is_empty() && self.payload.is_empty() && self.output.is_empty() {
            (self.input, self.payload, self.output) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        }
    }

    /// One step. Returns whether there may be another one.
    fn step(&mut self) -> bool {
        match self.place {
            Place::Head => self.head(),
            Place::Header => self.header(),
            Place::Plain { left: 0 } => {
                self.place = Place::Header;
                true
            }
            Place::Plain { left } => self.pass(left),
            Place::Deflated { left: 0, is_last, .. } if self.payload.is_empty() => {
                self.place = if is_last { Place::Ending { fed: 0 } } else { Place::Header };
                true
            }
            Place::Deflated { left, mask, is_last } => self.inflate(left, mask, is_last),
            Place::Ending { fed } => self.end(fed),
            Place::Broken(_) => false,
        }
    }

    /// The head of an HTTP answer. Frames follow where it switches protocols; what follows any other one passes.
    fn head(&mut self) -> bool {
        let Some(end) = self.input.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END) else {
            if self.input.len() > HEAD_BYTES_MAX {
                self.place = Place::Plain { left: u64::MAX };
            }
            return self.input.len() > HEAD_BYTES_MAX;
        };
        let head = self.input.split_to(end + HEAD_END.len());
        self.place = if head.starts_with(SWITCHES) { Place::Header } else { Place::Plain { left: u64::MAX } };
        self.output.extend_from_slice(&head);
        true
    }

    fn header(&mut self) -> bool {
        let Some(header) = Header::parse(&self.input) else { return false };
        let opcode = header.first & OPCODE;
        let is_compressed = header.first & RSV1 != 0;
        let is_fit = header.first & RSV_OTHERS == 0 && header.mask.is_some() == (self.side == Side::Server);
        let begins = is_compressed && (1..=BINARY).contains(&opcode);
        let goes_on = !is_compressed && opcode == CONTINUATION && self.message.is_some();
        if self.message.is_some() && (1..CONTROL).contains(&opcode) {
            return self.breaks(Broken::OutOfOrder);
        }
        if !is_fit || !(begins || goes_on) {
            let passing = self.input.split_to(header.bytes);
            self.output.extend_from_slice(&passing);
            self.place = Place::Plain { left: header.length };
            return true;
        }
        self.input.advance(header.bytes);
        let message = self.message.get_or_insert_with(|| Message { inflater: Inflater::new(), opcode, bytes: 0 });
        message.bytes = message.bytes.saturating_add(header.length);
        if message.bytes > self.message_bytes_max {
            return self.breaks(Broken::TooLarge);
        }
        self.place = Place::Deflated { left: header.length, mask: header.mask.unwrap_or_default(), is_last: header.first & FIN != 0 };
        true
    }

    /// Part of a payload that is not compressed.
    fn pass(&mut self, left: u64) -> bool {
        let bytes = self.next_bytes(left);
        let passing = self.input.split_to(bytes);
        self.output.extend_from_slice(&passing);
        self.place = Place::Plain { left: left - bytes as u64 };
        bytes > 0
    }

    /// Part of a payload that is compressed.
    fn inflate(&mut self, left: u64, mut mask: [u8; 4], is_last: bool) -> bool {
        let Some(message) = self.message.as_mut() else { return self.breaks(Broken::OutOfOrder) };
        if self.payload.is_empty() {
            let bytes = self.next_bytes(left);
            if bytes == 0 {
                return false;
            }
            self.payload = self.input.split_to(bytes);
            self.payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
            mask.rotate_left(bytes % 4);
            self.place = Place::Deflated { left: left - bytes as u64, mask, is_last };
            return true;
        }
        match message.inflater.fill(&self.payload) {
            Ok(used) => self.payload.advance(used),
            Err(_) => return self.breaks(Broken::NotDeflate),
        }
        if message.inflater.is_full() {
            message.put(&mut self.output, self.side, false);
        }
        true
    }

    /// The end of a message.
    fn end(&mut self, fed: usize) -> bool {
        let Some(mut message) = self.message.take() else { return self.breaks(Broken::OutOfOrder) };
        let Ok(used) = message.inflater.fill(&TAIL[fed..]) else { return self.breaks(Broken::NotDeflate) };
        let is_whole = !message.inflater.is_full();
        message.put(&mut self.output, self.side, is_whole);
        if is_whole {
            self.place = Place::Header;
        } else {
            self.place = Place::Ending { fed: fed + used };
            self.message = Some(message);
        }
        true
    }

    fn next_bytes(&self, left: u64) -> usize {
        usize::try_from(left).map_or(self.input.len(), |left| left.min(self.input.len()))
    }

    fn breaks(&mut self, broken: Broken) -> bool {
        self.place = Place::Broken(broken);
        self.message = None;
        false
    }
}

impl Message {
    /// Writes the fragment as a frame.
    fn put(&mut self, output: &mut BytesMut, side: Side, is_last: bool) {
        let fragment = self.inflater.fragment();
        output.put_u8(self.opcode | if is_last { FIN } else { 0 });
        let masked = if side == Side::Server { MASKED } else { 0 };
        match u8::try_from(fragment.len()) {
            Ok(length) if length < 126 => output.put_u8(masked | length),
            _ => {
                output.put_u8(masked | 126);
                // A fragment is never longer than FRAGMENT_BYTES_MAX.
                output.put_u16(u16::try_from(fragment.len()).unwrap_or(u16::MAX));
            }
        }
        if side == Side::Server {
            // A mask that changes nothing.
            output.put_u32(0);
        }
        output.extend_from_slice(fragment);
        self.inflater.taken();
        self.opcode = CONTINUATION;
    }
}

impl Header {
    /// The header at the beginning of these bytes, if all of it is there.
    fn parse(input: &[u8]) -> Option<Self> {
        let (first, second) = (*input.first()?, *input.get(1)?);
        let (length, bytes) = match second & !MASKED {
            126 => (u64::from(u16::from_be_bytes(array(input, 2)?)), 4),
            127 => (u64::from_be_bytes(array(input, 2)?), 10),
            length => (u64::from(length), 2),
        };
        if second & MASKED == 0 {
            return Some(Self { first, length, mask: None, bytes });
        }
        Some(Self { first, length, mask: Some(array(input, bytes)?), bytes: bytes + 4 })
    }
}

fn array<const N: usize>(input: &[u8], at: usize) -> Option<[u8; N]> {
    input.get(at..at + N)?.try_into().ok()
}
