//! What the two legs of an exchange tell each other beside the messages: how names are written, and interim answers. The HTTP
//! library has no place for either that costs as little (its own record of names: half of what a request costs without it).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use http::HeaderName;

use super::super::headers;
use super::super::strict::{MAX_EARLY, Names};
use super::Unflushed;

/// What goes with a request to a seller.
#[derive(Clone, Default)]
pub(in super::super) struct Manner {
    /// How its names were written.
    pub(in super::super) names: Option<Names>,
    /// Who hears interim answers.
    pub(in super::super) early: Option<Early>,
}

/// Who hears the interim answers to one request.
#[derive(Clone)]
pub(in super::super) struct Early {
    pub(in super::super) to: Arc<Unflushed>,
    /// By the count of the agent's stream.
    pub(in super::super) request: u32,
    /// The answer may be a 402 that the agent never sees: only what does no harm then.
    pub(in super::super) hints: bool,
}

impl Early {
    /// Passes on what a seller said before its answer.
    pub(super) fn tell(&self, heads: &[u8]) {
        let clean = clean(heads, self.hints);
        if !clean.is_empty() {
            self.to.wire.aside.inform(self.request, &clean);
        }
    }
}

/// An agent's side: one request at a time, but the stream may be some of them ahead.
#[derive(Default)]
pub(in super::super) struct Aside {
    /// The stream is read as HTTP/1. On HTTP/2 names have no case, and the library cannot send interim answers.
    used: AtomicBool,
    /// There are names for the next head that goes out.
    spelled: AtomicBool,
    /// There are interim answers.
    early: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// How the names of the requests that the library has not come to yet are written.
    ahead: VecDeque<Option<Names>>,
    asked: Option<Names>,
    answer: Option<Names>,
    early: Vec<u8>,
    request: u32,
    answered: bool,
    /// Of the task that writes to the agent.
    writer: Option<Waker>,
}

impl Aside {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    // --- those who answer ---

    /// A request came out of the library, this one by count.
    pub(super) fn begin(&self, request: u32) {
        if !self.is_used() {
            return;
        }
        let mut book = self.book();
        book.asked = book.ahead.pop_front().flatten();
        (book.request, book.answered) = (request, false);
        (book.answer, book.early) = (None, Vec::new());
    }

    /// How the names of the request that is being answered were written.
    pub(in super::super) fn asked(&self) -> Option<Names> {
        if self.is_used() { self.book().asked.clone() } else { None }
    }

    /// How the seller wrote the names of what will be the answer; `None` if the answer is not a seller's after all.
    pub(in super::super) fn spell(&self, names: Option<Names>) {
        if self.is_used() {
            self.book().answer = names;
        }
    }

    /// The answer is known, and goes out next. An answer that is ours is written as its reader writes.
    pub(super) fn answered(&self) {
        if !self.is_used() {
            return;
        }
        let mut book = self.book();
        book.answered = true;
        if book.answer.is_none() && book.asked.as_ref().is_some_and(Names::has_capitals) {
            book.answer = Some(Names::titled());
        }
        book.answer.take_if(|names| !names.has_capitals());
        self.spelled.store(book.answer.is_some(), Ordering::Release);
    }

    fn inform(&self, request: u32, heads: &[u8]) {
        let mut book = self.book();
        if book.request != request || book.answered || book.early.len() + heads.len() > MAX_EARLY {
            return;
        }
        book.early.extend_from_slice(heads);
        self.early.store(true, Ordering::Release);
        if let Some(writer) = &book.writer {
            writer.wake_by_ref();
        }
    }

    // --- the stream ---

