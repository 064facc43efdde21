//! What hyper cannot know of a byte stream, on each side.

mod agent;
mod seller;

pub(super) use agent::{AgentIo, Unflushed};
pub(super) use seller::{Ask, SellerIo};
