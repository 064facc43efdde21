//! The access log: one line per request and per tunnel on standard output (`access_log`). Off, it costs a comparison.
//!
//! A worker only hands a record over; a thread of its own writes. Where that thread is behind, because nobody reads our output,
//! lines are dropped and counted. No query, no header and no word of a seller is in a line.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::HeaderMap;
use http::{Method, Request, Response};
use serde::Serialize;

use super::agent::Caller;
use super::body::AgentBody;
use super::connection::{Connection, Towards};
use super::target::{Place, Target, host_target, split_authority};
use crate::clock;
use crate::config::AccessFormat;
use crate::metrics::Metrics;
use crate::payment::{AgentId, Reason, Timestamp};

/// Lines that may wait for the writer.
const WAITING: usize = 4096;

/// Bytes of a path that are shown.
const PATH: usize = 1024;

/// How long the end of the program waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes the lines.
pub(super) struct AccessLog {
    lines: Option<SyncSender<Box<Line>>>,
    /// Closed by the writer when it is done.
    done: Mutex<Receiver<()>>,
    metrics: Arc<Metrics>,
}

/// What a line says. Absent values are not known.
#[derive(Debug)]
struct Line {
    at: Timestamp,
    agent: Option<AgentId>,
    method: Method,
    target: Option<Target>,
    path: Option<String>,
    status: Option<u16>,
    up: Option<u64>,
    down: Option<u64>,
    took: Duration,
    reason: Option<Reason>,
    paid: bool,
}

impl AccessLog {
    /// Starts the writer, unless the log is off.
    pub(super) fn start(format: AccessFormat, metrics: Arc<Metrics>) -> std::io::Result<Option<Arc<Self>>> {
        let render: fn(&Line) -> String = match format {
            AccessFormat::Off => return Ok(None),
            AccessFormat::Text => Line::text,
            AccessFormat::Json => Line::json,
        };
        let (lines, inbox) = sync_channel(WAITING);
        let (finished, done) = sync_channel(0);
        std::thread::Builder::new().name("tollpass-access".into()).spawn(move || {
            write(&inbox, render);
            drop(finished);
        })?;
        Ok(Some(Arc::new(Self { lines: Some(lines), done: Mutex::new(done), metrics })))
    }

    fn send(&self, line: Box<Line>) {
        if self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_err()) {
            self.metrics.access_log_dropped();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        drop(self.lines.take());
        let done = self.done.get_mut().unwrap_or_else(PoisonError::into_inner);
        if done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the access log could not be written to its end: nobody reads standard output");
        }
    }
}

/// Writes what has come so far in one go.
fn write(inbox: &Receiver<Box<Line>>, render: fn(&Line) -> String) {
    let mut out = String::new();
    while let Ok(first) = inbox.recv() {
        out.clear();
        for line in std::iter::once(first).chain(inbox.try_iter().take(64)) {
            out.push_str(&render(&line));
            out.push('\n');
        }
        let mut stdout = std::io::stdout().lock();
        // Nowhere else to say that nobody listens.
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    }
}

/// A request or tunnel under way; its line is written when this is dropped.
pub(super) struct Record {
    log: Arc<AccessLog>,
    line: Option<Box<Line>>,
    began: Instant,
}

impl Record {
    fn begin(log: &Arc<AccessLog>, method: Method, target: Option<Target>, path: Option<String>) -> Self {
        let line = Line {
            at: clock::read().wall,
            agent: None,
            method,
            target,
            path,
            status: None,
            up: None,
            down: None,
            took: Duration::ZERO,
            reason: None,
            paid: false,
        };
        Self { log: log.clone(), line: Some(Box::new(line)), began: Instant::now() }
    }

    /// A request that has just been read; nothing where the log is off.
    pub(super) fn of<B: hyper::body::Body>(conn: &Connection, request: &Request<B>) -> Option<Self> {
        let log = conn.proxy.access.as_ref()?;
        let path = (request.method() != Method::CONNECT).then(|| shown(request.uri().path()));
        let mut record = Self::begin(log, request.method().clone(), target(conn, request), path);
        if let Some(line) = &mut record.line {
            line.up = request.body().size_hint().exact();
            line.down = Some(0);
        }
        Some(record)
    }

