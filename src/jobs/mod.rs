//! Chores that run beside everything else, one file each with the same skeleton: every so often one pass, bounded in
//! what it takes at once; a pass that fails is logged and made again next time.

mod expire;
mod finish;

pub use expire::run as expire;
pub use finish::run as finish;
