//! Complete refresh: new shares and new OT set-up of the same key (S7). The rounds are in [`super::setup`].
//!
//! Never the library's fast refresh: it keeps OT material that a peer may have probed, so it lifts no ban (S3).

use std::collections::BTreeMap;
use std::sync::Arc;

use dkls23_secp256k1::protocols::dkg::{KeepInitMulPhase3to4, KeepInitZeroSharePhase2to3, KeepInitZeroSharePhase3to4};
use dkls23_secp256k1::protocols::{Abort, AbortReason, PartyIndex};
use k256_dkls::{Scalar, Secp256k1};
use zeroize::{Zeroize, Zeroizing};

use super::Share;
use super::plan::{Fault, Plan, Post};
use super::setup::{ChainCommit, ChainOpen, Dkls, Engine, Mul, Proof, Received, Setup, ZeroCommit, ZeroSeed};

/// Begins a complete refresh of the wallet of `share`; `nonce` is fresh and random. The result has the next epoch.
///
/// # Errors
/// [`Fault::Here`] if the wallet's identities are not known.
pub fn refresh(share: Arc<Share>, nonce: [u8; 32]) -> Result<(Setup, Post), Fault> {
    let (me, plan) = (share.wallet().party, Plan::refresh(share.wallet()));
    if plan.identities.len() != 3 {
        return Err(Fault::Here("this share does not know the identities of all three parties"));
    }
    let engine = Refreshing {
        share,
        session: [0; 32],
        correction: Zeroizing::new(Scalar::ZERO),
        seeds: BTreeMap::new(),
        zero: BTreeMap::new(),
        mul: BTreeMap::new(),
    };
    Setup::begin(me, plan, nonce, Box::new(engine))
}

struct Refreshing {
    share: Arc<Share>,
    session: [u8; 32],
    correction: Zeroizing<Scalar>,
    seeds: BTreeMap<PartyIndex, KeepInitZeroSharePhase2to3>,
    zero: BTreeMap<PartyIndex, KeepInitZeroSharePhase3to4>,
    mul: BTreeMap<PartyIndex, KeepInitMulPhase3to4<Secp256k1>>,
}

impl Engine for Refreshing {
    fn fragments(&self) -> Zeroizing<Vec<Scalar>> {
        Zeroizing::new(self.share.party.refresh_complete_phase1())
    }

    fn commit(&mut self, session: [u8; 32], fragments: &[Scalar]) -> Result<(Proof, Vec<ZeroCommit>, ChainCommit), Fault> {
        self.session = session;
        let (correction, proof, seeds, zero) = self.share.party.refresh_complete_phase2(&session, fragments);
        self.correction = Zeroizing::new(correction);
        self.seeds = seeds;
        Ok((proof, zero, None))
    }

    fn reveal(&mut self) -> Result<(Vec<ZeroSeed>, Vec<Mul>, ChainOpen), Fault> {
        let (zero, seeds, mul, muls) = self.share.party.refresh_complete_phase3(&self.session, &self.seeds);
        (self.zero, self.mul) = (zero, mul);
        Ok((seeds, muls, None))
    }

    fn finish(self: Box<Self>, all: &Received) -> Result<Dkls, Abort> {
        // The library would index an empty map: nothing was revealed yet.
        if self.mul.is_empty() {
            return Err(Abort::recoverable(self.share.party.party_index, AbortReason::PhaseCalledOutOfOrder { phase: String::new() }));
        }
        let party = &self.share.party;
        party.refresh_complete_phase4(
            &self.session,
            &self.correction,
            &all.proofs,
            &self.zero,
            &all.zero_commits,
            &all.zero_seeds,
            &self.mul,
            &all.muls,
        )
    }
}

/// The library wipes these in its own session type; the loose phases leave it to us.
impl Drop for Refreshing {
    fn drop(&mut self) {
        for kept in self.seeds.values_mut() {
            kept.seed.zeroize();
            kept.salt.zeroize();
        }
        for kept in self.zero.values_mut() {
            kept.seed.zeroize();
        }
        for kept in self.mul.values_mut() {
            kept.ot_sender.s.zeroize();
            kept.ot_receiver.seed.zeroize();
            kept.nonce.zeroize();
            kept.vec_r.zeroize();
            kept.correlation.zeroize();
        }
    }
}