    /// A tunnel that is open, or was asked for; nothing where the log is off.
    pub(super) fn tunnel(conn: &Connection, caller: &Caller, target: &Target) -> Option<Self> {
        let log = conn.proxy.access.as_ref()?;
        let mut record = Self::begin(log, Method::CONNECT, Some(target.clone()), None);
        record.is_of(caller);
        Some(record)
    }

    pub(super) fn is_of(&mut self, caller: &Caller) {
        if let Some(line) = &mut self.line {
            line.agent = Some(caller.agent.clone());
        }
    }

    /// Whatever came of a request.
    pub(super) fn answered(&mut self, response: &Response<AgentBody>) {
        if let Some(line) = &mut self.line {
            line.status = Some(response.status().as_u16());
            line.reason = reason(response.headers());
            line.paid = matches!(response.body(), AgentBody::Paid(_));
        }
    }

    /// Bytes on their way to the agent.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(Line { down: Some(down), .. }) = self.line.as_deref_mut() {
            *down += bytes as u64;
        }
    }

    /// All that passed through a tunnel, if that is known.
    pub(super) fn passed(mut self, bytes: Option<(u64, u64)>) {
        if let Some(line) = &mut self.line {
            line.status = Some(200);
            (line.up, line.down) = bytes.unzip();
        }
    }

    /// A tunnel that was not opened.
    pub(super) fn refused(mut self, reason: Reason) {
        if let Some(line) = &mut self.line {
            line.reason = Some(reason);
        }
    }

    /// Leaves the line to the tunnel that begins here.
    pub(super) fn forget(mut self) {
        self.line = None;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.took = self.began.elapsed();
            self.log.send(line);
        }
    }
}

/// Where a request goes, as it will be decided: by its own line, or by what the tunnel was opened for.
fn target<B>(conn: &Connection, request: &Request<B>) -> Option<Target> {
    let uri = request.uri();
    match conn.inside.as_ref().map(|inside| &inside.towards) {
        Some(Towards::Fixed(target)) => Some(target.clone()),
        Some(Towards::Host { port }) => host_target(uri, request.headers(), *port).ok(),
        None if request.method() == Method::CONNECT && uri.scheme().is_none() => {
            let (host, port) = split_authority(uri.authority()?).ok()?;
            Some(Target { https: true, host, port: port? })
        }
        None => Some(Place::absolute(uri, None).ok()?.target),
    }
}

/// The reason that one of our own answers gives. A seller's `Proxy-Status` in our name never gets here (S19).
fn reason(headers: &HeaderMap) -> Option<Reason> {
    let ours = |v: &http::HeaderValue| {
        let details = v.to_str().ok()?.strip_prefix("tollpass;")?.split_once("details=\"")?.1;
        Reason::parse(details.split('"').next()?)
    };
    headers.get_all("proxy-status").iter().find_map(ours)
}

