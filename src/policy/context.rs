//! What a request says of itself in `Tollpass-Context` (M3.1, M3.2): declared keys only, and it can only tighten.

use std::sync::Arc;

/// The keys that a policy declares.
#[derive(Clone, Debug, Default)]
pub struct ContextKeys {}

/// The values of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {}

impl Context {
    /// The key named `customer`, if the policy declares it as text.
    pub fn customer(&self) -> Option<Arc<str>> {
        None
    }
}

impl ContextKeys {
    pub(super) fn read(_: &super::yaml::Node, _: &mut super::read::Report) -> Self {
        Self::default()
    }
    pub(super) fn has_customer(&self) -> bool {
        true
    }
}
