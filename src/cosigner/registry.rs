//! Who may ask, for whom (S4, S11, S13). Looked up by the connection's key on every request: a revocation, also one made by
//! another process, counts from the next one on.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::judge::Standing;
use super::store::{EnrollError, Row, Store, TOKEN_LIFE, TokenRow, Unavailable};
use crate::mpc::{Fingerprint, WalletId};
use crate::payment::{AgentId, Timestamp};

/// Redemptions tried per minute, by anyone: a token has 128 bits, this keeps the log readable.
const TRIES: u32 = 30;

/// What the registry says of a key.
#[derive(Clone, Debug)]
pub enum Known {
    /// It may ask for this wallet, within this standing.
    Yes {
        /// The wallet it was enrolled for.
        wallet: String,
        /// What it may speak for.
        standing: Standing,
    },
    /// It was, and is no more.
    Revoked {
        /// Its name, for the alert.
        name: String,
    },
    /// Never enrolled.
    No,
}

/// The registry of one co-signer.
#[derive(Debug)]
pub struct Registry {
    store: Arc<Store>,
    /// Minute and tries in it.
    tries: Mutex<(i64, u32)>,
}

impl Registry {
    /// Over the store.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, tries: Mutex::default() }
    }

    /// What is tied to a key now.
    ///
    /// # Errors
    /// [`Unavailable`]: then nobody is known.
    pub fn look_up(&self, key: Fingerprint) -> Result<Known, Unavailable> {
        let Some(row) = self.store.identity(key.0)? else { return Ok(Known::No) };
        if row.revoked_at.is_some() {
            return Ok(Known::Revoked { name: row.name });
        }
        let agents: Arc<[AgentId]> = row.agents.iter().filter_map(|a| a.parse().ok()).collect();
        Ok(Known::Yes { wallet: row.wallet, standing: Standing { identity: row.name.into(), agents } })
    }

    /// Spends a one-time token for `key`.
    ///
    /// # Errors
    /// [`EnrollError`]; [`EnrollError::Unknown`] also past [`TRIES`] in one minute.
    pub async fn enroll(&self, token: &str, key: Fingerprint, now: Timestamp) -> Result<Row, EnrollError> {
        {
            let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
            let minute = now.secs() / 60;
            *tries = if tries.0 == minute { (minute, tries.1 + 1) } else { (minute, 1) };
            if tries.1 > TRIES {
                return Err(EnrollError::Unknown);
            }
        }
        self.store.redeem(hash(token), key.0, now).await
    }
}

/// Makes a one-time token for an identity to come; the text is shown once and stored as a hash only.
///
/// # Errors
/// [`EnrollError::NameTaken`], [`EnrollError::Unavailable`].
pub async fn issue(
    store: &Store,
    name: &AgentId,
    wallet: &WalletId,
    agents: &[AgentId],
    now: Timestamp,
) -> Result<(Zeroizing<String>, Timestamp), EnrollError> {
    let secret: Zeroizing<[u8; 16]> = Zeroizing::new(rand::random());
    let token = Zeroizing::new(format!("tpe_{}", alloy_primitives::hex::encode(*secret)));
    let expires_at = now.plus_millis(i64::try_from(TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX));
    let agents = agents.iter().map(ToString::to_string).collect();
    let row = TokenRow { hash: hash(&token), name: name.to_string(), wallet: wallet.to_string(), agents, expires_at };
    store.issue(row, now).await?;
    Ok((token, expires_at))
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::new_with_prefix(b"tollpass/enroll/1").chain_update(token.trim()).finalize().into()
}
