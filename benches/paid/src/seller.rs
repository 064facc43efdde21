//! A seller whose facilitator answers at once: it looks at the shape of a payment and checks no signature.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes of what is sold.
pub(crate) const PAGE: usize = 1024;

const CHALLENGE: &str = r#"{"x402Version":2,"error":"Payment required","resource":{"url":"http://127.0.0.1/buy","description":"a page","mimeType":"text/plain"},"accepts":[{"scheme":"exact","network":"eip155:84532","amount":"10000","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x209693Bc6afc0C5328bA36FaF03C514EF312287C","maxTimeoutSeconds":60,"extra":{"name":"USDC","version":"2"}}]}"#;

const RECEIPT: &str = r#"{"success":true,"transaction":"0x0000000000000000000000000000000000000000000000000000000000000001","network":"eip155:84532","payer":"0x1111111111111111111111111111111111111111"}"#;

/// Prints `http://ADDRESS` and sells until it is killed.
pub(crate) fn run() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("http://{}", listener.local_addr().expect("an address"));
    for stream in listener.incoming().flatten() {
        // Threads: a few dozen connections at most, and nothing to tune.
        std::thread::spawn(move || sell(stream));
    }
}

fn sell(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let page = "x".repeat(PAGE);
    let asks = format!(
        "HTTP/1.1 402 Payment Required\r\npayment-required: {}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
        STANDARD.encode(CHALLENGE)
    );
    let sold = format!(
        "HTTP/1.1 200 OK\r\npayment-response: {}\r\ncontent-type: text/plain\r\ncontent-length: {PAGE}\r\n\r\n{page}",
        STANDARD.encode(RECEIPT)
    );
    let (mut buffer, mut head) = ([0; 16 << 10], Vec::new());
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        head.extend_from_slice(&buffer[..n]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let answer = if paid(&String::from_utf8_lossy(&head)) { &sold } else { &asks };
        head.clear();
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A `Payment-Signature` with a signature and an authorization of the right price in it.
fn paid(head: &str) -> bool {
    let field = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("payment-signature").then_some(value.trim())
    });
    let Some(json) = field.and_then(|f| STANDARD.decode(f).ok()).and_then(|b| serde_json::from_slice::<serde_json::Value>(&b).ok()) else {
        return false;
    };
    let payload = &json["payload"];
    let signature = payload["signature"].as_str().unwrap_or_default();
    signature.len() == 132 && signature.starts_with("0x") && payload["authorization"]["value"] == "10000"
}