/// A path as a line may hold it: no control character, no blank, bounded.
fn shown(path: &str) -> String {
    let mut out = String::new();
    for c in path.chars() {
        if out.len() > PATH {
            out.push('…');
            break;
        }
        if c.is_ascii_graphic() && c != '\\' { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    out
}

/// One line as JSON.
#[derive(Serialize)]
struct Row<'a> {
    time: String,
    agent: Option<&'a str>,
    method: &'a str,
    scheme: Option<&'static str>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<&'a str>,
    status: Option<u16>,
    up: Option<u64>,
    down: Option<u64>,
    duration_us: u128,
    reason: Option<&'static str>,
    paid: bool,
}

impl Line {
    /// A tunnel's content has no scheme that we know.
    fn scheme(&self) -> Option<&'static str> {
        let target = self.target.as_ref().filter(|_| self.path.is_some())?;
        Some(if target.https { "https" } else { "http" })
    }

    fn json(&self) -> String {
        let row = Row {
            time: self.at.rfc3339_millis(),
            agent: self.agent.as_ref().map(AgentId::as_str),
            method: self.method.as_str(),
            scheme: self.scheme(),
            host: self.target.as_ref().map(|t| t.host.to_string()),
            port: self.target.as_ref().map(|t| t.port),
            path: self.path.as_deref(),
            status: self.status,
            up: self.up,
            down: self.down,
            duration_us: self.took.as_micros(),
            reason: self.reason.map(Reason::as_str),
            paid: self.paid,
        };
        serde_json::to_string(&row).unwrap_or_default()
    }

    /// Blanks between the values, `-` for what is not known.
    fn text(&self) -> String {
        fn or_dash(value: Option<impl ToString>) -> String {
            value.map_or_else(|| "-".to_owned(), |v| v.to_string())
        }
        let place = self.target.as_ref().map(|t| match (self.scheme(), &self.path) {
            (Some(scheme), Some(path)) => format!("{scheme}://{}:{}{path}", t.host, t.port),
            _ => format!("{}:{}", t.host, t.port),
        });
        format!(
            "{} {} {} {} {} up={} down={} us={} paid={} reason={}",
            self.at.rfc3339_millis(),
            or_dash(self.agent.as_ref()),
            self.method,
            or_dash(place.or_else(|| self.path.clone())),
            or_dash(self.status),
            or_dash(self.up),
            or_dash(self.down),
            self.took.as_micros(),
            if self.paid { "yes" } else { "no" },
            or_dash(self.reason),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::Host;

    fn line() -> Line {
        Line {
            at: Timestamp::from_millis(1_795_262_400_123),
            agent: Some("bot".parse().unwrap()),
            method: Method::GET,
            target: Some(Target { https: true, host: Host::parse("::1").unwrap(), port: 8443 }),
            path: Some(shown("/a")),
            status: Some(200),
            up: Some(0),
            down: Some(5),
            took: Duration::from_micros(1500),
            reason: None,
            paid: true,
        }
    }

    #[test]
    fn both_formats_say_the_same() {
        assert_eq!(line().text(), "2026-11-21T12:00:00.123Z bot GET https://[::1]:8443/a 200 up=0 down=5 us=1500 paid=yes reason=-");
        assert_eq!(
            line().json(),
            "{\"time\":\"2026-11-21T12:00:00.123Z\",\"agent\":\"bot\",\"method\":\"GET\",\"scheme\":\"https\",\"host\":\"[::1]\",\"port\":8443,\
             \"path\":\"/a\",\"status\":200,\"up\":0,\"down\":5,\"duration_us\":1500,\"reason\":null,\"paid\":true}"
        );
        let tunnel = Line { method: Method::CONNECT, path: None, up: None, reason: Some(Reason::EgressDenied), paid: false, ..line() };
        assert_eq!(tunnel.text(), "2026-11-21T12:00:00.123Z bot CONNECT [::1]:8443 200 up=- down=5 us=1500 paid=no reason=egress_denied");
        let odd = Line { agent: None, target: None, status: None, path: Some(shown("*")), ..line() };
        assert_eq!(odd.text(), "2026-11-21T12:00:00.123Z - GET * - up=0 down=5 us=1500 paid=yes reason=-");
    }

    #[test]
    fn a_path_cannot_forge_a_line_and_has_an_end() {
        assert_eq!(shown("/a b\n\u{1b}[31m\\"), "/a\\u{20}b\\u{a}\\u{1b}[31m\\u{5c}");
        assert!(shown(&"/x".repeat(10_000)).len() < PATH + 10);
    }

    #[test]
    fn the_reason_is_ours() {
        let of =
            |text: &'static str| reason(&[(http::HeaderName::from_static("proxy-status"), text.parse().unwrap())].into_iter().collect());
        assert_eq!(of("tollpass; error=http_request_denied; details=\"cap_day\"; rule=\"caps.day\""), Some(Reason::CapDay));
        assert_eq!(of("cdn; details=\"cap_day\""), None);
    }
}
