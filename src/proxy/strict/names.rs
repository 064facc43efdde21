//! How the names of a head's fields were written. The HTTP library knows them in lower case only; RFC 9110 §5.1 lets it, but
//! clients and sellers exist that compare names byte by byte. So the names are noted when a head is read, and written over the
//! library's when its copy of the head goes out on the other leg.
//!
//! A connection's heads mostly repeat their names: the note of the head before is compared with while the next one is read, and
//! is passed on as it is if nothing differs. A request then costs no allocation, and a name that is known needs no other check.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use memchr::memchr;

/// Bytes of a note. A head with longer names goes out in lower case, so that an idle connection keeps little.
const MAX_NOTE: usize = 4096;

/// The names of one head in their order: a byte that says whether any has a capital, then for each its length, the name, and the
/// name in lower case, as the library writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(Arc<[u8]>);

impl Names {
    /// For a message whose names nobody wrote (RFC 9113 §8.2: HTTP/2 has none) towards somebody who writes capitals.
    pub(in super::super) fn titled() -> Self {
        static TITLED: LazyLock<Names> = LazyLock::new(|| Names([1][..].into()));
        TITLED.clone()
    }

    /// A note of names from elsewhere; `None` if they are too long.
    pub(in super::super) fn of<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut note = Note::default();
        names.into_iter().for_each(|name| note.add(name));
        note.finish()
    }

    /// False if the names are as the library writes them.
    pub(in super::super) fn has_capitals(&self) -> bool {
        self.0[0] == 1
    }

    /// Writes the names of `head`, which begins with its start line, as they were noted; those that were not as titles.
    pub fn spell(&self, head: &mut [u8]) {
        let Some(first) = memchr(b'\n', head) else { return };
        let (mut at, mut next) = (first + 1, 1);
        while let Some(end) = memchr(b'\n', &head[at..]) {
            let line = &mut head[at..at + end];
            if line.len() < 2 {
                return;
            }
            match self.find(line, next) {
                Some(name) => {
                    line[..name.len()].copy_from_slice(&self.0[name.clone()]);
                    next = behind(&name);
                }
                None => title(line),
            }
            at += end + 1;
        }
    }

    /// The name as it was noted next after `next`, which is moved on.
    pub(in super::super) fn spelled(&self, name: &str, next: &mut usize) -> Option<&[u8]> {
        let found = self.find_by((*next).max(1), |lower| lower == name.as_bytes())?;
        *next = behind(&found);
        Some(&self.0[found])
    }

    fn find(&self, line: &[u8], next: usize) -> Option<Range<usize>> {
        self.find_by(next, |lower| line.get(lower.len()) == Some(&b':') && line.starts_with(lower))
    }

    /// Looks from `next` on, and then from the start: fields keep their order but for a few.
    fn find_by(&self, next: usize, is: impl Fn(&[u8]) -> bool) -> Option<Range<usize>> {
        let all = &*self.0;
        let look = |mut at: usize, end: usize| {
            while at < end {
                let name = at + 1..at + 1 + usize::from(all[at]);
                at = behind(&name);
                if is(&all[name.end..at]) {
                    return Some(name);
                }
            }
            None
        };
        look(next, all.len()).or_else(|| look(1, next))
    }
}

/// Where the next one is noted.
const fn behind(name: &Range<usize>) -> usize {
    name.end + (name.end - name.start)
}

/// Names that nobody writes as titles.
const ODD: [&[u8]; 3] = [b"ETag", b"TE", b"WWW-Authenticate"];

/// Capitals where a word begins, as most write them. The names of x402 are written whole in capitals.
fn title(line: &mut [u8]) {
    let name = memchr(b':', line).unwrap_or(0);
    let name = &mut line[..name];
    if name.starts_with(b"payment-") || name.starts_with(b"x-payment") {
        return name.make_ascii_uppercase();
    }
    if let Some(odd) = ODD.iter().find(|odd| odd.eq_ignore_ascii_case(name)) {
        return name.copy_from_slice(odd);
    }
    let mut begins = true;
    for byte in &mut *name {
        if begins {
            byte.make_ascii_uppercase();
        }
        begins = *byte == b'-';
    }
    if name.starts_with(b"Sec-Websocket") {
        name[7] = b'S';
    }
}

/// Notes the names of one head after another.
#[derive(Debug, Default)]
pub(super) struct Note {
    /// That of the head before, and how far this one has been the same.
    last: Option<Names>,
    same: usize,
    /// From the first difference on: all of this one.
    fresh: Vec<u8>,
    lost: bool,
}

impl Note {
    /// A new head.
    pub(super) fn begin(&mut self) {
        self.same = 1;
        self.fresh.clear();
        self.lost = false;
    }

    /// True if the next name is that of the head before, byte by byte: then it is noted, and known to be good.
    pub(super) fn follows(&mut self, name: &[u8]) -> bool {
        if !self.fresh.is_empty() {
            return false;
        }
        let Some(last) = &self.last else { return false };
        let rest = last.0.get(self.same..).unwrap_or_default();
        let follows = rest.split_first().is_some_and(|(n, rest)| usize::from(*n) == name.len() && rest.starts_with(name));
        if follows {
            self.same += 1 + 2 * name.len();
        }
        follows
    }

