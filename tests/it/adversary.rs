//! A co-signer process and people who mean it ill: they have a real share 1, real identities, and no manners.

pub(crate) mod raw;
mod rig;

pub(crate) use raw::{Heard, Raw};
pub(crate) use rig::{PASSPHRASE, Rig};
