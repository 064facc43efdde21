//! The state folder: `<state>` 0711, `private/` 0700, `trust/` 0755 (design §7).

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::config::Config;

/// Creates what is missing and corrects modes that would let another user read private files.
///
/// # Errors
/// Names the folder.
pub fn prepare(config: &Config) -> Result<()> {
    folder(&config.state, 0o711)?;
    folder(&config.private(), 0o700)?;
    folder(&config.trust(), 0o755)
}

/// The same for a process that agents never look at: no trust folder.
///
/// # Errors
/// Names the folder.
pub fn prepare_private(state: &Path, private: &Path) -> Result<()> {
    folder(state, 0o711)?;
    folder(private, 0o700)
}

fn folder(path: &Path, mode: u32) -> Result<()> {
    let context = || format!("cannot prepare the folder {} (state)", path.display());
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).with_context(context)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(context)
}

/// Keeps secrets in memory out of core dumps and away from other processes of the same user (S8).
pub fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    // Best effort: a sandbox may forbid either, and then nothing is lost but the extra protection.
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        tracing::warn!("the process stays dumpable: a debugger of this user could read its memory");
    }
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
