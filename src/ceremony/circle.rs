//! A party's seat in a ceremony: the others' identities as they were compared, what it says and what it hears.
//!
//! The hello carries the party's public key, its fresh sealing key and its terms. A key that has not the fingerprint the
//! operator compared ends the ceremony before anything else is looked at. The hash of all hellos is the ceremony's *instance*:
//! every later signature and seal is bound to it, and each party's fresh key is in it, so nothing of another run fits here.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::board::{Line, Told};
use super::post::{self, Slot, round};
use super::seal::{self, Keys};
use super::{CeremonyError, Step};
use crate::mpc::{Fingerprint, Party};
use crate::wire::identity::{Identity, Public};
use crate::wire::link::LinkError;

/// Version of the hello.
const VERSION: u8 = 1;
/// How long the board may be out of reach once it was reached.
const BOARD_GONE: Duration = Duration::from_secs(6);
/// Longest word of a party that stops.
const MAX_WORD: usize = 240;

/// What a party brings to the table.
pub struct Seat {
    /// Which party this is.
    pub me: Party,
    /// Its identity.
    pub identity: Identity,
    /// Who takes part, this party included, with the fingerprints as compared out of band.
    pub pins: BTreeMap<Party, Fingerprint>,
    /// The way to the board.
    pub line: Line,
    /// How long to wait for the others to come.
    pub gather: Duration,
    /// How long to wait for each later post.
    pub patience: Duration,
}

/// A table at which everyone has proven who it is.
pub struct Circle {
    seat: Seat,
    keys: Keys,
    others: BTreeMap<Party, Other>,
    instance: [u8; 32],
}

struct Other {
    public: Public,
    seal: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Hello<T> {
    version: u8,
    spki: Vec<u8>,
    seal: Vec<u8>,
    terms: T,
}

#[derive(Serialize, Deserialize)]
struct Word {
    spki: Vec<u8>,
    text: String,
}

impl Circle {
    /// Says hello and hears the others' hellos; answers their terms.
    ///
    /// # Errors
    /// [`CeremonyError`]; a party with another identity than the compared one is [`CeremonyError::Wrong`].
    pub async fn gather<T: Serialize + DeserializeOwned>(seat: Seat, terms: T) -> Step<(Self, BTreeMap<Party, T>)> {
        let keys = Keys::generate().ok_or_else(|| CeremonyError::here("the system gives no randomness"))?;
        let mut circle = Self { seat, keys, others: BTreeMap::new(), instance: [0; 32] };
        match circle.greet(terms).await {
            Ok(theirs) => Ok((circle, theirs)),
            Err(error) => {
                circle.stop(&error).await;
                Err(error)
            }
        }
    }

    async fn greet<T: Serialize + DeserializeOwned>(&mut self, terms: T) -> Step<BTreeMap<Party, T>> {
        let mine = self.seat.identity.public();
        if self.seat.pins.get(&self.seat.me) != Some(&mine.fingerprint()) {
            return Err(CeremonyError::here("the identity of this party is not the one in its own list"));
        }
        let hello = Hello { version: VERSION, spki: mine.spki().to_vec(), seal: self.keys.public().to_vec(), terms };
        let body = encode(&hello)?;
        let mut bodies = BTreeMap::from([(self.seat.me, body.clone())]);
        self.put(round::HELLO, None, body, self.seat.gather).await?;
        let mut terms = BTreeMap::new();
        for party in self.others() {
            let raw = self.get(round::HELLO, party, None, self.seat.gather).await?;
            let (body, other, theirs) = self.met::<T>(party, &raw)?;
            bodies.insert(party, body);
            self.others.insert(party, other);
            terms.insert(party, theirs);
        }
        let hash = Sha256::new().chain_update(b"tollpass ceremony instance/1");
        let hash = bodies.iter().fold(hash, |h, (party, body)| h.chain_update([party.index()]).chain_update(Sha256::digest(body)));
        self.instance = hash.finalize().into();
        Ok(terms)
    }

