//! EIP-3009 `TransferWithAuthorization` as EIP-712 typed data, and its signature.

use std::fmt;
use std::sync::Arc;

use alloy_primitives::{B256, Signature, U256};
use alloy_sol_types::{Eip712Domain, SolCall, SolStruct, sol};

use super::{Asset, Nonce, Payee, Payer};

sol! {
    /// EIP-3009 §"transferWithAuthorization"; type hash 0x7c7c6cdb…2267.
    struct TransferWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    /// The call that settles it; selector 0xe3ee160e.
    function transferWithAuthorization(
        address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s
    ) external;
}

/// The one typed thing that is ever signed for an x402 `exact` payment.
///
/// The EIP-712 domain is rebuilt from `asset`, which is an entry of *our* table; nothing of the seller's `extra` gets in.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// Token contract, chain, name and version.
    pub asset: Arc<Asset>,
    /// Debited account.
    pub from: Payer,
    /// Credited account.
    pub to: Payee,
    /// Atomic units.
    pub value: U256,
    /// Unix seconds; valid strictly after.
    pub valid_after: u64,
    /// Unix seconds; valid strictly before.
    pub valid_before: u64,
    /// The purchase's nonce.
    pub nonce: Nonce,
}

impl Authorization {
    /// The EIP-712 digest `keccak256(0x1901 ‖ domain separator ‖ struct hash)`.
    pub fn digest(&self) -> B256 {
        let message = TransferWithAuthorization {
            from: self.from.0,
            to: self.to.0,
            value: self.value,
            validAfter: U256::from(self.valid_after),
            validBefore: U256::from(self.valid_before),
            nonce: self.nonce.bytes(),
        };
        message.eip712_signing_hash(&self.asset.domain())
    }
}

impl Asset {
    /// The EIP-712 domain of the token contract.
    pub fn domain(&self) -> Eip712Domain {
        Eip712Domain::new(
            Some(self.eip712.name.clone().into()),
            Some(self.eip712.version.clone().into()),
            Some(U256::from(self.id.chain.id())),
            Some(self.id.token),
            None,
        )
    }

    /// The domain separator, as the token's `DOMAIN_SEPARATOR()` returns it.
    pub fn domain_separator(&self) -> B256 {
        self.domain().separator()
    }
}

/// A checked signature over one [`Authorization`]: low s, v 27 or 28, recovered to the payer.
///
/// A bearer instrument until `validBefore`: no `Debug` or `Display` of the bytes.
#[derive(Clone)]
pub struct Signed {
    authorization: Authorization,
    signature: [u8; 65],
}

impl Signed {
    /// Accepts a signature only after checking it against what was asked for (design §3 step 7).
    ///
    /// # Errors
    /// [`SignedError`] if s is high, the parity is not 0/1/27/28, or another key signed.
    pub fn new(authorization: Authorization, rsv: [u8; 65]) -> Result<Self, SignedError> {
        let parity = match rsv[64] {
            0 | 27 => false,
            1 | 28 => true,
            _ => return Err(SignedError::Parity),
        };
        let signature = Signature::new(U256::from_be_slice(&rsv[..32]), U256::from_be_slice(&rsv[32..64]), parity);
        if signature.normalize_s().is_some() {
            return Err(SignedError::HighS);
        }
        let digest = authorization.digest();
        match signature.recover_address_from_prehash(&digest) {
            Ok(address) if address == authorization.from.0 => Ok(Self { authorization, signature: signature.as_bytes() }),
            _ => Err(SignedError::WrongSigner),
        }
    }

    /// What was signed.
    pub const fn authorization(&self) -> &Authorization {
        &self.authorization
    }

    /// The call of `transferWithAuthorization` that settles it, for anyone to submit to the token contract. Treat as money.
    pub fn calldata(&self) -> Vec<u8> {
        let a = &self.authorization;
        let (r, s) = (B256::from_slice(&self.signature[..32]), B256::from_slice(&self.signature[32..64]));
        let call = transferWithAuthorizationCall {
            from: a.from.0,
            to: a.to.0,
            value: a.value,
            validAfter: U256::from(a.valid_after),
            validBefore: U256::from(a.valid_before),
            nonce: a.nonce.bytes(),
            v: self.signature[64],
            r,
            s,
        };
        call.abi_encode()
    }

    /// `r ‖ s ‖ v` with v 27 or 28. Treat as money.
    pub const fn bytes(&self) -> &[u8; 65] {
        &self.signature
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("signature", &"<redacted>").finish_non_exhaustive()
    }
}

/// A signature that must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// s is in the upper half of the order; FiatToken v2.2 reverts on it.
    #[error("signature has a high s")]
    HighS,
    /// The recovery byte is none of 0, 1, 27, 28.
    #[error("signature has an unknown recovery byte")]
    Parity,
    /// The recovered address is not the payer.
    #[error("signature was made by another key")]
    WrongSigner,
}
