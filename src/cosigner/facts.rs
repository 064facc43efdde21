//! The fields of an intent that will be signed, read as facts: nothing here is believed, everything goes into the digest.

use std::sync::Arc;

use alloy_primitives::{Address, U256};

use super::trust::Fact;
use crate::mpc::{Origin, Wallet};
use crate::payment::{Asset, AssetId, Authorization, ChainId, Nonce, Payee, Payer, PurchaseId, Reason, Timestamp};
use crate::policy::Transfer;
use crate::wire::message::{Intent, VERSION};

/// Less than this is never signed (M1.8), seconds.
pub const MIN_LEFT: u64 = 10;

/// The fields, if they are those of this wallet at this time.
///
/// # Errors
/// The first that is not.
pub fn transfer(intent: &Intent, wallet: &Wallet, now: Timestamp) -> Result<Fact<Transfer>, Reason> {
    if intent.version != VERSION {
        return Err(Reason::WireVersion);
    }
    if intent.wallet != wallet.id.as_str() {
        return Err(Reason::WalletUnknown);
    }
    if intent.epoch != wallet.epoch {
        return Err(Reason::StaleEpoch);
    }
    if Address::from(intent.from) != wallet.address {
        return Err(Reason::WrongPayer);
    }
    let chain = ChainId::new(intent.chain).ok_or(Reason::UnsupportedNetwork)?;
    if wallet.origin != Origin::Distributed && !chain.is_testnet() {
        return Err(Reason::TrialWallet);
    }
    window(intent.valid_after, intent.valid_before, now)?;
    Ok(Fact::new(Transfer {
        asset: AssetId { chain, token: Address::from(intent.token) },
        amount: U256::from_be_bytes(intent.value),
        payer: Payer(wallet.address),
        payee: Payee(Address::from(intent.to)),
        valid_before: intent.valid_before,
        now,
    }))
}

/// Begun, and with enough of it left; its longest length is the entry's business.
///
/// # Errors
/// [`Reason::WindowNotOpen`], [`Reason::WindowTooShort`].
pub fn window(valid_after: u64, valid_before: u64, now: Timestamp) -> Result<(), Reason> {
    let now = u64::try_from(now.secs()).map_err(|_| Reason::ClockUnsure)?;
    if valid_after > now {
        return Err(Reason::WindowNotOpen);
    }
    if valid_before < now.saturating_add(MIN_LEFT) {
        return Err(Reason::WindowTooShort);
    }
    Ok(())
}

/// What would be signed, rebuilt from our own asset table, with the nonce that the purchase has for life (M1.2).
pub fn authorization(intent: &Intent, transfer: &Fact<Transfer>, asset: &Arc<Asset>) -> Authorization {
    let transfer = transfer.get();
    Authorization {
        asset: Arc::clone(asset),
        from: transfer.payer,
        to: transfer.payee,
        value: transfer.amount,
        valid_after: intent.valid_after,
        valid_before: intent.valid_before,
        nonce: Nonce::derive(transfer.payer.0, &PurchaseId::from_bytes(intent.purchase)),
    }
}
