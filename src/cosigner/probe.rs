//! Asking the seller ourselves (S4): a process without a share fetches the seller's own challenge, and what it asks for is
//! proven, because it came from a host that policy names, over TLS.
//!
//! Here is what the judge needs: the address that may be asked, the way to the probe process, and the comparison. The process
//! is [`process`]. Between them: one JSON line each way on a Unix socket of mode 0600.

pub mod process;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::trust::{Fact, Proven, SellerTerms};
use crate::payment::AssetTable;
use crate::policy::{Host, Transfer};
use crate::protocol;

/// Longest answer of a seller that is read, head and body each (S4, S21).
pub const MAX_ANSWER: usize = 64 << 10;

/// How long the seller may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long an answer is taken for the next question of the same address.
const FRESH: Duration = Duration::from_secs(60);

/// Answers kept at once.
const KEPT: usize = 256;

/// Longest URL that is asked.
const MAX_URL: usize = 2048;

/// Where to ask: https on its own port, or anything on a loopback address. Made only by [`super::trust::Claimed::address`], so
/// its host is one that policy writes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: String,
    host: Host,
}

impl Address {
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (uri, host) = split(url)?;
        let own_port = uri.scheme_str() == Some("https") && matches!(uri.port_u16(), None | Some(443));
        (own_port || host.is_loopback()).then(|| Self { url: uri.to_string(), host })
    }

    /// The host that answers for it.
    pub const fn host(&self) -> &Host {
        &self.host
    }
}

/// An absolute http or https URL without user information, and its host.
fn split(url: &str) -> Option<(Uri, Host)> {
    if url.len() > MAX_URL {
        return None;
    }
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    if !matches!(uri.scheme_str(), Some("https" | "http")) || authority.as_str().contains('@') {
        return None;
    }
    let host = Host::parse(authority.host()).ok()?;
    Some((uri, host))
}

/// The host of a URL, if it is one of the web's.
pub(super) fn host_of(url: &str) -> Option<Host> {
    split(url).map(|(_, host)| host)
}

/// One question, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What to GET.
    pub url: String,
}

/// One answer, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status; zero if the seller gave none.
    pub status: u16,
    /// Its headers, in order. Values that are no text are left out.
    pub headers: Vec<(String, String)>,
    /// Its body, base64.
    pub body: String,
}

impl Answer {
    /// No answer of a seller.
    pub const fn none() -> Self {
        Self { status: 0, headers: Vec::new(), body: String::new() }
    }
}

/// Why nothing is proven.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The probe process cannot be reached, or does not answer in its own words.
    #[error("the probe process does not answer")]
    Process(#[source] std::io::Error),
    /// The seller does not ask for this payment.
    #[error("the seller does not ask for this payment")]
    Differs,
}

/// The way to the probe process.
#[derive(Debug)]
pub struct Probe {
    socket: PathBuf,
    kept: Mutex<HashMap<String, (Instant, Arc<Answer>)>>,
}

impl Probe {
    /// Through this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, kept: Mutex::default() }
    }

    /// What the seller asks for there, if it is exactly what is to be signed.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub async fn ask(&self, address: &Address, assets: &AssetTable, transfer: &Fact<Transfer>) -> Result<Proven<SellerTerms>, ProbeError> {
        let answer = match self.fresh(&address.url) {
            Some(answer) => answer,
            None => {
                let fetched = tokio::time::timeout(PATIENCE + Duration::from_secs(1), self.fetch(&address.url)).await;
                let answer = Arc::new(fetched.map_err(|e| ProbeError::Process(e.into()))?.map_err(ProbeError::Process)?);
                self.keep(&address.url, &answer);
                answer
            }
        };
        compare(&answer, address, assets, transfer).ok_or(ProbeError::Differs)
    }

    fn fresh(&self, url: &str) -> Option<Arc<Answer>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(url).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, answer)| Arc::clone(answer))
    }

    /// Only challenges are kept: a seller that was down for a moment is asked again.
    fn keep(&self, url: &str, answer: &Arc<Answer>) {
        if answer.status != 402 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (at, _)| at.elapsed() < FRESH);
        if kept.len() < KEPT {
            kept.insert(url.to_owned(), (Instant::now(), Arc::clone(answer)));
        }
    }

    async fn fetch(&self, url: &str) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let mut line = serde_json::to_vec(&Question { url: url.to_owned() })?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        // Base64 of the body, the head as JSON text, and room for the escapes in it.
        let limit = u64::try_from(MAX_ANSWER * 4).unwrap_or(u64::MAX);
        let mut answer = String::new();
        BufReader::new(stream.take(limit)).read_line(&mut answer).await?;
        Ok(serde_json::from_str(&answer)?)
    }
}

/// Payee, asset and price of one of the seller's own offers are those to be signed.
pub(super) fn compare(answer: &Answer, address: &Address, assets: &AssetTable, transfer: &Fact<Transfer>) -> Option<Proven<SellerTerms>> {
    let mut headers = HeaderMap::new();
    for (name, value) in &answer.headers {
        headers.append(HeaderName::try_from(name.as_str()).ok()?, HeaderValue::try_from(value.as_str()).ok()?);
    }
    let body = STANDARD.decode(&answer.body).ok().filter(|body| body.len() <= MAX_ANSWER)?;
    let wire = protocol::Answer { status: answer.status, headers: &headers, body: &body };
    let challenge = protocol::parse(&wire, assets).ok().flatten()?;
    let own = transfer.get();
    let asked = challenge.offers.iter().find(|offer| {
        offer.payee == own.payee && offer.asset.id == own.asset && offer.amount.asset() == own.asset && offer.amount.atomic() == own.amount
    })?;
    let host = address.host.clone();
    Some(Proven::new(SellerTerms { payee: asked.payee.0, asset: own.asset, amount: asked.amount.atomic(), host }))
}
