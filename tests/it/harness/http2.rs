//! HTTP/2 ends of a test: an agent and a seller, on the library's low-level API.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::tls;
use super::wire::Head;

/// Data, then trailers.
pub(crate) struct Message {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Message {
    pub(crate) fn new(data: impl Into<Bytes>) -> Self {
        Self { data: Some(data.into()).filter(|d: &Bytes| !d.is_empty()), trailers: None }
    }

    pub(crate) fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.trailers.get_or_insert_default().insert(name, value.parse().unwrap());
        self
    }
}

impl Body for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        std::task::Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn reason(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        json["reason"].as_str().unwrap().to_owned()
    }
}

/// One HTTP/2 connection of an agent, with a runtime of its own.
pub(crate) struct Agent2 {
    pub(crate) runtime: Runtime,
    pub(crate) sender: SendRequest<Message>,
}

impl Agent2 {
    /// Prior knowledge on a fresh connection.
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::over(|| async move { TcpStream::connect(address).await.unwrap() })
    }

    /// Prior knowledge on a stream that is open.
    pub(crate) fn plain(stream: std::net::TcpStream) -> Self {
        Self::over(move || async move { asynchronous(stream) })
    }

    /// TLS on a stream that is open; it must agree on HTTP/2.
    pub(crate) fn tls(stream: std::net::TcpStream, name: &str, pem: &str) -> Self {
        Self::over(move || async move {
            let stream = secure(stream, name, pem).await;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            stream
        })
    }

    fn over<F, S>(open: impl FnOnce() -> F) -> Self
    where
        F: Future<Output = S>,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let sender = runtime.block_on(async {
            let io = TokioIo::new(open().await);
            let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
            let (sender, connection) = builder.max_header_list_size(1 << 20).handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    pub(crate) fn send(&self, request: Request<Message>) -> Answer {
        self.runtime.block_on(whole(self.sender.clone(), request)).unwrap()
    }

    /// A WebSocket by extended CONNECT (RFC 8441) with a seller that greets and echoes; nothing of HTTP/1's upgrade is in the answer.
    #[track_caller]
    pub(crate) fn converse(&self, url: &str) {
        let mut request = Request::connect(url).header("sec-websocket-version", "13").body(Message::new("")).unwrap();
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        let mut sender = self.sender.clone();
        self.runtime.block_on(async {
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            for name in ["sec-websocket-accept", "upgrade", "tollpass-x"] {
                assert!(!answer.headers().contains_key(name), "{name}");
            }
            let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"hello");
            stream.write_all(b"ping!").await.unwrap();
            stream.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"ping!");
        });
    }

    /// All at once, answers in the order of the requests.
    pub(crate) fn send_all(&self, requests: Vec<Request<Message>>) -> Vec<Answer> {
        let sends = requests.into_iter().map(|request| self.runtime.spawn(whole(self.sender.clone(), request)));
        let running: Vec<_> = sends.collect();
        running.into_iter().map(|task| self.runtime.block_on(task).unwrap().unwrap()).collect()
    }
}

fn asynchronous(stream: std::net::TcpStream) -> TcpStream {
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}

async fn secure(stream: std::net::TcpStream, name: &str, pem: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut config = (*tls::client(pem)).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, asynchronous(stream)).await.unwrap()
}

/// What a handshake that offers HTTP/2 and HTTP/1.1 ends with.
pub(crate) fn agreed(stream: std::net::TcpStream, name: &str, pem: &str) -> Option<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { secure(stream, name, pem).await.get_ref().1.alpn_protocol().map(<[u8]>::to_vec) })
}

async fn whole(mut sender: SendRequest<Message>, request: Request<Message>) -> hyper::Result<Answer> {
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes(), trailers })
}

/// A request as an HTTP/2 seller saw it: `start` is its method and absolute URL.
#[derive(Clone, Debug)]
pub(crate) struct Seen2 {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
    pub(crate) trailers: HashMap<String, String>,
}

type Handler = dyn Fn(&Seen2) -> Response<Message> + Send + Sync;

/// A seller that speaks nothing but HTTP/2.
pub(crate) struct Seller2 {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen2>>>,
    connections: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Seller2 {
    /// In the clear, or with `tls` which then offers HTTP/2 only.
    pub(crate) fn start(tls: Option<Arc<ServerConfig>>, handler: impl Fn(&Seen2) -> Response<Message> + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections): (Arc<Mutex<Vec<Seen2>>>, Arc<AtomicUsize>) = Default::default();
        let tls = tls.map(|config| {
            let mut config = (*config).clone();
            config.alpn_protocols = vec![b"h2".to_vec()];
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        let (log, count, handler): (_, _, Arc<Handler>) = (seen.clone(), connections.clone(), Arc::new(handler));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::AcqRel);
                let (tls, log, handler) = (tls.clone(), log.clone(), handler.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, log, handler).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, log, handler).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, connections, _runtime: runtime }
    }

    pub(crate) fn seen(&self) -> Vec<Seen2> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

async fn serve<S>(stream: S, log: Arc<Mutex<Vec<Seen2>>>, handler: Arc<Handler>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (log, handler) = (log.clone(), handler.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?;
            let text = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
            let pairs = |map: &HeaderMap| map.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect::<Vec<_>>();
            let trailers = body.trailers().map(pairs).unwrap_or_default().into_iter().collect();
            let head = Head { start: format!("{} {} HTTP/2", head.method, head.uri), headers: pairs(&head.headers) };
            let seen = Seen2 { head, body: body.to_bytes(), trailers };
            log.lock().unwrap().push(seen.clone());
            Ok::<_, hyper::Error>(handler(&seen))
        }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(1 << 20)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// A request without a body.
pub(crate) fn get(url: &str) -> Request<Message> {
    Request::get(url).body(Message::new("")).unwrap()
}
