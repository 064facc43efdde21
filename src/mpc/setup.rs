//! The rounds that key generation and complete refresh have in common, for one party, as a function from bytes to bytes (S6).
//!
//! | round | broadcast | to each other party alone |
//! |---|---|---|
//! | 1 | commitment to a nonce | |
//! | 2 | the nonce; the session id is the hash of plan and all three | |
//! | 3 | | its value of our polynomial (with two of these the key is known: sealed, always) |
//! | 4 | commitments: to the proof of our point, to our part of the chain code | commitment to a zero-share seed |
//! | 5 | the proof; our part of the chain code | the seed; set-up of the two-party multiplication |
//! | 6 | the account | |
//!
//! Every broadcast from round 2 on begins with the hash of all broadcasts of the rounds before. A party that told two stories
//! in round *n* is found out in round *n + 1*, before anything of the last round is used; round 6 is there for round 5. The
//! library hands commitment and proof out as one value; they are separate messages here, as the protocol wants it.
//!
//! Nothing of a ceremony is used again after a fault: the setup is consumed by it.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use dkls23_secp256k1::protocols::dkg::{
    BroadcastDerivationPhase2to4, BroadcastDerivationPhase3to4, ProofCommitment, TransmitInitMulPhase3to4, TransmitInitZeroSharePhase2to4,
    TransmitInitZeroSharePhase3to4,
};
use dkls23_secp256k1::protocols::{AbortReason, PartyIndex};
use dkls23_secp256k1::utilities::proofs::DLogProof;
use k256_dkls::{Scalar, Secp256k1};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::codec::{self, MAX_CEREMONY};
use super::plan::{Fault, Inbox, Plan, Post};
use super::share::address_of;
use super::{Party, Share, Wallet};

/// The last round.
pub const LAST_ROUND: u8 = 6;

pub(super) type Dkls = dkls23_secp256k1::Party;
pub(super) type Proof = ProofCommitment<Secp256k1>;
pub(super) type ZeroCommit = TransmitInitZeroSharePhase2to4;
pub(super) type ZeroSeed = TransmitInitZeroSharePhase3to4;
pub(super) type Mul = TransmitInitMulPhase3to4<Secp256k1>;
/// Our commitment to a part of the chain code, and the opening. A refresh keeps the chain code and has none.
pub(super) type ChainCommit = Option<BroadcastDerivationPhase2to4>;
pub(super) type ChainOpen = Option<BroadcastDerivationPhase3to4>;

/// The library's phases, of a creation or of a refresh.
pub(super) trait Engine: Send {
    /// Phase 1: our polynomial at 1, 2 and 3.
    fn fragments(&self) -> Zeroizing<Vec<Scalar>>;
    /// Phase 2, with all three values for us.
    fn commit(&mut self, session: [u8; 32], fragments: &[Scalar]) -> Result<(Proof, Vec<ZeroCommit>, ChainCommit), Fault>;
    /// Phase 3.
    fn reveal(&mut self) -> Result<(Vec<ZeroSeed>, Vec<Mul>, ChainOpen), Fault>;
    /// Phase 4.
    fn finish(self: Box<Self>, all: &Received) -> Result<Dkls, dkls23_secp256k1::protocols::Abort>;
}

/// Everything phase 4 wants, ours included.
#[derive(Default)]
pub(super) struct Received {
    pub(super) proofs: Vec<Proof>,
    pub(super) zero_commits: Vec<ZeroCommit>,
    pub(super) zero_seeds: Vec<ZeroSeed>,
    pub(super) muls: Vec<Mul>,
    pub(super) chain_commits: BTreeMap<PartyIndex, BroadcastDerivationPhase2to4>,
    pub(super) chain_opens: BTreeMap<PartyIndex, BroadcastDerivationPhase3to4>,
}

/// What comes after a round.
pub enum Next {
    /// Send this and read the others' posts of the same round.
    Post(Post),
    /// All three hold the same facts. The share is not a wallet yet: it must be sealed, reopened and tried first (S6).
    Done(Box<Share>),
}

/// One party's side of a creation or a refresh.
pub struct Setup {
    me: Party,
    plan: Plan,
    plan_digest: [u8; 32],
    engine: Option<Box<dyn Engine>>,
    round: u8,
    /// Hash over all broadcasts of all finished rounds.
    transcript: [u8; 32],
    /// What we broadcast in this round.
    ours: Vec<u8>,
    nonce: [u8; 32],
    nonce_commits: BTreeMap<Party, [u8; 32]>,
    session: [u8; 32],
    fragments: Zeroizing<Vec<Scalar>>,
    own_proof: Option<Proof>,
    proof_commits: BTreeMap<Party, [u8; 32]>,
    received: Received,
    result: Option<Box<Share>>,
}

