//! A chain that only counts: which authorizations were used, and who got what. The ground truth of every money test.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use alloy_primitives::{Address, B256, U256};

/// One settled transfer.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: U256,
    pub(crate) nonce: B256,
}

#[derive(Default)]
struct Books {
    transfers: Vec<Transfer>,
    used: HashSet<(Address, B256)>,
}

/// Shared by all sellers of a test.
#[derive(Clone, Default)]
pub(crate) struct Chain(Arc<Mutex<Books>>);

impl Chain {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap()
    }

    /// Moves the money if the nonce is unused, as the token contract would.
    pub(crate) fn settle(&self, from: Address, to: Address, value: U256, nonce: B256) -> Result<(), &'static str> {
        let mut books = self.lock();
        if books.used.contains(&(from, nonce)) {
            return Err("nonce_already_used");
        }
        books.used.insert((from, nonce));
        books.transfers.push(Transfer { from, to, value, nonce });
        Ok(())
    }

    pub(crate) fn transfers(&self) -> Vec<Transfer> {
        self.lock().transfers.clone()
    }

    /// Number of transfers.
    pub(crate) fn count(&self) -> usize {
        self.lock().transfers.len()
    }

    /// Number of transfers to one payee.
    pub(crate) fn count_to(&self, payee: Address) -> usize {
        self.lock().transfers.iter().filter(|t| t.to == payee).count()
    }

    /// Value moved to one payee, atomic units.
    pub(crate) fn paid_to(&self, payee: Address) -> U256 {
        self.lock().transfers.iter().filter(|t| t.to == payee).fold(U256::ZERO, |sum, t| sum + t.value)
    }

    /// Value moved in all, atomic units.
    pub(crate) fn total(&self) -> U256 {
        self.lock().transfers.iter().fold(U256::ZERO, |sum, t| sum + t.value)
    }
}
