//! Named places where a crash test kills the process (money.md §5).
//!
//! Without the feature `failpoints` a place expands to nothing but a check that its name is listed in [`NAMES`]. With it,
//! `TOLLPASS_FAILPOINT=name` ends the process by SIGKILL at the first visit, `name:N` at the N-th; `!name` panics there instead,
//! so that a test sees what a panic shows.

/// Every place, in the order a payment passes them.
pub const NAMES: &[&str] = &[
    "hold_written",
    "intent_durable",
    "signature_in_memory",
    "bytes_stored",
    "first_byte_sent",
    "headers_received",
    "half_body",
    "before_outcome",
    "before_consumed",
];

/// Every place in a signature by two parties and in an enrolment, on both sides.
pub const SIGNING: &[&str] = &[
    // the sidecar's side
    "sidecar_before_begin",
    "sidecar_begun",
    "sidecar_before_finish",
    "sidecar_finished",
    // the co-signer's side
    "cosigner_store_written",
    "cosigner_store_durable",
    "cosigner_hold_durable",
    "cosigner_joined",
    "cosigner_before_partial",
    "cosigner_after_partial",
    "cosigner_before_ban",
    "cosigner_after_ban",
    // enrolment
    "enroll_key_written",
    "enroll_token_spent",
];

/// Every place in the keeping of a share, in the order of a ban and of a complete refresh (S3, S7).
pub const CUSTODY: &[&str] = &[
    "ban_in_memory",
    "ban_tmp_written",
    "ban_renamed",
    "next_tmp_written",
    "next_written",
    "previous_linked",
    "next_activated",
    "previous_overwritten",
    "previous_destroyed",
];

/// Every place in the creation of a wallet, in order (S6).
pub const CREATE: &[&str] = &["dkg_agreed", "dkg_sealed", "dkg_reopened", "dkg_tested", "dkg_marked", "dkg_activated"];

/// Every place in a complete refresh, in order; those in [`CUSTODY`] lie between them (S7).
pub const REFRESH: &[&str] = &["refresh_staged", "refresh_tested", "refresh_activated", "refresh_destroyed"];

/// Marks a place by its name.
macro_rules! failpoint {
    ($name:literal) => {{
        const _: () = assert!($crate::failpoint::listed($name), "add the failpoint to a list in failpoint.rs");
        #[cfg(feature = "failpoints")]
        $crate::failpoint::hit($name);
    }};
}
pub(crate) use failpoint;

/// True if `name` is in one of the lists; decides at compile time.
#[doc(hidden)]
pub const fn listed(name: &str) -> bool {
    contains(NAMES, name) || contains(SIGNING, name) || contains(CUSTODY, name) || contains(CREATE, name) || contains(REFRESH, name)
}

const fn contains(list: &[&str], name: &str) -> bool {
    let mut i = 0;
    while i < list.len() {
        if same(list[i].as_bytes(), name.as_bytes()) {
            return true;
        }
        i += 1;
    }
    false
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Ends the process without any cleaning up if the environment asks for it here.
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub fn hit(name: &str) {
    if is_wanted(name) {
        assert!(!panics(), "failpoint {name}");
        die();
    }
}

#[cfg(feature = "failpoints")]
fn panics() -> bool {
    std::env::var("TOLLPASS_FAILPOINT").is_ok_and(|text| text.starts_with('!'))
}

/// Counts a visit; true if it is the one the environment names.
#[cfg(feature = "failpoints")]
fn is_wanted(name: &str) -> bool {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static VISITS: AtomicU64 = AtomicU64::new(0);

    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("TOLLPASS_FAILPOINT").ok()?;
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.trim_start_matches('!').to_owned(), nth.parse().ok()?))
    });
    let Some((wanted, nth)) = wanted else { return false };
    wanted == name && VISITS.fetch_add(1, Ordering::SeqCst) + 1 == *nth
}

#[cfg(feature = "failpoints")]
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

/// Ends the process while `future` is under way, if the environment asks for `name`: for places between two of our own
/// steps, such as "the first byte left, nothing came back yet". Without the feature it is the future itself.
#[cfg(feature = "failpoints")]
pub(crate) async fn after_start<F: Future>(name: &'static str, future: F) -> F::Output {
    let wanted = is_wanted(name);
    let mut future = std::pin::pin!(future);
    tokio::select! {
        biased;
        output = future.as_mut() => output,
        () = tokio::time::sleep(std::time::Duration::from_millis(100)), if wanted => die(),
    }
}

/// See the other form.
#[cfg(not(feature = "failpoints"))]
pub(crate) async fn after_start<F: Future>(_name: &'static str, future: F) -> F::Output {
    future.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_names_are_failpoints() {
        assert!(NAMES.iter().chain(SIGNING).chain(CUSTODY).all(|n| listed(n)));
        assert!(!listed("hold_writte") && !listed("hold_writtem") && !listed(""));
    }
}
