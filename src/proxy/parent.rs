//! A proxy between us and the sellers (`upstream.proxy`): CONNECT for tunnels and TLS, absolute-form for plain requests.
//!
//! It is the operator's, so its address may be private; only ourselves it can never be. It looks names up by itself: the guard sees
//! the addresses that an agent names, and no others.

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::target::Target;
use crate::config::{Bypass, ParentConfig};
use crate::payment::Reason;
use crate::policy::Host;

/// Most bytes of its answer to CONNECT.
const HEAD: usize = 16 << 10;

/// See the module documentation.
pub(super) struct Parent {
    pub(super) host: Host,
    pub(super) port: u16,
    credentials: Option<HeaderValue>,
    bypass: Vec<Bypass>,
}

impl Parent {
    pub(super) fn new(config: &ParentConfig) -> Self {
        let basic = |pair: &str| HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair))).ok();
        let mut credentials = config.credentials.as_ref().and_then(|secret| basic(secret.expose()));
        if let Some(value) = &mut credentials {
            value.set_sensitive(true);
        }
        Self { host: config.host.clone(), port: config.port, credentials, bypass: config.no_proxy.clone() }
    }

    /// Whether it is between us and `host`. This machine is never behind it.
    pub(super) fn leads_to(&self, host: &Host) -> bool {
        !host.is_loopback() && !self.bypass.iter().any(|entry| entry.matches(host))
    }

    /// Opens a tunnel on a connection to it.
    pub(super) async fn tunnel(&self, stream: &mut TcpStream, host: &Host, port: u16) -> Result<(), Reason> {
        let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
        if let Some(value) = &self.credentials {
            head.extend_from_slice(b"Proxy-Authorization: ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let asked = async {
            stream.write_all(&head).await?;
            read_head(stream).await
        };
        match asked.await {
            Ok(head) if status(&head).is_some_and(|s| (200..300).contains(&s)) => Ok(()),
            Ok(head) => {
                tracing::warn!(%host, port, status = status(&head), "the parent proxy (upstream.proxy) did not open a tunnel");
                Err(Reason::ParentFailed)
            }
            Err(error) => {
                tracing::warn!(%host, port, %error, "the parent proxy (upstream.proxy) did not answer");
                Err(Reason::ParentFailed)
            }
        }
    }

    /// Gives a plain request the form that a proxy reads.
    pub(super) fn address<B>(&self, request: &mut Request<B>, target: &Target) {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        if let Ok(uri) = target.url(path).parse::<Uri>() {
            *request.uri_mut() = uri;
        }
        if let Some(value) = &self.credentials {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value.clone());
        }
    }
}

/// Reads to the blank line and not one byte further: what follows is the seller's.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut seen = [0; 2048];
    while head.len() < HEAD {
        let n = stream.peek(&mut seen).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&seen[..n]);
        let end = head[from..].windows(4).position(|w| w == b"\r\n\r\n").map(|at| from + at + 4);
        let taken = end.map_or(n, |end| n - (head.len() - end));
        stream.read_exact(&mut seen[..taken]).await?;
        if let Some(end) = end {
            head.truncate(end);
            return Ok(head);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the head does not end"))
}

/// The status of an HTTP/1 answer.
pub(super) fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|b| *b == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest.get(..3).filter(|d| rest.get(3).is_none_or(|b| *b == b' ') && d.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn the_status_of_an_answer_is_read_or_there_is_none() {
        for (head, expected) in [
            (&b"HTTP/1.1 200 Connection established\r\n\r\n"[..], Some(200)),
            (b"HTTP/1.0 407\r\n\r\n", Some(407)),
            (b"HTTP/1.1 2000 OK\r\n\r\n", None),
            (b"HTTP/2 200\r\n\r\n", None),
            (b"SSH-2.0\r\n\r\n", None),
            (b"", None),
        ] {
            assert_eq!(status(head), expected, "{head:?}");
        }
    }

    #[test]
    fn not_a_byte_after_the_blank_line_is_taken_however_the_head_arrives() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let head = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "y".repeat(5000));
            for step in [1, 7, 2047, 2048, 2049, 100_000] {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let (mut far, _) = listener.accept().await.unwrap();
                far.set_nodelay(true).unwrap();
                let all = format!("{head}the seller's").into_bytes();
                let sending = tokio::spawn(async move {
                    for part in all.chunks(step) {
                        far.write_all(part).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                });
                assert_eq!(read_head(&mut stream).await.unwrap(), head.as_bytes(), "{step}");
                sending.await.unwrap();
                let mut rest = String::new();
                stream.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, "the seller's", "{step}");
            }
        });
    }

    #[test]
    fn a_head_without_an_end_is_given_up() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut far, _) = listener.accept().await.unwrap();
            tokio::spawn(async move { while far.write_all(&[b'x'; 4096]).await.is_ok() {} });
            assert!(read_head(&mut stream).await.is_err());
        });
    }
}
