//! What was bought before under the same wallet, allow entry, host and method (M3.3).

use crate::payment::MicroUsd;

/// The last 50 consumed purchases within 30 days, in four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How many there are, at most 50.
    pub count: u32,
    /// Their lower median; meaningful only if `count` > 0.
    pub median: MicroUsd,
    /// The latest of them; meaningful only if `count` > 0.
    pub last: MicroUsd,
    /// The first ever, however long ago: the anchor against a slow drift.
    pub first: Option<MicroUsd>,
}
