//! Bounded decoding of content codings, so that a 402 body can be read whatever `Accept-Encoding` the agent sent.
//!
//! Output stops at the limit; so does the memory that a header of a few bytes can claim. Both the zstd and the brotli decoder would
//! otherwise reserve what the stream declares: large-window brotli a gibibyte, zstd its whole window before the first byte comes out.

use std::borrow::Cow;
use std::io::Read;

use brotli_decompressor::Decompressor;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::StreamingDecoder;

/// RFC 9659 §3: a zstd content coding must not need a window of more than 8 MiB.
const MAX_ZSTD_WINDOW: u64 = 8 * 1024 * 1024;

/// A body that cannot be read; the answer is passed on untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Decoded, or by its own declaration, larger than the limit.
    #[error("the body is larger than the limit")]
    TooLarge,
    /// An unknown coding, or several on top of each other.
    #[error("the content encoding is not one of identity, gzip, deflate, br, zstd")]
    UnsupportedEncoding,
    /// Not a complete stream of its coding.
    #[error("the body does not decode")]
    Corrupt,
}

/// Undoes one content coding (RFC 9110 §8.4.1, RFC 7932, RFC 9659); `encoding` is the value of `Content-Encoding`.
///
/// # Errors
/// [`BodyError`] if the result would exceed `limit` bytes, the coding is unknown or stacked, or the stream is broken.
pub fn decode<'a>(encoding: Option<&str>, bytes: &'a [u8], limit: usize) -> Result<Cow<'a, [u8]>, BodyError> {
    let coding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    let decoded = match coding.as_str() {
        "" | "identity" if bytes.len() > limit => return Err(BodyError::TooLarge),
        "" | "identity" => return Ok(Cow::Borrowed(bytes)),
        // Nothing to undo: an answer without a body may still name a coding.
        "gzip" | "x-gzip" | "deflate" | "br" | "zstd" if bytes.is_empty() => return Ok(Cow::Borrowed(bytes)),
        "gzip" | "x-gzip" => read(MultiGzDecoder::new(bytes), limit)?,
        "deflate" => read(ZlibDecoder::new(bytes), limit)?,
        "br" => brotli(bytes, limit)?,
        "zstd" => zstd(bytes, limit)?,
        _ => return Err(BodyError::UnsupportedEncoding),
    };
    Ok(Cow::Owned(decoded))
}

fn read(decoder: impl Read, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut out = Vec::new();
    let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(cap).read_to_end(&mut out).map_err(|_| BodyError::Corrupt)?;
    if out.len() > limit { Err(BodyError::TooLarge) } else { Ok(out) }
}

fn brotli(bytes: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    // RFC 7932 §9.1 reserves this window code; the decoder takes it for "large window" and believes sizes up to 2^30.
    if bytes.first().is_some_and(|b| b & 0x7f == 0x11) {
        return Err(BodyError::Corrupt);
    }
    read(Decompressor::new(bytes, 4096), limit)
}

fn zstd(bytes: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    let claimed = zstd_claim(bytes).ok_or(BodyError::Corrupt)?;
    if claimed > MAX_ZSTD_WINDOW {
        return Err(BodyError::TooLarge);
    }
    let mut source = bytes;
    let out = read(StreamingDecoder::new(&mut source).map_err(|_| BodyError::Corrupt)?, limit)?;
    // One frame is what every HTTP encoder writes; more of them, or garbage, is not silently cut off.
    if source.is_empty() { Ok(out) } else { Err(BodyError::Corrupt) }
}

/// The memory a zstd frame header asks for: its window, or the content size of a single segment (RFC 8878 §3.1.1.1).
fn zstd_claim(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 == 0 {
        let window = *rest.first()?;
        let base = 1_u64 << (10 + u32::from(window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let (width, offset) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let mut size = [0; 8];
    size[..width].copy_from_slice(rest.get(dictionary..dictionary + width)?);
    Some(u64::from_le_bytes(size).saturating_add(offset))
}