    /// Checks a hello against the fingerprint that the operator compared.
    fn met<T: DeserializeOwned>(&self, party: Party, raw: &[u8]) -> Step<(Vec<u8>, Other, T)> {
        let garbled = || CeremonyError::wrong(party, "said something that is not a hello of this version");
        let hello: Hello<T> = post::unchecked(raw).and_then(|body| post::decode(&body)).ok_or_else(garbled)?;
        let public = Public::from_spki(&hello.spki).map_err(|_| garbled())?;
        let (found, want) = (public.fingerprint(), self.seat.pins.get(&party).copied());
        if want != Some(found) {
            return Err(CeremonyError::wrong(
                party,
                format!("has the fingerprint {found}, not the one that was compared: somebody else may be answering in its place"),
            ));
        }
        let slot = Slot { round: round::HELLO, from: party, to: None };
        let body = post::open(&public, &[0; 32], slot, raw).ok_or_else(garbled)?;
        if hello.version != VERSION {
            return Err(garbled());
        }
        Ok((body, Other { public, seal: hello.seal }, hello.terms))
    }

    /// This party.
    pub const fn me(&self) -> Party {
        self.seat.me
    }

    /// What this ceremony's signatures are bound to.
    pub const fn instance(&self) -> &[u8; 32] {
        &self.instance
    }

    /// The other parties, in order.
    pub fn others(&self) -> Vec<Party> {
        self.seat.pins.keys().copied().filter(|p| *p != self.seat.me).collect()
    }

    /// Says something to everyone.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn say<T: Serialize>(&self, round: u8, what: &T) -> Step<()> {
        self.put(round, None, encode(what)?, self.seat.patience).await
    }

    /// Says raw bytes to everyone.
    pub(super) async fn say_bytes(&self, round: u8, bytes: &[u8]) -> Step<()> {
        self.put(round, None, bytes.to_vec(), self.seat.patience).await
    }

