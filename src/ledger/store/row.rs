//! A purchase as a row, and back. What does not read back exactly is corruption, never a guess.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use rusqlite::types::FromSql;
use rusqlite::{Row, Statement, params};

use crate::ledger::{Likeness, Purchase, PurchaseState};
use crate::payment::{AssetId, ChainId, MicroUsd, Nonce, Payee, Payer, ProtocolId, PurchaseId, RequestKey, Timestamp, WireEntry};
use crate::policy::{Cosigned, RepeatRules, RuleId};

/// Inserts a purchase; columns in the order of the table.
pub(super) const INSERT: &str = "INSERT INTO purchases VALUES \
    (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,?34,\
    ?35,?36,?37,?38,?39)";

/// Writes what an exchange changes.
pub(super) const STATUS: &str =
    "UPDATE purchases SET state = ?2, signature = ?3, consumed = ?4, lost_until = ?5, claimed_tx = ?6 WHERE num = ?1";

/// Writes what a re-signature changes.
pub(super) const TERMS: &str = "UPDATE purchases SET entry = ?2, protocol = ?3, accepted = ?4, resource = ?5, extensions = ?6, \
    amount = ?7, payee = ?8, valid_after = ?9, valid_before = ?10, digest = ?11, held = ?12, state = ?13, signature = ?14, \
    lost_hold = ?15, paid_redirects = ?16, share = ?17, policy_digest = ?18, last_valid_before = ?19, ticket = ?20 WHERE num = ?1";

pub(super) fn insert(statement: &mut Statement<'_>, num: i64, p: &Purchase) -> rusqlite::Result<usize> {
    statement.execute(params![
        num,
        p.id.bytes(),
        p.key.0,
        p.agent.as_str(),
        p.session.as_ref().map(|s| s.as_str()),
        &*p.entry.0,
        p.host,
        p.method,
        p.protocol.as_str(),
        &*p.wire.accepted,
        p.wire.resource.as_deref(),
        p.wire.extensions.as_deref(),
        p.asset.chain.id().cast_signed(),
        p.asset.token.as_slice(),
        &*p.symbol,
        p.amount.to_string(),
        p.payee.0.as_slice(),
        p.payer.0.as_slice(),
        p.nonce.bytes().as_slice(),
        p.valid_after.cast_signed(),
        p.valid_before.cast_signed(),
        p.digest.as_slice(),
        p.held.micro(),
        p.state.as_str(),
        p.signature,
        p.at.millis(),
        p.consumed,
        p.lost_until.map(Timestamp::millis),
        likeness_bytes(&p.likeness),
        lost_hold_ms(&p.repeats),
        p.repeats.paid_redirects,
        p.repeats.share,
        &*p.policy_digest,
        p.claimed_tx,
        p.last_valid_before.cast_signed(),
        p.cosigned.as_ref().map(|c| &*c.identity),
        p.cosigned.as_ref().is_some_and(|c| c.unverified),
        p.cosigned.as_ref().and_then(|c| c.ticket),
        p.customer.as_deref(),
    ])
}

pub(super) fn status(statement: &mut Statement<'_>, num: i64, p: &Purchase) -> rusqlite::Result<usize> {
    statement.execute(params![num, p.state.as_str(), p.signature, p.consumed, p.lost_until.map(Timestamp::millis), p.claimed_tx])
}

pub(super) fn terms(statement: &mut Statement<'_>, num: i64, p: &Purchase) -> rusqlite::Result<usize> {
    statement.execute(params![
        num,
        &*p.entry.0,
        p.protocol.as_str(),
        &*p.wire.accepted,
        p.wire.resource.as_deref(),
        p.wire.extensions.as_deref(),
        p.amount.to_string(),
        p.payee.0.as_slice(),
        p.valid_after.cast_signed(),
        p.valid_before.cast_signed(),
        p.digest.as_slice(),
        p.held.micro(),
        p.state.as_str(),
        p.signature,
        lost_hold_ms(&p.repeats),
        p.repeats.paid_redirects,
        p.repeats.share,
        &*p.policy_digest,
        p.last_valid_before.cast_signed(),
        p.cosigned.as_ref().and_then(|c| c.ticket),
    ])
}

/// A column holds something this program never wrote.
#[derive(Debug, thiserror::Error)]
#[error("column {column} of a row holds what this program never wrote")]
pub(super) struct Corrupt {
    pub(super) column: &'static str,
    #[source]
    pub(super) source: Option<rusqlite::Error>,
}

