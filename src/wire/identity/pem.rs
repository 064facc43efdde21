//! PEM (RFC 7468) of one block, in buffers that are wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Writes one block.
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    // Reserved whole: growing would leave pieces behind.
    let mut out = Zeroizing::new(String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 64));
    for part in ["-----BEGIN ", label, "-----\n"] {
        out.push_str(part);
    }
    for line in body.as_bytes().chunks(64) {
        out.push_str(std::str::from_utf8(line).unwrap_or_default());
        out.push('\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        out.push_str(part);
    }
    out
}

/// Reads the one block of a text; `None` if there is none, another one, or more than it.
pub(super) fn decode(label: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = text.trim().strip_prefix("-----BEGIN ")?.strip_prefix(label)?.strip_prefix("-----")?;
    let body = body.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
    let mut packed = Zeroizing::new(String::with_capacity(body.len()));
    packed.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; base64::decoded_len_estimate(packed.len())]);
    let length = STANDARD.decode_slice(packed.as_bytes(), &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_block_survives_and_nothing_else_is_one() {
        for length in [0, 1, 47, 48, 49, 138] {
            let der: Vec<u8> = (0..length).collect();
            let text = encode("X", &der);
            assert!(text.lines().all(|l| l.len() <= 64));
            assert_eq!(*decode("X", &text).unwrap(), der);
            assert_eq!(*decode("X", &text.replace('\n', "\r\n")).unwrap(), der);
            assert!(decode("Y", &text).is_none());
        }
        let one = encode("X", b"abc");
        for bad in [format!("{}{}", *one, *one), one.replace("END", "BEG"), one.replace("YW", "Y!"), String::new()] {
            assert!(decode("X", &bad).is_none(), "{bad}");
        }
    }
}
