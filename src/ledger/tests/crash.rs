//! Killed at every step that exists here, the ledger knows at least what may have left (M1.5, money.md §5).

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::durability::signed_purchase;
use super::*;

const DIR: &str = "TOLLPASS_TEST_LEDGER";

/// Runs in a process of its own, which dies on the way.
#[tokio::test]
async fn one_payment() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let ledger = Ledger::open(&options(Path::new(&dir)), reading(0)).unwrap();
    let (mut commitment, _) = signed_purchase(&ledger, 1).await;
    // Each step in a transaction of its own, so that the table below can tell them apart.
    ledger.flush().await.unwrap();
    commitment.sent();
    ledger.flush().await.unwrap();
    commitment.outcome(Outcome::Settled, Some("0xabc".into()));
    ledger.flush().await.unwrap();
    commitment.consumed();
    ledger.flush().await.unwrap();
}

#[test]
fn a_crash_forgets_no_hold_that_may_have_been_signed_m1_5() {
    let table = [
        ("hold_written", None),
        ("intent_durable", Some((PurchaseState::Committed, false))),
        ("signature_in_memory", Some((PurchaseState::Committed, false))),
        ("bytes_stored", Some((PurchaseState::Signed, true))),
        ("before_outcome", Some((PurchaseState::Sent, true))),
        ("before_consumed", Some((PurchaseState::Settled, true))),
    ];
    for (place, found) in table {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::tests::crash::one_payment"])
            .env(DIR, dir.path())
            .env("TOLLPASS_FAILPOINT", place)
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(9), "{place}");
        let ledger = open(&dir);
        assert_eq!(spent(&ledger, hour()), found.map_or(0, |_| 5), "{place}");
        let adopted = match claim(&ledger, 1, T0) {
            Claim::Adopted(c) => Some((c.purchase().state, c.purchase().signature.is_some())),
            _ => None,
        };
        assert_eq!(adopted, found, "{place}");
    }
}
