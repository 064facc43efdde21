//! The real `tollpass serve` under a steady load of payments: what that does to requests that cost nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use tollpass::payment::Reason;

use super::buyer::Bought;
use super::wallet::Wallet;

/// Connections that pay; enough for what is under way at any moment.
const PAYERS: usize = 24;
/// Free requests per second.
const FREE: u32 = 200;

/// What `serve` signs with.
pub(super) enum With<'a> {
    Local,
    Mpc(&'a Wallet, SocketAddr),
}

pub(super) struct Proxy {
    child: Child,
    address: SocketAddr,
    seller: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    pub(super) fn start(dir: &Path, with: &With<'_>) -> Self {
        let (dir, seller) = (tempfile::tempdir_in(dir).unwrap(), seller());
        let signer = match with {
            With::Local => "{ local: { key: env:BENCH_KEY } }".to_owned(),
            With::Mpc(wallet, cosigner) => format!(
                "{{ mpc: {{ wallet: bench, share: file:{0}/share, unseal: file:{0}/passphrase, identity: file:{0}/identity.pem, cosigner: \"https://{cosigner}\", pin: {1} }} }}",
                wallet.sidecar.folder.display(),
                wallet.cosigner.identity.fingerprint()
            ),
        };
        std::fs::write(
            dir.path().join("tollpass.yaml"),
            format!("version: 1\nlisten: {{ proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }}\nstate: ./state\nledger: {{ ephemeral: accept }}\npolicy: policy.yaml\nagents: {{ default: bot }}\nsigner: {signer}\nupstream: {{ allow_private: true }}\n"),
        )
        .unwrap();
        std::fs::write(
            dir.path().join("policy.yaml"),
            "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 100000 }\n    rate: { per_minute: 1000000 }\n    allow: [ { id: x, host: 127.0.0.1, networks: [\"eip155:84532\"], assets: [USDC], pay_to: any, plain_http: true } ]\n",
        )
        .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollpass"))
            .args(["serve", "--json", "--config"])
            .arg(dir.path().join("tollpass.yaml"))
            .env("BENCH_KEY", crate::parts::KEY)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("serve did not start: {}", std::fs::read_to_string(dir.path().join("log")).unwrap_or_default()));
        let address = event["proxy"].as_str().unwrap().parse().unwrap();
        Self { child, address, seller, _dir: dir }
    }

    /// Free requests for `time`, one after the other, evenly spread.
    pub(super) fn free(&self, time: Duration) -> Vec<Bought> {
        let mut connection = Connection::to(self.address);
        let (start, count) = (Instant::now(), FREE * u32::try_from(time.as_secs()).unwrap());
        let request = format!("GET http://{0}/free HTTP/1.1\r\nhost: {0}\r\naccept: */*\r\nuser-agent: bench\r\n\r\n", self.seller);
        let ask = |n: u32| {
            std::thread::sleep((start + Duration::from_secs(1) * n / FREE).saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            assert_eq!(connection.ask(&request), 200);
            Ok(asked.elapsed())
        };
        (0..count).map(ask).collect()
    }

    /// `per_second` paid requests for `time`, whether or not the ones before are done; each from the moment it was due. One
    /// that was not paid counts as refused by the signer, whoever refused it.
    pub(super) fn paid(&self, per_second: u32, time: Duration) -> Vec<Bought> {
        let (jobs, inbox) = mpsc::channel::<Instant>();
        let inbox = Arc::new(Mutex::new(inbox));
        let payers: Vec<_> = (0..PAYERS)
            .map(|_| {
                let (inbox, address, seller) = (Arc::clone(&inbox), self.address, self.seller);
                std::thread::spawn(move || {
                    let (mut connection, mut times) = (Connection::to(address), Vec::new());
                    loop {
                        let job = inbox.lock().unwrap().recv();
                        let Ok(due) = job else { return times };
                        let page = rand::random::<u64>();
                        let request = format!("GET http://{seller}/buy/{page} HTTP/1.1\r\nhost: {seller}\r\naccept: */*\r\n\r\n");
                        let status = connection.ask(&request);
                        times.push(if status == 200 { Ok(due.elapsed()) } else { Err(Reason::SignerRefused) });
                    }
                })
            })
            .collect();
        let (start, count) = (Instant::now(), per_second * u32::try_from(time.as_secs()).unwrap());
        for n in 0..count {
            let due = start + Duration::from_secs(1) * n / per_second;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            jobs.send(due).unwrap();
        }
        drop(jobs);
        payers.into_iter().flat_map(|p| p.join().unwrap()).collect()
    }
}

/// An HTTP/1.1 connection that is kept.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 16 << 10] }
    }

    /// Sends a request and reads the whole answer; its status.
    fn ask(&mut self, request: &str) -> u16 {
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut have = Vec::new();
        loop {
            let n = self.stream.read(&mut self.buffer).unwrap();
            assert!(n > 0, "closed early: {}", String::from_utf8_lossy(&have));
            have.extend_from_slice(&self.buffer[..n]);
            let Some(end) = have.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&have[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length:")).and_then(|v| v.trim().parse().ok()).unwrap_or(0);
            if have.len() >= end + 4 + length {
                return head.split(' ').nth(1).unwrap().parse().unwrap();
            }
        }
    }
}

/// Sells what is under `/buy/` and gives the rest away.
fn seller() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || sell(stream));
        }
    });
    address
}

fn sell(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let challenge = crate::fixture::headers()["payment-required"].to_str().unwrap().to_owned();
    let receipt = r#"{"success":true,"transaction":"0x1","network":"eip155:84532","payer":"0x1111111111111111111111111111111111111111"}"#;
    let receipt = base64::engine::general_purpose::STANDARD.encode(receipt);
    let body = "x".repeat(1024);
    let free = format!("HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n{body}");
    let asks = format!("HTTP/1.1 402 Payment Required\r\npayment-required: {challenge}\r\ncontent-length: 2\r\n\r\n{{}}");
    let sold = format!("HTTP/1.1 200 OK\r\npayment-response: {receipt}\r\ncontent-length: 1024\r\n\r\n{body}");
    let (mut buffer, mut have) = ([0; 8192], Vec::new());
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 {
            return;
        }
        have.extend_from_slice(&buffer[..n]);
        if !have.ends_with(b"\r\n\r\n") {
            continue;
        }
        let head = String::from_utf8_lossy(&have).to_ascii_lowercase();
        have.clear();
        let answer = match (head.starts_with("get /buy/"), head.contains("payment-signature:")) {
            (false, _) => &free,
            (true, false) => &asks,
            (true, true) => &sold,
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
