//! `make bench`: what a payment costs in parts, how many holds a disk makes durable, what the proxy adds to a free request,
//! and what it costs that the key is in shares.
//!
//! Prints a report in Markdown. Ratios within one run are what counts; absolute times are those of the machine it ran on.
//! `payments slow-disk` runs only the holds, for a second run under a slowed fsync (see the Makefile); `payments mpc` only
//! threshold signing, `payments policy` only decisions under a large policy.
#![allow(missing_docs, clippy::unwrap_used)]

mod fixture;
mod holds;
mod latency;
mod mpc;
mod parts;
mod policy;

use std::time::Duration;

fn main() {
    // `cargo bench` passes its own flags; a word that is not one chooses the section.
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    match only.as_deref() {
        Some("slow-disk") => report_holds("Holds per second, every fsync 5 ms slower"),
        Some("mpc") => mpc::report(),
        Some("policy") => policy::report(),
        _ => {
            parts::report();
            policy::report();
            report_holds("Holds per second, full durability");
            latency::report();
            mpc::report();
        }
    }
}

/// Holds per second at 1, 16 and 256 waiters (M4.1).
fn report_holds(title: &str) {
    println!("\n## {title}\n\n| waiters | holds per second | holds per transaction |\n|---:|---:|---:|");
    for waiters in [1, 16, 256] {
        let dir = tempfile::tempdir_in(".").unwrap();
        let judge = fixture::Judge::new();
        let (rate, shared) = holds::holds(dir.path(), waiters, Duration::from_secs(3), move |ledger, now| judge.approve(ledger, now));
        println!("| {waiters} | {rate:.0} | {shared:.1} |");
    }
}