#[derive(Serialize, Deserialize)]
struct Framed<T> {
    transcript: [u8; 32],
    body: T,
}

#[derive(Serialize, Deserialize)]
struct Commits {
    proof: [u8; 32],
    chain: ChainCommit,
}

#[derive(Serialize, Deserialize)]
struct Opens {
    proof: DLogProof<Secp256k1>,
    chain: ChainOpen,
}

impl Setup {
    /// Begins with a fresh random `nonce`; answers the post of round 1.
    pub(super) fn begin(me: Party, plan: Plan, nonce: [u8; 32], engine: Box<dyn Engine>) -> Result<(Self, Post), Fault> {
        let plan_digest = plan.digest().map_err(|_| Fault::Here("the plan cannot be encoded"))?;
        let mut setup = Self {
            me,
            plan,
            plan_digest,
            engine: Some(engine),
            round: 1,
            transcript: plan_digest,
            ours: Vec::new(),
            nonce,
            nonce_commits: BTreeMap::new(),
            session: [0; 32],
            fragments: Zeroizing::new(Vec::with_capacity(3)),
            own_proof: None,
            proof_commits: BTreeMap::new(),
            received: Received::default(),
            result: None,
        };
        let commitment = setup.nonce_commitment(me, &nonce);
        let post = setup.say(&commitment, BTreeMap::new())?;
        Ok((setup, post))
    }

    /// The round that is under way, from 1.
    pub const fn round(&self) -> u8 {
        self.round
    }

    /// Takes what the other two posted in this round; answers our post of the next one, or the share.
    ///
    /// # Errors
    /// [`Fault`]. The setup is gone: a new ceremony starts from the beginning.
    pub fn advance(mut self, inbox: &Inbox) -> Result<(Next, Option<Self>), Fault> {
        reseed()?;
        let next = match self.round {
            1 => self.open_nonces(inbox),
            2 => self.fragment(inbox),
            3 => self.commit(inbox),
            4 => self.reveal(inbox),
            5 => self.agree(inbox),
            _ => return self.conclude(inbox).map(|share| (Next::Done(share), None)),
        }?;
        Ok((Next::Post(next), Some(self)))
    }

    fn open_nonces(&mut self, inbox: &Inbox) -> Result<Post, Fault> {
        self.nonce_commits = self.hear(inbox)?;
        self.close_round(inbox);
        let nonce = self.nonce;
        self.say(&nonce, BTreeMap::new())
    }

    fn fragment(&mut self, inbox: &Inbox) -> Result<Post, Fault> {
        let mut nonces: BTreeMap<Party, [u8; 32]> = self.hear(inbox)?;
        for (party, nonce) in &nonces {
            if self.nonce_commits.get(party) != Some(&self.nonce_commitment(*party, nonce)) {
                return Err(self.blame(*party, "opened another nonce than it committed to"));
            }
        }
        nonces.insert(self.me, self.nonce);
        let session = Sha256::new().chain_update(b"tollpass ceremony session/1").chain_update(self.plan_digest);
        self.session = nonces.values().fold(session, Sha256::chain_update).finalize().into();
        self.close_round(inbox);
        let all = self.engine()?.fragments();
        let mut private = BTreeMap::new();
        for (party, value) in Party::ALL.into_iter().zip(all.iter()) {
            if party == self.me {
                self.fragments.push(*value);
            } else {
                private.insert(party, encode(value)?);
            }
        }
        self.say(&(), private)
    }

    fn commit(&mut self, inbox: &Inbox) -> Result<Post, Fault> {
        let _: BTreeMap<Party, ()> = self.hear(inbox)?;
        let theirs: BTreeMap<Party, Zeroizing<Scalar>> =
            self.hear_private::<Scalar>(inbox)?.into_iter().map(|(p, s)| (p, s.into())).collect();
        self.fragments.extend(theirs.values().map(|s| **s));
        self.close_round(inbox);
        let fragments = std::mem::take(&mut self.fragments);
        let session = self.session;
        let (proof, zero, chain) = self.engine()?.commit(session, &fragments)?;
        let body = Commits { proof: proof.commitment, chain: chain.clone() };
        self.received.chain_commits.extend(chain.map(|c| (index(self.me), c)));
        self.own_proof = Some(proof);
        let private = zero.iter().map(|z| Ok((party(z.parties.receiver)?, encode(z)?))).collect::<Result<_, Fault>>()?;
        self.say(&body, private)
    }

