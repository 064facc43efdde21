//! A plain HTTP/1.1 client that speaks to a proxy, byte by byte if a test wants that.

use std::io;
use std::net::{SocketAddr, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::Value;

use super::tls;
use super::wire::{Head, Wire};

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// False if the connection ended before the announced end of the body.
    pub(crate) complete: bool,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    /// The reason code of one of our own answers.
    #[track_caller]
    pub(crate) fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_else(|| panic!("no reason: {} {}", self.status, self.text())).to_owned()
    }
}

/// One connection to a proxy, or the inside of a tunnel.
pub(crate) struct Agent {
    pub(crate) wire: Wire,
}

impl Agent {
    /// Connects; sends nothing yet.
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self { wire: Wire::plain(TcpStream::connect(address).unwrap()) }
    }

    /// Sends exactly these bytes.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write(bytes.as_ref()).unwrap();
    }

    /// A request head and body with Host and length. `headers` are complete lines, each with CRLF.
    pub(crate) fn request_bytes(method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let host = target.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
        let host = host.map_or(String::new(), |h| format!("Host: {h}\r\n"));
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        [format!("{method} {target} HTTP/1.1\r\n{host}{length}{headers}\r\n").as_bytes(), body].concat()
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub(crate) fn request(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        self.send(Self::request_bytes(method, target, headers, body));
        self.response_to(method).unwrap()
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, "", b"")
    }

    /// Reads the next answer, to a method other than HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET").unwrap()
    }

    /// Reads the next answer. Fails only if not even a head came.
    pub(crate) fn response_to(&mut self, method: &str) -> io::Result<Response> {
        let head = self.head()?;
        let status = head.status();
        if method == "HEAD" || status == 204 || status == 304 || (method == "CONNECT" && status == 200) {
            return Ok(Response { status, head, body: Vec::new(), complete: true });
        }
        match self.wire.body(&head, true) {
            Ok(body) => Ok(Response { status, head, body, complete: true }),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Err(e),
            Err(_) => Ok(Response { status, head, body: Vec::new(), complete: false }),
        }
    }

    /// Only the head of the next answer; interim ones are skipped.
    pub(crate) fn head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.wire.head()?.ok_or(io::ErrorKind::ConnectionAborted)?;
            if head.status() >= 200 || head.status() == 101 {
                return Ok(head);
            }
        }
    }

    /// CONNECT; afterwards this is the inside of the tunnel.
    #[track_caller]
    pub(crate) fn connect(mut self, authority: &str, headers: &str) -> Self {
        self.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n"));
        let answer = self.response_to("CONNECT").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        self
    }

    /// TLS inside the tunnel, trusting the certificates in `pem`.
    #[track_caller]
    pub(crate) fn tls(self, name: &str, pem: &str) -> Self {
        self.try_tls(name, pem).unwrap()
    }

    /// As [`Self::tls`]; fails if the handshake does.
    pub(crate) fn try_tls(self, name: &str, pem: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(tls::client(pem), name).map_err(io::Error::other)?;
        Ok(Self { wire: self.wire.into_client(session)? })
    }

    /// True once the other side has closed.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.wire.some() {
            Ok(bytes) => bytes.is_empty(),
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}

/// A header line with proxy credentials.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}
