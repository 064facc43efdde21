//! A folder through its life: made, opened, frozen, refreshed, broken.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::config::Secret;
use crate::mpc::testing::{deal, with_wallet};

pub(super) const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(super) fn key() -> Unseal {
    Unseal::Value(Secret::new("correct horse"))
}

/// A folder with share 1 of a new wallet.
pub(super) fn home() -> (TempDir, Share) {
    let home = tempfile::tempdir().unwrap();
    let [share, ..] = deal("w1");
    Custody::create(home.path(), &share, &key()).unwrap();
    (home, share)
}

fn open(home: &TempDir) -> Result<Custody, CustodyError> {
    Custody::open(home.path(), &key())
}

/// The folder as a killed process leaves it: nothing is written on the way out.
pub(super) fn copy(home: &TempDir) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(home.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

pub(super) fn next(share: &Share) -> Share {
    with_wallet(share, |wallet| wallet.epoch += 1)
}

#[test]
fn a_share_opens_as_it_was_sealed_and_only_once_at_a_time() {
    let (home, share) = home();
    assert_eq!(fs::metadata(home.path().join("share")).unwrap().permissions().mode() & 0o777, 0o400);
    let custody = open(&home).unwrap();
    assert_eq!(custody.share().wallet(), share.wallet());
    assert_eq!(*custody.share().secret_bytes().unwrap(), *share.secret_bytes().unwrap());
    assert!(matches!(open(&home), Err(CustodyError::Locked(_))));
    assert!(matches!(Custody::create(home.path(), &share, &key()), Err(CustodyError::Locked(_))));
    drop(custody);
    assert!(open(&home).is_ok());
    assert!(matches!(Custody::create(home.path(), &share, &key()), Err(CustodyError::Step { .. })));
}

#[test]
fn a_share_that_all_users_can_read_is_refused() {
    let (home, _) = home();
    let path = home.path().join("share");
    for (mode, accepted) in [(0o400, true), (0o440, true), (0o600, true), (0o404, false), (0o444, false), (0o644, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let opened = open(&home);
        assert_eq!(opened.is_ok(), accepted, "{mode:o}");
        if let Err(error) = opened {
            assert!(matches!(error, CustodyError::Seal { error: SealError::WorldReadable, .. }));
        }
    }
}

#[test]
fn a_wrong_passphrase_and_a_changed_file_do_not_open() {
    let (home, _) = home();
    let wrong = Custody::open(home.path(), &Unseal::Value(Secret::new("wrong")));
    assert!(matches!(wrong, Err(CustodyError::Seal { error: SealError::Passphrase, .. })));
    let path = home.path().join("share");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, bytes).unwrap();
    assert!(matches!(open(&home), Err(CustodyError::Seal { error: SealError::Passphrase, .. })));
}

#[test]
fn a_passphrase_file_beside_the_share_is_refused() {
    let (home, share) = home();
    let path = home.path().join("pass");
    fs::write(&path, "correct horse").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let unseal = Unseal::File(path);
    assert!(matches!(Custody::open(home.path(), &unseal), Err(CustodyError::Unseal(_))));
    let other = tempfile::tempdir().unwrap();
    Custody::create(other.path(), &share, &unseal).unwrap();
    assert!(Custody::open(other.path(), &unseal).is_ok());
}

#[test]
fn a_folder_in_memory_is_refused() {
    let Ok(home) = tempfile::tempdir_in("/dev/shm") else { return };
    let [share, ..] = deal("w1");
    if file::refuse_memory(home.path()).is_ok() {
        return; // Not a memory file system on this machine.
    }
    assert!(matches!(Custody::create(home.path(), &share, &key()), Err(CustodyError::Ephemeral(_))));
}

#[test]
fn a_banned_peer_is_refused_at_once_and_after_a_restart() {
    let (home, _) = home();
    let custody = open(&home).unwrap();
    custody.session_opened().unwrap();
    custody.ban(Party::Cosigner, AT).unwrap();
    let banned = Frozen::Banned { peer: Party::Cosigner, at: AT };
    assert_eq!(custody.frozen(), Some(banned.clone()));
    assert!(matches!(custody.session_opened(), Err(CustodyError::Frozen(_))));
    custody.ban(Party::Cosigner, Timestamp::from_millis(5)).unwrap();
    assert_eq!(custody.frozen(), Some(banned.clone()), "the first ban stands");

    // As after kill -9, and as after a clean stop.
    let killed = copy(&home);
    drop(custody);
    for home in [&killed, &home] {
        assert!(matches!(open(home), Err(CustodyError::Frozen(frozen)) if frozen == banned));
        assert_eq!(Custody::inspect(home.path()).unwrap().1, Some(banned.clone()));
        let care = Custody::open_for_care(home.path(), &key()).unwrap();
        assert_eq!(care.frozen(), Some(banned.clone()));
        assert!(matches!(care.session_opened(), Err(CustodyError::Frozen(_))));
    }
}

#[test]
fn a_ban_that_the_disk_refuses_freezes_all_the_same_and_is_written_later() {
    let (home, _) = home();
    let custody = open(&home).unwrap();
    // The name of the temporary file is taken by something that cannot be removed as a file.
    let block = home.path().join("custody.tmp");
    fs::create_dir(&block).unwrap();
    assert!(matches!(custody.ban(Party::Cosigner, AT), Err(CustodyError::Io { .. })));
    assert!(custody.frozen().is_some());
    assert!(open(&copy_files(&home)).is_ok(), "nothing is durable yet");
    fs::remove_dir(&block).unwrap();
    drop(custody);
    assert!(matches!(open(&home), Err(CustodyError::Frozen(_))));
}

/// [`copy`] without folders.
fn copy_files(home: &TempDir) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["share", "custody"] {
        fs::copy(home.path().join(name), to.path().join(name)).unwrap();
    }
    to
}

