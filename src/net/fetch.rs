//! Our own client for URLs that an operator wrote down: RPC, the probe of a seller, webhooks (S21). Checked addresses, no
//! redirects, no decompression, 64 KiB, five seconds. A seller's URL never comes here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::MAX_BODY;
use super::tls::{Connector, Roots};

/// Most that a whole exchange may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One request.
#[derive(Clone)]
pub struct Fetch {
    /// GET or POST, most likely.
    pub method: Method,
    /// Absolute, http or https, without user information.
    pub url: Uri,
    /// Headers; `Host`, `Connection`, `Accept-Encoding` and the length are ours.
    pub headers: HeaderMap,
    /// Body; empty for none.
    pub body: Bytes,
}

impl Fetch {
    /// A GET.
    pub fn get(url: Uri) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A POST of JSON.
    pub fn json(url: Uri, body: impl Into<Bytes>) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self { method: Method::POST, url, headers, body: body.into() }
    }
}

/// Why there is no answer. Never shows the URL: those of RPC providers carry keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an absolute http or https URL, or one with user information.
    #[error("not an absolute http or https URL")]
    Url,
    /// The name does not resolve.
    #[error("the name does not resolve")]
    Dns,
    /// It resolves to addresses that may not be connected to.
    #[error("it resolves to addresses that may not be connected to")]
    Forbidden,
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// No TLS session, or a certificate that is not trusted.
    #[error("TLS: {0}")]
    Tls(#[source] std::io::Error),
    /// No whole answer in time.
    #[error("no whole answer in time")]
    Timeout,
    /// The answer is longer than allowed.
    #[error("the answer is longer than allowed")]
    TooLong,
    /// Not HTTP, or cut short.
    #[error("no usable answer: {0}")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Fetches; made once, because reading the roots is slow. Every call is a connection of its own.
#[derive(Clone)]
pub struct Fetcher {
    connector: Connector,
    permits: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    limit: usize,
    timeout: Duration,
}

impl Fetcher {
    /// Trusts the system's roots and `extra_roots`; connects only to addresses that `permits` (see
    /// [`super::address::permits`]).
    ///
    /// # Errors
    /// A file of `extra_roots` cannot be read.
    pub fn new(extra_roots: &[PathBuf], permits: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Result<Self> {
        let [config] = Roots::load(extra_roots)?.clients([vec![b"http/1.1".to_vec()]])?;
        let connector = Connector::new(config);
        Ok(Self { connector, permits: Arc::new(permits), limit: MAX_BODY, timeout: TIMEOUT })
    }

    /// With other bounds than 64 KiB and five seconds.
    #[must_use]
    pub fn bounded(self, limit: usize, timeout: Duration) -> Self {
        Self { limit, timeout, ..self }
    }

    /// One request and its whole answer, whatever its status.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, fetch: Fetch) -> Result<Response<Bytes>, FetchError> {
        timeout(self.timeout, self.work(fetch)).await.map_err(|_| FetchError::Timeout)?
    }

    async fn work(&self, fetch: Fetch) -> Result<Response<Bytes>, FetchError> {
        let to = Target::of(&fetch.url).ok_or(FetchError::Url)?;
        let request = to.request(&fetch)?;
        let stream = self.connect(&to).await?;
        if to.https {
            let stream = self.connector.connect(to.host, stream).await.map_err(FetchError::Tls)?;
            exchange(stream, request, self.limit).await
        } else {
            exchange(stream, request, self.limit).await
        }
    }

    async fn connect(&self, to: &Target<'_>) -> Result<TcpStream, FetchError> {
        let found: Vec<SocketAddr> = match to.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, to.port)],
            Err(_) => tokio::net::lookup_host((to.host, to.port)).await.map_err(|_| FetchError::Dns)?.collect(),
        };
        let allowed: Vec<SocketAddr> = found.iter().copied().filter(|a| (self.permits)(a.ip())).collect();
        if allowed.is_empty() {
            return Err(if found.is_empty() { FetchError::Dns } else { FetchError::Forbidden });
        }
        // An address that does not answer must not use up the time of the others.
        let share = self.timeout / u32::try_from(allowed.len()).unwrap_or(u32::MAX);
        let mut failure = FetchError::Timeout;
        for address in allowed {
            // The checked address itself is dialled: a second look-up could give another one.
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = FetchError::Connect(error),
                Err(_) => {}
            }
        }
        Err(failure)
    }
}

/// Where a URL leads.
struct Target<'a> {
    https: bool,
    /// Name or address, without brackets.
    host: &'a str,
    port: u16,
    authority: &'a str,
}

impl<'a> Target<'a> {
    fn of(url: &'a Uri) -> Option<Self> {
        let https = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = url.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        (!host.is_empty()).then_some(Self { https, host, port, authority: authority.as_str() })
    }

    /// Origin-form, with our own `Host`. No encoding is asked for; one that comes back all the same is left as it is.
    fn request(&self, fetch: &Fetch) -> Result<Request<Full<Bytes>>, FetchError> {
        let path = fetch.url.path_and_query().map_or("/", |p| p.as_str());
        let mut request = Request::new(Full::new(fetch.body.clone()));
        *request.uri_mut() = path.parse().map_err(|_| FetchError::Url)?;
        *request.method_mut() = fetch.method.clone();
        *request.headers_mut() = fetch.headers.clone();
        let host = HeaderValue::from_str(self.authority).map_err(|_| FetchError::Url)?;
        let headers = request.headers_mut();
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.insert(HOST, host);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(request)
    }
}

async fn exchange<T>(stream: T, request: Request<Full<Bytes>>, limit: usize) -> Result<Response<Bytes>, FetchError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    let broken = |e: hyper::Error| FetchError::Broken(e.into());
    let (mut sender, connection) = http1::Builder::new().max_buf_size(MAX_BODY).handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_err(|e| if e.is::<LengthLimitError>() { FetchError::TooLong } else { FetchError::Broken(e) })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        done = &mut answer => done,
        // The connection ends after its last bytes are handed over.
        _ = &mut connection => answer.await,
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("method", &self.method).field("host", &self.url.host()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("limit", &self.limit).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
