//! One head, line by line: each is looked at once, when its end is there.

use memchr::memchr;

use super::names::Note;
use super::target::is_target;
use super::{Asked, Fault, MAX_FIELDS};

/// Bytes of a request target. The library takes no longer ones, and refuses them without a word of ours.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// What a look for the next line found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Incomplete,
    More,
    /// The empty line.
    End,
}

/// What follows the head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked,
    Rest,
    /// Another head.
    Interim,
    /// Another protocol.
    Switched,
}

/// What is known of a head so far.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Where the next line begins, and how far its end was looked for.
    at: usize,
    seen: usize,
    /// Start line and fields.
    lines: u16,
    /// An empty line before the start line was skipped.
    skipped: bool,
    /// Of an answer.
    status: u16,
    http10: bool,
    connect: bool,
    host: bool,
    chunked: bool,
    length: Option<u64>,
    upgrade: bool,
    /// The bytes behind this request are HTTP only if the answer says so.
    pub(super) switches: bool,
}

impl Head {
    pub(super) const fn len(&self) -> usize {
        self.at
    }

    /// Takes the next line of `data`, which begins where the head does.
    pub(super) fn line(&mut self, data: &[u8], limit: usize, answer: bool, names: &mut Note) -> Result<Line, Fault> {
        if self.lines == 0 && data.get(self.at).is_some_and(|b| !may_begin(*b, answer)) {
            // TLS on the wrong port, or an answer out of a body: never mind where its lines end.
            return Err(Fault::Malformed);
        }
        let Some(found) = memchr(b'\n', &data[self.seen..]) else {
            self.seen = data.len();
            return if data.len() > limit { Err(Fault::HeadTooLarge) } else { Ok(Line::Incomplete) };
        };
        let end = self.seen + found;
        let line = &data[self.at..end];
        (self.at, self.seen) = (end + 1, end + 1);
        if self.at > limit {
            return Err(Fault::HeadTooLarge);
        }
        let line = line.strip_suffix(b"\r").ok_or(Fault::Malformed)?;
        match (line.is_empty(), self.lines) {
            // One empty line before a request is left over from the one before (RFC 9112 §2.2).
            (true, 0) if answer || self.skipped => return Err(Fault::Malformed),
            (true, 0) => self.skipped = true,
            (true, _) => return Ok(Line::End),
            (false, 0) => {
                names.begin();
                if answer { self.status_line(line)? } else { self.request_line(line)? }
            }
            (false, _) => self.field(line, names)?,
        }
        Ok(Line::More)
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.lines = 1;
        let method_end = memchr(b' ', line).ok_or(Fault::Malformed)?;
        let (method, rest) = (&line[..method_end], &line[method_end + 1..]);
        let target = match (rest.strip_suffix(b" HTTP/1.1"), rest.strip_suffix(b" HTTP/1.0")) {
            (Some(target), _) => target,
            (None, Some(target)) => {
                self.http10 = true;
                target
            }
            (None, None) => return Err(Fault::Malformed),
        };
        if !is_token(method) {
            return Err(Fault::Malformed);
        }
        self.connect = method == b"CONNECT";
        if target.len() > MAX_TARGET {
            return Err(Fault::HeadTooLarge);
        }
        if !is_target(target) {
            return Err(Fault::Malformed);
        }
        Ok(())
    }

