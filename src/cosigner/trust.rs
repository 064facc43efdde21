//! Three kinds of input (S4): only [`Fact`] and [`Proven`] may allow or widen; [`Claimed`] may only deny.

/// A field that will be signed, or something of our own: clock, ledger, asset table.
#[derive(Clone, Copy, Debug)]
pub struct Fact<T>(pub(super) T);

/// Backed by a key: the identity and what the registry ties to it, a seller's signed offer, our own probe, a human's grant.
#[derive(Clone, Copy, Debug)]
pub struct Proven<T>(pub(super) T);

/// Somebody's word. There is no way to read it, only to ask whether it speaks against something.
#[derive(Clone, Debug)]
pub struct Claimed<T>(T);
