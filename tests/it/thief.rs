//! A stolen sidecar against the real co-signer (security.md §8): 10,000 requests of every sort over seven simulated days, by a
//! program that has the loot and no policy code. What it gets signed is brought to a chain, and the chain is added up.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};

use alloy_primitives::{Address, U256};
use serde_json::Value;

use crate::harness::{Chain, Cosigner, Wallet, worth};
use crate::till;

const REQUESTS: usize = 10_000;
const DAYS: u64 = 7;
const DAY_MS: u64 = 86_400_000;

/// Atomic units of USDC, which are micro-dollars.
const PER_PAYMENT: u64 = 20_000;
const PER_DAY: u64 = 300_000;
const TOTAL: u64 = 1_500_000;

/// Caps on the agent, and the same on the wallet. The agent's day is the tightest of them, until the wallet's total is.
fn policy(wallet: &Wallet) {
    let text = format!(
        "version: 1\ncaps: {{ wallet: {{ total: 1.5 }}, identity: {{ day: 0.4 }} }}\nagents:\n  bot:\n    caps: {{ per_payment: 0.02, day: 0.3 }}\n    \
         allow:\n      - {{ id: shop, host: [localhost, 127.0.0.1, \"*.example\"], networks: [\"eip155:84532\"], assets: [USDC], \
         pay_to: [\"{}\"], plain_http: true }}\n",
        till::payee()
    );
    std::fs::write(wallet.path("cs/policy.yaml"), text).unwrap();
}

/// Runs the thief; after each of its days the clocks of both sides go on by 24 hours.
fn robbery(wallet: &Wallet, cosigner: &Cosigner) -> (Value, Vec<Value>) {
    let (clock, out) = (wallet.path("clock"), wallet.path("stolen.jsonl"));
    let secrets = wallet.path("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("passphrase"), wallet.passphrase()).unwrap();
    std::fs::set_permissions(secrets.join("passphrase"), std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    let mut thief = Command::new(env!("CARGO_BIN_EXE_tollpass-thief"))
        .args(["--agent", "bot", "--plan", "mixed", "--pin", wallet.pin(), "--cosigner", &wallet.authority()])
        .args(["--payee", &till::payee().to_string(), "--price", "10000"])
        .args(["--requests", &REQUESTS.to_string(), "--days", &DAYS.to_string()])
        .arg("--identity")
        .arg(wallet.path("sc/id.pem"))
        .arg("--share")
        .arg(wallet.path("sc/share"))
        .arg("--passphrase")
        .arg(secrets.join("passphrase"))
        .env("TOLLPASS_CLOCK_AHEAD_MS", &clock)
        .arg("--out")
        .arg(&out)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut go_on: ChildStdin = thief.stdin.take().unwrap();
    let mut summary = Value::Null;
    for line in BufReader::new(thief.stdout.take().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let Some(day) = line["day"].as_u64() else {
            summary = line;
            continue;
        };
        assert_eq!(cosigner.metrics().sum("tollpass_cosigner_frozen", &[]), 0.0, "the co-signer still answers");
        std::fs::write(&clock, (day * DAY_MS).to_string()).unwrap();
        writeln!(go_on).unwrap();
    }
    assert!(thief.wait().unwrap().success());
    let lines = std::fs::read_to_string(out).unwrap();
    (summary, lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect())
}

#[test]
fn s4_ten_thousand_requests_of_a_stolen_sidecar_over_seven_days_move_nothing_over_the_limits() {
    let wallet = Wallet::new();
    policy(&wallet);
    let clock = wallet.path("clock");
    std::fs::write(&clock, "0").unwrap();
    let cosigner = wallet.start(&[("TOLLPASS_CLOCK_AHEAD_MS", clock.to_str().unwrap())]);
    wallet.enroll();
    let started = std::time::Instant::now();
    let (summary, stolen) = robbery(&wallet, &cosigner);

    // The chain takes each nonce once; the dearest signature under a nonce is the one a thief would bring.
    let mut worths: Vec<_> = stolen.iter().map(|line| worth(line).expect("a signature that the token takes")).collect();
    worths.sort_by_key(|w| std::cmp::Reverse(w.2));
    let chain = Chain::new();
    let mut days: BTreeMap<u64, U256> = BTreeMap::new();
    for (from, to, value, nonce, after) in worths {
        assert_eq!(from, wallet.address);
        if chain.settle(from, to, value, nonce).is_ok() {
            *days.entry((after + 60) / (DAY_MS / 1000)).or_default() += value;
        }
    }
    let transfers = chain.transfers();
    let total: U256 = transfers.iter().map(|t| t.value).sum();
    let strangers: Vec<Address> = transfers.iter().map(|t| t.to).filter(|to| *to != till::payee()).collect();
    println!("{} requests in {:?}: {summary}", summary["requests"], started.elapsed());
    println!("on the chain: {} transfers, {total} atomic units of at most {TOTAL}; by day of at most {PER_DAY}: {days:?}", transfers.len());

    assert!(summary["requests"].as_u64().unwrap() >= u64::try_from(REQUESTS).unwrap());
    assert_eq!(strangers, [] as [Address; 0], "only the payee that the co-signer knows");
    assert!(transfers.iter().all(|t| t.value <= U256::from(PER_PAYMENT)));
    // A payment belongs to the day of its hold (M2.1); what was held and not finished may be signed on a later day under the same
    // nonce. So up to the end of any day no more may move than so many days allow.
    let mut moved = U256::ZERO;
    for (day, sum) in (1u64..).zip(days.values()) {
        moved += *sum;
        assert!(moved <= U256::from(PER_DAY * day), "{moved} by day {day}: {days:?}");
    }
    assert!(total <= U256::from(TOTAL));
    // It was heard and could spend, or the above says nothing: the first days are used up to the last price.
    assert!(total > U256::from(TOTAL - 2 * PER_PAYMENT), "{total}");
    for reason in
        ["cap_day", "unverified_payee", "agent_not_tied", "cap_per_payment", "window_too_long", "idempotency_conflict", "cap_wallet"]
    {
        assert!(summary["refused"][reason].as_u64().is_some_and(|n| n > 0), "no {reason} in {summary}");
    }
    assert_eq!(summary["unanswered"], serde_json::json!({}), "every request had an answer");
}
