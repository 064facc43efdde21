//! Three parties at one board in this process.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::board::{Board, Line, Told};
use super::post::{self, Slot, round};
use super::{CeremonyError, Circle, Seat};
use crate::mpc::{Fingerprint, Inbox, Next, Origin, Party, Plan, create};
use crate::wire::identity::Identity;

struct Table {
    board: Arc<Board>,
    identities: BTreeMap<Party, Identity>,
}

impl Table {
    fn new() -> Self {
        let identities: BTreeMap<_, _> = Party::ALL.into_iter().map(|p| (p, Identity::generate().unwrap())).collect();
        let pins = identities.iter().map(|(p, i)| (*p, i.public().fingerprint())).collect();
        Self { board: Arc::new(Board::new(pins, |_| ())), identities }
    }

    fn pins(&self) -> BTreeMap<Party, Fingerprint> {
        self.identities.iter().map(|(p, i)| (*p, i.public().fingerprint())).collect()
    }

    fn seat(&self, me: Party) -> Seat {
        let brief = Duration::from_secs(30);
        Seat {
            me,
            identity: self.identities[&me].clone(),
            pins: self.pins(),
            line: Line::Own(self.board.clone()),
            gather: brief,
            patience: brief,
        }
    }

    async fn circles(&self) -> Vec<Circle> {
        let [a, b, c] = Party::ALL.map(|p| Circle::gather(self.seat(p), ()));
        let (a, b, c) = tokio::join!(a, b, c);
        [a, b, c].into_iter().map(|made| made.unwrap().0).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn s1_no_fragment_is_on_the_board() {
    let table = Table::new();
    let plan = Plan { wallet: "w".parse().unwrap(), origin: Origin::OneHost, recovery: None, identities: table.pins(), existing: None };
    let mut parties = Vec::new();
    for circle in table.circles().await {
        let plan = plan.clone();
        parties.push(tokio::spawn(async move {
            let mut secrets: Vec<Vec<u8>> = Vec::new();
            let (mut setup, mut said) = create(circle.me(), plan, rand::random()).unwrap();
            loop {
                let at = setup.round();
                circle.say_bytes(at, &said.broadcast).await.unwrap();
                let mut inbox = Inbox::default();
                for party in circle.others() {
                    if let Some(secret) = said.private.get(&party) {
                        circle.whisper(at, party, secret).await.unwrap();
                        secrets.push(secret.to_vec());
                    }
                }
                for party in circle.others() {
                    inbox.broadcast.insert(party, circle.hear_bytes(at, party).await.unwrap());
                    if !said.private.is_empty() {
                        inbox.private.insert(party, circle.overhear(at, party).await.unwrap());
                    }
                }
                match setup.advance(&inbox).unwrap() {
                    (Next::Post(next), Some(later)) => (setup, said) = (later, next),
                    (_, _) => return secrets,
                }
            }
        }));
    }
    let mut secrets = Vec::new();
    for party in parties {
        secrets.extend(party.await.unwrap());
    }
    // Three rounds with one secret for each of two receivers, three parties.
    assert_eq!(secrets.len(), 18);
    let transcript = table.board.transcript();
    assert!(transcript.len() > 30);
    for (slot, bytes) in &transcript {
        for secret in &secrets {
            // Sixteen bytes of a secret are no coincidence; a fragment has 32.
            let part = &secret[secret.len() / 2 - 8..secret.len() / 2 + 8];
            assert!(!bytes.windows(16).any(|w| w == part), "{slot:?} shows a secret");
        }
    }
}

#[tokio::test]
async fn a_slot_is_written_once_by_its_party_and_read_by_its_receiver() {
    let table = Table::new();
    let line = Line::Own(table.board.clone());
    let slot = Slot { round: 3, from: Party::Sidecar, to: Some(Party::Cold) };
    assert_eq!(line.put(Party::Cosigner, slot, b"x").await.unwrap(), Told::Refused);
    assert_eq!(line.put(Party::Sidecar, slot, b"x").await.unwrap(), Told::Kept);
    assert_eq!(line.put(Party::Sidecar, slot, b"x").await.unwrap(), Told::Kept);
    assert_eq!(line.put(Party::Sidecar, slot, b"y").await.unwrap(), Told::Refused);
    assert_eq!(line.get(Party::Cosigner, slot).await.unwrap(), Told::Refused);
    assert_eq!(line.get(Party::Cold, slot).await.unwrap(), Told::Post(b"x".to_vec()));
    let long = vec![0; post::MAX_POST + 1];
    assert_eq!(line.put(Party::Sidecar, Slot { round: 4, ..slot }, &long).await.unwrap(), Told::Refused);
    // The whole board is bounded, too.
    let piece = vec![0; post::MAX_POST];
    let mut kept = 0;
    for round in 5..200 {
        kept += usize::from(line.put(Party::Sidecar, Slot { round, ..slot }, &piece).await.unwrap() == Told::Kept);
    }
    assert!((30..40).contains(&kept), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_post_that_its_sender_did_not_sign_for_this_place_is_refused() {
    let table = Table::new();
    let circles = table.circles().await;
    let (cosigner, cold) = (&table.identities[&Party::Cosigner], &circles[2]);
    let line = Line::Own(table.board.clone());
    let slot = |round| Slot { round, from: Party::Sidecar, to: None };
    // Who serves the board writes in the sidecar's name: another key, another round, another ceremony.
    let sidecar = &table.identities[&Party::Sidecar];
    let forged = [
        post::sign(cosigner, cold.instance(), slot(1), b"body".to_vec()).unwrap(),
        post::sign(sidecar, cold.instance(), slot(1), b"body".to_vec()).unwrap(),
        post::sign(sidecar, &[9; 32], slot(3), b"body".to_vec()).unwrap(),
        post::sign(sidecar, cold.instance(), Slot { to: Some(Party::Cosigner), ..slot(4) }, b"body".to_vec()).unwrap(),
    ];
    for (round, bytes) in [1, 2, 3, 4].into_iter().zip(&forged) {
        assert_eq!(line.put(Party::Sidecar, slot(round), bytes).await.unwrap(), Told::Kept);
        let heard = cold.hear_bytes(round, Party::Sidecar).await;
        assert!(matches!(heard, Err(CeremonyError::Wrong { party: Party::Sidecar, .. })), "round {round}: {heard:?}");
    }
    circles[0].say_bytes(5, b"body").await.unwrap();
    assert_eq!(cold.hear_bytes(5, Party::Sidecar).await.unwrap(), b"body");
    // What is sealed to one is of no use in another's slot.
    circles[0].whisper(6, Party::Cosigner, b"secret").await.unwrap();
    assert_eq!(circles[1].overhear(6, Party::Sidecar).await.unwrap()[..], *b"secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_stops_is_heard_by_all_and_its_words_are_harmless() {
    let table = Table::new();
    let circles = table.circles().await;
    let failed: Result<(), _> = circles[0].or_stop(async { Err(CeremonyError::Here("\x1b[31mbad\r\n\u{202e} things ".repeat(50))) }).await;
    assert!(failed.is_err());
    for circle in &circles[1..] {
        let error = circle.hear_bytes(round::READY, Party::Cold).await.unwrap_err();
        let CeremonyError::Stopped { party: Party::Sidecar, why } = &error else { panic!("{error}") };
        assert!(why.len() <= 240 && why.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{why:?}");
    }
    // Another party cannot stop it in somebody's name.
    let table = Table::new();
    let circles = table.circles().await;
    let slot = Slot { round: round::STOP, from: Party::Sidecar, to: None };
    let forged = post::sign(&table.identities[&Party::Cosigner], &[0; 32], slot, b"word".to_vec()).unwrap();
    Line::Own(table.board.clone()).put(Party::Sidecar, slot, &forged).await.unwrap();
    let error = circles[2].hear_bytes(round::READY, Party::Cosigner).await.unwrap_err();
    assert!(matches!(error, CeremonyError::Wrong { party: Party::Sidecar, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn another_key_than_the_compared_one_is_not_talked_to() {
    let table = Table::new();
    let mut cold = table.seat(Party::Cold);
    cold.pins.insert(Party::Sidecar, Fingerprint([7; 32]));
    let others = [table.seat(Party::Sidecar), table.seat(Party::Cosigner)].map(|s| Circle::gather(s, ()));
    let [sidecar, cosigner] = others;
    // The two may have met before the cold party stops; the next thing they hear is that.
    let late = |made: Result<(Circle, BTreeMap<Party, ()>), CeremonyError>| async {
        match made {
            Err(error) => error,
            Ok((circle, _)) => circle.hear_bytes(1, Party::Cold).await.unwrap_err(),
        }
    };
    let (sidecar, cosigner, cold) = tokio::join!(sidecar, cosigner, Circle::gather(cold, ()));
    assert!(matches!(cold.err().unwrap(), CeremonyError::Wrong { party: Party::Sidecar, .. }));
    for error in [late(sidecar).await, late(cosigner).await] {
        assert!(error.to_string().contains("fingerprint"), "{error}");
    }
}
