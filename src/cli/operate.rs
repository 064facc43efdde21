//! The client of a running process: one call over the operator's socket in its state folder, or over HTTP as somebody with a token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, HeaderValue};
use serde_json::Value;

use super::{CONFIG, Failure};
use crate::config::value::secret_file;
use crate::config::{Config, Origin, Secret};
use crate::net::unix::{self, CallError};
use crate::net::{Fetch, Fetcher};

/// How long a running process may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer over HTTP.
const MAX_ANSWER: usize = 16 << 20;

/// Where the process of `config` (else tollpass.yaml here) keeps what is private.
pub(super) fn private(config: Option<&Path>) -> Result<PathBuf, Failure> {
    Ok(Config::inspect(config.unwrap_or(Path::new(CONFIG)))?.private())
}

/// Asks the process whose private folder this is. `Ok(None)` if none runs.
///
/// # Errors
/// What the process said against it; exit status 1.
pub(super) fn ask_if_running(private: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, Failure> {
    Way::Socket { private: private.to_path_buf(), token: None }.ask_if_running(method, path, body)
}

/// The same, for commands that only a running process can do.
///
/// # Errors
/// As [`ask_if_running`]; and if none runs.
pub(super) fn ask(private: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    Way::Socket { private: private.to_path_buf(), token: None }.ask(method, path, body)
}

/// How to reach a running process, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Reach {
    /// The configuration file of the proxy; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where its API is, if not on this machine: what `admin.public_url` says.
    #[arg(long, value_name = "URL", requires = "token", conflicts_with = "config")]
    pub server: Option<String>,
    /// Your own token: env:NAME or file:PATH. Without it the socket's owner speaks, as `socket`.
    #[arg(long, value_name = "env:NAME|file:PATH")]
    pub token: Option<String>,
}

impl Reach {
    /// The way there.
    ///
    /// # Errors
    /// A configuration, URL or token that cannot be read.
    pub(super) fn way(&self) -> Result<Way, Failure> {
        let token = self.token.as_deref().map(secret).transpose()?;
        match (&self.server, token) {
            (Some(server), Some(token)) => Ok(Way::Server { url: server_url(server)?, token }),
            (_, token) => Ok(Way::Socket { private: private(self.config.as_deref())?, token }),
        }
    }
}

fn secret(found: &str) -> Result<Secret, Failure> {
    let read = match (found.strip_prefix("env:"), found.strip_prefix("file:")) {
        (Some(name), _) => std::env::var(name).map(Secret::new).map_err(|_| format!("{name} is not set")),
        (_, Some(path)) => secret_file(Path::new(path)),
        // It may be the token itself: it is not shown.
        _ => Err("write env:NAME or file:PATH, not the token itself: others see the arguments of a command".into()),
    };
    read.map(|token| Secret::new(token.expose().trim())).map_err(|error| Failure::Config(format!("--token: {error}")))
}

fn server_url(text: &str) -> Result<String, Failure> {
    let origin = Origin::parse(text).map_err(|error| Failure::Config(format!("--server: {error}")))?;
    Ok(origin.as_str().to_owned())
}

/// A way to a running process.
#[derive(Debug)]
pub(super) enum Way {
    /// Its socket; with a token as that person.
    Socket { private: PathBuf, token: Option<Secret> },
    /// Its API over HTTP.
    Server { url: String, token: Secret },
}

impl Way {
    /// Asks. `Ok(None)` if no process runs on the state.
    ///
    /// # Errors
    /// What the process said against it; exit status 1.
    fn ask_if_running(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, Failure> {
        let body: Bytes = body.map(Value::to_string).unwrap_or_default().into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, text) = match self {
            Self::Socket { private, token } => {
                let (socket, token) = (private.join("admin.sock"), token.as_ref().map(Secret::expose));
                match runtime.block_on(unix::call(&socket, method, &format!("/v1{path}"), token, body, PATIENCE)) {
                    Ok(answer) => answer,
                    Err(CallError::Absent { source, .. }) if source.kind() != std::io::ErrorKind::PermissionDenied => return Ok(None),
                    Err(error) => return Err(Failure::Failed(error.into())),
                }
            }
            Self::Server { url, token } => runtime.block_on(over_http(url, token, method, path, body))?,
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
    /// As [`Self::ask_if_running`]; and if none runs.
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.ask_if_running(method, path, body)?.ok_or_else(|| {
            let Self::Socket { private, .. } = self else { return Failure::Failed(anyhow::anyhow!("nobody answers")) };
            let private = private.display();
            Failure::Failed(anyhow::anyhow!("no proxy runs with the state in {private}: start it, or name its file with --config"))
        })
    }
}

async fn over_http(url: &str, token: &Secret, method: Method, path: &str, body: Bytes) -> anyhow::Result<(u16, Bytes)> {
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose())).context("--token: it has no header form")?;
    bearer.set_sensitive(true);
    let mut fetch = Fetch::json(format!("{url}/v1{path}").parse()?, body);
    fetch.method = method;
    fetch.headers.insert(AUTHORIZATION, bearer);
    let fetcher = Fetcher::new(&[], |_| true)?.bounded(MAX_ANSWER, PATIENCE);
    let answer = fetcher.fetch(fetch).await.with_context(|| format!("{url} cannot be asked"))?;
    Ok((answer.status().as_u16(), answer.into_body()))
}
