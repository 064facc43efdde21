//! The register on disk.
#![allow(clippy::unwrap_used)]

use super::*;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn rules() -> policy::Sessions {
    policy::Sessions { required: false, max: None, expires: Duration::from_secs(60), open: 3 }
}

fn wanted(name: &str) -> Wanted {
    Wanted { agent: "bot".parse().unwrap(), name: name.parse().unwrap(), expires: None, max: Some(MicroUsd::new(5)) }
}

fn opened(folder: &Path) -> Sessions {
    let sessions = Sessions::read(folder).unwrap();
    sessions.open().unwrap();
    sessions
}

#[test]
fn m2_4_a_session_that_ended_stays_ended_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (bot, name) = ("bot".parse().unwrap(), "run".parse::<SessionName>().unwrap());
    let first = opened(folder.path());
    first.enter(&bot, Some(&name), Some(&rules()), at(0)).unwrap();
    // Used again later: the end does not move.
    first.enter(&bot, Some(&name), Some(&rules()), at(59_999)).unwrap();
    assert_eq!(first.enter(&bot, Some(&name), Some(&rules()), at(60_000)), Err(Reason::SessionUnknown));
    drop(first);
    let second = opened(folder.path());
    assert_eq!(second.enter(&bot, Some(&name), Some(&rules()), at(60_000)), Err(Reason::SessionUnknown));
    assert_eq!(second.enter(&bot, Some(&name), None, at(60_000)), Err(Reason::SessionUnknown), "also without rules");
    assert!(matches!(second.issue(&wanted("run"), "t", Some(&rules()), at(70_000)), Err(SessionError::Taken)));
}

#[test]
fn an_issued_token_is_hashed_admits_until_it_is_closed_and_changes_the_version() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = opened(folder.path());
    let (bot, name) = ("bot".parse().unwrap(), "run".parse().unwrap());
    let version = sessions.version();
    assert_eq!(sessions.issue(&wanted("run"), "tp_secret", Some(&rules()), at(0)).unwrap(), at(60_000));
    assert_ne!(sessions.version(), version);
    assert!(!std::fs::read_to_string(folder.path().join(FILE)).unwrap().contains("tp_secret"));
    for (password, admits) in [("tp_secret", true), ("tp_other", false), ("", false)] {
        assert_eq!(sessions.admits(&bot, &name, password), Some(admits), "{password}");
        assert_eq!(Sessions::read(folder.path()).unwrap().admits(&bot, &name, password), Some(admits), "a reader too");
    }
    assert_eq!(sessions.admits(&bot, &"other".parse().unwrap(), "tp_secret"), None);
    assert_eq!(sessions.check(&bot, Some(&name), Some(&rules()), at(1)), Ok(Some(MicroUsd::new(5))));
    assert!(sessions.close(&bot, &name, at(2)).unwrap());
    assert!(!sessions.close(&bot, &name, at(3)).unwrap());
    assert_eq!(sessions.admits(&bot, &name, "tp_secret"), Some(false));
    assert_eq!(sessions.check(&bot, Some(&name), Some(&rules()), at(3)), Err(Reason::SessionUnknown));
    assert_eq!((sessions.list(at(3), false).len(), sessions.list(at(3), true).len()), (0, 1));
}

#[test]
fn an_issue_stays_within_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = opened(folder.path());
    let long = Wanted { expires: Some(Duration::from_secs(61)), ..wanted("a") };
    assert!(matches!(sessions.issue(&long, "t", Some(&rules()), at(0)), Err(SessionError::Bad(_))));
    sessions.issue(&long, "t", None, at(0)).unwrap();
    for name in ["b", "c"] {
        sessions.issue(&wanted(name), "t", Some(&rules()), at(0)).unwrap();
    }
    assert!(matches!(sessions.issue(&wanted("d"), "t", Some(&rules()), at(0)), Err(SessionError::Full)));
    sessions.issue(&wanted("d"), "t", Some(&rules()), at(60_000)).unwrap();
}

#[test]
fn m1_9_without_the_till_nothing_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = Sessions::read(folder.path()).unwrap();
    assert!(matches!(sessions.issue(&wanted("a"), "t", None, at(0)), Err(SessionError::Disk(_))));
    let (bot, name) = ("bot".parse().unwrap(), "a".parse::<SessionName>().unwrap());
    assert_eq!(sessions.enter(&bot, Some(&name), Some(&rules()), at(0)), Err(Reason::LedgerUnavailable));
}

#[test]
fn first_payments_at_once_open_no_more_sessions_than_there_is_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = opened(folder.path());
    let bot: AgentId = "bot".parse().unwrap();
    let done = std::thread::scope(|scope| {
        let one = |n: i32| {
            let (sessions, bot) = (&sessions, &bot);
            scope.spawn(move || sessions.enter(bot, Some(&format!("s{n}").parse().unwrap()), Some(&rules()), at(0)))
        };
        let all: Vec<_> = (0..12).map(one).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(done.iter().filter(|r| r.is_ok()).count(), 3);
    assert!(done.iter().filter(|r| r.is_err()).all(|r| *r == Err(Reason::SessionLimit)));
    assert_eq!(sessions.list(at(0), true).len(), 3);
}
