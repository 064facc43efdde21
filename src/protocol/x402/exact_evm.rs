//! Scheme `exact` on EVM chains with EIP-3009: one entry of `accepts` to one offer, for both versions.
//!
//! Everything the seller writes is checked here and nowhere else (x402 reference §5.5). What gets signed later comes from our asset
//! table; the seller's `extra` is only compared with it. Checks run from "not for us" to "wrong", so that the reason is the useful one.

use std::sync::Arc;

use alloy_primitives::{Address, U256};

use crate::payment::{Amount, Asset, AssetId, AssetTable, Flow, Offer, Payee, Reason, Scheme, TransferMethod, WireEntry, parse_address};

use super::Dialect;
use super::object::Object;

/// Validates one entry and normalises it.
pub(super) fn offer(dialect: &Dialect, index: usize, entry: &Object<'_>, wire: &WireEntry, assets: &AssetTable) -> Result<Offer, Reason> {
    let scheme = entry.string("scheme").ok_or(Reason::MalformedOffer)?;
    let network = entry.string("network").ok_or(Reason::MalformedOffer)?;
    let extra = extra(entry)?;
    if scheme != Scheme::Exact.as_str() {
        return Err(Reason::UnsupportedScheme);
    }
    let chain = (dialect.chain)(&network).ok_or(Reason::UnsupportedNetwork)?;
    let transfer = transfer(extra.as_ref())?;
    let token = address(entry, "asset").ok_or(Reason::InvalidAsset)?;
    let asset = assets.get(&AssetId { chain, token }).ok_or(Reason::UnknownAsset)?;
    same_domain(asset, extra.as_ref())?;
    let atomic = amount(entry, dialect.amount).ok_or(Reason::InvalidAmount)?;
    let payee = payee(entry, token).ok_or(Reason::InvalidPayee)?;
    let max_timeout = timeout(entry).ok_or(Reason::InvalidTimeout)?;
    let flow = flow(extra.as_ref())?;
    let price = asset.price.ok_or(Reason::AssetNotPriced)?.value_of(atomic, asset.decimals).ok_or(Reason::AmountTooLarge)?;
    Ok(Offer {
        index,
        protocol: dialect.protocol,
        scheme: Scheme::Exact,
        flow,
        transfer,
        asset: Arc::clone(asset),
        amount: Amount::new(asset.id, atomic),
        price,
        payee,
        max_timeout,
        wire: wire.clone(),
    })
}

/// `extra` as an object; absent is allowed, because everything in it that we need is in our table.
fn extra<'a>(entry: &Object<'a>) -> Result<Option<Object<'a>>, Reason> {
    entry.get("extra").map(|raw| Object::read(raw.get()).ok_or(Reason::MalformedOffer)).transpose()
}

/// Only EIP-3009, stated or by default: reference clients sign it for *any* unknown value, which is a trap (x402 reference §4).
///
/// `verifyingContract` marks Circle Gateway entries: same struct and scheme, but another domain than the token's (x402 reference §5.4).
fn transfer(extra: Option<&Object<'_>>) -> Result<TransferMethod, Reason> {
    let Some(extra) = extra else { return Ok(TransferMethod::Eip3009) };
    if extra.all("verifyingContract").next().is_some() {
        return Err(Reason::UnsupportedTransfer);
    }
    match extra.get("assetTransferMethod") {
        None => Ok(TransferMethod::Eip3009),
        Some(_) if extra.string("assetTransferMethod").as_deref() == Some(TransferMethod::Eip3009.as_str()) => Ok(TransferMethod::Eip3009),
        Some(_) => Err(Reason::UnsupportedTransfer),
    }
}

/// The EIP-712 name and version the seller expects must be the token's own, or its facilitator would refuse the signature.
///
/// One that is not stated cannot disagree: the entry is paid under the table's domain. The risk is a hold until `validBefore` with a
/// facilitator that insists on the fields, never money (x402 reference §11.7).
fn same_domain(asset: &Asset, extra: Option<&Object<'_>>) -> Result<(), Reason> {
    let Some(extra) = extra else { return Ok(()) };
    let agrees = |key: &str, ours: &str| extra.get(key).is_none() || extra.string(key).as_deref() == Some(ours);
    let same = agrees("name", &asset.eip712.name) && agrees("version", &asset.eip712.version);
    if same { Ok(()) } else { Err(Reason::AssetDomainMismatch) }
}

fn address(entry: &Object<'_>, key: &str) -> Option<Address> {
    parse_address(&entry.string(key)?)
}

/// `^(0|[1-9][0-9]*)$` below 2^256, in a JSON string. Numbers, signs, blanks, hex and other digits are refused.
fn amount(entry: &Object<'_>, key: &str) -> Option<U256> {
    let text = entry.string(key)?;
    let canonical = text == "0" || (!text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    if !canonical || text.len() > 78 {
        return None;
    }
    U256::from_str_radix(&text, 10).ok()
}

/// An address that is neither zero nor the token itself. That it is not the payer is checked where the payer is known.
fn payee(entry: &Object<'_>, token: Address) -> Option<Payee> {
    let to = address(entry, "payTo")?;
    if to.is_zero() || to == token { None } else { Some(Payee(to)) }
}

/// A JSON integer ≥ 1. The raw text is read: a string would be concatenated by careless clients, a float or exponent is no integer.
fn timeout(entry: &Object<'_>) -> Option<u64> {
    let text = entry.get("maxTimeoutSeconds")?.get();
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if canonical { text.parse().ok() } else { None }
}

fn flow(extra: Option<&Object<'_>>) -> Result<Flow, Reason> {
    match extra {
        Some(extra) if extra.get("paymentFlow").is_some() => {
            extra.string("paymentFlow").as_deref().and_then(Flow::parse).ok_or(Reason::UnsupportedFlow)
        }
        _ => Ok(Flow::Authorization),
    }
}