    /// The next name, which was not that of the head before.
    pub(super) fn add(&mut self, name: &[u8]) {
        if self.fresh.is_empty() {
            let known = self.last.as_ref().and_then(|last| last.0.get(1..self.same));
            self.fresh.push(0);
            self.fresh.extend_from_slice(known.unwrap_or_default());
        }
        let Ok(length) = u8::try_from(name.len()) else { return self.lost = true };
        self.lost |= self.fresh.len() + 2 * name.len() > MAX_NOTE;
        if !self.lost {
            self.fresh.push(length);
            self.fresh.extend_from_slice(name);
            let lower = self.fresh.len();
            self.fresh.extend_from_slice(name);
            self.fresh[lower..].make_ascii_lowercase();
        }
    }

    /// The head is complete. `None`: its names are too long to be noted.
    pub(super) fn finish(&mut self) -> Option<Names> {
        if self.lost {
            (self.last, self.fresh) = (None, Vec::new());
            return None;
        }
        if self.fresh.is_empty() {
            match &self.last {
                Some(last) if last.0.len() == self.same => return self.last.clone(),
                // Fewer names than before, or none at all.
                Some(last) => self.fresh.extend_from_slice(&last.0[..self.same]),
                None => self.fresh.push(0),
            }
        }
        let mut note = std::mem::take(&mut self.fresh);
        let mut capitals = false;
        let mut at = 1;
        while at < note.len() {
            let name = at + 1..at + 1 + usize::from(note[at]);
            at = behind(&name);
            capitals |= note[name.clone()] != note[name.end..at];
        }
        note[0] = u8::from(capitals);
        self.last = Some(Names(note.into()));
        self.last.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn note(note: &mut Note, names: &[&str]) -> Option<Names> {
        note.begin();
        for name in names {
            if !note.follows(name.as_bytes()) {
                note.add(name.as_bytes());
            }
        }
        note.finish()
    }

    fn spelled(names: &Names, head: &str) -> String {
        let mut head = head.as_bytes().to_vec();
        names.spell(&mut head);
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn a_head_goes_out_as_its_names_came_in() {
        let names = Names::of(["Host", "x-ODD", "ETag", "X-Odd", "aCCept"].map(str::as_bytes)).unwrap();
        for (written, expected) in [
            (
                "GET / HTTP/1.1\r\nhost: a\r\nx-odd: 1\r\nx-odd: 2\r\netag: e\r\naccept: x\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nx-ODD: 1\r\nX-Odd: 2\r\nETag: e\r\naCCept: x\r\n\r\n",
            ),
            // In another order, with names that are ours, and a body.
            (
                "HTTP/1.1 200 OK\r\naccept: host: \r\nvia: 1\r\nhost: b\r\nte: t\r\n\r\netag: not a name\r\n",
                "HTTP/1.1 200 OK\r\naCCept: host: \r\nVia: 1\r\nHost: b\r\nTE: t\r\n\r\netag: not a name\r\n",
            ),
            (
                "x\r\npayment-signature: 1\r\nx-payment: 2\r\nproxy-status: 3\r\n\r\n",
                "x\r\nPAYMENT-SIGNATURE: 1\r\nX-PAYMENT: 2\r\nProxy-Status: 3\r\n\r\n",
            ),
            ("no line at all", "no line at all"),
            ("x\r\nhostess: 1\r\nhos: 2\r\n\r\n", "x\r\nHostess: 1\r\nHos: 2\r\n\r\n"),
        ] {
            assert_eq!(spelled(&names, written), expected);
        }
        let (written, titled) =
            ("content-type: a\r\netag: b\r\nsec-websocket-accept: c\r\n", "Content-Type: a\r\nETag: b\r\nSec-WebSocket-Accept: c\r\n");
        assert_eq!(spelled(&Names::titled(), &format!("x\r\n{written}\r\n")), format!("x\r\n{titled}\r\n"));
    }

    #[test]
    fn a_repeated_head_is_the_same_note() {
        let mut one = Note::default();
        let first = note(&mut one, &["Host", "Accept"]).unwrap();
        let again = note(&mut one, &["Host", "Accept"]).unwrap();
        assert!(Arc::ptr_eq(&first.0, &again.0));
        for (names, capitals) in [
            (&["Host"][..], true),
            (&["Host", "Accept", "X"], true),
            (&["Host", "accept"], true),
            (&["host", "Accept"], true),
            (&[], false),
            (&["host", "accept"], false),
        ] {
            let seen = note(&mut one, names).unwrap();
            assert_eq!(Some(&seen), Names::of(names.iter().map(|n| n.as_bytes())).as_ref(), "{names:?}");
            assert_eq!(seen.has_capitals(), capitals, "{names:?}");
        }
    }

    #[test]
    fn names_that_are_too_long_are_not_noted_and_the_next_ones_are() {
        let mut one = Note::default();
        let (long, many) = ("A".repeat(256), vec!["X-Name-Of-Some-Length-Or-Other-That-Adds-Up"; 99]);
        assert_eq!(note(&mut one, &[&long]), None);
        assert_eq!(note(&mut one, &many), None);
        assert!(note(&mut one, &["Host"]).unwrap().has_capitals());
        assert!(note(&mut one, &["Host", &"B".repeat(255)]).is_some());
    }
}
