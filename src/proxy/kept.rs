//! Paid answers that nobody was there to take (M1.6): bounded, delivered once, `no-store` ones in memory only, files 0600.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::exchange::Head;
use super::strict::Names;
use crate::payment::PurchaseId;

/// Most answers kept; the oldest go first.
const MAX_ANSWERS: usize = 256;

/// Most bytes kept in all.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The store of kept answers.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    id: PurchaseId,
    bytes: usize,
    /// Hash of the request headers that the answer's `Vary` names; `None`: in the file.
    vary: Option<[u8; 32]>,
    /// `None`: in a file.
    memory: Option<(Head, Vec<Bytes>)>,
}

/// The head as it stands in the first line of a file.
#[derive(Serialize, Deserialize)]
struct StoredHead {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    vary: [u8; 32],
}

impl Kept {
    /// Opens the folder and finds what an earlier process kept.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut found: Vec<(std::time::SystemTime, Entry)> = Vec::new();
        for file in fs::read_dir(&dir)? {
            let file = file?;
            let meta = file.metadata()?;
            if let Some(id) = file.file_name().to_str().and_then(PurchaseId::from_hex) {
                let bytes = usize::try_from(meta.len()).unwrap_or(usize::MAX);
                found.push((meta.modified()?, Entry { id, bytes, vary: None, memory: None }));
            }
        }
        found.sort_by_key(|(at, _)| *at);
        let bytes = found.iter().map(|(_, e)| e.bytes).sum();
        Ok(Self { dir, index: Mutex::new(Index { entries: found.into_iter().map(|(_, e)| e).collect(), bytes }) })
    }

    /// Keeps a complete answer until somebody takes it. Blocking.
    pub(super) fn put(&self, id: PurchaseId, head: Head, chunks: Vec<Bytes>, request: &HeaderMap) -> io::Result<()> {
        let size: usize = chunks.iter().map(Bytes::len).sum();
        let vary = vary_hash(&head.headers, request);
        let memory_only = no_store(&head.headers);
        if !memory_only {
            self.write(&id, &head, &chunks, vary)?;
        }
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.entries.push_back(Entry { id, bytes: size, vary: Some(vary), memory: memory_only.then_some((head, chunks)) });
        index.bytes += size;
        while index.entries.len() > MAX_ANSWERS || index.bytes > MAX_BYTES {
            let Some(old) = index.entries.pop_front() else { break };
            index.bytes = index.bytes.saturating_sub(old.bytes);
            let _ = fs::remove_file(self.path(&old.id));
        }
        Ok(())
    }

    /// Takes an answer out, once, for a request that `Vary` makes no difference to. Blocking.
    pub(super) fn take(&self, id: &PurchaseId, request: &HeaderMap) -> Option<(Head, Vec<Bytes>)> {
        let entry = {
            let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            let at = index.entries.iter().position(|e| e.id == *id)?;
            let entry = index.entries.remove(at)?;
            index.bytes = index.bytes.saturating_sub(entry.bytes);
            entry
        };
        if let Some((head, chunks)) = entry.memory {
            return (entry.vary == Some(vary_hash(&head.headers, request))).then_some((head, chunks));
        }
        let path = self.path(id);
        let content = fs::read(&path).ok()?;
        let _ = fs::remove_file(&path);
        let line_end = content.iter().position(|b| *b == b'\n')?;
        let stored: StoredHead = serde_json::from_slice(&content[..line_end]).ok()?;
        let names = Names::of(stored.headers.iter().map(|(name, _)| name.as_bytes()));
        let mut headers = HeaderMap::new();
        for (name, value) in stored.headers {
            headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(&value).ok()?);
        }
        if stored.vary != vary_hash(&headers, request) {
            return None;
        }
        let head = Head { status: StatusCode::from_u16(stored.status).ok()?, headers, names };
        Some((head, vec![Bytes::from(content).slice(line_end + 1..)]))
    }

    /// Throws an answer away.
    pub(super) fn forget(&self, id: &PurchaseId) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = index.entries.iter().position(|e| e.id == *id).and_then(|at| index.entries.remove(at)) {
            index.bytes = index.bytes.saturating_sub(entry.bytes);
            let _ = fs::remove_file(self.path(id));
        }
    }

    fn path(&self, id: &PurchaseId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn write(&self, id: &PurchaseId, head: &Head, chunks: &[Bytes], vary: [u8; 32]) -> io::Result<()> {
        let mut next = 0;
        let mut spelled = |name: &HeaderName| {
            let spelled = head.names.as_ref().and_then(|names| names.spelled(name.as_str(), &mut next));
            spelled.and_then(|s| std::str::from_utf8(s).ok()).unwrap_or(name.as_str()).to_owned()
        };
        let headers = head.headers.iter().map(|(n, v)| (spelled(n), v.as_bytes().to_vec())).collect();
        let stored = StoredHead { status: head.status.as_u16(), headers, vary };
        let temp = self.dir.join(format!(".{id}"));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        serde_json::to_writer(&mut file, &stored)?;
        file.write_all(b"\n")?;
        for chunk in chunks {
            file.write_all(chunk)?;
        }
        file.sync_data()?;
        fs::rename(temp, self.path(id))
    }
}