    /// Says something to one party alone.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn whisper(&self, round: u8, to: Party, what: &[u8]) -> Step<()> {
        let slot = Slot { round, from: self.seat.me, to: Some(to) };
        let other = self.others.get(&to).ok_or_else(|| CeremonyError::here("no such party here"))?;
        let sealed = seal::seal(&other.seal, &self.instance, slot, what)
            .ok_or_else(|| CeremonyError::wrong(to, "brought a sealing key that cannot be used"))?;
        self.put(round, Some(to), sealed, self.seat.patience).await
    }

    /// Hears what `from` said to everyone.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn hear<T: DeserializeOwned>(&self, round: u8, from: Party) -> Step<T> {
        let body = self.hear_bytes(round, from).await?;
        post::decode(&body).ok_or_else(|| CeremonyError::wrong(from, "said something that does not belong here"))
    }

    /// Hears the raw bytes that `from` said to everyone.
    pub(super) async fn hear_bytes(&self, round: u8, from: Party) -> Step<Vec<u8>> {
        let raw = self.get(round, from, None, self.seat.patience).await?;
        self.verified(Slot { round, from, to: None }, &raw)
    }

    /// Hears what `from` said to this party alone.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn overhear(&self, round: u8, from: Party) -> Step<Zeroizing<Vec<u8>>> {
        let slot = Slot { round, from, to: Some(self.seat.me) };
        let raw = self.get(round, from, slot.to, self.seat.patience).await?;
        let sealed = self.verified(slot, &raw)?;
        self.keys
            .open(&self.instance, slot, &sealed)
            .ok_or_else(|| CeremonyError::wrong(from, "sealed something that this party cannot open"))
    }

    /// Runs `work`; if it fails, tells the others why before the error goes up.
    ///
    /// # Errors
    /// The error of `work`.
    pub async fn or_stop<T>(&self, work: impl Future<Output = Step<T>>) -> Step<T> {
        let done = work.await;
        if let Err(error) = &done {
            self.stop(error).await;
        }
        done
    }

    /// Says that this party is through; the one that serves the board waits until all have said so.
    pub async fn leave(&self) {
        let brief = Duration::from_secs(5);
        let _ = self.put(round::BYE, None, Vec::new(), brief).await;
        if matches!(self.seat.line, Line::Own(_)) {
            for party in self.others() {
                let _ = self.get(round::BYE, party, None, brief).await;
            }
        }
    }

    /// Tells the others, as well as it can, that and why it is over.
    async fn stop(&self, error: &CeremonyError) {
        if matches!(error, CeremonyError::Stopped { .. }) {
            return self.leave().await;
        }
        let text = cleaned(&error.to_string());
        let word = Word { spki: self.seat.identity.public().spki().to_vec(), text };
        let slot = Slot { round: round::STOP, from: self.seat.me, to: None };
        // Not bound to the instance: the others may not have come as far as to know it.
        let signed = encode(&word).ok().and_then(|body| post::sign(&self.seat.identity, &[0; 32], slot, body));
        let Some(signed) = signed else { return };
        let _ = tokio::time::timeout(Duration::from_secs(5), self.seat.line.put(self.seat.me, slot, &signed)).await;
        if let Line::Own(_) = self.seat.line {
            // The board goes with this process: let the others read it.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    fn verified(&self, slot: Slot, raw: &[u8]) -> Step<Vec<u8>> {
        let other = self.others.get(&slot.from).ok_or_else(|| CeremonyError::here("no such party here"))?;
        post::open(&other.public, &self.instance, slot, raw)
            .ok_or_else(|| CeremonyError::wrong(slot.from, "posted something that its identity did not sign for this ceremony"))
    }

    async fn put(&self, round: u8, to: Option<Party>, body: Vec<u8>, patience: Duration) -> Step<()> {
        let slot = Slot { round, from: self.seat.me, to };
        let instance = if round == round::HELLO { [0; 32] } else { self.instance };
        let bytes = post::sign(&self.seat.identity, &instance, slot, body).ok_or_else(|| CeremonyError::here("a post is too long"))?;
        let told = self.persist(patience, || self.seat.line.put(self.seat.me, slot, &bytes)).await?;
        match told {
            Told::Kept => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    async fn get(&self, round: u8, from: Party, to: Option<Party>, patience: Duration) -> Step<Vec<u8>> {
        let slot = Slot { round, from, to };
        let until = Instant::now() + patience;
        loop {
            match self.persist(patience, || self.seat.line.get(self.seat.me, slot)).await? {
                Told::Post(bytes) => return Ok(bytes),
                Told::NotYet if Instant::now() < until => {}
                Told::NotYet => {
                    let what = if round == round::HELLO { "did not come" } else { "did not answer" };
                    return Err(CeremonyError::Silent { party: from, what: format!("{what} within {} s", patience.as_secs()) });
                }
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Tries until the board answers: at the start as long as others may take to come, later a few seconds.
    async fn persist<F: Future<Output = Result<Told, LinkError>>>(&self, patience: Duration, ask: impl Fn() -> F) -> Step<Told> {
        let met = !self.others.is_empty();
        let until = Instant::now() + if met { BOARD_GONE.min(patience) } else { patience };
        loop {
            let error = match ask().await {
                Ok(told) => return Ok(told),
                Err(error) => error,
            };
            if Instant::now() >= until {
                return Err(CeremonyError::here(format!("the party that serves the board is out of reach: {error}")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn unexpected(&self, told: &Told) -> CeremonyError {
        match told {
            Told::Stopped(party, word) => self.stopped(*party, word),
            Told::Left(party) => CeremonyError::Silent { party: *party, what: "hung up in the middle of the ceremony".into() },
            _ => CeremonyError::here("the board refused a post: another process may take part as the same party"),
        }
    }

    /// The word of a party that stopped; somebody else's word in its name is said to be one.
    fn stopped(&self, party: Party, raw: &[u8]) -> CeremonyError {
        let slot = Slot { round: round::STOP, from: party, to: None };
        let word = post::unchecked(raw).and_then(|body| post::decode::<Word>(&body)).and_then(|word| {
            let public = Public::from_spki(&word.spki).ok()?;
            post::open(&public, &[0; 32], slot, raw)?;
            (self.seat.pins.get(&party) == Some(&public.fingerprint())).then_some(word.text)
        });
        match word {
            Some(text) => CeremonyError::Stopped { party, why: cleaned(&text) },
            None => CeremonyError::wrong(party, "stopped the ceremony, by a word that it did not sign"),
        }
    }
}

/// Printable ASCII only, and not much of it: it goes to terminals.
fn cleaned(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(MAX_WORD).collect()
}

fn encode<T: Serialize>(what: &T) -> Step<Vec<u8>> {
    postcard::to_allocvec(what).map_err(|_| CeremonyError::here("a message cannot be encoded"))
}
