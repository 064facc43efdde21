//! The demo's chain: one token with EIP-3009, in memory. It moves money only for a valid, unused, funded authorization.
//!
//! Written apart from `payment::Authorization` on purpose: type hash and domain separator are the published constants of
//! USDC on Base Sepolia, so that a proxy which signs the wrong thing is not paid for by the same mistake here.

use std::collections::{HashMap, HashSet};

use alloy_primitives::{Address, B256, Signature, U256, b256, keccak256};

/// keccak256 of `TransferWithAuthorization(address from,…)`: EIP-3009.
const TYPE_HASH: B256 = b256!("7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267");

/// `DOMAIN_SEPARATOR()` of USDC on Base Sepolia.
const DOMAIN: B256 = b256!("71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818");

/// What a buyer signed, as the token is called with it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) value: U256,
    pub(super) valid_after: U256,
    pub(super) valid_before: U256,
    pub(super) nonce: B256,
    pub(super) signature: Vec<u8>,
}

/// Money that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) value: U256,
    pub(super) nonce: B256,
}

/// Why nothing moved; the texts are the machine codes of x402 facilitators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    Signature,
    NotYetValid,
    Expired,
    NonceUsed,
    Funds,
}

impl Rejected {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Signature => "invalid_exact_evm_payload_signature",
            Self::NotYetValid => "invalid_exact_evm_payload_authorization_valid_after",
            Self::Expired => "invalid_exact_evm_payload_authorization_valid_before",
            Self::NonceUsed => "invalid_exact_evm_nonce_already_used",
            Self::Funds => "insufficient_funds",
        }
    }
}

/// Balances, used nonces and every transfer.
#[derive(Debug, Default)]
pub(super) struct Token {
    balances: HashMap<Address, U256>,
    used: HashSet<(Address, B256)>,
    transfers: Vec<Transfer>,
}

impl Token {
    /// Gives `account` money to begin with.
    pub(super) fn fund(&mut self, account: Address, value: U256) {
        let balance = self.balances.entry(account).or_default();
        *balance = balance.saturating_add(value);
    }

    pub(super) fn balance(&self, account: Address) -> U256 {
        self.balances.get(&account).copied().unwrap_or_default()
    }

    /// Everything that moved, in order.
    pub(super) fn transfers(&self) -> &[Transfer] {
        &self.transfers
    }

    /// `transferWithAuthorization` at Unix time `now`.
    pub(super) fn transfer(&mut self, call: &Call, now: u64) -> Result<Transfer, Rejected> {
        let now = U256::from(now);
        if now <= call.valid_after {
            return Err(Rejected::NotYetValid);
        }
        if now >= call.valid_before {
            return Err(Rejected::Expired);
        }
        if signer(call) != Some(call.from) {
            return Err(Rejected::Signature);
        }
        if self.used.contains(&(call.from, call.nonce)) {
            return Err(Rejected::NonceUsed);
        }
        let left = self.balance(call.from).checked_sub(call.value).ok_or(Rejected::Funds)?;
        self.used.insert((call.from, call.nonce));
        self.balances.insert(call.from, left);
        self.fund(call.to, call.value);
        let transfer = Transfer { from: call.from, to: call.to, value: call.value, nonce: call.nonce };
        self.transfers.push(transfer.clone());
        Ok(transfer)
    }
}

fn digest(call: &Call) -> B256 {
    let words = [
        TYPE_HASH,
        call.from.into_word(),
        call.to.into_word(),
        call.value.into(),
        call.valid_after.into(),
        call.valid_before.into(),
        call.nonce,
    ];
    let message = keccak256(words.map(|w| w.0).concat());
    keccak256([&[0x19, 0x01], DOMAIN.as_slice(), message.as_slice()].concat())
}

/// Who signed; `None` for a signature the token contract reverts on: not 65 bytes, another v, or a high s.
fn signer(call: &Call) -> Option<Address> {
    let rsv: &[u8; 65] = call.signature.as_slice().try_into().ok()?;
    let parity = match rsv[64] {
        27 => false,
        28 => true,
        _ => return None,
    };
    let signature = Signature::new(U256::from_be_slice(&rsv[..32]), U256::from_be_slice(&rsv[32..64]), parity);
    if signature.normalize_s().is_some() {
        return None;
    }
    signature.recover_address_from_prehash(&digest(call)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k256::ecdsa::SigningKey;

    fn signed(value: u64) -> Call {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let mut call = Call {
            from: Address::from_private_key(&key),
            to: Address::repeat_byte(2),
            value: U256::from(value),
            valid_after: U256::from(10),
            valid_before: U256::from(20),
            nonce: B256::repeat_byte(3),
            signature: Vec::new(),
        };
        let (signature, parity) = key.sign_prehash_recoverable(digest(&call).as_slice()).unwrap();
        call.signature = [&signature.to_bytes()[..], &[27 + parity.to_byte()]].concat();
        call
    }

    fn funded(call: &Call) -> Token {
        let mut token = Token::default();
        token.fund(call.from, U256::from(100));
        token
    }

    #[test]
    fn a_valid_authorization_moves_its_value_once() {
        let call = signed(60);
        let mut token = funded(&call);
        assert!(token.transfer(&call, 15).is_ok());
        assert_eq!((token.balance(call.from), token.balance(call.to)), (U256::from(40), U256::from(60)));
        assert_eq!(token.transfer(&call, 15), Err(Rejected::NonceUsed), "a second use is refused");
        assert_eq!(token.transfers().len(), 1);
    }

    #[test]
    fn window_signature_and_balance_are_checked() {
        let call = signed(60);
        let mut token = funded(&call);
        assert_eq!(token.transfer(&call, 10), Err(Rejected::NotYetValid));
        assert_eq!(token.transfer(&call, 20), Err(Rejected::Expired));
        assert_eq!(token.transfer(&signed(101), 15), Err(Rejected::Funds));
        let changes: [fn(&mut Call); 6] = [
            |c| c.value += U256::from(1),
            |c| c.to = Address::repeat_byte(9),
            |c| c.from = Address::repeat_byte(9),
            |c| c.nonce = B256::repeat_byte(9),
            |c| c.signature[5] ^= 1,
            |c| c.signature[64] = 0,
        ];
        for (n, change) in changes.iter().enumerate() {
            let mut call = call.clone();
            change(&mut call);
            assert_eq!(token.transfer(&call, 15), Err(Rejected::Signature), "change {n}");
        }
        assert!(token.transfers().is_empty());
    }
}
