//! Strict HTTP/1 framing: where each message ends, read from the raw bytes before hyper sees them (RFC 9112 §2.2, §3, §5–§7).
//!
//! hyper takes what may be read in two ways: both lengths, a repeated one, a bare LF. Whoever stands before or behind us may
//! read the other one, and the rest of a body is then somebody's next request. So every such message is refused here, whole.
//!
//! A [`Scanner`] goes once over the bytes and keeps nothing of them: a head that is not complete yet is presented again, with
//! more behind it, by whoever put it aside ([`Screen`]).

mod chunked;
mod head;
mod names;
mod screen;
mod target;
#[cfg(test)]
mod tests;

use std::{fmt, io};

use chunked::{Chunked, Piece};
use head::{Body, Head, Line};
use names::Note;

pub use names::Names;
pub use screen::Screen;

/// Fields of a head or a trailer part. hyper takes no more.
const MAX_FIELDS: u16 = 100;

/// Interim answers before the final one.
const MAX_INTERIM: u8 = 32;

/// Bytes of interim answers that are kept to be passed on, until somebody takes them.
pub(super) const MAX_EARLY: usize = 16 * 1024;

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not HTTP/1, or a message that two readers could divide differently.
    Malformed,
    /// The head is longer, or has more fields, than is taken.
    HeadTooLarge,
    /// Bytes of an answer that nobody asked for.
    Unasked,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed or ambiguous HTTP/1 message",
            Self::HeadTooLarge => "head too large",
            Self::Unasked => "bytes that nobody asked for",
        })
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// The fault that an error comes down to.
    pub(super) fn behind(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.and_then(|e| e.downcast_ref::<Self>()).copied().or_else(|| error.source().and_then(Self::behind))
    }
}

/// What an answer is the answer to: its method decides whether there is a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Any method but HEAD.
    Plain,
    /// HEAD: no body whatever the head says.
    Head,
    /// Another protocol, which 101 agrees to.
    Upgrade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Somewhere in a head, of which the scanner wants to see all.
    Head,
    /// So many bytes of a body are to come.
    Length(u64),
    Chunked(Chunked),
    /// An answer that ends with the connection.
    Rest,
    /// No answer is expected.
    Idle,
    /// The request asked for a tunnel: the answer decides what the next bytes are.
    Undecided,
    /// A tunnel's bytes, or another protocol's.
    Open,
}

/// How far one look got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// So many bytes from the front are in order. The rest is an incomplete head, undecided, or at fault.
    pub pass: usize,
    /// What is wrong with the byte or the head at `pass`.
    pub fault: Option<Fault>,
}

/// Follows one direction of a connection.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// `None`: the agent's side. Else what the seller's next head answers.
    asked: Option<Asked>,
    head: Head,
    /// Longest head.
    limit: usize,
    heads: u32,
    interim: u8,
    /// The request asks for a tunnel or another protocol behind it.
    switches: bool,
    note: Note,
    /// What is to be told of the heads that passed.
    told: Told,
}

/// What the heads that passed said beside their messages.
#[derive(Debug, Default)]
struct Told {
    /// How the names of each were written: of every request, of every final answer.
    names: Vec<Option<Names>>,
    /// Interim answers, whole and one behind the other.
    early: Vec<u8>,
}

impl Scanner {
    fn new(state: State, asked: Option<Asked>, limit: usize) -> Self {
        let (head, note, told) = Default::default();
        Self { state, asked, head, limit, heads: 0, interim: 0, switches: false, note, told }
    }

    /// For requests.
    pub fn requests(limit: usize) -> Self {
        Self::new(State::Head, None, limit)
    }

    /// For answers, none of which is expected yet.
    pub fn answers(limit: usize) -> Self {
        Self::new(State::Idle, Some(Asked::Plain), limit)
    }

    /// For bytes that are not HTTP/1.
    pub(super) fn open() -> Self {
        Self::new(State::Open, None, 0)
    }

    /// A request was sent: its answer may come.
    pub fn expect(&mut self, asked: Asked) {
        (self.state, self.asked, self.interim) = (State::Head, Some(asked), 0);
    }

    /// The answer to a request for a tunnel: `true` if the bytes that follow are the tunnel's.
    pub fn decide(&mut self, tunnel: bool) {
        self.state = if tunnel { State::Open } else { State::Head };
    }

    /// Complete heads so far.
    pub const fn heads(&self) -> u32 {
        self.heads
    }

    /// True between messages and in a head: a fault met here is that of a message of which nothing was passed on.
    pub const fn in_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    const fn is_undecided(&self) -> bool {
        matches!(self.state, State::Undecided)
    }

    const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Looks at what arrived. What was not passed is to be presented again, with what comes after it.
    pub fn scan(&mut self, data: &[u8]) -> Scanned {
        let mut pass = 0;
        loop {
            let rest = &data[pass..];
            match self.step(rest) {
                Ok(0) => return Scanned { pass, fault: None },
                Ok(n) => pass += n,
                Err((n, fault)) => return Scanned { pass: pass + n, fault: Some(fault) },
            }
        }
    }

    /// One head, or a piece of a body; 0 if nothing more can be said.
    fn step(&mut self, data: &[u8]) -> Result<usize, (usize, Fault)> {
        if data.is_empty() {
            return Ok(0);
        }
        match &mut self.state {
            State::Head => self.read_head(data).map_err(|fault| (0, fault)),
            State::Length(left) => {
                let n = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                if *left == 0 {
                    self.end();
                }
                Ok(n)
            }
            State::Chunked(chunked) => match chunked.scan(data, self.asked.is_some()) {
                Piece::More => Ok(data.len()),
                Piece::End(n) => {
                    self.end();
                    Ok(n)
                }
                Piece::Fault(n) => Err((n, Fault::Malformed)),
            },
            State::Rest | State::Open => Ok(data.len()),
            State::Idle => Err((0, Fault::Unasked)),
            State::Undecided => Ok(0),
        }
    }

    /// The length of the head if it is complete, else 0.
    fn read_head(&mut self, data: &[u8]) -> Result<usize, Fault> {
        loop {
            match self.head.line(data, self.limit, self.asked.is_some(), &mut self.note)? {
                Line::Incomplete => return Ok(0),
                Line::More => {}
                Line::End => break,
            }
        }
        let mut head = std::mem::take(&mut self.head);
        let body = match self.asked {
            None => head.request_body()?,
            Some(asked) => head.answer_body(asked)?,
        };
        self.heads = self.heads.wrapping_add(1);
        self.switches = head.switches;
        if body != Body::Interim {
            self.told.names.push(self.note.finish());
        }
        match body {
            Body::None | Body::Length(0) => self.end(),
            Body::Length(n) => self.state = State::Length(n),
            Body::Chunked => self.state = State::Chunked(Chunked::default()),
            Body::Rest => self.state = State::Rest,
            Body::Interim if self.interim == MAX_INTERIM => return Err(Fault::Malformed),
            Body::Interim => {
                self.interim += 1;
                if head.is_early() && self.told.early.len() + head.len() <= MAX_EARLY {
                    self.told.early.extend_from_slice(&data[..head.len()]);
                }
            }
            Body::Switched => self.state = State::Open,
        }
        Ok(head.len())
    }

    /// The message is complete.
    fn end(&mut self) {
        self.state = match self.asked {
            Some(_) => State::Idle,
            None if self.switches => State::Undecided,
            None => State::Head,
        };
    }
}
