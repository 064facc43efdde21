#![allow(clippy::unwrap_used)]
use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn open(dir: &Path) -> Store {
    Store::open(dir).unwrap()
}

fn token(name: &str, text: &[u8; 32], until: i64) -> TokenRow {
    TokenRow {
        hash: *text,
        name: name.into(),
        wallet: "w1".into(),
        agents: vec!["bot".into(), "eve".into()],
        expires_at: NOW.plus_millis(until),
    }
}

#[test]
fn one_key_has_one_digest_for_ever_and_five_sessions_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (key, purchase) = ([1; 16], [2; 16]);
    let digest = B256::repeat_byte(3);
    let store = open(dir.path());
    assert_eq!(store.key(key, purchase, digest), Ok(0));
    assert_eq!(store.key(key, purchase, digest), Ok(1));
    drop(store);
    let store = open(dir.path());
    for before in 2..5 {
        assert_eq!(store.key(key, purchase, digest), Ok(before));
    }
    assert_eq!(store.key(key, purchase, digest), Err(KeyError::TooOften));
    assert_eq!(store.key(key, purchase, B256::repeat_byte(4)), Err(KeyError::Conflict));
    assert_eq!(store.key(key, [9; 16], digest), Err(KeyError::Conflict), "another purchase under the same key");
    assert_eq!(store.key([7; 16], purchase, B256::repeat_byte(4)), Ok(0), "new terms of the same purchase have a key of their own");
}

#[tokio::test]
async fn a_request_is_seen_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(store.fresh([1; 32], [1; 16], NOW));
    assert!(!store.fresh([1; 32], [1; 16], NOW));
    assert!(store.fresh([2; 32], [1; 16], NOW), "another sender chooses its own ids");
    let head = store.head();
    store.remember([1; 16], [1; 16], B256::ZERO).await.unwrap();
    assert!(store.head() > head, "the head grows with what is durable");
    drop(store);
    let store = open(dir.path());
    assert!(!store.fresh([1; 32], [1; 16], NOW.plus_millis(100_000)));
    assert!(store.fresh([1; 32], [1; 16], NOW.plus_millis(1_000_000)), "no envelope of that time is acceptable any more");
}

#[tokio::test]
async fn an_older_turn_token_is_a_copy_and_a_repeated_exchange_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (zero, a, b, c) = ([0; 16], [1; 16], [2; 16], [3; 16]);
    assert_eq!(store.turn("w1", 1, a, b).await, Ok(Turn::Copied), "nobody starts in the middle");
    assert_eq!(store.turn("w1", 1, zero, a).await, Ok(Turn::Taken));
    assert_eq!(store.turn("w1", 1, zero, a).await, Ok(Turn::Taken), "the answer got lost");
    assert_eq!(store.turn("w1", 1, zero, b).await, Ok(Turn::Copied));
    assert_eq!(store.turn("w1", 1, a, b).await, Ok(Turn::Taken));
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.turn("w1", 1, a, c).await, Ok(Turn::Copied), "the copy that starts second is found out");
    assert_eq!(store.turn("w1", 1, zero, a).await, Ok(Turn::Copied));
    assert_eq!(store.turn("w1", 2, zero, c).await, Ok(Turn::Taken), "a refresh starts anew");
    assert_eq!(store.turn("w1", 1, b, c).await, Ok(Turn::Copied), "and the epoch before is over");
    assert_eq!(store.current_turn("w1"), Some(c));
}

#[tokio::test]
async fn a_token_enrols_one_key_once_within_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.issue(token("sidecar", &[1; 32], 1000), NOW).await.unwrap();
    store.issue(token("late", &[2; 32], 1000), NOW).await.unwrap();
    assert_eq!(store.redeem([9; 32], [7; 32], NOW).await, Err(EnrollError::Unknown));
    assert_eq!(store.redeem([2; 32], [7; 32], NOW.plus_millis(1001)).await, Err(EnrollError::Expired));
    let row = store.redeem([1; 32], [7; 32], NOW).await.unwrap();
    assert_eq!((row.name.as_str(), row.agents.len()), ("sidecar", 2));
    assert_eq!(store.redeem([1; 32], [7; 32], NOW.plus_millis(9999)).await, Ok(row.clone()), "the answer got lost");
    assert_eq!(store.redeem([1; 32], [8; 32], NOW).await, Err(EnrollError::Spent));
    assert_eq!(store.redeem([2; 32], [7; 32], NOW).await, Err(EnrollError::KeyKnown));
    assert_eq!(store.identity([7; 32]), Ok(Some(row)));
    assert_eq!(store.issue(token("sidecar", &[3; 32], 1000), NOW).await, Err(EnrollError::NameTaken));
}

#[tokio::test]
async fn a_revocation_by_another_process_is_seen_at_the_next_look_up() {
    let dir = tempfile::tempdir().unwrap();
    let (server, command) = (open(dir.path()), open(dir.path()));
    command.issue(token("sidecar", &[1; 32], 1000), NOW).await.unwrap();
    server.redeem([1; 32], [7; 32], NOW).await.unwrap();
    assert_eq!(command.revoke("nobody", NOW).await, Ok(None));
    assert!(command.revoke("sidecar", NOW).await.unwrap().is_some());
    assert_eq!(server.identity([7; 32]).unwrap().unwrap().revoked_at, Some(NOW));
    assert_eq!(server.redeem([1; 32], [7; 32], NOW).await, Err(EnrollError::Spent), "its token brings it no way back");
    server.issue(token("sidecar", &[4; 32], 1000), NOW).await.unwrap();
    assert_eq!(server.redeem([4; 32], [7; 32], NOW).await, Err(EnrollError::KeyKnown), "nor does another one");
    assert!(server.redeem([4; 32], [8; 32], NOW).await.is_ok());
}

#[tokio::test]
async fn many_at_once_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let tasks: Vec<_> = (0..200u8)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.remember([n; 16], [n; 16], B256::repeat_byte(n)).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(0));
    }
    assert!(store.head() < 150, "{} transactions for 200 keys", store.head());
}
