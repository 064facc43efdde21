//! The two ends of a purchase, for `run.py`:
//!
//!     paid-bench seller                        prints its address; sells to whoever brings a payment of the right shape
//!     paid-bench x402 URL CONNECTIONS SECONDS  buys with the crate `x402-reqwest`
//!     paid-bench plain URL CONNECTIONS SECONDS PROXY  asks with plain `reqwest` through a proxy that pays
//!
//! The buyers print one line of JSON. Both use the same HTTP client, so that what differs is who pays.

mod seller;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloy_signer_local::PrivateKeySigner;
use reqwest_middleware::ClientWithMiddleware;
use x402_chain_eip155::V2Eip155ExactClient;
use x402_reqwest::{ReqwestWithPayments as _, ReqwestWithPaymentsBuild as _, X402Client};

/// Not counted: connections are made, code is warmed up.
const WARM: Duration = Duration::from_millis(500);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["seller"] => seller::run(),
        ["x402", url, connections, seconds] => report(paying(), url, connections, seconds),
        ["plain", url, connections, seconds, proxy] => report(plain(proxy), url, connections, seconds),
        _ => {
            eprintln!("usage: paid-bench seller | x402 URL CONNECTIONS SECONDS | plain URL CONNECTIONS SECONDS PROXY");
            std::process::exit(2);
        }
    }
}

fn paying() -> ClientWithMiddleware {
    let key = std::env::var("BENCH_KEY").expect("BENCH_KEY");
    let signer: Arc<PrivateKeySigner> = Arc::new(key.parse().expect("BENCH_KEY is a key"));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    client.with_payments(X402Client::new().register(V2Eip155ExactClient::new(signer))).build()
}

fn plain(proxy: &str) -> ClientWithMiddleware {
    let proxy = reqwest::Proxy::http(proxy).expect("the URL of a proxy");
    let client = reqwest::Client::builder().proxy(proxy).build().expect("a client");
    reqwest_middleware::ClientBuilder::new(client).build()
}

/// Buys on `connections` connections for `seconds`, each purchase another page.
fn report(client: ClientWithMiddleware, url: &str, connections: &str, seconds: &str) {
    let (connections, seconds): (u64, f64) = (connections.parse().expect("a number"), seconds.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let pages = Arc::new(AtomicU64::new(u64::from(std::process::id()) << 32));
    let (from, until) = (Instant::now() + WARM, Instant::now() + WARM + Duration::from_secs_f64(seconds));
    let mut took = Vec::new();
    let mut failed = 0;
    runtime.block_on(async {
        let buyers: Vec<_> = (0..connections)
            .map(|_| tokio::spawn(buy(client.clone(), url.to_owned(), pages.clone(), from, until)))
            .collect();
        for buyer in buyers {
            let (times, errors) = buyer.await.expect("a buyer");
            took.extend(times);
            failed += errors;
        }
    });
    took.sort_unstable();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).map_or(0.0, |t| t.as_secs_f64() * 1e3);
    let line = serde_json::json!({
        "bought": took.len(), "failed": failed, "per_second": took.len() as f64 / seconds, "p50_ms": at(0.5), "p99_ms": at(0.99),
    });
    println!("{line}");
}

async fn buy(client: ClientWithMiddleware, url: String, pages: Arc<AtomicU64>, from: Instant, until: Instant) -> (Vec<Duration>, u64) {
    let (mut times, mut failed) = (Vec::new(), 0);
    loop {
        let start = Instant::now();
        if start >= until {
            return (times, failed);
        }
        let page = pages.fetch_add(1, Ordering::Relaxed);
        let answer = client.get(format!("{url}/buy/{page:x}")).send().await;
        let good = match answer {
            Ok(answer) => answer.status() == 200 && answer.bytes().await.is_ok_and(|b| b.len() == seller::PAGE),
            Err(_) => false,
        };
        if start >= from {
            if good { times.push(start.elapsed()) } else { failed += 1 }
        }
    }
}