    fn status_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.lines = 1;
        let (version, rest) = line.split_at_checked(9).ok_or(Fault::Malformed)?;
        self.http10 = match version {
            b"HTTP/1.1 " => false,
            b"HTTP/1.0 " => true,
            _ => return Err(Fault::Malformed),
        };
        let (code, reason) = rest.split_at_checked(3).ok_or(Fault::Malformed)?;
        self.status = u16::try_from(number(code).ok_or(Fault::Malformed)?).map_err(|_| Fault::Malformed)?;
        // Many servers leave the blank away with the reason.
        if self.status < 100 || !(reason.is_empty() || reason[0] == b' ') || !is_text(reason) {
            return Err(Fault::Malformed);
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8], names: &mut Note) -> Result<(), Fault> {
        self.lines += 1;
        if self.lines > MAX_FIELDS + 1 {
            return Err(Fault::HeadTooLarge);
        }
        // A blank first (a folded line, or a field behind nothing), last, or instead of a name: none is a token.
        let colon = memchr(b':', line).ok_or(Fault::Malformed)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !names.follows(name) {
            if !is_token(name) {
                return Err(Fault::Malformed);
            }
            names.add(name);
        }
        if !is_text(value) {
            return Err(Fault::Malformed);
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => once(&mut self.host),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(value.trim_ascii()).ok_or(Fault::Malformed)?;
                if self.chunked || self.length.replace(length).is_some() {
                    return Err(Fault::Malformed);
                }
                Ok(())
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // A coding list of one: whatever else stands there, somebody reads it differently.
                if self.http10 || self.length.is_some() || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::Malformed);
                }
                once(&mut self.chunked)
            }
            _ => Ok(()),
        }
    }

    /// What follows a request's head.
    pub(super) fn request_body(&mut self) -> Result<Body, Fault> {
        if self.connect && (self.chunked || self.length.is_some_and(|n| n > 0)) {
            // Whether those bytes are a body or the tunnel's is not defined (RFC 9110 §9.3.6).
            return Err(Fault::Malformed);
        }
        self.switches = self.connect || self.upgrade;
        Ok(match self.length {
            _ if self.chunked => Body::Chunked,
            Some(n) => Body::Length(n),
            None => Body::None,
        })
    }

    /// True for an interim answer that says something: 100 only lets a body go on, which was not waited for.
    pub(super) const fn is_early(&self) -> bool {
        matches!(self.status, 102..=199) && !self.http10
    }

    /// What follows an answer's head.
    pub(super) fn answer_body(&self, asked: Asked) -> Result<Body, Fault> {
        Ok(match (self.status, asked) {
            (101, Asked::Upgrade) => Body::Switched,
            (101, _) => return Err(Fault::Malformed),
            (100..200, _) if self.chunked || self.length.is_some() => return Err(Fault::Malformed),
            (100..200, _) => Body::Interim,
            (204 | 304, _) | (_, Asked::Head) => Body::None,
            _ => match self.length {
                _ if self.chunked => Body::Chunked,
                Some(n) => Body::Length(n),
                None => Body::Rest,
            },
        })
    }
}

/// False for a second one.
fn once(seen: &mut bool) -> Result<(), Fault> {
    if std::mem::replace(seen, true) { Err(Fault::Malformed) } else { Ok(()) }
}

/// Can a message, or the empty line before a request, begin so?
const fn may_begin(byte: u8, answer: bool) -> bool {
    if answer { byte == b'H' } else { byte == b'\r' || is_token_byte(byte) }
}

/// Digits only, and not more than fit.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.iter().try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))
}

const fn token_table() -> [bool; 256] {
    let (mut table, mut byte) = ([false; 256], 0u8);
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
}

const TOKEN: [bool; 256] = token_table();

/// RFC 9110 §5.6.2.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| is_token_byte(*b))
}

/// No control byte but the tab; so no NUL, and no CR that stands alone.
pub(super) const fn is_text_byte(byte: u8) -> bool {
    (byte >= b' ' || byte == b'\t') && byte != 0x7f
}

/// Most values are short: eight bytes at a time, and byte by byte only where that finds a control byte, which may be a tab.
fn is_text(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    let plain = words.iter().chain([&last]).fold(0, |found, word| found | controls(u64::from_le_bytes(*word))) == 0;
    plain || bytes.iter().all(|b| is_text_byte(*b))
}

/// Not 0 if one of the eight bytes is below a blank, or DEL.
const fn controls(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let del = word ^ (ONES * 0x7f);
    // A byte below n, and a byte that is 0, borrow into their highest bit, which they did not have.
    (word.wrapping_sub(ONES * 0x20) & !word | del.wrapping_sub(ONES) & !del) & (ONES * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_byte_is_found_wherever_it_stands() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=255 {
                    for around in [b' ', b'~', 0x80, 0xff] {
                        let mut text = vec![around; length];
                        text[at] = byte;
                        assert_eq!(is_text(&text), is_text_byte(byte), "{text:?}");
                    }
                }
            }
        }
        assert!(is_text(b""));
    }
}
