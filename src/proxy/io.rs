//! What hyper cannot know of a byte stream, on each side.

mod agent;
mod aside;
mod pen;
mod seller;
mod settings;

pub(super) use agent::{AgentIo, Unflushed};
pub(super) use aside::{Early, Manner};
pub(super) use seller::{Ask, SellerIo};
pub(super) use settings::Settings;
#[cfg(feature = "failpoints")]
pub(super) use {aside::clean, settings::takes_connect};