    /// From now on the stream is HTTP/1.
    pub(super) fn begins(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    pub(super) fn wakes(&self, writer: &Waker) {
        self.book().writer = Some(writer.clone());
    }

    /// Requests that passed on their way to the library.
    pub(super) fn passed(&self, names: impl Iterator<Item = Option<Names>>) {
        self.book().ahead.extend(names);
    }

    /// For the head that goes out now.
    pub(super) fn names(&self) -> Option<Names> {
        if self.spelled.load(Ordering::Acquire) {
            self.spelled.store(false, Ordering::Relaxed);
            return self.book().answer.take();
        }
        None
    }

    /// Interim answers that may go out now. `late`: the library has nothing to write, so a final answer that is known went out
    /// before them, and they are of no use.
    pub(super) fn early(&self, late: bool) -> Option<Vec<u8>> {
        if !self.early.load(Ordering::Acquire) {
            return None;
        }
        let mut book = self.book();
        self.early.store(false, Ordering::Relaxed);
        let early = std::mem::take(&mut book.early);
        (!(early.is_empty() || late && book.answered)).then_some(early)
    }
}

/// Interim answers without what is not a seller's to say to an agent. `hints`: nothing but where other resources are. One with
/// fields for this connection only is left out whole.
pub(in super::super) fn clean(heads: &[u8], hints: bool) -> Vec<u8> {
    let mut clean = Vec::with_capacity(heads.len());
    let mut begin = 0;
    let mut keep = true;
    for line in heads.split_inclusive(|b| *b == b'\n') {
        let Some(colon) = memchr::memchr(b':', line).filter(|_| !line.starts_with(b"HTTP/1.1 ")) else {
            // The start line, or the empty one at the end.
            clean.extend_from_slice(line);
            if line == b"\r\n" {
                if !keep {
                    clean.truncate(begin);
                }
                (begin, keep) = (clean.len(), true);
            }
            continue;
        };
        match HeaderName::from_bytes(&line[..colon]) {
            Ok(name) if name == http::header::CONNECTION => keep = false,
            Ok(name) if headers::is_private(&name) => {}
            Ok(name) if hints && name != http::header::LINK => {}
            Ok(_) => clean.extend_from_slice(line),
            Err(_) => keep = false,
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interim_answer_says_nothing_in_our_name() {
        let head = "HTTP/1.1 103 Early Hints\r\nLink: </a:b>; rel=preload\r\nX-Odd: 1\r\nProxy-Status: tollpass\r\ntollpass-x: 1\r\nAlt-Svc: h3\r\nProxy-Authenticate: Basic\r\n\r\n";
        let link = "HTTP/1.1 103 Early Hints\r\nLink: </a:b>; rel=preload\r\n";
        let private = "HTTP/1.1 102 Processing: x\r\nConnection: x-odd\r\nx-odd: 1\r\n\r\n";
        let next = "HTTP/1.1 102 Processing: x\r\n\r\n";
        for (heads, hints, expected) in [
            (head.to_owned(), false, format!("{link}X-Odd: 1\r\n\r\n")),
            (head.to_owned(), true, format!("{link}\r\n")),
            (format!("{private}{head}{next}"), true, format!("{link}\r\n{next}")),
            (private.to_owned(), false, String::new()),
        ] {
            assert_eq!(String::from_utf8_lossy(&clean(heads.as_bytes(), hints)), expected, "{heads}");
        }
    }

    #[test]
    fn an_interim_answer_is_for_the_request_that_waits() {
        let aside = Aside::default();
        aside.begins();
        aside.begin(1);
        aside.inform(2, b"later");
        assert_eq!(aside.early(false), None);
        aside.inform(1, b"a");
        aside.inform(1, b"b");
        assert_eq!(aside.early(true), Some(b"ab".to_vec()));
        aside.inform(1, b"c");
        aside.answered();
        aside.inform(1, b"late");
        assert_eq!(aside.early(false), Some(b"c".to_vec()), "in front of the answer");
        aside.begin(2);
        aside.inform(2, b"d");
        aside.answered();
        assert_eq!(aside.early(true), None, "the answer is out");
        aside.begin(3);
        assert_eq!(aside.early(false), None);
    }
}
