//! Our own way out to the URLs of an operator (S21): made once, when there is something to say.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::net::{Fetcher, address};
use crate::policy::Found;

/// Longest URL or secret.
const LONGEST: u64 = 4096;

/// Reading the roots is slow, so it waits until somebody asks.
pub(super) struct Outward {
    extra_roots: Vec<PathBuf>,
    fetcher: OnceLock<Option<Fetcher>>,
}

impl Outward {
    pub(super) const fn new(extra_roots: Vec<PathBuf>) -> Self {
        Self { extra_roots, fetcher: OnceLock::new() }
    }

    /// The operator's own program may be on a private address. `None` without TLS roots, which is logged.
    pub(super) fn fetcher(&self) -> Option<Fetcher> {
        let made = self.fetcher.get_or_init(|| {
            let made = Fetcher::new(&self.extra_roots, |ip| address::permits(ip, true));
            made.inspect_err(|error| tracing::error!("no URL of the operator can be asked: {error:#}")).ok()
        });
        made.clone()
    }
}

/// The text behind it, without blanks around; `None` if there is none.
pub(super) fn text(found: &Found) -> Option<String> {
    let text = match found {
        Found::Env(name) => std::env::var(&**name).ok()?,
        Found::File(path) => {
            let mut text = String::new();
            std::fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
            text
        }
        Found::Here(text) => text.to_string(),
    };
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
