//! What the proxy adds to a request that costs nothing, and what it weighs when it has nothing to do. The real program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 4000;
const CONFIG: &str = "version: 1\nlisten: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\nstate: ./state\nledger: { ephemeral: accept }\npolicy: policy.yaml\nagents: { default: bot }\nsigner: { local: { key: env:BENCH_KEY } }\nupstream: { allow_private: true }\n";

/// `{ports}` makes the origin payable or not: payable requests are kept for a second sending, free ones are not.
fn policy(port: u16) -> String {
    format!(
        "version: 1\nagents:\n  bot:\n    caps: {{ per_payment: 1, day: 5 }}\n    allow: [ {{ id: x, host: 127.0.0.1, ports: [{port}], networks: [\"eip155:84532\"], assets: [USDC], pay_to: any, plain_http: true }} ]\n"
    )
}

struct Proxy {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(payable: u16) -> Proxy {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tollpass.yaml"), CONFIG).unwrap();
    std::fs::write(dir.path().join("policy.yaml"), policy(payable)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollpass"))
        .args(["serve", "--json", "--config"])
        .arg(dir.path().join("tollpass.yaml"))
        .env("BENCH_KEY", "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    Proxy { child, address: event["proxy"].as_str().unwrap().parse().unwrap(), _dir: dir }
}

/// An origin that answers one KiB to whatever it gets.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let body = "x".repeat(1024);
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n{body}");
    let (mut buffer, mut have) = ([0; 4096], Vec::new());
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 {
            return;
        }
        have.extend_from_slice(&buffer[..n]);
        if have.ends_with(b"\r\n\r\n") {
            have.clear();
            if stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn p50(to: SocketAddr, origin: SocketAddr) -> Duration {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    let path = if to == origin { "/".to_owned() } else { format!("http://{origin}/") };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {origin}\r\naccept: */*\r\nuser-agent: bench\r\n\r\n");
    let (mut times, mut buffer) = (Vec::with_capacity(ROUNDS), vec![0; 8192]);
    for round in 0..ROUNDS + 200 {
        let start = Instant::now();
        stream.write_all(request.as_bytes()).unwrap();
        let mut have = Vec::new();
        loop {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "closed early");
            have.extend_from_slice(&buffer[..n]);
            if let Some(head) = have.windows(4).position(|w| w == b"\r\n\r\n")
                && have.len() >= head + 4 + 1024
            {
                break;
            }
        }
        if round >= 200 {
            times.push(start.elapsed());
        }
    }
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

pub(super) fn report() {
    let origin = origin();
    let (free, payable) = (start(1), start(origin.port()));
    let idle = resident_kib(free.child.id());
    let mut rows = [
        ("direct", origin, Vec::new()),
        ("through, host no entry names", free.address, Vec::new()),
        ("through, host that could be paid", payable.address, Vec::new()),
    ];
    // In turn, so that a noisy moment hits all three.
    for _ in 0..3 {
        for (_, to, times) in &mut rows {
            times.push(p50(*to, origin));
        }
    }
    println!(
        "\n## A request that costs nothing (plain HTTP, one kept connection, 1 KiB, best of 3 medians)\n\n| way | p50 µs | added µs |\n|---|---:|---:|"
    );
    let best = |times: &[Duration]| times.iter().min().unwrap().as_secs_f64() * 1e6;
    let direct = best(&rows[0].2);
    for (name, _, times) in &rows {
        println!("| {name} | {:.1} | {:.1} |", best(times), best(times) - direct);
    }
    println!("\nIdle memory (VmRSS of `serve` before its first request): {:.1} MiB", idle as f64 / 1024.0);
}