/// Hash of the request's values for the headers that the answer's `Vary` names (RFC 9111 §4.1); `*` matches nothing else.
fn vary_hash(answer: &HeaderMap, request: &HeaderMap) -> [u8; 32] {
    let mut hash = Sha256::new();
    for names in answer.get_all(http::header::VARY).iter().filter_map(|v| v.to_str().ok()) {
        for name in names.split(',').map(str::trim) {
            hash.update(name.to_ascii_lowercase());
            if name == "*" {
                hash.update(rand::random::<[u8; 16]>());
            }
            for value in request.get_all(name) {
                hash.update((value.len() as u64).to_be_bytes());
                hash.update(value.as_bytes());
            }
        }
    }
    hash.finalize().into()
}

fn no_store(headers: &HeaderMap) -> bool {
    let values = headers.get_all(http::header::CACHE_CONTROL);
    values.iter().filter_map(|v| v.to_str().ok()).any(|v| v.split(',').any(|d| d.trim().eq_ignore_ascii_case("no-store")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn m1_6_a_kept_answer_survives_a_restart_and_is_delivered_once() {
        let dir = tempfile::tempdir().unwrap();
        let id = PurchaseId::from_bytes([3; 16]);
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        let head = Head { status: StatusCode::OK, headers, names: Names::of([&b"Content-TYPE"[..]]) };
        Kept::open(dir.path().into())
            .unwrap()
            .put(id, head.clone(), vec![Bytes::from_static(b"a\nb"), Bytes::from_static(b"c")], &HeaderMap::new())
            .unwrap();
        let mode = fs::metadata(dir.path().join(id.to_string())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Kept::open(dir.path().into()).unwrap();
        let (found, body) = again.take(&id, &HeaderMap::new()).unwrap();
        assert_eq!((found.status, &found.headers, &found.names), (head.status, &head.headers, &head.names));
        assert_eq!(body.concat(), b"a\nbc");
        assert!(again.take(&id, &HeaderMap::new()).is_none());
    }

    #[test]
    fn m1_6_a_kept_answer_is_matched_on_vary() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path().into()).unwrap();
        let id = PurchaseId::from_bytes([5; 16]);
        let mut headers = HeaderMap::new();
        headers.insert("vary", HeaderValue::from_static("accept-encoding"));
        let mut gzip = HeaderMap::new();
        gzip.insert("accept-encoding", HeaderValue::from_static("gzip"));
        kept.put(id, Head { status: StatusCode::OK, headers, names: None }, vec![Bytes::from_static(b"x")], &gzip).unwrap();
        assert!(kept.take(&id, &HeaderMap::new()).is_none());
    }

    #[test]
    fn m1_6_no_store_answers_never_reach_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static("private, No-Store"));
        let kept = Kept::open(dir.path().into()).unwrap();
        let id = PurchaseId::from_bytes([4; 16]);
        kept.put(id, Head { status: StatusCode::OK, headers, names: None }, vec![Bytes::from_static(b"x")], &HeaderMap::new()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(kept.take(&id, &HeaderMap::new()).is_some());
    }
}
