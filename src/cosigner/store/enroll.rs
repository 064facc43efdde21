//! Identities and one-time tokens on the disk (S11).

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use subtle::ConstantTimeEq as _;

use super::{Store, Unavailable};
use crate::payment::Timestamp;

/// How long a token may be redeemed.
pub const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// An identity as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// SHA-256 of its public key.
    pub fingerprint: [u8; 32],
    /// The wallet it may use.
    pub wallet: String,
    /// The agents it may speak for.
    pub agents: Vec<String>,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What a token fixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// Name of the identity to come.
    pub name: String,
    /// Its wallet.
    pub wallet: String,
    /// Its agents.
    pub agents: Vec<String>,
    /// Last moment.
    pub expires_at: Timestamp,
}

/// Why nothing was enrolled. The enrolee hears one word for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrollError {
    /// No such token.
    #[error("no such token")]
    Unknown,
    /// Older than ten minutes.
    #[error("the token has expired")]
    Expired,
    /// Redeemed by another key.
    #[error("the token was used before")]
    Spent,
    /// The name belongs to an identity that is not revoked.
    #[error("an identity of this name exists: revoke it first, or choose another name")]
    NameTaken,
    /// The key is known, perhaps revoked.
    #[error("this key was enrolled before: make a new one")]
    KeyKnown,
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

const COLUMNS: &str = "name, fingerprint, wallet, agents, enrolled_at, revoked_at";

impl Store {
    /// The identity of a key, revoked or not. Looked up on every request, so that a revocation by another process counts at once.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn identity(&self, fingerprint: [u8; 32]) -> Result<Option<Row>, Unavailable> {
        self.read(|conn| {
            let mut find = conn.prepare(&format!("SELECT {COLUMNS} FROM identities WHERE fingerprint = ?1"))?;
            find.query_row([fingerprint], row).optional()
        })
    }

    /// The identity of a name that is not revoked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn standing(&self, name: &str) -> Result<Option<Row>, Unavailable> {
        self.read(|conn| {
            let mut find = conn.prepare(&format!("SELECT {COLUMNS} FROM identities WHERE name = ?1 AND revoked_at IS NULL"))?;
            find.query_row([name], row).optional()
        })
    }

    /// The keys that are revoked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn revoked(&self) -> Result<Vec<[u8; 32]>, Unavailable> {
        self.read(|conn| {
            let mut all = conn.prepare("SELECT fingerprint FROM identities WHERE revoked_at IS NOT NULL")?;
            all.query_map([], |r| r.get(0))?.collect()
        })
    }

    /// Every identity, the revoked ones too, by name.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn identities(&self) -> Result<Vec<Row>, Unavailable> {
        self.read(|conn| {
            let mut all = conn.prepare(&format!("SELECT {COLUMNS} FROM identities ORDER BY name, enrolled_at"))?;
            all.query_map([], row)?.collect()
        })
    }

    /// Records a token, durably.
    ///
    /// # Errors
    /// [`EnrollError::NameTaken`], [`EnrollError::Unavailable`].
    pub async fn issue(&self, token: TokenRow, now: Timestamp) -> Result<(), EnrollError> {
        self.durably(move |conn| {
            if name_taken(conn, &token.name)? {
                return Ok(Err(EnrollError::NameTaken));
            }
            conn.execute("DELETE FROM tokens WHERE expires_at < ?1", [now.millis()])?;
            conn.execute(
                "INSERT INTO tokens (hash, name, wallet, agents, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![token.hash, token.name, token.wallet, token.agents.join(","), token.expires_at.millis()],
            )?;
            Ok(Ok(()))
        })
        .await?
    }

    /// Spends a token for `fingerprint`: identity and spent mark in one transaction. The same key may ask again, because an
    /// answer can get lost.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub async fn redeem(&self, hash: [u8; 32], fingerprint: [u8; 32], now: Timestamp) -> Result<Row, EnrollError> {
        let enrolled = self.durably(move |conn| redeem(conn, hash, fingerprint, now)).await??;
        crate::failpoint!("enroll_token_spent");
        Ok(enrolled)
    }

    /// Revokes the identity of that name, or of that fingerprint in hex; answers what was revoked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn revoke(&self, who: &str, now: Timestamp) -> Result<Option<Row>, Unavailable> {
        let who = who.to_owned();
        self.durably(move |conn| {
            let key = alloy_primitives::hex::decode(&who).unwrap_or_default();
            let sql = format!(
                "UPDATE identities SET revoked_at = ?1 WHERE (name = ?2 OR fingerprint = ?3) AND revoked_at IS NULL RETURNING {COLUMNS}"
            );
            conn.prepare(&sql)?.query_row(params![now.millis(), who, key], row).optional()
        })
        .await
    }
}

fn redeem(conn: &Connection, hash: [u8; 32], fingerprint: [u8; 32], now: Timestamp) -> rusqlite::Result<Result<Row, EnrollError>> {
    type Found = ([u8; 32], String, String, String, i64, Option<[u8; 32]>);
    let mut all = conn.prepare("SELECT hash, name, wallet, agents, expires_at, spent_by FROM tokens")?;
    let rows = all.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?)))?;
    // Every token is compared, and each whole: how long it takes says nothing about which one was near.
    let mut found: Option<Found> = None;
    for row in rows {
        let row: Found = row?;
        if bool::from(row.0.ct_eq(&hash)) {
            found = Some(row);
        }
    }
    let Some((_, name, wallet, agents, expires_at, spent_by)) = found else { return Ok(Err(EnrollError::Unknown)) };
    let sql = format!("SELECT {COLUMNS} FROM identities WHERE fingerprint = ?1");
    let known = conn.prepare(&sql)?.query_row([fingerprint], row).optional()?;
    match (spent_by, known) {
        (Some(by), Some(known)) if by == fingerprint && known.revoked_at.is_none() => return Ok(Ok(known)),
        (Some(_), _) => return Ok(Err(EnrollError::Spent)),
        (None, Some(_)) => return Ok(Err(EnrollError::KeyKnown)),
        (None, None) => {}
    }
    if now.millis() > expires_at {
        return Ok(Err(EnrollError::Expired));
    }
    if name_taken(conn, &name)? {
        return Ok(Err(EnrollError::NameTaken));
    }
    conn.execute("UPDATE tokens SET spent_by = ?1 WHERE hash = ?2", params![fingerprint, hash])?;
    conn.execute(
        "INSERT INTO identities (fingerprint, name, wallet, agents, enrolled_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![fingerprint, name, wallet, agents, now.millis()],
    )?;
    let agents = split(&agents);
    Ok(Ok(Row { name, fingerprint, wallet, agents, enrolled_at: now, revoked_at: None }))
}

fn name_taken(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.prepare("SELECT 1 FROM identities WHERE name = ?1 AND revoked_at IS NULL")?.exists([name])
}

fn split(agents: &str) -> Vec<String> {
    agents.split(',').filter(|a| !a.is_empty()).map(str::to_owned).collect()
}

fn row(r: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let agents: String = r.get(3)?;
    let revoked: Option<i64> = r.get(5)?;
    Ok(Row {
        name: r.get(0)?,
        fingerprint: r.get(1)?,
        wallet: r.get(2)?,
        agents: split(&agents),
        enrolled_at: Timestamp::from_millis(r.get(4)?),
        revoked_at: revoked.map(Timestamp::from_millis),
    })
}
