//! Content codings of a challenge in a body.

use super::*;

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// `{"x402Version":1,"accepts":[]}` by the reference zstd encoder: streamed with a window, and of known size in one segment with a checksum.
pub(super) const ZSTD: [&[u8]; 2] = [
    &hex!("28b52ffd0458f100007b227834303256657273696f6e223a312c2261636365707473223a5b5d7dc92bff5d"),
    &hex!("28b52ffd241ef100007b227834303256657273696f6e223a312c2261636365707473223a5b5d7dc92bff5d"),
];

/// `{"x402Version":1,"accepts":[]}` by the reference brotli encoder, quality 11.
pub(super) const BROTLI: &[u8] = &hex!("8b0e807b227834303256657273696f6e223a312c2261636365707473223a5b5d7d03");

/// 32 MiB of zeros by the same encoder.
const BROTLI_BOMB: &[u8] =
    &hex!("cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd1fffffffe09f0088c30200ddfbbffcffffc33f0110870500baf77f");

#[test]
fn each_coding_is_undone() {
    let text = br#"{"x402Version":1,"accepts":[]}"#;
    for (encoding, bytes) in [
        (None, text.to_vec()),
        (Some(""), text.to_vec()),
        (Some("Identity"), text.to_vec()),
        (Some("gzip"), gzip(text)),
        (Some(" X-GZIP "), gzip(text)),
        (Some("gzip"), [gzip(&text[..9]), gzip(&text[9..])].concat()),
        (Some("deflate"), zlib(text)),
        (Some("br"), BROTLI.to_vec()),
        (Some("zstd"), zstd(text)),
        (Some("zstd"), ZSTD[0].to_vec()),
        (Some("zstd"), ZSTD[1].to_vec()),
    ] {
        assert_eq!(decode(encoding, &bytes, text.len()).as_deref(), Ok(&text[..]), "{encoding:?}");
        assert_eq!(decode(encoding, &bytes, text.len() - 1), Err(BodyError::TooLarge), "{encoding:?}");
        assert_eq!(decode(encoding, b"", 9).as_deref(), Ok(&b""[..]), "{encoding:?}");
    }
}

#[test]
fn unknown_and_stacked_codings_are_refused() {
    for encoding in ["gzip, gzip", "gzip,br", "compress", "aws-chunked", "*", "dcz", "\u{e9}"] {
        assert_eq!(decode(Some(encoding), &gzip(b"x"), 100), Err(BodyError::UnsupportedEncoding), "{encoding}");
    }
}

#[test]
fn a_broken_stream_is_an_error_and_not_a_short_body() {
    let text = b"the quick brown fox jumps over the lazy dog".repeat(20);
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::best());
    raw.write_all(&text).unwrap();
    assert_eq!(decode(Some("deflate"), &raw.finish().unwrap(), 10_000), Err(BodyError::Corrupt), "RFC 9110 deflate is zlib");
    for (encoding, bytes) in [("gzip", gzip(&text)), ("deflate", zlib(&text)), ("br", BROTLI.to_vec()), ("zstd", zstd(&text))] {
        let cut = &bytes[..bytes.len() / 2];
        assert_eq!(decode(Some(encoding), cut, 10_000), Err(BodyError::Corrupt), "{encoding} cut");
        assert_eq!(decode(Some(encoding), b"hello, world", 10_000), Err(BodyError::Corrupt), "{encoding} nonsense");
    }
    assert_eq!(decode(Some("zstd"), &[zstd(&text), zstd(&text)].concat(), 10_000), Err(BodyError::Corrupt), "two frames");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0; 32 << 20];
    for (encoding, bomb) in [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("zstd", zstd(&zeros))] {
        assert!(bomb.len() < 64 << 10, "{encoding}: {}", bomb.len());
        assert_eq!(decode(Some(encoding), &bomb, 64 << 10), Err(BodyError::TooLarge), "{encoding}");
    }
    assert_eq!(decode(Some("br"), BROTLI_BOMB, 64 << 10), Err(BodyError::TooLarge));
}

#[test]
fn a_header_cannot_claim_memory() {
    // Large-window brotli with 2^30 bytes of window; zstd with 2^41 of window; zstd with one segment of 2^63 bytes.
    assert_eq!(decode(Some("br"), &[0x11, 0x1e, 0x00, 0x00], 100), Err(BodyError::Corrupt));
    assert_eq!(decode(Some("zstd"), &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00], 100), Err(BodyError::TooLarge));
    let segment = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x01, 0x00, 0x00];
    assert_eq!(decode(Some("zstd"), &segment, 100), Err(BodyError::TooLarge));
}
