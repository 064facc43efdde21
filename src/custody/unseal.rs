//! Where the passphrase comes from (S8): a value, a file elsewhere, or a program. Errors never show what came out.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::CustodyError;

/// How long the program may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest passphrase.
const MAX: usize = 4096;

/// Where the passphrase that opens a share comes from. Never the folder the share is in (S8).
#[derive(Clone)]
pub enum Unseal {
    /// An environment variable's value, read at start-up.
    Value(crate::config::Secret),
    /// A file of mode 0400 or 0440.
    File(PathBuf),
    /// A program that prints it: a KMS client, a secret store. Five seconds.
    Exec(Vec<String>),
}

impl fmt::Debug for Unseal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
            // Arguments may carry a token.
            Self::Exec(argv) => write!(f, "Exec({} …)", argv.first().map_or("", String::as_str)),
        }
    }
}

impl Unseal {
    /// Fetches the passphrase; one line ending at its end does not belong to it.
    ///
    /// # Errors
    /// [`CustodyError::Unseal`], without the secret or the program's output.
    pub fn passphrase(&self) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let found = match self {
            Self::Value(secret) => Zeroizing::new(secret.expose().as_bytes().to_vec()),
            Self::File(path) => from_file(path).map_err(CustodyError::Unseal)?,
            Self::Exec(argv) => from_program(argv).map_err(CustodyError::Unseal)?,
        };
        if found.is_empty() { Err(CustodyError::Unseal("the passphrase is empty".into())) } else { Ok(found) }
    }

    /// Refuses a passphrase file in the share's own folder: who copies one copies both.
    pub(super) fn is_apart_from(&self, folder: &Path) -> Result<(), CustodyError> {
        let Self::File(path) = self else { return Ok(()) };
        let inside = match (path.canonicalize(), folder.canonicalize()) {
            (Ok(file), Ok(folder)) => file.starts_with(folder),
            _ => false,
        };
        if inside {
            let shown = path.display();
            return Err(CustodyError::Unseal(format!("{shown} lies beside the share it opens: move it to another volume or owner")));
        }
        Ok(())
    }
}

fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let file = fs::File::open(path).map_err(|e| format!("{shown} cannot be read: {e}"))?;
    let meta = file.metadata().map_err(|e| format!("{shown} cannot be read: {e}"))?;
    if meta.permissions().mode() & 0o007 != 0 {
        return Err(format!("{shown} is open to every user of this machine: run chmod 0400 {shown}"));
    }
    all(file).map_err(|why| format!("{shown} {why}"))
}

/// Everything of `source`, at most [`MAX`] bytes, without growing a buffer that would leave copies behind.
fn all(source: impl Read) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut text = Zeroizing::new(Vec::with_capacity(MAX + 1));
    source.take(MAX as u64 + 1).read_to_end(&mut text).map_err(|_| "cannot be read")?;
    if text.len() > MAX {
        return Err("is too long for a passphrase");
    }
    for end in [b'\n', b'\r'] {
        if text.last() == Some(&end) {
            text.pop();
        }
    }
    Ok(text)
}

fn from_program(argv: &[String]) -> Result<Zeroizing<Vec<u8>>, String> {
    let [name, arguments @ ..] = argv else { return Err("no program given".into()) };
    // A group of its own, so that what it started ends with it.
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().map_err(|e| format!("{name} cannot be started: {e}"))?;
    let Some(output) = child.stdout.take() else { return Err(format!("{name} has no output")) };
    let (done, answer) = mpsc::channel();
    let reader = std::thread::Builder::new().name("tollpass-unseal".into()).spawn(move || {
        let _ = done.send(all(output));
    });
    if reader.is_err() {
        end(&mut child);
        return Err("no thread to read the program's output".into());
    }
    let Ok(found) = answer.recv_timeout(LIMIT) else {
        end(&mut child);
        return Err(format!("{name} did not answer within {} seconds", LIMIT.as_secs()));
    };
    // The output has ended; a program that lives on without it is ended, not waited for.
    let found = found.map_err(|why| format!("{name}: its output {why}"));
    let status = settled(&mut child);
    match status {
        Some(true) => found,
        Some(false) => Err(format!("{name} failed")),
        None => Err(format!("{name} closed its output but did not end")),
    }
}

/// Whether it succeeded; `None` if it had to be ended.
fn settled(child: &mut Child) -> Option<bool> {
    let until = std::time::Instant::now() + Duration::from_secs(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if std::time::Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                end(child);
                return None;
            }
        }
    }
}

fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let group = rustix::process::Pid::from_raw(pid);
        let _ = group.map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn exec(script: &str) -> Result<Vec<u8>, String> {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Unseal::Exec(argv).passphrase().map(|p| p.to_vec()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_program_prints_the_passphrase_and_failures_show_none_of_it() {
        assert_eq!(exec("printf 'open sesame\\n'").unwrap(), b"open sesame");
        assert_eq!(exec("printf 'two\\nlines'").unwrap(), b"two\nlines");
        for (script, want) in [
            ("echo hunter2; exit 1", "failed"),
            ("echo hunter2 >&2; exit 3", "failed"),
            ("exit 0", "empty"),
            ("head -c 5000 /dev/zero | tr '\\0' h", "too long"),
        ] {
            let error = exec(script).unwrap_err();
            assert!(error.contains(want) && !error.contains("hunter2"), "{error}");
        }
        assert!(Unseal::Exec(vec![]).passphrase().is_err());
        assert!(Unseal::Exec(vec!["/no/such/program".into()]).passphrase().is_err());
    }

    #[test]
    fn a_program_that_hangs_is_ended_after_five_seconds() {
        let at = std::time::Instant::now();
        let error = exec("sleep 60 & sleep 60").unwrap_err();
        assert!(error.contains("within 5 seconds"), "{error}");
        assert!(at.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_passphrase_file_is_private_and_not_beside_the_share() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pass");
        fs::write(&path, "open sesame\r\n").unwrap();
        for (mode, accepted) in [(0o400, true), (0o440, true), (0o600, true), (0o404, false), (0o444, false), (0o401, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = Unseal::File(path.clone()).passphrase();
            assert_eq!(found.is_ok(), accepted, "{mode:o}");
            if let Ok(found) = found {
                assert_eq!(&found[..], b"open sesame");
            }
        }
        assert!(Unseal::File(path.clone()).is_apart_from(home.path()).is_err());
        assert!(Unseal::File(path).is_apart_from(tempfile::tempdir().unwrap().path()).is_ok());
    }

    #[test]
    fn debug_shows_no_value_and_no_argument() {
        let value = Unseal::Value(crate::config::Secret::new("hunter2"));
        let exec = Unseal::Exec(vec!["kms".into(), "--token=hunter2".into()]);
        for shown in [format!("{value:?}"), format!("{exec:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