#[test]
fn sixteen_unclean_stops_freeze_and_clean_ones_do_not_count() {
    let (mut home, _) = home();
    for _ in 0..3 {
        let custody = open(&home).unwrap();
        custody.session_opened().unwrap();
        custody.session_closed();
    }
    for stop in 0..MAX_UNCLEAN {
        let custody = open(&home).unwrap_or_else(|e| panic!("stop {stop}: {e}"));
        custody.session_opened().unwrap();
        custody.session_opened().unwrap();
        custody.session_closed();
        home = copy(&home);
    }
    // Asked without opening, the last mark is not counted: the process could be running.
    assert_eq!(Custody::inspect(home.path()).unwrap().1, None);
    assert!(matches!(open(&home), Err(CustodyError::Frozen(Frozen::Unclean))));
    assert_eq!(Custody::inspect(home.path()).unwrap().1, Some(Frozen::Unclean));
    assert!(matches!(open(&home), Err(CustodyError::Frozen(Frozen::Unclean))), "asking again does not help");
}

#[test]
fn a_process_that_has_been_quiet_for_a_second_may_be_killed() {
    let (home, _) = home();
    let custody = open(&home).unwrap();
    custody.session_opened().unwrap();
    custody.session_closed();
    let is_marked = || {
        let wallet = facts(home.path(), SHARE).unwrap();
        let state::Found::State(state) = state::State::read(home.path(), &wallet).unwrap() else { panic!("no state") };
        state.marked
    };
    assert!(is_marked(), "right after a session a stop is still unclean");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while is_marked() {
        assert!(std::time::Instant::now() < until, "the mark stayed");
        std::thread::yield_now();
    }
    custody.session_opened().unwrap();
    assert!(is_marked(), "and the next session makes it again");
}

#[test]
fn a_guard_closes_its_session_whatever_happens() {
    let (home, _) = home();
    let custody = Arc::new(open(&home).unwrap());
    let session = custody.session().unwrap();
    let killed = copy(&home);
    drop(session);
    drop(custody);
    let unclean = |home: &TempDir| {
        let wallet = facts(home.path(), SHARE).unwrap();
        let found = state::State::read(home.path(), &wallet).unwrap();
        state::State::at_start(found, &wallet).unwrap().unclean
    };
    assert_eq!((unclean(&killed), unclean(&home)), (1, 0));
}

