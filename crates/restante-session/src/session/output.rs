//! The effects of one input, in order. Emissions are collected apart: what one input puts on the wire is one effect.

use super::{Effect, Emission};

/// Collected while one input is handled.
#[derive(Debug, Default)]
pub(super) struct Output {
    effects: Vec<Effect>,
    emissions: Vec<Emission>,
}

impl Output {
    /// Adds an effect.
    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Adds something to the next [`Effect::Emit`]. Neighbouring gaps of one reason become one, save those that name events of a feed.
    pub(super) fn emit(&mut self, emission: Emission) {
        if let (
            Some(Emission::Gap { class, to, reason, feed: None, .. }),
            Emission::Gap { class: of, from, to: end, reason: next, feed: None },
        ) = (self.emissions.last_mut(), &emission)
            && (*class, *reason) == (*of, *next)
            && from.0.checked_sub(1) == Some(to.0)
        {
            *to = *end;
            return;
        }
        self.emissions.push(emission);
    }

    /// Makes one effect of the emissions so far, if there are any.
    pub(super) fn end_emissions(&mut self) {
        if !self.emissions.is_empty() {
            self.effects.push(Effect::Emit(std::mem::take(&mut self.emissions)));
        }
    }

    /// Takes all effects out. Emissions that [`Output::end_emissions`] has not seen are dropped: the connection closes.
    pub(super) fn take(&mut self) -> Vec<Effect> {
        self.emissions.clear();
        std::mem::take(&mut self.effects)
    }
}
