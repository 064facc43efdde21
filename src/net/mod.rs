//! HTTP/1 for everything that is not agent traffic: a small server for our own endpoints, and clients.
//!
//! `server`: heads and bodies are bounded, reading a head has a deadline, connections are counted; what is answered is the
//! caller's business: a [`Handler`] gets a whole request and returns a whole response. `client` asks such endpoints. `fetch`
//! asks the URLs of operators, over TLS too (S21). `address` knows which addresses lead where; `tls` whom we trust; `unix` is
//! a socket for this user alone.

pub mod address;
mod client;
mod fetch;
mod server;
pub(crate) mod tls;
pub mod unix;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

pub use client::{GetError, get};
pub use fetch::{Fetch, FetchError, Fetcher};
pub use server::serve;

/// Largest request or response body.
pub const MAX_BODY: usize = 64 << 10;
/// Time to send a request head or body.
const READ: Duration = Duration::from_secs(5);

/// A boxed future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers whole requests.
pub type Handler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<Response<Bytes>> + Send + Sync>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    async fn echo() -> (SocketAddr, tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let handler: Handler = Arc::new(|request| {
            Box::pin(async move {
                if request.uri().path() == "/slow" {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Response::new(Bytes::from(format!("{} {} {}", request.method(), request.uri().path(), request.body().len())))
            })
        });
        (addr, stop, tokio::spawn(serve(listener, handler, stopped)))
    }

    async fn raw(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut out = String::new();
        stream.read_to_string(&mut out).await.unwrap();
        out
    }

    #[tokio::test]
    async fn requests_are_answered_and_bodies_bounded() {
        let (addr, _stop, _task) = echo().await;
        assert_eq!(get(addr, "/livez", READ).await.unwrap(), (200, Bytes::from("GET /livez 0")));
        let small = raw(addr, "POST /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello").await;
        assert!(small.ends_with("POST /x 5"), "{small}");
        let large = raw(addr, "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 65537\r\n\r\n").await;
        assert!(large.starts_with("HTTP/1.1 413"), "{large}");
        assert!(raw(addr, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    }

    #[tokio::test]
    async fn shutdown_lets_a_running_request_finish_and_frees_the_port() {
        let (addr, stop, task) = echo().await;
        let running = tokio::spawn(get(addr, "/slow", READ));
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.send(()).unwrap();
        assert_eq!(running.await.unwrap().unwrap().0, 200);
        task.await.unwrap();
        assert!(matches!(get(addr, "/", READ).await, Err(GetError::Connect(..))));
    }

    #[tokio::test]
    async fn a_silent_peer_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let brief = Duration::from_millis(50);
        assert!(matches!(get(addr, "/", brief).await, Err(GetError::Timeout(..))));
        let talk = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The first connection timed out; its request is already there.
            stream.write_all(b"gibberish\r\n\r\n").await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"gibberish\r\n\r\n").await.unwrap();
        });
        assert!(matches!(get(addr, "/", READ).await, Err(GetError::Broken(..))));
        talk.await.unwrap();
    }
}
