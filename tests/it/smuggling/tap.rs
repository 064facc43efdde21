//! A seller that reads HTTP/1 strictly and by itself, and writes down every request.

use std::sync::{Arc, Mutex};

use rustls::ServerConfig;

use crate::harness::{Seller, Wire};

/// What arrived: whole requests, and how many connections ended within one.
#[derive(Default)]
struct Book {
    seen: Vec<String>,
    cut: usize,
}

/// A running tap.
pub(crate) struct Tap {
    seller: Seller,
    book: Arc<Mutex<Book>>,
}

impl Tap {
    pub(crate) fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let book = Arc::<Mutex<Book>>::default();
        let pages = book.clone();
        let seller = Seller::raw(tls, move |wire| read(wire, &pages));
        Self { seller, book }
    }

    pub(crate) fn authority(&self) -> String {
        self.seller.authority()
    }

    /// The requests since the last time, as "method target body".
    pub(crate) fn drain(&self) -> Vec<String> {
        std::mem::take(&mut self.book.lock().unwrap().seen)
    }

    /// Connections that ended within a request, since the last time.
    pub(crate) fn cut(&self) -> usize {
        std::mem::take(&mut self.book.lock().unwrap().cut)
    }
}

fn read(wire: &mut Wire, book: &Mutex<Book>) {
    let authority = wire.tcp().local_addr().unwrap().to_string();
    let mut bytes = Vec::new();
    loop {
        match whole(&bytes, &authority) {
            Ok(Some((request, len))) => {
                bytes.drain(..len);
                book.lock().unwrap().seen.push(request);
                if wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                    return;
                }
            }
            Ok(None) => match wire.some() {
                Ok(more) if !more.is_empty() => bytes.extend(more),
                _ => {
                    book.lock().unwrap().cut += usize::from(!bytes.is_empty());
                    return;
                }
            },
            Err(fault) => {
                let told = format!("{fault}: {:?}", String::from_utf8_lossy(&bytes));
                book.lock().unwrap().seen.push(told);
                return;
            }
        }
    }
}

/// A request and its length, if it is whole; an error if it has any but the plainest form.
fn whole(bytes: &[u8], authority: &str) -> Result<Option<(String, usize)>, &'static str> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Err("a line end of another kind");
    }
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err("request line") };
    let (mut hosts, mut lengths, mut codings) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = line.split_once(": ").or(line.strip_suffix(':').map(|n| (n, ""))).ok_or("a field without a colon")?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err("a name with a blank");
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts.push(value),
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    if hosts != [authority] {
        return Err("not the one host");
    }
    let rest = &bytes[end + 4..];
    let body = match (&lengths[..], &codings[..]) {
        ([], []) => Some((Vec::new(), 0)),
        ([n], []) => {
            let n: usize = n.parse().map_err(|_| "length")?;
            rest.get(..n).map(|body| (body.to_vec(), n))
        }
        ([], ["chunked"]) => chunks(rest)?,
        _ => return Err("more than one framing"),
    };
    let request = |body: &[u8]| format!("{method} {target} {}", String::from_utf8_lossy(body));
    Ok(body.map(|(body, n)| (request(&body), end + 4 + n)))
}

/// A chunked body without extensions or trailers, and its length.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = bytes[at..].windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + line]).map_err(|_| "chunk size")?;
        let size = usize::from_str_radix(size, 16).map_err(|_| "chunk size")?;
        at += line + 2;
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            return Err("chunk end");
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}
