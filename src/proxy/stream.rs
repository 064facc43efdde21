//! The two ends of an exchange as one concrete type each, whatever lies beneath: a socket, TLS, or a stream inside another
//! connection. One type means that the HTTP library's state machines are compiled, and resident, once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use super::io::{AgentIo, SellerIo};

/// An agent's bytes.
pub(super) struct AgentStream {
    /// Bytes that were read to find out what this is, and are read again first.
    head: Bytes,
    kind: AgentKind,
}

enum AgentKind {
    Tcp(TcpStream),
    Tls(Box<server::TlsStream<AgentStream>>),
    /// One stream of an HTTP/2 connection.
    Inner(Box<TokioIo<Upgraded>>),
}

impl AgentStream {
    /// A TLS session that the agent opened over one of these.
    pub(super) fn tls(stream: server::TlsStream<Self>) -> Self {
        Self { head: Bytes::new(), kind: AgentKind::Tls(Box::new(stream)) }
    }

    /// What HTTP left behind after CONNECT or an upgrade: the stream itself where the connection became it.
    pub(super) fn upgraded(upgraded: Upgraded) -> Self {
        match upgraded.downcast::<TokioIo<AgentIo<Self>>>() {
            Ok(parts) => {
                let (stream, held) = parts.io.into_inner().into_inner();
                stream.rewound(held).rewound(parts.read_buf)
            }
            Err(other) => Self { head: Bytes::new(), kind: AgentKind::Inner(Box::new(TokioIo::new(other))) },
        }
    }

    /// Puts bytes back in front.
    pub(super) fn rewound(mut self, first: impl Into<Bytes>) -> Self {
        let first = first.into();
        self.head = match (first.is_empty(), self.head.is_empty()) {
            (true, _) => self.head,
            (false, true) => first,
            (false, false) => [first, self.head].concat().into(),
        };
        self
    }

    /// The socket, if there is nothing else between any more.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self { head, kind: AgentKind::Tcp(stream) } if head.is_empty() => Some(stream),
            _ => None,
        }
    }

    /// The socket itself, if there is nothing else between.
    pub(super) fn into_tcp(self) -> Result<TcpStream, Self> {
        match self {
            Self { head, kind: AgentKind::Tcp(stream) } if head.is_empty() => Ok(stream),
            other => Err(other),
        }
    }
}

impl From<TcpStream> for AgentStream {
    fn from(stream: TcpStream) -> Self {
        Self { head: Bytes::new(), kind: AgentKind::Tcp(stream) }
    }
}

/// A seller's bytes.
pub(super) enum SellerStream {
    /// In the clear.
    Tcp(TcpStream),
    /// Verified TLS.
    Tls(Box<client::TlsStream<TcpStream>>),
    /// After an upgrade: the connection, and what was read of it too early.
    Rest(Bytes, Box<Self>),
    /// One stream of an HTTP/2 connection.
    Inner(Box<TokioIo<Upgraded>>),
}

impl SellerStream {
    /// The socket, if there is nothing else between any more.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Rest(first, beneath) if first.is_empty() => beneath.tcp(),
            _ => None,
        }
    }

    /// What HTTP left behind after an upgrade.
    pub(super) fn upgraded(upgraded: Upgraded) -> Self {
        let parts = match upgraded.downcast::<TokioIo<SellerIo<Self>>>() {
            Ok(parts) => parts,
            Err(other) => return Self::Inner(Box::new(TokioIo::new(other))),
        };
        let (stream, held) = parts.io.into_inner().into_inner();
        let first: Bytes = [&parts.read_buf[..], &held].concat().into();
        if first.is_empty() { stream } else { Self::Rest(first, Box::new(stream)) }
    }
}

impl AsyncRead for AgentStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.head.is_empty() {
            give(&mut self.head, buf);
            return Poll::Ready(Ok(()));
        }
        match &mut self.kind {
            AgentKind::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            AgentKind::Tls(s) => Pin::new(&mut **s).poll_read(cx, buf),
            AgentKind::Inner(s) => Pin::new(&mut **s).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for SellerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(&mut **s).poll_read(cx, buf),
            Self::Inner(s) => Pin::new(&mut **s).poll_read(cx, buf),
            Self::Rest(first, s) if first.is_empty() => Pin::new(&mut **s).poll_read(cx, buf),
            Self::Rest(first, _) => {
                give(first, buf);
                Poll::Ready(Ok(()))
            }
        }
    }
}

fn give(from: &mut Bytes, buf: &mut ReadBuf<'_>) {
    let n = from.len().min(buf.remaining());
    buf.put_slice(&from[..n]);
    from.advance(n);
    if from.is_empty() {
        // An empty slice would keep the memory of what was read.
        *from = Bytes::new();
    }
}

/// `AsyncWrite` by handing each call to the stream beneath: one arm for each kind, which binds a `&mut` to it.
macro_rules! write_through {
    ($type:ty, |$this:ident| $kind:expr, { $($pattern:pat => $beneath:expr),+ }) => {
        impl AsyncWrite for $type {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                let $this = &mut *self;
                match $kind { $($pattern => Pin::new($beneath).poll_write(cx, buf)),+ }
            }
            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = &mut *self;
                match $kind { $($pattern => Pin::new($beneath).poll_flush(cx)),+ }
            }
            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = &mut *self;
                match $kind { $($pattern => Pin::new($beneath).poll_shutdown(cx)),+ }
            }
            // Each kind takes several buffers at once, or falls back to the first by itself.
            fn is_write_vectored(&self) -> bool {
                true
            }
            fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
                let $this = &mut *self;
                match $kind { $($pattern => Pin::new($beneath).poll_write_vectored(cx, bufs)),+ }
            }
        }
    };
}

write_through!(AgentStream, |this| &mut this.kind, {
    AgentKind::Tcp(s) => s,
    AgentKind::Tls(s) => &mut **s,
    AgentKind::Inner(s) => &mut **s
});
write_through!(SellerStream, |this| this, {
    Self::Tcp(s) => s,
    Self::Tls(s) => &mut **s,
    Self::Rest(_, s) => &mut **s,
    Self::Inner(s) => &mut **s
});
