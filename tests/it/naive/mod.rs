//! A second reading of money.md sections 2 and 3, written without the engine and in the plainest way: no counters, no compiled
//! rules, every sum scanned anew. It exists to disagree with the engine where one of the two is wrong. Nothing here may use
//! `tollpass`.

pub(crate) mod case;
pub(crate) mod cel;
pub(crate) mod context;
pub(crate) mod host;
pub(crate) mod judge;
pub(crate) mod money;
pub(crate) mod offer;
pub(crate) mod time;
pub(crate) mod yaml;
