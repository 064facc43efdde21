//! Ceremonies: three parties, three administrations, one board (S6, S7).
//!
//! A ceremony needs every party to hear every other one. They need not reach each other: one of them serves a [`board`] that
//! keeps what is posted, in memory, until all have read it. The board is trusted with nothing: each post is signed by its
//! sender's identity over ceremony, round, sender and receiver ([`post`]), what is for one receiver alone is sealed to a key
//! that this receiver made for this ceremony ([`seal`]), and identities are compared as fingerprints out of band before
//! anything starts ([`circle`]).
//!
//! [`create`], [`refresh`] and [`recover`] are the ceremonies, each one function from an assembled circle to its result;
//! `trial` has every pair sign a test text with the shares as they lie on the disks, opened by new processes ([`worker`]);
//! `place` knows what a crash leaves behind.

pub mod board;
pub mod circle;
pub mod create;
pub mod place;
pub mod post;
pub mod recover;
pub mod refresh;
mod rounds;
pub mod seal;
#[cfg(test)]
mod tests;
mod trial;
pub mod worker;

pub use circle::{Circle, Seat};

use crate::custody::CustodyError;
use crate::mpc::{Fault, Party};

/// Why a ceremony ended without its result.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// Another party stopped it and says why, in its words (cleaned for terminals).
    #[error("the {party} stopped the ceremony: {why}")]
    Stopped {
        /// Who.
        party: Party,
        /// Its words: letters, digits and punctuation only.
        why: String,
    },
    /// A party did not do its part in time, or is gone.
    #[error("the {party} {what}")]
    Silent {
        /// Who.
        party: Party,
        /// What is missing.
        what: String,
    },
    /// A party did what an honest one does not do.
    #[error("the {party} {what}")]
    Wrong {
        /// Who.
        party: Party,
        /// What it did.
        what: String,
    },
    /// The rounds of the protocol found something.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The share's folder.
    #[error("{0}")]
    Custody(#[from] CustodyError),
    /// Something on this machine.
    #[error("{0}")]
    Here(String),
}

impl CeremonyError {
    fn wrong(party: Party, what: impl Into<String>) -> Self {
        Self::Wrong { party, what: what.into() }
    }

    fn here(what: impl Into<String>) -> Self {
        Self::Here(what.into())
    }
}

/// Result of a step.
pub type Step<T> = Result<T, CeremonyError>;

/// What a ceremony tells its operator while it runs; the command line prints it.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);
