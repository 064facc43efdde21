//! Writes a leg's bytes: a head with its names as somebody wrote them, and what goes in front of it.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use memchr::memmem;
use tokio::io::AsyncWrite;

use super::super::strict::Names;

/// Pieces of a body that go out with the head.
const PIECES: usize = 7;

thread_local! {
    /// Where heads are rewritten: most leave in one piece, and then nothing of them is kept.
    static DESK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Between the HTTP library and a stream. It holds nothing but what the stream did not take at once.
pub(super) struct Pen {
    /// All that the library wrote is out: what it writes next begins a message, or goes on with a body.
    clean: bool,
    /// The rest of a head that the library still presents as it wrote it.
    head: Vec<u8>,
    /// Interim answers on their way out.
    early: Vec<u8>,
}

impl Pen {
    pub(super) const fn new() -> Self {
        Self { clean: true, head: Vec::new(), early: Vec::new() }
    }

    /// The library has nothing left to write.
    pub(super) const fn is_out(&mut self) {
        self.clean = true;
    }

    pub(super) const fn is_clean(&self) -> bool {
        self.clean
    }

    /// True while something goes in front.
    pub(super) const fn holds_first(&self) -> bool {
        !self.early.is_empty()
    }

    /// Something goes in front of what comes next.
    pub(super) fn put_first(&mut self, early: Vec<u8>) {
        self.early.extend(early);
    }

    /// Writes what goes in front.
    pub(super) fn write_first<T: AsyncWrite + Unpin>(&mut self, inner: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.early.is_empty() {
            match ready!(Pin::new(&mut *inner).poll_write(cx, &self.early))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => drop(self.early.drain(..n)),
            }
        }
        self.early = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Writes what the library presents. `names`: for the head that begins with these bytes.
    ///
    /// They are of use only if the head is the first that is presented. It is, unless the one before is still on its way out:
    /// then nobody can tell where this one begins, and it stays as the library wrote it.
    pub(super) fn write<T: AsyncWrite + Unpin>(
        &mut self,
        inner: &mut T,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        names: impl FnOnce() -> Option<Names>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.write_first(inner, cx))?;
        // Taken whether they are of use or not: they must not meet what comes later.
        let names = names();
        let clean = std::mem::replace(&mut self.clean, false);
        let Some((first, rest)) = bufs.split_first() else { return Pin::new(inner).poll_write_vectored(cx, bufs) };
        if !self.head.is_empty() {
            let head = std::mem::take(&mut self.head);
            return self.write_head(inner, cx, &head, first, rest);
        }
        let Some(names) = names.filter(|_| clean) else { return Pin::new(inner).poll_write_vectored(cx, bufs) };
        let mut desk = DESK.take();
        desk.clear();
        desk.extend_from_slice(first);
        if let Some(at) = head_begins(&desk) {
            names.spell(&mut desk[at..]);
        }
        let written = self.write_head(inner, cx, &desk, first, rest);
        DESK.set(desk);
        written
    }

    /// Writes `head` in place of as many bytes of `first`.
    fn write_head<T: AsyncWrite + Unpin>(
        &mut self,
        inner: &mut T,
        cx: &mut Context<'_>,
        head: &[u8],
        first: &[u8],
        rest: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut out = [IoSlice::new(&[]); PIECES + 2];
        let mut count = 1;
        out[0] = IoSlice::new(head);
        // Behind the rest of a head, nothing that the library did not present behind it.
        let behind = first.get(head.len()..).map(|behind| (!behind.is_empty()).then(|| IoSlice::new(behind)));
        if let Some(behind) = behind {
            for piece in behind.into_iter().chain(rest.iter().copied().take(PIECES)) {
                out[count] = piece;
                count += 1;
            }
        }
        let written = Pin::new(inner).poll_write_vectored(cx, &out[..count]);
        let taken = if let Poll::Ready(Ok(n)) = written { n } else { 0 };
        if taken < head.len() {
            self.head = head[taken..].to_vec();
        }
        written
    }
}

/// Where the head begins that has names: behind interim answers of the library.
fn head_begins(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while bytes[at..].starts_with(b"HTTP/1.1 1") && !bytes[at..].starts_with(b"HTTP/1.1 101") {
        at += memmem::find(&bytes[at..], b"\r\n\r\n")? + 4;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::VecDeque;
    use std::task::Waker;

    /// Takes as many bytes as it is told to; `None`: not now.
    struct Narrow(VecDeque<Option<usize>>, Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }
        fn poll_write_vectored(mut self: Pin<&mut Self>, _: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let Some(room) = self.0.pop_front().unwrap_or(Some(usize::MAX)) else { return Poll::Pending };
            let all: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).take(room).collect();
            self.1.extend(&all);
            Poll::Ready(Ok(all.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Presents all until it is taken, as the library does.
    fn present(pen: &mut Pen, stream: &mut Narrow, all: &[&str], mut names: Option<Names>) {
        let mut left: VecDeque<&[u8]> = all.iter().map(|s| s.as_bytes()).collect();
        while !left.is_empty() {
            let bufs: Vec<IoSlice<'_>> = left.iter().map(|b| IoSlice::new(b)).collect();
            let Poll::Ready(written) = pen.write(stream, &mut Context::from_waker(Waker::noop()), &bufs, || names.take()) else { continue };
            let mut n = written.unwrap();
            while let Some(first) = left.pop_front() {
                if n < first.len() {
                    left.push_front(&first[n..]);
                    break;
                }
                n -= first.len();
            }
        }
    }

    #[test]
    fn a_head_is_whole_however_little_the_stream_takes() {
        let names = Names::of([&b"X-ODD"[..]]);
        let (head, body) = ("HTTP/1.1 200 OK\r\nx-odd: 1\r\ndate: 2\r\n\r\n", "x-odd: not a name\r\n");
        let expected = format!("HTTP/1.1 200 OK\r\nX-ODD: 1\r\nDate: 2\r\n\r\n{body}");
        for room in 1..head.len() + 3 {
            for first in [None, Some(room)] {
                let mut stream = Narrow([first, Some(room), None, Some(room)].into(), Vec::new());
                let mut pen = Pen::new();
                present(&mut pen, &mut stream, &[head, body], names.clone());
                assert_eq!(String::from_utf8_lossy(&stream.1), expected, "{room}");
            }
        }
        let mut stream = Narrow(VecDeque::new(), Vec::new());
        present(&mut Pen::new(), &mut stream, &[&format!("{head}{body}")], names);
        assert_eq!(String::from_utf8_lossy(&stream.1), expected, "in one piece");
    }

    #[test]
    fn bytes_that_may_be_a_body_are_never_touched() {
        let names = Names::of([&b"X-ODD"[..]]);
        let mut stream = Narrow(VecDeque::new(), Vec::new());
        let mut pen = Pen::new();
        let body = "HTTP/1.1 200 OK\r\nx-odd: 1\r\n\r\n";
        present(&mut pen, &mut stream, &["x"], None);
        present(&mut pen, &mut stream, &[body], names.clone());
        pen.is_out();
        present(&mut pen, &mut stream, &["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-odd: 1\r\n\r\n"], names);
        let out = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-ODD: 1\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&stream.1), format!("x{body}{out}"));
    }

    #[test]
    fn what_goes_first_goes_first() {
        let mut stream = Narrow([Some(3), None].into(), Vec::new());
        let mut pen = Pen::new();
        pen.put_first(b"early ".to_vec());
        present(&mut pen, &mut stream, &["late"], None);
        assert_eq!(stream.1, b"early late");
    }
}
