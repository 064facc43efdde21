//! The decision log: every answer to a challenge with everything it was decided on, so that the same functions can decide it again.
//!
//! [`seen`] notes what a decision reads of the books, whichever rule asks; [`record`] carries it to the thread of [`log`], which writes
//! [`row`]s into [`files`]. [`read`] reads them back, [`case`] turns one into the evaluator's input, [`fold`] judges it by a draft with
//! the draft's own counters, [`tally`] has the sums behind that, and [`replay`] reports. A draft in the shadow is a replay that runs
//! along. Format version 1; rows are not chained.

mod case;
mod files;
mod fold;
mod log;
mod read;
mod record;
mod replay;
pub mod row;
mod seen;
mod tally;
#[cfg(test)]
mod tests;

pub use case::{Case, Unreadable, bounded};
pub use files::Keep;
pub use fold::{Base, Fold, Judged};
pub use log::{Draft, Log};
pub use read::{Placed, ReadError, files, read};
pub use record::{Judgement, Record};
pub use replay::{Change, Group, Replay, Report, Sum};
pub use row::{Say, Verdict, What};
pub use seen::{Seen, Witness, counter};
pub use tally::{Bought, Logged, Past, PastKey};