#[test]
fn without_its_record_of_bans_a_share_is_frozen() {
    type Break = fn(&Path);
    let breaks: [(&str, Break); 4] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| fs::write(path, b"").unwrap()),
        ("one bit", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[20] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("another wallet's", |path| {
            let (other, _) = home();
            fs::copy(other.path().join("custody"), path).unwrap();
        }),
    ];
    for (name, damage) in breaks {
        let (home, share) = home();
        damage(&home.path().join("custody"));
        assert!(matches!(open(&home), Err(CustodyError::Frozen(Frozen::Lost))), "{name}");
        // Opening it did not heal it; a complete refresh does.
        assert!(matches!(open(&home), Err(CustodyError::Frozen(Frozen::Lost))), "{name}");
        let care = Custody::open_for_care(home.path(), &key()).unwrap();
        care.stage_next(&next(&share), &key()).unwrap();
        care.activate_next().unwrap();
        assert!(open(&home).is_ok(), "{name}");
    }
}

#[test]
fn each_greeting_spends_the_token_of_the_one_before() {
    let (home, _) = home();
    let custody = open(&home).unwrap();
    let (first, second) = custody.turn().unwrap();
    assert_eq!(first, [0; 16]);
    assert_eq!(custody.turn().unwrap(), (first, second), "until it is accepted the pair stays");
    assert!(custody.turned().unwrap());
    let (spent, third) = custody.turn().unwrap();
    assert_eq!(spent, second);
    assert!(third != second && third != [0; 16]);

    // Killed between asking and hearing: the same pair again, said to be left over, then a fresh one.
    let killed = copy(&home);
    let again = open(&killed).unwrap();
    assert_eq!(again.turn().unwrap(), (second, third));
    assert!(!again.turned().unwrap());
    assert_eq!(again.turn().unwrap().0, third);
    assert!(again.turned().unwrap());
}

#[test]
fn of_two_copies_the_second_to_speak_shows_a_spent_token() {
    let (home, _) = home();
    let custody = open(&home).unwrap();
    // The co-signer's side of the exchange.
    let mut known = ([0; 16], [0; 16]);
    let mut greet = |custody: &Custody| {
        let (turn, next) = custody.turn().unwrap();
        let accepted = turn == known.1 || (turn, next) == known;
        if accepted {
            known = (turn, next);
            custody.turned().unwrap();
        }
        accepted
    };
    assert!(greet(&custody));
    let copied = copy(&home);
    let copy = open(&copied).unwrap();
    assert!(greet(&copy), "the first to speak is believed");
    assert!(!greet(&custody), "the other one is found out");
}

#[test]
fn a_peer_whose_ledger_went_back_is_noticed_after_a_restart_too() {
    let (home, _) = home();
    let custody = open(&home).unwrap();
    for (head, want) in [(5, Ok(())), (5, Ok(())), (9, Ok(())), (8, Err(9))] {
        assert_eq!(custody.peer_head(head), want);
    }
    drop(custody);
    let custody = open(&home).unwrap();
    assert_eq!(custody.peer_head(8), Err(9));
    assert_eq!(custody.peer_head(9), Ok(()));
}

#[test]
fn a_complete_refresh_takes_over_in_one_step_and_lifts_the_freeze() {
    let (home, share) = home();
    open(&home).unwrap().ban(Party::Cosigner, AT).unwrap();
    let care = Custody::open_for_care(home.path(), &key()).unwrap();
    care.peer_head(7).unwrap();
    let (_, token) = care.turn().unwrap();
    care.turned().unwrap();

    care.stage_next(&next(&share), &key()).unwrap();
    assert_eq!(Custody::open_staged(home.path(), &key()).unwrap().wallet().epoch, 2);
    assert!(care.destroy_previous().is_ok(), "nothing to destroy yet");
    assert_eq!(Custody::inspect(home.path()).unwrap().0.epoch, 1);
    care.activate_next().unwrap();

    let custody = open(&home).unwrap();
    assert_eq!(custody.share().wallet().epoch, 2);
    assert_eq!(custody.frozen(), None);
    assert_eq!(custody.turn().unwrap().0, token, "the token goes on");
    assert_eq!(custody.peer_head(6), Err(7), "and so does the peer's head");
    let [now, staged, previous] = Custody::epochs(home.path()).unwrap().map(|w| w.map(|w| w.epoch));
    assert_eq!((now, staged, previous), (Some(2), None, Some(1)));
    custody.destroy_previous().unwrap();
    assert!(!home.path().join("share.previous").exists());
}

