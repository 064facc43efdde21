//! An identity in a file: 0400, made once, never overwritten (S8).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::{Identity, IdentityError};

/// Most that is read of a file: a PKCS#8 P-256 key is about 240 bytes.
const MAX_FILE: usize = 4096;
/// What a mode may have: 0400, 0440 (a Secret of Kubernetes with a group), 0600, 0640.
const MAY: u32 = 0o640;

/// Reads an identity.
///
/// # Errors
/// [`IdentityError::Mode`] if others can read it or its group write it, [`IdentityError::Io`], [`IdentityError::Key`].
pub fn load_or_refuse(path: &Path) -> Result<Identity, IdentityError> {
    let file = File::open(path).map_err(io_error)?;
    // Asked of the open file: the path may mean another one a moment later.
    let about = file.metadata().map_err(io_error)?;
    if !about.is_file() {
        return Err(IdentityError::Io("not a file".into()));
    }
    let mode = about.mode() & 0o7777;
    if mode & !MAY != 0 {
        return Err(IdentityError::Mode(mode));
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE));
    match file.take(MAX_FILE as u64).read_to_string(&mut text) {
        Ok(_) => Identity::from_pem(&text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(IdentityError::Key),
        Err(error) => Err(io_error(error)),
    }
}

/// Makes an identity and its file, mode 0400, synced with its folder.
///
/// # Errors
/// [`IdentityError::Exists`], [`IdentityError::Io`], [`IdentityError::Key`].
pub fn create(path: &Path) -> Result<Identity, IdentityError> {
    let identity = Identity::generate()?;
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o400).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(IdentityError::Exists),
        Err(error) => return Err(io_error(error)),
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = file
        .write_all(identity.to_pem().as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(io_error)
        .and_then(|()| load_or_refuse(path));
    // Half a key would be in the way of the next try.
    written.inspect_err(|_| drop(std::fs::remove_file(path)))
}

fn io_error(error: io::Error) -> IdentityError {
    IdentityError::Io(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_new_identity_is_0400_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        let made = create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o400);
        assert_eq!(create(&path).unwrap_err(), IdentityError::Exists);
        assert_eq!(load_or_refuse(&path).unwrap().public(), made.public());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        create(&path).unwrap();
        for mode in [0o400, 0o440, 0o600] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(load_or_refuse(&path).is_ok(), "{mode:o}");
        }
        for mode in [0o404, 0o444, 0o644, 0o604, 0o460, 0o700, 0o4400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(load_or_refuse(&path).unwrap_err(), IdentityError::Mode(mode), "{mode:o}");
        }
    }

    #[test]
    fn what_is_not_a_key_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        for content in [&b""[..], b"hello", b"\xff\xfe", &[b'a'; 10_000]] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert_eq!(load_or_refuse(&path).unwrap_err(), IdentityError::Key);
        }
        assert!(matches!(load_or_refuse(folder.path()), Err(IdentityError::Io(_))));
        assert!(matches!(load_or_refuse(&folder.path().join("none")), Err(IdentityError::Io(_))));
    }
}
