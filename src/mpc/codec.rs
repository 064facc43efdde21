//! Bytes of the protocol's messages: postcard, capped before decoding, nothing left over.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Largest message of a signing session (82 kB per party and signature were measured in two messages).
pub const MAX_SIGNING: usize = 128 << 10;
/// Largest message of a ceremony.
pub const MAX_CEREMONY: usize = 512 << 10;

/// Bytes that are not the expected message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Over the cap; not looked at.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// Not decodable, or bytes left over.
    #[error("wrong encoding")]
    Wrong,
}

/// Encodes; the buffer is wiped when dropped, because some messages are secrets.
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    postcard::to_allocvec(message).map(Zeroizing::new).map_err(|_| CodecError::Wrong)
}

/// Decodes exactly `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], cap: usize) -> Result<T, CodecError> {
    if bytes.len() > cap {
        return Err(CodecError::TooLong(cap));
    }
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| CodecError::Wrong)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Wrong) }
}
