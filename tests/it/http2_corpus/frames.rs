//! HTTP/2 by hand: frames out, the few that matter in.

use std::time::Duration;

use crate::harness::{Agent, Program};

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A frame of any kind.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS with these values.
pub(super) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = values.iter().flat_map(|(id, v)| [&id.to_be_bytes()[..], &v.to_be_bytes()].concat()).collect();
    frame(4, 0, 0, &payload)
}

/// A field as a literal that no table keeps (RFC 7541 §6.2.2).
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut length = text.len();
    if length < 127 {
        out.push(u8::try_from(length).unwrap());
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        out.push(u8::try_from(length).unwrap());
    }
    out.extend_from_slice(text.as_bytes());
    out
}

/// A request without a body, its block in frames of the usual size.
pub(super) fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    split_headers(stream, block, 16_000)
}

/// The same in pieces of `size`.
pub(super) fn split_headers(stream: u32, block: &[u8], size: usize) -> Vec<u8> {
    let pieces: Vec<&[u8]> = block.chunks(size).collect();
    let mut out = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let last = if n + 1 == pieces.len() { END_HEADERS } else { 0 };
        out.extend(if n == 0 { frame(1, last | END_STREAM, stream, piece) } else { frame(9, last, stream, piece) });
    }
    out
}

/// What happened to a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
}

/// A client of the proxy, after the preface.
pub(super) struct Client {
    agent: Agent,
    ahead: Vec<u8>,
}

impl Client {
    pub(super) fn new(program: &Program) -> Self {
        let mut agent = program.agent();
        agent.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings(&[])[..]].concat());
        Self { agent, ahead: Vec::new() }
    }

    #[track_caller]
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.agent.send(bytes);
    }

    /// False once the other side has closed, or takes no more.
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.agent.wire.write(bytes).is_ok()
    }

    pub(super) fn set_write_timeout(&self, timeout: Duration) {
        self.agent.wire.tcp().set_write_timeout(Some(timeout)).unwrap();
    }

    /// The next frame: kind, flags, stream, payload. None at the end of the connection.
    fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if self.ahead.len() >= 9 {
                let length = u32::from_be_bytes([0, self.ahead[0], self.ahead[1], self.ahead[2]]) as usize;
                if self.ahead.len() >= 9 + length {
                    let whole: Vec<u8> = self.ahead.drain(..9 + length).collect();
                    let stream = u32::from_be_bytes([whole[5], whole[6], whole[7], whole[8]]);
                    return Some((whole[3], whole[4], stream, whole[9..].to_vec()));
                }
            }
            match self.agent.wire.some() {
                Ok(more) if !more.is_empty() => self.ahead.extend(more),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => panic!("nothing came"),
                _ => return None,
            }
        }
    }

    /// What happens to a stream next; acknowledges settings by the way.
    pub(super) fn event(&mut self, stream: u32) -> Event {
        loop {
            let Some((kind, flags, id, payload)) = self.frame() else { return Event::Closed };
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                1 if id == stream => return Event::Status(status(&payload)),
                3 if id == stream => return Event::Reset(code(0)),
                4 if flags & 1 == 0 => {
                    self.try_send(&frame(4, 1, 0, &[]));
                }
                7 => return Event::GoAway(code(4)),
                _ => {}
            }
        }
    }

    /// The statuses of the next answers, of any stream.
    pub(super) fn statuses(&mut self, count: usize) -> Vec<u16> {
        let mut found = Vec::new();
        while found.len() < count {
            let (kind, _, _, payload) = self.frame().unwrap();
            if kind == 1 {
                found.push(status(&payload));
            }
        }
        found
    }

    /// Why the connection ends; None if it ends without a word.
    pub(super) fn goaway(&mut self) -> Option<u32> {
        loop {
            match self.event(0) {
                Event::GoAway(code) => return Some(code),
                Event::Closed => return None,
                _ => {}
            }
        }
    }

    pub(super) fn is_closed(&mut self) -> bool {
        while self.frame().is_some() {}
        true
    }
}

/// The status that a header block of the proxy begins with.
fn status(block: &[u8]) -> u16 {
    // Changes of the table's size come first.
    let block = &block[block.iter().take_while(|b| **b & 0xe0 == 0x20).count()..];
    match block[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        literal if literal & 0x0f == 8 || literal == 0x48 => {
            let (huffman, length) = (block[1] & 0x80 != 0, usize::from(block[1] & 0x7f));
            let digits = &block[2..2 + length];
            if huffman { digits_of(digits) } else { std::str::from_utf8(digits).unwrap().parse().unwrap() }
        }
        other => panic!("not a status first: {other:#x}"),
    }
}

/// Three digits in the code of RFC 7541, appendix B.
fn digits_of(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |n| b >> n & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u16, |n, b| n << 1 | u16::from(*b));
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let digit = if short < 3 { short } else { number(&bits[at..at + 6]) - 22 };
        at += if short < 3 { 5 } else { 6 };
        status = status * 10 + digit;
    }
    status
}
