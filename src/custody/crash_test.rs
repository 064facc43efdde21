//! kill -9 at every write of a ban and at every step of a refresh, in a process of its own.
#![allow(clippy::unwrap_used)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::tests::{AT, home, key, next};
use super::*;

/// Names the folder for the process that is to die.
const FOLDER: &str = "TOLLPASS_TEST_CUSTODY";

/// Not a test of its own: what the other process does until it is killed.
#[test]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let custody = Custody::open(&folder, &key()).unwrap();
    if std::env::var("TOLLPASS_FAILPOINT").unwrap().starts_with("ban_") {
        custody.session_opened().unwrap();
        custody.ban(Party::Cosigner, AT).unwrap();
    } else {
        custody.stage_next(&next(custody.share()), &key()).unwrap();
        custody.activate_next().unwrap();
        Custody::open(&folder, &key()).unwrap().destroy_previous().unwrap();
    }
}

/// What must be found after a death at a place.
enum Left {
    /// Nobody was answered and the ban is not there: the stop counts as unclean.
    Unclean,
    /// The ban is in force.
    Banned,
    /// This epoch opens; a staged share, and an old one to destroy, or not.
    Epoch(u32, bool, bool),
}

#[test]
fn killed_at_any_write_a_share_opens_or_is_frozen_as_it_should() {
    let table = [
        ("ban_in_memory", Left::Unclean),
        ("ban_tmp_written", Left::Unclean),
        ("ban_renamed", Left::Banned),
        ("next_tmp_written", Left::Epoch(1, false, false)),
        ("next_written", Left::Epoch(1, true, false)),
        ("previous_linked", Left::Epoch(1, true, true)),
        ("next_activated", Left::Epoch(2, false, true)),
        ("previous_overwritten", Left::Epoch(2, false, true)),
        ("previous_destroyed", Left::Epoch(2, false, false)),
    ];
    assert!(table.iter().map(|(place, _)| *place).eq(crate::failpoint::CUSTODY.iter().copied()), "a place without a row");
    for (place, left) in table {
        let (home, share) = home();
        let killed = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "custody::crash_test::the_process_that_is_killed"])
            .envs([(FOLDER, home.path().as_os_str()), ("TOLLPASS_FAILPOINT", place.as_ref())])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(killed.signal(), Some(9), "{place} was not passed");
        match left {
            Left::Unclean => {
                let custody = Custody::open(home.path(), &key()).unwrap_or_else(|e| panic!("{place}: {e}"));
                drop(custody);
                let state::Found::State(state) = state::State::read(home.path(), share.wallet()).unwrap() else { panic!("{place}") };
                assert_eq!((state.unclean, state.bans.len()), (1, 0), "{place}");
            }
            Left::Banned => {
                let opened = Custody::open(home.path(), &key());
                assert!(matches!(opened, Err(CustodyError::Frozen(Frozen::Banned { peer: Party::Cosigner, .. }))), "{place}");
            }
            Left::Epoch(epoch, staged, previous) => {
                let custody = Custody::open(home.path(), &key()).unwrap_or_else(|e| panic!("{place}: {e}"));
                assert_eq!(custody.share().wallet().epoch, epoch, "{place}");
                assert_eq!(Custody::open_staged(home.path(), &key()).is_ok(), staged, "{place}");
                assert_eq!(home.path().join(PREVIOUS).exists(), previous, "{place}");
                // The refresh is finished by the next process, and nothing of the old epoch stays.
                let custody = if epoch == 1 {
                    custody.stage_next(&next(&share), &key()).unwrap();
                    custody.activate_next().unwrap();
                    Custody::open(home.path(), &key()).unwrap()
                } else {
                    custody
                };
                custody.destroy_previous().unwrap();
                assert_eq!(custody.share().wallet().epoch, 2, "{place}");
                assert!(!home.path().join(PREVIOUS).exists(), "{place}");
            }
        }
    }
}
