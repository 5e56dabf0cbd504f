//! Compresses one message that goes out, a slice at a time, so that a large one keeps nobody waiting.
//!
//! Slices refer to nothing before them, so the compressor and its memory (some 300 KiB) live for one call and never longer. It knows no
//! frames.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use crate::{Agreement, TAIL};

/// Bytes that are compressed in one call: less than a millisecond.
const SLICE_BYTES_MAX: usize = 64 * 1024;
/// Higher ones gain nothing on pages of chats, and lower ones lose a tenth.
const LEVEL: u32 = 5;

/// A message that is being compressed.
#[derive(Debug)]
pub struct Deflating {
    plain: Bytes,
    done: usize,
    deflated: Vec<u8>,
    window_bits: u8,
}

impl Deflating {
    /// Begins with this message.
    pub fn new(plain: Bytes, agreement: Agreement) -> Self {
        Self { plain, done: 0, deflated: Vec::new(), window_bits: agreement.window_bits() }
    }

    /// Bytes of the message itself.
    pub fn plain_bytes(&self) -> usize {
        self.plain.len()
    }

    /// Compresses the next slice, 64 KiB at most. Returns whether it was the last one.
    pub fn step(&mut self) -> bool {
        let end = self.plain.len().min(self.done + SLICE_BYTES_MAX);
        let slice = &self.plain[self.done..end];
        let mut compress = Compress::new_with_window_bits(Compression::new(LEVEL), false, self.window_bits);
        loop {
            let taken = usize::try_from(compress.total_in()).unwrap_or(usize::MAX).min(slice.len());
            self.deflated.reserve((slice.len() - taken) / 2 + 256);
            let status = compress.compress_vec(&slice[taken..], &mut self.deflated, FlushCompress::Sync);
            // With room left everything is out. An error cannot come of memory that is there and a state that is new.
            let has_room = self.deflated.len() < self.deflated.capacity();
            if has_room || matches!(status, Err(_) | Ok(Status::StreamEnd)) {
                break;
            }
        }
        self.done = end;
        end == self.plain.len()
    }

    /// The compressed message, without the end of its last block. To be called after the last slice.
    ///
    /// # Errors
    /// Compressed it would not be shorter: the message itself.
    pub fn finish(mut self) -> Result<Bytes, Bytes> {
        if self.deflated.ends_with(&TAIL) {
            self.deflated.truncate(self.deflated.len() - TAIL.len());
        }
        if self.deflated.len() < self.plain.len() { Ok(self.deflated.into()) } else { Err(self.plain) }
    }
}
