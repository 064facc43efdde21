//! The part of a kept body that memory had no room for: a file without a name, written and read away from the workers.
//!
//! The disk is slower than the network at times. So writes are batched, at most two batches per body wait, and then the upload
//! does.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes that are written at once.
const BATCH: usize = 64 << 10;

/// Bytes that are read at once.
const PIECE: usize = 128 << 10;

/// Makes the folder, readable by us alone, and clears it of what a crash may have left.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for left in fs::read_dir(folder)? {
        let _ = fs::remove_file(left?.path());
    }
    Ok(())
}

/// A new file that nobody can open by name, and that is gone with its last descriptor.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("{:032x}", rand::random::<u128>()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// The writing side.
pub(super) struct Spill {
    folder: Arc<Path>,
    /// Absent before the first batch, and while one is written.
    file: Option<File>,
    pending: BytesMut,
    writing: Option<JoinHandle<io::Result<File>>>,
    len: u64,
}

impl Spill {
    /// Nothing written, no file made.
    pub(super) fn new(folder: Arc<Path>) -> Self {
        Self { folder, file: None, pending: BytesMut::new(), writing: None, len: 0 }
    }

    /// Takes bytes, which reach the disk as this is polled.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.pending.extend_from_slice(data);
        self.len += data.len() as u64;
    }

    /// Ready when more may be pushed.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.poll_writing(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if self.pending.len() >= BATCH => self.write(),
                Poll::Pending if self.pending.len() >= BATCH => return Poll::Pending,
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Ready when everything is in the file.
    pub(super) fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Tail>> {
        loop {
            ready!(self.poll_writing(cx))?;
            if !self.pending.is_empty() {
                self.write();
            } else if let Some(file) = self.file.take() {
                return Poll::Ready(Ok(Tail { file: Arc::new(file), at: 0, len: self.len, reading: None }));
            } else {
                return Poll::Ready(Err(io::ErrorKind::NotFound.into()));
            }
        }
    }

    fn poll_writing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(writing) = &mut self.writing {
            let done = ready!(Pin::new(writing).poll(cx));
            self.writing = None;
            self.file = Some(done.map_err(io::Error::other)??);
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self) {
        let (bytes, file, folder) = (std::mem::take(&mut self.pending), self.file.take(), self.folder.clone());
        self.writing = Some(spawn_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => nameless(&folder)?,
            };
            file.write_all(&bytes)?;
            Ok(file)
        }));
    }
}

/// The reading side.
pub(super) struct Tail {
    file: Arc<File>,
    at: u64,
    len: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Tail {
    /// Bytes that were not read yet.
    pub(super) const fn left(&self) -> u64 {
        self.len - self.at
    }

    /// The next bytes, in order; `None` after the last.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let (file, at, n) = (&self.file, self.at, piece(self.left()));
        let reading = self.reading.get_or_insert_with(|| {
            let file = file.clone();
            spawn_blocking(move || read(&file, at, n))
        });
        let done = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let bytes = done.map_err(io::Error::other).flatten();
        self.at += bytes.as_ref().map_or(0, |b| b.len() as u64);
        Poll::Ready(Some(bytes))
    }

    /// Another reader, of all of it.
    pub(super) fn again(&self) -> Self {
        Self { file: self.file.clone(), at: 0, len: self.len, reading: None }
    }

    /// Hands all of it to `f`, piece by piece. Blocking.
    pub(super) fn each(&self, mut f: impl FnMut(&[u8])) -> io::Result<()> {
        let mut at = 0;
        while at < self.len {
            let bytes = read(&self.file, at, piece(self.len - at))?;
            f(&bytes);
            at += bytes.len() as u64;
        }
        Ok(())
    }
}

fn piece(left: u64) -> usize {
    usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))
}

/// Exactly so many bytes, or an error: a file that somebody cut short is not sent as if it were whole.
fn read(file: &File, at: u64, n: usize) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed(n);
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::future::poll_fn;

    fn run<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
    }

    #[test]
    fn what_is_spilled_comes_back_byte_by_byte_as_often_as_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).unwrap();
        for (len, step) in [(1, 1), (BATCH, 1000), (PIECE + 1, 777), (3 * PIECE, 70_000)] {
            let all: Vec<u8> = (0..len).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect();
            run(async {
                let mut spill = Spill::new(dir.path().into());
                for part in all.chunks(step) {
                    poll_fn(|cx| spill.poll_room(cx)).await.unwrap();
                    assert!(spill.pending.len() < BATCH, "what waits is bounded");
                    spill.push(part);
                }
                let tail = poll_fn(|cx| spill.poll_whole(cx)).await.unwrap();
                for mut tail in [tail.again(), tail.again()] {
                    let mut read = Vec::new();
                    while let Some(bytes) = poll_fn(|cx| tail.poll_next(cx)).await {
                        read.extend_from_slice(&bytes.unwrap());
                    }
                    assert!(read == all && tail.left() == 0, "{len} {step}");
                }
                let mut seen = Vec::new();
                tail.each(|bytes| seen.extend_from_slice(bytes)).unwrap();
                assert!(seen == all);
            });
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no file has a name");
    }

    #[test]
    fn a_disk_that_fails_is_an_error_and_so_is_a_file_cut_short() {
        run(async {
            let mut spill = Spill::new(Path::new("/nonexistent/tollpass").into());
            spill.push(&[1; BATCH]);
            assert!(poll_fn(|cx| spill.poll_whole(cx)).await.is_err());
            let dir = tempfile::tempdir().unwrap();
            let mut spill = Spill::new(dir.path().into());
            spill.push(&[1; 100]);
            let mut tail = poll_fn(|cx| spill.poll_whole(cx)).await.unwrap();
            tail.file.set_len(50).unwrap();
            assert!(poll_fn(|cx| tail.poll_next(cx)).await.unwrap().is_err());
        });
    }

    #[test]
    fn leftovers_are_cleared_and_the_folder_is_ours_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("replay");
        prepare(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(folder.join("left"), "x").unwrap();
        prepare(&folder).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
