//! Distributed key generation: three parties, a key that none of them ever has (S6). The rounds are in [`super::setup`].

use dkls23_secp256k1::DkgSession;
use dkls23_secp256k1::protocols::{Abort, Parameters};
use k256_dkls::{Scalar, Secp256k1};
use zeroize::Zeroizing;

use super::Party;
use super::plan::{Fault, Plan, Post};
use super::setup::{ChainCommit, ChainOpen, Dkls, Engine, Mul, Proof, Received, Setup, ZeroCommit, ZeroSeed, index};

/// Begins the creation of a wallet; `nonce` is fresh and random.
///
/// # Errors
/// [`Fault::Here`] if the plan is one of a refresh, or not between three identities.
pub fn create(me: Party, plan: Plan, nonce: [u8; 32]) -> Result<(Setup, Post), Fault> {
    if plan.existing.is_some() || plan.identities.len() != 3 {
        return Err(Fault::Here("a wallet is created between three identities, and only once"));
    }
    Setup::begin(me, plan, nonce, Box::new(Creation { me, session: None }))
}

struct Creation {
    me: Party,
    /// From phase 2 on; it wipes itself.
    session: Option<DkgSession<Secp256k1>>,
}

fn open(me: Party, session: &[u8]) -> DkgSession<Secp256k1> {
    DkgSession::new(Parameters { threshold: 2, share_count: 3 }, index(me), session.to_vec())
}

impl Engine for Creation {
    fn fragments(&self) -> Zeroizing<Vec<Scalar>> {
        // Phase 1 is a random polynomial; it does not depend on the session.
        Zeroizing::new(open(self.me, &[]).phase1())
    }

    fn commit(&mut self, session: [u8; 32], fragments: &[Scalar]) -> Result<(Proof, Vec<ZeroCommit>, ChainCommit), Fault> {
        let session = self.session.insert(open(self.me, &session));
        let (proof, zero, chain) = session.phase2(fragments).map_err(|_| Fault::Here("phase 2 out of order"))?;
        Ok((proof, zero, Some(chain)))
    }

    fn reveal(&mut self) -> Result<(Vec<ZeroSeed>, Vec<Mul>, ChainOpen), Fault> {
        let session = self.session.as_mut().ok_or(Fault::Here("phase 3 out of order"))?;
        let (seeds, muls, chain) = session.phase3().map_err(|_| Fault::Here("phase 3 out of order"))?;
        Ok((seeds, muls, Some(chain)))
    }

    fn finish(mut self: Box<Self>, all: &Received) -> Result<Dkls, Abort> {
        let session = self.session.take().unwrap_or_else(|| open(self.me, &[]));
        let address = dkls23_secp256k1::compute_eth_address;
        let (party, _) =
            session.phase4(&all.proofs, &all.zero_commits, &all.zero_seeds, &all.muls, &all.chain_commits, &all.chain_opens, address)?;
        Ok(party)
    }
}
