//! `tollpass probe`: the process that asks sellers. It holds no share, no key and no ledger, so that what a seller sends back
//! meets no secret. It GETs what it is told, follows nothing, reads 64 KiB and waits five seconds.
//!
//! Whoever may connect to the socket (its owner) may make it GET any URL; that is all that can be had from it.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Uri};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{Answer, MAX_ANSWER, MAX_URL, PATIENCE, Question};
use crate::net::BoxFuture;

/// Questions answered at once; more wait.
const AT_ONCE: usize = 16;

/// How long a question may take to arrive.
const QUESTION: Duration = Duration::from_secs(5);

/// What one GET brought back.
#[derive(Debug)]
pub struct Fetched {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, at most [`MAX_ANSWER`].
    pub body: Bytes,
}

/// One GET: no redirect, no credentials, at most [`MAX_ANSWER`] bytes of body, within [`PATIENCE`].
pub trait Fetch: Send + Sync + 'static {
    /// Asks `url`. An error's text goes to the log only.
    fn get(&self, url: Uri) -> BoxFuture<Result<Fetched, String>>;
}

/// Binds the socket, mode 0600, replacing one that nobody listens on any more.
///
/// # Errors
/// The socket cannot be made, or another process answers on it.
pub async fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        std::fs::remove_file(path)?;
    }
    // Bound in a folder of our own and moved, so that there is no moment in which others may connect.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let private = folder.join(format!(".probe-{}", std::process::id()));
    std::fs::create_dir(&private)?;
    let bound = (|| {
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700))?;
        let listener = UnixListener::bind(private.join("socket"))?;
        std::fs::set_permissions(private.join("socket"), std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(private.join("socket"), path)?;
        Ok(listener)
    })();
    let _ = std::fs::remove_dir_all(&private);
    bound
}

/// Answers questions until `shutdown` is ready.
pub async fn serve(listener: UnixListener, fetch: Arc<dyn Fetch>, shutdown: impl Future) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    tokio::pin!(shutdown);
    loop {
        let permit = tokio::select! {
            _ = &mut shutdown => return,
            permit = Arc::clone(&room).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            _ = &mut shutdown => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let fetch = Arc::clone(&fetch);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &*fetch).await {
                        tracing::debug!(%error, "a question was not answered");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: do not spin.
                tracing::warn!(%error, "cannot accept a question");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One line in, one line out.
async fn answer(mut stream: UnixStream, fetch: &dyn Fetch) -> io::Result<()> {
    let limit = u64::try_from(MAX_URL * 2).unwrap_or(u64::MAX);
    let (read, mut write) = stream.split();
    let mut line = String::new();
    tokio::time::timeout(QUESTION, BufReader::new(read.take(limit)).read_line(&mut line)).await??;
    let question: Question = serde_json::from_str(&line)?;
    let mut text = serde_json::to_vec(&ask(&question.url, fetch).await)?;
    text.push(b'\n');
    write.write_all(&text).await?;
    write.shutdown().await
}

async fn ask(url: &str, fetch: &dyn Fetch) -> Answer {
    let Some((uri, host)) = super::split(url) else { return Answer::none() };
    match tokio::time::timeout(PATIENCE, fetch.get(uri)).await {
        Ok(Ok(fetched)) if fetched.body.len() <= MAX_ANSWER => wire(&fetched),
        Ok(Ok(_)) => {
            tracing::warn!(%host, "the seller's answer is longer than is read");
            Answer::none()
        }
        Ok(Err(error)) => {
            tracing::info!(%host, error, "the seller cannot be asked");
            Answer::none()
        }
        Err(_) => {
            tracing::info!(%host, "the seller did not answer in time");
            Answer::none()
        }
    }
}

/// Heads are bounded like bodies: what does not fit is left out, and then there is no challenge in it.
fn wire(fetched: &Fetched) -> Answer {
    let mut room = MAX_ANSWER;
    let headers = fetched.headers.iter().filter_map(|(name, value)| {
        let pair = (name.as_str().to_owned(), value.to_str().ok()?.to_owned());
        room = room.checked_sub(pair.0.len() + pair.1.len())?;
        Some(pair)
    });
    Answer { status: fetched.status, headers: headers.collect(), body: STANDARD.encode(&fetched.body) }
}