    fn reveal(&mut self, inbox: &Inbox) -> Result<Post, Fault> {
        let commits: BTreeMap<Party, Commits> = self.hear(inbox)?;
        for (party, commit) in commits {
            self.proof_commits.insert(party, commit.proof);
            let wanted = self.plan.existing.is_none();
            match commit.chain {
                Some(chain) if wanted && chain.sender_index == index(party) => self.received.chain_commits.insert(index(party), chain),
                None if !wanted => None,
                _ => return Err(self.blame(party, "sent another ceremony's commitments")),
            };
        }
        for (party, zero) in self.hear_private::<ZeroCommit>(inbox)? {
            self.is_addressed(party, zero.parties.sender, zero.parties.receiver)?;
            self.received.zero_commits.push(zero);
        }
        self.close_round(inbox);
        let (seeds, muls, chain) = self.engine()?.reveal()?;
        let proof = self.own_proof.as_ref().ok_or(ORDER)?.proof.clone();
        self.received.chain_opens.extend(chain.clone().map(|c| (index(self.me), c)));
        let mut private = BTreeMap::new();
        for (seed, mul) in seeds.iter().zip(&muls) {
            private.insert(party(seed.parties.receiver)?, encode(&(seed, mul))?);
        }
        self.say(&Opens { proof, chain }, private)
    }

    fn agree(&mut self, inbox: &Inbox) -> Result<Post, Fault> {
        let opens: BTreeMap<Party, Opens> = self.hear(inbox)?;
        for (party, open) in opens {
            let commitment = *self.proof_commits.get(&party).ok_or(ORDER)?;
            self.received.proofs.push(Proof { index: index(party), proof: open.proof, commitment });
            match open.chain {
                Some(chain) if chain.sender_index == index(party) => self.received.chain_opens.insert(index(party), chain),
                None if self.plan.existing.is_some() => None,
                _ => return Err(self.blame(party, "sent another ceremony's openings")),
            };
        }
        for (party, (seed, mul)) in self.hear_private::<(ZeroSeed, Mul)>(inbox)? {
            self.is_addressed(party, seed.parties.sender, seed.parties.receiver)?;
            self.is_addressed(party, mul.parties.sender, mul.parties.receiver)?;
            self.received.zero_seeds.push(seed);
            self.received.muls.push(mul);
        }
        self.close_round(inbox);
        self.received.proofs.extend(self.own_proof.take());
        let all = std::mem::take(&mut self.received);
        let engine = self.engine.take().ok_or(ORDER)?;
        let dkls = engine.finish(&all).map_err(|abort| self.judge(&abort.reason))?;
        let share = self.share(dkls)?;
        let address = share.wallet().address;
        self.result = Some(Box::new(share));
        self.say(&address, BTreeMap::new())
    }

    /// Round 6: the cross-check of round 5, and one account.
    fn conclude(mut self, inbox: &Inbox) -> Result<Box<Share>, Fault> {
        let addresses: BTreeMap<Party, Address> = self.hear(inbox)?;
        let share = self.result.take().ok_or(ORDER)?;
        match addresses.into_iter().find(|(_, address)| *address != share.wallet().address) {
            Some((party, _)) => Err(self.blame(party, "has another account")),
            None => Ok(share),
        }
    }

    fn share(&self, dkls: Dkls) -> Result<Share, Fault> {
        let address = address_of(&dkls.pk);
        if self.plan.existing.is_some_and(|e| e.address != address) {
            return Err(Fault::Unclear { round: self.round, what: "the refreshed key has another account" });
        }
        let wallet: Wallet = self.plan.wallet(self.me, address, self.session);
        Ok(Share::new(wallet, dkls))
    }

    /// Frames a broadcast with the transcript of the rounds before.
    fn say<T: Serialize>(&mut self, body: &T, private: BTreeMap<Party, Zeroizing<Vec<u8>>>) -> Result<Post, Fault> {
        self.ours = encode(&Framed { transcript: self.transcript, body })?.to_vec();
        Ok(Post { broadcast: self.ours.clone(), private })
    }

    /// The others' broadcasts of this round, after comparing what they saw of the rounds before.
    fn hear<T: DeserializeOwned>(&self, inbox: &Inbox) -> Result<BTreeMap<Party, T>, Fault> {
        let mut heard = BTreeMap::new();
        for party in self.others() {
            let bytes = inbox.broadcast.get(&party).ok_or_else(|| self.blame(party, "sent no broadcast"))?;
            // The hash comes first and alone: a forked transcript may make the rest unreadable.
            let seen = bytes.first_chunk::<32>().ok_or_else(|| self.blame(party, GARBLED))?;
            if *seen != self.transcript {
                return Err(Fault::Equivocation { party, round: self.round.saturating_sub(1) });
            }
            let framed: Framed<T> = codec::decode(bytes, MAX_CEREMONY).map_err(|_| self.blame(party, GARBLED))?;
            heard.insert(party, framed.body);
        }
        Ok(heard)
    }

