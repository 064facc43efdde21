//! Our own endpoints on a Unix socket: only this user can open it (S16).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};

/// Largest body of an answer that [`call`] reads.
const MAX_ANSWER: usize = 16 << 20;

/// Listens at `path`, in place of whoever did before: mode 0600 from the first moment anybody can find it. In a runtime.
///
/// # Errors
/// The folder is not writable, or the path is longer than a socket's may be (about 100 bytes).
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let temp = path.with_extension(format!("{}.new", std::process::id()));
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&temp)?;
    fs::set_permissions(&temp, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temp, path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Why [`call`] has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens there.
    #[error("nobody listens at {}", at.display())]
    Absent {
        /// The socket.
        at: PathBuf,
        /// Why there is no connection.
        source: io::Error,
    },
    /// No whole answer in time.
    #[error("no answer from {} within {waited:?}", at.display())]
    Timeout {
        /// The socket.
        at: PathBuf,
        /// How long.
        waited: Duration,
    },
    /// Not HTTP, or cut short.
    #[error("no usable answer from {}", at.display())]
    Broken {
        /// The socket.
        at: PathBuf,
        /// What came instead.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Sends one request to the socket at `at`: status and body. With `token` it says who calls.
///
/// # Errors
/// [`CallError`].
pub async fn call(
    at: &Path,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Bytes,
    timeout: Duration,
) -> Result<(u16, Bytes), CallError> {
    let work = async {
        let stream = UnixStream::connect(at).await.map_err(|source| CallError::Absent { at: at.to_path_buf(), source })?;
        exchange(stream, method, path, token, body).await.map_err(|source| CallError::Broken { at: at.to_path_buf(), source })
    };
    tokio::time::timeout(timeout, work).await.map_err(|_| CallError::Timeout { at: at.to_path_buf(), waited: timeout })?
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Bytes,
) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder().method(method).uri(path).header(http::header::HOST, "tollpass").body(Full::new(body))?;
    if let Some(token) = token {
        let mut bearer = http::HeaderValue::from_str(&format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
    }
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        done = &mut answer => done,
        // The connection ends after its last bytes are handed over.
        _ = &mut connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use http::Response;

    use super::*;
    use crate::net::{Handler, serve};

    #[tokio::test]
    async fn only_this_user_can_open_it_and_a_successor_takes_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("admin.sock");
        for name in ["first", "second"] {
            let handler: Handler = Arc::new(move |request| {
                let said = format!("{name} {} {} {}", request.method(), request.uri().path(), request.body().len());
                Box::pin(async move { Response::new(Bytes::from(said)) })
            });
            tokio::spawn(serve(bind(&at).unwrap(), handler, std::future::pending::<()>()));
            assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o600);
            let answer = call(&at, Method::POST, "/v1/x", None, Bytes::from_static(b"{}"), Duration::from_secs(5)).await.unwrap();
            assert_eq!(answer, (200, Bytes::from(format!("{name} POST /v1/x 2"))));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_file(&at).unwrap();
        let gone = call(&at, Method::GET, "/", None, Bytes::new(), Duration::from_secs(5)).await;
        assert!(matches!(gone, Err(CallError::Absent { .. })));
    }
}
