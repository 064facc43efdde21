//! What it takes to pay: treasurer, signer, kept answers. All of it stands on the ledger, which one process holds at a time
//! (M1.9): until then, and from the moment another one takes it over, the proxy forwards and refuses to pay.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::kept::Kept;
use crate::ledger::Ledger;
use crate::signer::Signer;
use crate::treasurer::Treasurer;

/// The money side of the edge, while this process holds the ledger.
pub(crate) struct Till {
    pub(super) treasurer: Treasurer,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) kept: Kept,
}

impl Till {
    /// Opens the kept answers of earlier processes; what the others stand on is open already.
    pub(crate) fn open(treasurer: Treasurer, signer: Arc<dyn Signer>, private: &Path) -> Result<Self> {
        let kept = Kept::open(private.join("kept")).context("cannot open the folder of kept answers")?;
        Ok(Self { treasurer, signer, kept })
    }

    /// Who decides.
    pub(crate) const fn treasurer(&self) -> &Treasurer {
        &self.treasurer
    }

    /// Whose wallet pays.
    pub(crate) fn signer(&self) -> &dyn Signer {
        &*self.signer
    }

    /// The books behind it.
    pub(crate) const fn ledger(&self) -> &Ledger {
        self.treasurer.ledger()
    }
}
