//! A scanner between a socket and its reader: what is in order passes in place, an incomplete head waits here.

use tokio::io::ReadBuf;

use super::{Asked, Fault, Names, Scanner};

/// Holds no memory while nothing waits.
#[derive(Debug)]
pub struct Screen {
    scanner: Scanner,
    /// Put aside: first what may pass, then what cannot be judged yet.
    held: Vec<u8>,
    ready: usize,
    fault: Option<Fault>,
}

impl Screen {
    /// Behind this scanner.
    pub const fn new(scanner: Scanner) -> Self {
        Self { scanner, held: Vec::new(), ready: 0, fault: None }
    }

    /// For bytes that are not HTTP/1: everything passes.
    pub(in super::super) fn open() -> Self {
        Self::new(Scanner::open())
    }

    /// Judges what a read added behind the first `before` bytes of `buf`, and takes back what may not pass yet.
    pub fn admit(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let new = &buf.filled()[before..];
        if !self.held.is_empty() {
            self.held.extend_from_slice(new);
            buf.set_filled(before);
            return self.judge();
        }
        let scanned = self.scanner.scan(new);
        self.fault = scanned.fault;
        if scanned.fault.is_none() {
            self.held.extend_from_slice(&new[scanned.pass..]);
        }
        buf.set_filled(before + scanned.pass);
    }

    fn judge(&mut self) {
        let scanned = self.scanner.scan(&self.held);
        (self.ready, self.fault) = (scanned.pass, scanned.fault);
        if scanned.fault.is_some() {
            self.held.truncate(scanned.pass);
        }
    }

    /// Hands out what may pass; false if there is nothing.
    pub fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.ready == 0 {
            return false;
        }
        let n = self.ready.min(buf.remaining());
        buf.put_slice(&self.held[..n]);
        self.ready -= n;
        if n == self.held.len() {
            self.held = Vec::new();
        } else {
            self.held.drain(..n);
        }
        true
    }

    /// All that was put aside.
    pub(in super::super) fn into_held(self) -> Vec<u8> {
        self.held
    }

    /// What was found wrong. All before it may pass.
    pub const fn found(&self) -> Option<Fault> {
        self.fault
    }

    /// True if the fault is in a head: its message has not begun for the reader.
    pub const fn fault_in_head(&self) -> bool {
        self.scanner.in_head()
    }

    /// Complete heads so far.
    pub const fn heads(&self) -> u32 {
        self.scanner.heads()
    }

    /// How the names of the heads that passed since the last call were written: of each request, of each final answer.
    pub fn names(&mut self) -> std::vec::Drain<'_, Option<Names>> {
        self.scanner.told.names.drain(..)
    }

    /// The interim answers that passed since the last call, as they came.
    pub fn early(&mut self) -> Option<Vec<u8>> {
        let early = &mut self.scanner.told.early;
        (!early.is_empty()).then(|| std::mem::take(early))
    }

    /// True if something waits.
    pub(in super::super) const fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    pub(in super::super) const fn is_open(&self) -> bool {
        self.scanner.is_open() && self.ready == 0
    }

    pub(in super::super) const fn is_idle(&self) -> bool {
        self.scanner.is_idle()
    }

    pub(in super::super) const fn is_undecided(&self) -> bool {
        self.scanner.is_undecided()
    }

    /// A request was sent: its answer may come.
    pub(in super::super) fn expect(&mut self, asked: Asked) {
        self.scanner.expect(asked);
    }

    /// The answer to a request for a tunnel: what waits is the tunnel's, or the next request.
    pub(in super::super) fn decide(&mut self, tunnel: bool) {
        self.scanner.decide(tunnel);
        self.judge();
    }
}
