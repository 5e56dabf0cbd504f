//! Inflates one message that comes in, as its payload arrives, into fragments of bounded size. It knows the bytes of a message and no frames.

use flate2::{Decompress, FlushDecompress, Status};

/// Bytes of a fragment, at most. What a few compressed bytes stand for is never larger in memory than this.
pub(crate) const FRAGMENT_BYTES_MAX: usize = 4096;

/// The state of a message: some 40 KiB, for as long as it is under way.
#[derive(Debug)]
pub(crate) struct Inflater {
    stream: Decompress,
    fragment: Vec<u8>,
}

/// The bytes are none that deflate writes.
#[derive(Debug)]
pub(crate) struct NotDeflate;

impl Inflater {
    pub(crate) fn new() -> Self {
        Self { stream: Decompress::new(false), fragment: Vec::with_capacity(FRAGMENT_BYTES_MAX) }
    }

    /// Inflates into the fragment until it is full or the input is used up. Returns the bytes of input that were used. While the fragment
    /// is full more may be inside, also without input.
    pub(crate) fn fill(&mut self, input: &[u8]) -> Result<usize, NotDeflate> {
        let mut used = 0;
        loop {
            let before = self.stream.total_in();
            let status = self.stream.decompress_vec(&input[used..], &mut self.fragment, FlushDecompress::None);
            used += usize::try_from(self.stream.total_in() - before).unwrap_or_default();
            match status.map_err(|_| NotDeflate)? {
                // The last block of a stream, which a message may have in its middle (RFC 7692 section 7.2.3.4): another stream follows.
                Status::StreamEnd if used < input.len() => self.stream.reset(false),
                Status::StreamEnd | Status::Ok | Status::BufError => return Ok(used),
            }
        }
    }

    /// Returns whether the fragment has to be taken before more is inflated.
    pub(crate) fn is_full(&self) -> bool {
        self.fragment.len() == self.fragment.capacity()
    }

    /// The fragment.
    pub(crate) fn fragment(&self) -> &[u8] {
        &self.fragment
    }

    /// The fragment has been taken.
    pub(crate) fn taken(&mut self) {
        self.fragment.clear();
    }
}
