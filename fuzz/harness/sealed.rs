//! A share's folder in which somebody wrote: the fuzz target `custody` and a test of the crate run this same code.
//!
//! The input edits the sealed share or the record of bans, or replaces one. Rules: nothing panics, nothing asks for more memory
//! than a file may say, and the share opens only if both files are what they were: a changed fact, cost or byte of the
//! ciphertext is refused, and a changed record of bans is a lost one, which freezes (S3, S8).

use std::path::PathBuf;

use tollpass::config::Secret;
use tollpass::custody::{Custody, CustodyError, Unseal};
use tollpass::mpc::testing::deal;

/// After the magic and the length of the header comes the cost of Argon2id: a changed one is only looked at, since a gibibyte of
/// work per input finds nothing.
const COST: std::ops::Range<usize> = 15..27;

/// A share's folder.
pub(crate) struct Folder {
    home: tempfile::TempDir,
    unseal: Unseal,
    share: Vec<u8>,
    record: Vec<u8>,
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// A new share, sealed.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let unseal = Unseal::Value(Secret::new("a passphrase"));
        let [share, ..] = deal("w1");
        Custody::create(home.path(), &share, &unseal).unwrap();
        // As a first start leaves it.
        drop(Custody::open(home.path(), &unseal).unwrap());
        let read = |name: &str| std::fs::read(home.path().join(name)).unwrap();
        let (share, record) = (read("share"), read("custody"));
        Self { home, unseal, share, record }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs one input; true if the share opened.
    pub(crate) fn run(&self, data: &[u8]) -> bool {
        let Some((kind, edits)) = data.split_first() else { return false };
        let (mut share, mut record) = (self.share.clone(), self.record.clone());
        let which = if kind & 1 == 0 { &mut share } else { &mut record };
        match kind >> 1 & 3 {
            0 => *which = edits.to_vec(),
            1 => which.extend_from_slice(edits),
            2 => which.truncate(edits.iter().fold(0, |n, b| n << 8 | usize::from(*b)) % (which.len() + 1)),
            _ => edit(which, edits),
        }
        let same = (share == self.share, record == self.record);
        self.write("share", &share);
        self.write("custody", &record);
        let shown = Custody::inspect(self.home.path());
        assert!(shown.is_ok() || !same.0, "{:?}", shown.err());
        if share.get(COST) != self.share.get(COST) {
            return false;
        }
        match self.open() {
            Ok(custody) => {
                assert_eq!(same, (true, true), "a changed file was opened");
                assert!(custody.frozen().is_none());
                true
            }
            Err(error) => {
                assert_ne!(same, (true, true), "{error}");
                false
            }
        }
    }

    /// A program that another test starts holds the folder's lock for as long as it is still a copy of this process.
    fn open(&self) -> Result<Custody, CustodyError> {
        loop {
            match Custody::open(self.home.path(), &self.unseal) {
                Err(CustodyError::Locked(_)) => std::thread::yield_now(),
                done => return done,
            }
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Three bytes are one edit: where, from the front or the end, and what to turn.
fn edit(bytes: &mut [u8], edits: &[u8]) {
    let len = bytes.len();
    for edit in edits.chunks_exact(3).take(32) {
        let at = usize::from(edit[0] & 0x7f) << 8 | usize::from(edit[1]);
        let at = if edit[0] & 0x80 == 0 { at % len } else { len - 1 - at % len };
        bytes[at] ^= edit[2];
    }
}
