//! A whole body, ready to be sent again: memory, then file, then trailers.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Frame;
use sha2::{Digest as _, Sha256};

use super::replay::Room;
use super::spill::Tail;

/// Larger bodies are not hashed on a worker.
const HASHED_HERE: u64 = 128 << 10;

/// See the module documentation. It takes its room until it is dropped.
#[derive(Default)]
pub(super) struct Upload {
    pub(super) chunks: VecDeque<Bytes>,
    pub(super) tail: Option<Tail>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) _room: Option<Room>,
}

impl Upload {
    /// True if nothing is left to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes() == 0 && self.trailers.is_none()
    }

    /// Bytes that are left, without trailers.
    pub(super) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|c| c.len() as u64).sum::<u64>() + self.tail.as_ref().map_or(0, Tail::left)
    }

    /// The next part.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(tail) = &mut self.tail
            && let Some(bytes) = ready!(tail.poll_next(cx))
        {
            return Poll::Ready(Some(bytes.map(Frame::data)));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    /// What tells this body from another one (M1.1). Trailers are part of it, and none leave the hash of the bytes as it is.
    pub(super) async fn digest(&self) -> io::Result<[u8; 32]> {
        let chunks = self.chunks.clone();
        let bytes = match &self.tail {
            None if self.bytes() <= HASHED_HERE => hash(&chunks, None)?,
            tail => {
                let tail = tail.as_ref().map(Tail::again);
                tokio::task::spawn_blocking(move || hash(&chunks, tail.as_ref())).await.map_err(io::Error::other)??
            }
        };
        let Some(trailers) = &self.trailers else { return Ok(bytes) };
        let mut both = Sha256::new_with_prefix(bytes);
        for (name, value) in trailers {
            for text in [name.as_str().as_bytes(), value.as_bytes()] {
                both.update(text.len().to_be_bytes());
                both.update(text);
            }
        }
        Ok(both.finalize().into())
    }
}

fn hash(chunks: &VecDeque<Bytes>, tail: Option<&Tail>) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    chunks.iter().for_each(|chunk| hash.update(chunk));
    if let Some(tail) = tail {
        tail.each(|bytes| hash.update(bytes))?;
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn upload(chunks: &[&'static [u8]], trailer: Option<&str>) -> Upload {
        let trailers = trailer.map(|v| [("x-sum".parse().unwrap(), v.parse().unwrap())].into_iter().collect());
        Upload { chunks: chunks.iter().map(|c| Bytes::from_static(c)).collect(), trailers, ..Upload::default() }
    }

    fn digest(upload: &Upload) -> [u8; 32] {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(upload.digest()).unwrap()
    }

    #[test]
    fn the_digest_is_of_the_bytes_however_they_came_and_of_the_trailers() {
        let plain: [u8; 32] = Sha256::digest(b"abc").into();
        assert_eq!(digest(&upload(&[b"abc"], None)), plain);
        assert_eq!(digest(&upload(&[b"a", b"", b"bc"], None)), plain);
        let all = [plain, digest(&upload(&[b"abc"], Some("1"))), digest(&upload(&[b"abc"], Some("2")))];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        static BIG: [u8; 300_000] = [7; 300_000];
        assert_eq!(digest(&upload(&[&BIG], None)), <[u8; 32]>::from(Sha256::digest(BIG)));
    }

    #[test]
    fn trailers_come_last_and_once() {
        let mut upload = upload(&[b"a"], Some("1"));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut next = || match upload.poll_frame(&mut cx) {
            Poll::Ready(frame) => frame.map(|f| f.unwrap().is_trailers()),
            Poll::Pending => panic!("nothing to wait for"),
        };
        assert_eq!([next(), next(), next()], [Some(false), Some(true), None]);
        assert!(upload.is_empty());
    }
}
