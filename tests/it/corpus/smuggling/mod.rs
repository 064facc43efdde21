//! Messages that two readers divide differently, and near misses.

pub(crate) mod agent;
pub(crate) mod seller;