#[test]
fn an_old_share_put_back_is_refused() {
    let (home, share) = home();
    let backup = fs::read(home.path().join("share")).unwrap();
    let custody = open(&home).unwrap();
    custody.stage_next(&next(&share), &key()).unwrap();
    custody.activate_next().unwrap();
    open(&home).unwrap();
    let path = home.path().join("share");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, backup).unwrap();
    assert!(matches!(open(&home), Err(CustodyError::Epoch { share: 1, seen: 2, .. })));
    assert!(matches!(Custody::open_for_care(home.path(), &key()), Err(CustodyError::Epoch { .. })));
}

#[test]
fn only_this_wallets_next_epoch_is_staged() {
    let (home, share) = home();
    let [_, other, _] = deal("w1");
    let custody = open(&home).unwrap();
    let wrong = [
        with_wallet(&share, |_| ()),
        with_wallet(&share, |w| w.epoch = 3),
        with_wallet(&share, |w| (w.epoch, w.party) = (2, Party::Cold)),
        with_wallet(&share, |w| (w.epoch, w.ceremony) = (2, [9; 32])),
        with_wallet(&share, |w| (w.epoch, w.id) = (2, "w2".parse().unwrap())),
        with_wallet(&other, |w| w.epoch = 2),
    ];
    for share in &wrong {
        assert!(matches!(custody.stage_next(share, &key()), Err(CustodyError::Step { .. })));
    }
    assert!(custody.activate_next().is_err(), "nothing is staged");
    assert!(open(&home).is_ok());
}

#[test]
fn after_a_crash_at_any_step_of_a_refresh_one_epoch_opens_and_the_rest_goes_on() {
    // What the folder holds when the process dies right after each step.
    let steps: [(&str, u32, bool); 6] = [
        ("temporary file written", 1, false),
        ("staged", 1, true),
        ("linked", 1, true),
        ("activated", 2, false),
        ("overwritten", 2, false),
        ("destroyed", 2, false),
    ];
    for (at, (name, epoch, is_staged)) in steps.into_iter().enumerate() {
        let (home, share) = home();
        let file = |name: &str| home.path().join(name);
        let custody = open(&home).unwrap();
        if at == 0 {
            fs::write(file("share.next.tmp"), b"half a sha").unwrap();
            fs::set_permissions(file("share.next.tmp"), fs::Permissions::from_mode(0o400)).unwrap();
        } else {
            custody.stage_next(&next(&share), &key()).unwrap();
        }
        if at == 2 {
            fs::hard_link(file("share"), file("share.previous")).unwrap();
        }
        if at >= 3 {
            custody.activate_next().unwrap();
        } else {
            drop(custody);
        }
        if at == 4 {
            let length = fs::metadata(file("share.previous")).unwrap().len() as usize;
            fs::set_permissions(file("share.previous"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(file("share.previous"), vec![0; length]).unwrap();
        }
        if at == 5 {
            fs::remove_file(file("share.previous")).unwrap();
        }

        let custody = open(&home).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(custody.share().wallet().epoch, epoch, "{name}");
        assert_eq!(Custody::open_staged(home.path(), &key()).is_ok(), is_staged, "{name}");
        // Destroying is harmless before the activation, whatever lies there.
        let _ = custody.destroy_previous();
        drop(custody);
        let custody = open(&home).unwrap_or_else(|e| panic!("{name}, after destroying: {e}"));
        if epoch == 1 {
            custody.stage_next(&next(&share), &key()).unwrap();
            custody.activate_next().unwrap();
        } else {
            drop(custody);
        }
        let custody = open(&home).unwrap();
        custody.destroy_previous().unwrap();
        assert_eq!(custody.share().wallet().epoch, 2, "{name}");
        assert!(!file("share.previous").exists() && !file("share.next").exists(), "{name}");
    }
}

#[test]
fn errors_show_no_secret() {
    let (home, share) = home();
    let secret = alloy_primitives::hex::encode(&share.secret_bytes().unwrap()[..64]);
    let error = Custody::open(home.path(), &Unseal::Value(Secret::new("hunter2"))).err().unwrap();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(&secret));
}
