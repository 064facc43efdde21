//! The client of our own endpoints: plain HTTP to an address.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest body of an answer that [`get`] reads: metrics of many agents are long.
const MAX_ANSWER: usize = 16 << 20;

/// Why [`get`] has no answer.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, #[source] std::io::Error),
    /// No whole answer in time.
    #[error("no answer from {0} within {1:?}")]
    Timeout(SocketAddr, Duration),
    /// Not HTTP, or cut short.
    #[error("no usable answer from {0}")]
    Broken(SocketAddr, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Gets `path` from `addr` over plain HTTP: status and body. An absolute URL as `path` asks `addr` as a proxy.
///
/// # Errors
/// [`GetError`].
pub async fn get(addr: SocketAddr, path: &str, timeout: Duration) -> Result<(u16, Bytes), GetError> {
    let work = async {
        let stream = TcpStream::connect(addr).await.map_err(|e| GetError::Connect(addr, e))?;
        exchange(stream, addr, path).await.map_err(|e| GetError::Broken(addr, e))
    };
    tokio::time::timeout(timeout, work).await.map_err(|_| GetError::Timeout(addr, timeout))?
}

async fn exchange(stream: TcpStream, addr: SocketAddr, path: &str) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::get(path).body(Empty::<Bytes>::new())?;
    let host = request.uri().authority().map_or_else(|| addr.to_string(), ToString::to_string);
    request.headers_mut().insert(http::header::HOST, host.try_into()?);
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
