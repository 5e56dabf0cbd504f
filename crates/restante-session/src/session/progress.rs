//! The client's progress with its first envelopes. A client that crashes at an envelope connects again and again and acks
//! nothing. Then each envelope is emitted alone, so that the one at fault is found.

/// The progress of one connection.
#[derive(Debug)]
pub(super) struct Progress {
    pace: Pace,
    emitted: Emitted,
    /// Envelopes in flight that were acked or read.
    acked: u64,
}

/// The number of envelopes that may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// One envelope over all classes: the one that crashes its client must be found.
    Alone,
    /// The window.
    Windowed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Emitted {
    Nothing,
    Envelopes,
    /// At least one of them was acked, rejected or read.
    Acked,
}

impl Progress {
    pub(super) const fn new(pace: Pace) -> Self {
        Self { pace, emitted: Emitted::Nothing, acked: 0 }
    }

    pub(super) const fn pace(&self) -> Pace {
        self.pace
    }

    /// An envelope was emitted.
    pub(super) const fn emit(&mut self) {
        self.emitted = match self.emitted {
            Emitted::Nothing | Emitted::Envelopes => Emitted::Envelopes,
            Emitted::Acked => Emitted::Acked,
        };
    }

    /// The client acked, rejected or read something that was emitted: it got past its first envelope.
    pub(super) const fn ack(&mut self) {
        (self.pace, self.emitted) = (Pace::Windowed, Emitted::Acked);
    }

    /// An envelope that was in flight is acked.
    pub(super) const fn count_ack(&mut self) {
        self.acked += 1;
    }

    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) const fn anything_emitted(&self) -> bool {
        match self.emitted {
            Emitted::Nothing => false,
            Emitted::Envelopes | Emitted::Acked => true,
        }
    }

    pub(super) const fn anything_acked(&self) -> bool {
        match self.emitted {
            Emitted::Nothing | Emitted::Envelopes => false,
            Emitted::Acked => true,
        }
    }
}
