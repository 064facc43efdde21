//! A second reading of money.md sections 2 and 3, written without the engine and in the plainest way: no counters, no compiled
//! rules, every sum scanned anew. It exists to disagree with the engine where one of the two is wrong. Nothing here may use
//! `tollpass`.

pub mod case;
pub mod cel;
pub mod host;
pub mod judge;
pub mod money;
pub mod offer;
pub mod time;
pub mod yaml;