/// Reads one column into a type of ours.
pub(super) fn column<T: FromSql, U>(row: &Row<'_>, name: &'static str, f: impl FnOnce(T) -> Option<U>) -> Result<U, Corrupt> {
    let value = row.get::<_, T>(name).map_err(|e| Corrupt { column: name, source: Some(e) })?;
    f(value).ok_or(Corrupt { column: name, source: None })
}

/// Reads a row of `SELECT * FROM purchases`.
pub(super) fn purchase(row: &Row<'_>) -> Result<(i64, Purchase), Corrupt> {
    let text = |name| column(row, name, |t: String| Some(Arc::<str>::from(t)));
    let maybe_text = |name| column(row, name, |t: Option<String>| Some(t.map(Arc::<str>::from)));
    let address = |name| column(row, name, |b: [u8; 20]| Some(Address::from(b)));
    let hash = |name| column(row, name, |b: [u8; 32]| Some(B256::from(b)));
    let seconds = |name| column(row, name, |v: i64| Some(v.cast_unsigned()));
    let id = column(row, "id", |b: [u8; 16]| Some(PurchaseId::from_bytes(b)))?;
    let payer = Payer(address("payer")?);
    let nonce = hash("nonce")?;
    let derived = Nonce::derive(payer.0, &id);
    if derived.bytes() != nonce {
        return Err(Corrupt { column: "nonce", source: None });
    }
    let purchase = Purchase {
        id,
        key: column(row, "key", |b: [u8; 32]| Some(RequestKey(b)))?,
        agent: column(row, "agent", |t: String| t.parse().ok())?,
        session: column(row, "session", |t: Option<String>| t.map(|t| t.parse().ok()).map_or(Some(None), |s| s.map(Some)))?,
        customer: maybe_text("customer")?,
        entry: RuleId(text("entry")?),
        host: column(row, "host", Some)?,
        method: column(row, "method", Some)?,
        protocol: column(row, "protocol", |t: String| ProtocolId::parse(&t))?,
        wire: WireEntry { accepted: text("accepted")?, resource: maybe_text("resource")?, extensions: maybe_text("extensions")? },
        asset: AssetId { chain: column(row, "chain", chain)?, token: address("token")? },
        symbol: text("symbol")?,
        amount: column(row, "amount", |t: String| U256::from_str_radix(&t, 10).ok())?,
        payee: Payee(address("payee")?),
        payer,
        nonce: derived,
        valid_after: seconds("valid_after")?,
        valid_before: seconds("valid_before")?,
        last_valid_before: seconds("last_valid_before")?,
        digest: hash("digest")?,
        held: MicroUsd::new(column(row, "held", Some)?),
        state: column(row, "state", |t: String| PurchaseState::parse(&t))?,
        signature: column(row, "signature", Some)?,
        at: Timestamp::from_millis(column(row, "at", Some)?),
        consumed: column(row, "consumed", Some)?,
        lost_until: column(row, "lost_until", |v: Option<i64>| Some(v.map(Timestamp::from_millis)))?,
        likeness: column(row, "likeness", |b: Vec<u8>| read_likeness(&b))?,
        repeats: RepeatRules {
            lost_hold: column(row, "lost_hold", |v: i64| Some(Duration::from_millis(u64::try_from(v).ok()?)))?,
            paid_redirects: column(row, "paid_redirects", Some)?,
            share: column(row, "share", Some)?,
        },
        policy_digest: text("policy_digest")?,
        claimed_tx: column(row, "claimed_tx", Some)?,
        cosigned: maybe_text("identity")?.map(|i| cosigned(row, i)).transpose()?.map(Arc::new),
    };
    Ok((column(row, "num", Some)?, purchase))
}

fn cosigned(row: &Row<'_>, identity: Arc<str>) -> Result<Cosigned, Corrupt> {
    Ok(Cosigned { identity, unverified: column(row, "unverified", Some)?, ticket: column(row, "ticket", Some)? })
}

/// A chain id as stored.
pub(super) fn chain(id: i64) -> Option<ChainId> {
    ChainId::new(u64::try_from(id).ok()?)
}

fn lost_hold_ms(rules: &RepeatRules) -> i64 {
    i64::try_from(rules.lost_hold.as_millis()).unwrap_or(i64::MAX)
}

fn likeness_bytes(likeness: &Likeness) -> Vec<u8> {
    likeness.0.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn read_likeness(bytes: &[u8]) -> Option<Likeness> {
    let (words, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| Likeness(words.iter().map(|w| u64::from_le_bytes(*w)).collect()))
}
