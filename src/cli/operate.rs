//! The client of a running process: one call over the operator's socket in its state folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::{CONFIG, Failure};
use crate::config::Config;
use crate::net::unix::{self, CallError};

/// How long a running process may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the process of `config` (else tollpass.yaml here) keeps what is private.
pub(super) fn private(config: Option<&Path>) -> Result<PathBuf, Failure> {
    Ok(Config::inspect(config.unwrap_or(Path::new(CONFIG)))?.private())
}

/// Asks the process whose private folder this is. `Ok(None)` if none runs.
///
/// # Errors
/// What the process said against it; exit status 1.
pub(super) fn ask_if_running(private: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, Failure> {
    let socket = private.join("admin.sock");
    let body = body.map(Value::to_string).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, text) = match runtime.block_on(unix::call(&socket, method, &format!("/v1{path}"), body.into(), PATIENCE)) {
        Ok(answer) => answer,
        Err(CallError::Absent { source, .. }) if source.kind() != std::io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(Failure::Failed(error.into())),
    };
    let value: Value = serde_json::from_slice(&text).unwrap_or_default();
    if status == 200 {
        return Ok(Some(value));
    }
    let said = value["message"].as_str().unwrap_or("no reason given");
    let code = value["error"].as_str().map_or_else(|| status.to_string(), str::to_owned);
    Err(Failure::Failed(anyhow::anyhow!("{said} ({code})")))
}

/// The same, for commands that only a running process can do.
///
/// # Errors
/// As [`ask_if_running`]; and if none runs.
pub(super) fn ask(private: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    ask_if_running(private, method, path, body)?.ok_or_else(|| {
        Failure::Failed(anyhow::anyhow!("no proxy runs with the state in {}: start it, or name its file with --config", private.display()))
    })
}
