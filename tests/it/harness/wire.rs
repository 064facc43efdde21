//! HTTP/1.1 by hand, so that a test decides about every byte. Shared by sellers and agents.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

use super::PATIENCE;

/// A request or response head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// Request or status line.
    pub(crate) start: String,
    /// Fields in order, names as sent.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
        Self { start, headers: lines.filter_map(field).collect() }
    }

    fn word(&self, n: usize) -> &str {
        self.start.split(' ').nth(n).unwrap_or_default()
    }

    pub(crate) fn method(&self) -> &str {
        self.word(0)
    }

    /// Request target.
    pub(crate) fn target(&self) -> &str {
        self.word(1)
    }

    /// Response status.
    pub(crate) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_else(|_| panic!("not a status line: {:?}", self.start))
    }

    /// The first field of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Every field of that name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.get("content-length")?.parse().ok()
    }

    pub(crate) fn chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"))
    }
}

enum Io {
    Plain(TcpStream),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    Taken,
}

/// One connection, with what was read ahead.
pub(crate) struct Wire {
    io: Io,
    tcp: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        let clone = tcp.try_clone().unwrap();
        Self { io: Io::Plain(tcp), tcp: clone, ahead: Vec::new() }
    }

    pub(crate) fn into_server(mut self, session: ServerConnection) -> Self {
        let Io::Plain(tcp) = std::mem::replace(&mut self.io, Io::Taken) else { panic!("TLS inside TLS") };
        self.io = Io::Server(Box::new(StreamOwned::new(session, tcp)));
        self
    }

    /// TLS as a client; fails if the handshake does.
    pub(crate) fn into_client(mut self, session: ClientConnection) -> io::Result<Self> {
        assert!(self.ahead.is_empty(), "bytes before the TLS handshake");
        let Io::Plain(tcp) = std::mem::replace(&mut self.io, Io::Taken) else { panic!("TLS inside TLS") };
        let mut stream = StreamOwned::new(session, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        self.io = Io::Client(Box::new(stream));
        Ok(self)
    }

    /// The certificate that the server showed.
    pub(crate) fn peer_certificate(&self) -> Vec<u8> {
        match &self.io {
            Io::Client(stream) => stream.conn.peer_certificates().unwrap()[0].to_vec(),
            _ => panic!("no TLS client"),
        }
    }

    /// The socket below, to write to it from another thread or to break it.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(crate) fn set_read_timeout(&self, timeout: Duration) {
        self.tcp.set_read_timeout(Some(timeout)).unwrap();
    }

    fn read_some(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.io {
            Io::Plain(s) => s.read(buf),
            Io::Server(s) => s.read(buf),
            Io::Client(s) => s.read(buf),
            Io::Taken => Ok(0),
        };
        match read {
            // A peer that drops a TLS connection without saying goodbye.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buf = [0; 64 * 1024];
        let n = self.read_some(&mut buf)?;
        self.ahead.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.io {
            Io::Plain(s) => s.write_all(bytes),
            Io::Server(s) => s.write_all(bytes).and_then(|()| s.flush()),
            Io::Client(s) => s.write_all(bytes).and_then(|()| s.flush()),
            Io::Taken => Ok(()),
        }
    }

    /// The next head; `None` if the peer closed before it began.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(at) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..at + 4).collect();
                return Ok(Some(Head::parse(&String::from_utf8_lossy(&head[..at]))));
            }
            if self.fill()? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Whatever comes next, at least one byte; empty at the end of the stream.
    pub(crate) fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.ahead.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    pub(crate) fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < n {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.ahead.drain(..n).collect())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// One chunk of a chunked body; `None` after the last, trailers read.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "chunk size"))?;
        if size == 0 {
            while !self.line()?.is_empty() {}
            return Ok(None);
        }
        let data = self.exactly(size)?;
        self.exactly(2)?;
        Ok(Some(data))
    }

    /// The body that belongs to `head`: by length, by chunks, or (responses) to the end of the stream.
    pub(crate) fn body(&mut self, head: &Head, to_end: bool) -> io::Result<Vec<u8>> {
        if head.chunked() {
            let mut out = Vec::new();
            while let Some(chunk) = self.chunk()? {
                out.extend_from_slice(&chunk);
            }
            return Ok(out);
        }
        match head.content_length() {
            Some(n) => self.exactly(usize::try_from(n).unwrap()),
            None if to_end => self.rest(),
            None => Ok(Vec::new()),
        }
    }

    /// Everything to the end of the stream.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// Waits for the peer to close or reset, discarding what it says.
    pub(crate) fn wait_for_close(&mut self) {
        while matches!(self.fill(), Ok(n) if n > 0) {
            self.ahead.clear();
        }
    }

    /// Closes with a reset instead of a goodbye.
    pub(crate) fn reset(&self) {
        let _ = socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        let _ = self.tcp.shutdown(how);
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