    fn hear_private<T: DeserializeOwned>(&self, inbox: &Inbox) -> Result<BTreeMap<Party, T>, Fault> {
        let of = |party| {
            let bytes = inbox.private.get(&party).ok_or_else(|| self.blame(party, "sent nothing to this party"))?;
            Ok((party, codec::decode(bytes, MAX_CEREMONY).map_err(|_| self.blame(party, GARBLED))?))
        };
        self.others().map(of).collect()
    }

    /// Ends a round: the broadcasts of all three, in the order of the parties, go into the transcript.
    fn close_round(&mut self, inbox: &Inbox) {
        let mut hash = Sha256::new().chain_update(b"tollpass ceremony round/1").chain_update(self.transcript).chain_update([self.round]);
        for party in Party::ALL {
            let bytes = if party == self.me { &self.ours[..] } else { inbox.broadcast.get(&party).map_or(&[][..], Vec::as_slice) };
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        self.transcript = hash.finalize().into();
        self.round += 1;
    }

    fn is_addressed(&self, from: Party, sender: PartyIndex, receiver: PartyIndex) -> Result<(), Fault> {
        let fits = sender == index(from) && receiver == index(self.me);
        if fits { Ok(()) } else { Err(self.blame(from, "sent a message of somebody else")) }
    }

    fn nonce_commitment(&self, party: Party, nonce: &[u8; 32]) -> [u8; 32] {
        let hash = Sha256::new().chain_update(b"tollpass ceremony nonce/1").chain_update(self.plan_digest);
        hash.chain_update([party.index()]).chain_update(nonce).finalize().into()
    }

    fn others(&self) -> impl Iterator<Item = Party> + use<> {
        let me = self.me;
        Party::ALL.into_iter().filter(move |p| *p != me)
    }

    fn engine(&mut self) -> Result<&mut Box<dyn Engine>, Fault> {
        self.engine.as_mut().ok_or(ORDER)
    }

    const fn blame(&self, party: Party, what: &'static str) -> Fault {
        Fault::Party { party, round: self.round, what }
    }

    /// The library's verdict, with a name where it has one. Our own point not fitting means that a fragment was wrong.
    fn judge(&self, reason: &AbortReason) -> Fault {
        let named = |who: &PartyIndex, what| match party(*who) {
            Ok(party) if party != self.me => self.blame(party, what),
            _ => Fault::Unclear { round: self.round, what: "the parts of the key do not fit together" },
        };
        match reason {
            AbortReason::ProofVerificationFailed { counterparty } => named(counterparty, "sent a proof that does not hold"),
            AbortReason::ZeroShareDecommitFailed { counterparty } => named(counterparty, "opened another seed than it committed to"),
            AbortReason::MultiplicationVerificationFailed { counterparty, .. } => named(counterparty, "sent a wrong multiplication set-up"),
            AbortReason::ChainCodeCommitmentFailed { party } => named(party, "opened another chain code than it committed to"),
            AbortReason::PolynomialInconsistency => Fault::Unclear { round: self.round, what: "the parts of the key do not fit together" },
            AbortReason::TrivialPublicKey | AbortReason::TrivialKeyShare => {
                Fault::Unclear { round: self.round, what: "the key is a trivial one" }
            }
            _ => Fault::Unclear { round: self.round, what: "the protocol stopped" },
        }
    }
}

const ORDER: Fault = Fault::Here("a round out of order");
const GARBLED: &str = "sent something that is not this round's message";

/// Fresh entropy for this thread's generator, the one `dkls23` draws from (S8).
fn reseed() -> Result<(), Fault> {
    super::rounds::reseed().map_err(|_| Fault::Here("the system gives no randomness"))
}

fn encode<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, Fault> {
    codec::encode(message).map_err(|_| Fault::Here("a message cannot be encoded"))
}

pub(super) fn index(party: Party) -> PartyIndex {
    // Party indices are 1 to 3; only zero is refused.
    PartyIndex::new(party.index()).unwrap_or_else(|_| unreachable!("parties count from one"))
}

pub(super) fn party(index: PartyIndex) -> Result<Party, Fault> {
    Party::ALL.into_iter().find(|p| p.index() == index.as_u8()).ok_or(Fault::Here("a party that is not one of three"))
}
