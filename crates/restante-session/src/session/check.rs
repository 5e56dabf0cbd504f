//! The times at which the database is asked what became of the rows of one class that a session holds. It knows neither the rows nor the answer.

/// The question what became of the rows of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing is to be asked.
    Idle,
    /// It is to be asked.
    Wanted,
    /// It has been asked, and is to be asked once more after the answer: a hint has come since, or a page is being read.
    UnderWay { again: bool },
    /// It is to be asked once the page that is being read has come: it may be older than the hint.
    AfterPage,
}

impl Check {
    /// A hint has come.
    pub(super) const fn hint(&mut self) {
        *self = match self {
            Self::Idle | Self::Wanted | Self::AfterPage => Self::Wanted,
            Self::UnderWay { .. } => Self::UnderWay { again: true },
        };
    }

    /// A page has come.
    pub(super) const fn page(&mut self) {
        *self = match self {
            Self::AfterPage => Self::Wanted,
            Self::Idle => Self::Idle,
            Self::Wanted => Self::Wanted,
            Self::UnderWay { again } => Self::UnderWay { again: *again },
        };
    }

    /// True while nothing that is held may be emitted: the database has not said yet whether it has ended.
    pub(super) const fn holds_back(self) -> bool {
        match self {
            Self::Wanted | Self::UnderWay { .. } => true,
            Self::Idle | Self::AfterPage => false,
        }
    }
}
