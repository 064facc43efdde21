//! What the thief tries.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::sync::{Arc, Mutex};

use alloy_primitives::Address;
use anyhow::{Context as _, Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Args;
use crate::loot::{Got, Loot, Want};

/// Plans by name.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Plan {
    /// Four attempts, one JSON line each.
    Demo,
    /// Thousands of requests of every sort.
    Mixed,
}

/// Requests in flight at once in the mixed plan's bursts.
const AT_ONCE: usize = 200;

pub(crate) async fn run(args: &Args, loot: Loot) -> Result<()> {
    let payee: Address = args.payee.parse().context("--payee")?;
    match args.plan {
        Plan::Demo => demo(args, &loot, payee).await,
        Plan::Mixed => mixed(args, loot, payee).await,
    }
}

fn want(args: &Args, to: Address, value: u64) -> Want {
    Want { agent: args.agent.clone(), to, value, purchase: rand::random(), host: "127.0.0.1".into(), lifetime: 240 }
}

async fn demo(args: &Args, loot: &Loot, payee: Address) -> Result<()> {
    let over_cap = Want { value: args.price * 1000, ..want(args, payee, 0) };
    let unlisted = want(args, Address::from(rand::random::<[u8; 20]>()), args.price);
    let foreign = Want { agent: "somebody-else".into(), ..want(args, payee, args.price) };
    for (attempt, want) in [("over_cap", over_cap), ("unlisted_payee", unlisted), ("foreign_agent", foreign)] {
        say(attempt, want.value, &loot.ask(&want).await)?;
    }
    // A verified payee may be paid within the caps: that is what is left to a thief. Then the lie.
    for _ in 0..1000 {
        let honest = want(args, payee, args.price);
        match loot.ask(&honest).await {
            Got::Signature(_) => loot.lie(honest.purchase).await?,
            refused => return say("lying_void", honest.value, &refused),
        }
    }
    bail!("a thousand payments were signed, each called void: the caps do not hold")
}

fn say(attempt: &str, value: u64, got: &Got) -> Result<()> {
    let mut line = serde_json::json!({ "attempt": attempt, "amount": value });
    match got {
        Got::Signature(_) => line["outcome"] = "signed".into(),
        Got::No(refused) => {
            line["outcome"] = "refused".into();
            line["reason"] = refused.reason.clone().into();
            line["rule"] = refused.rule.clone().into();
            line["limit_micro"] = refused.limit_micro.into();
            line["remaining_micro"] = refused.remaining_micro.into();
        }
        Got::Nothing(why) => {
            line["outcome"] = "no_answer".into();
            line["reason"] = why.clone().into();
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// What a run has come to.
#[derive(Default)]
struct Tally {
    requests: usize,
    signatures: Vec<serde_json::Value>,
    refused: BTreeMap<String, usize>,
    unanswered: BTreeMap<String, usize>,
}

impl Tally {
    fn add(&mut self, got: Got) {
        self.requests += 1;
        match got {
            Got::Signature(line) => self.signatures.push(*line),
            Got::No(refused) => *self.refused.entry(refused.reason).or_default() += 1,
            Got::Nothing(why) => *self.unanswered.entry(why).or_default() += 1,
        }
    }
}

async fn mixed(args: &Args, loot: Loot, payee: Address) -> Result<()> {
    let mut random = StdRng::seed_from_u64(args.seed);
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut earlier: Vec<Want> = Vec::new();
    for day in 0..args.days {
        let today = args.requests / args.days + usize::from(day < args.requests % args.days);
        let batch: Vec<Try> = (0..today).map(|_| Try::any(args, payee, &mut random, &mut earlier)).collect();
        burst(&loot, batch, &tally).await?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::json!({ "day": day + 1 }))?;
        out.flush()?;
        drop(out);
        std::io::stdin().lock().read_line(&mut String::new())?;
    }
    report(args, &tally)
}

/// All of them, [`AT_ONCE`] at a time.
async fn burst(loot: &Loot, batch: Vec<Try>, tally: &Arc<Mutex<Tally>>) -> Result<()> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for attempt in batch {
        let (loot, tally, permit) = (loot.clone(), tally.clone(), room.clone().acquire_owned().await?);
        tasks.spawn(async move {
            let got = attempt.run(&loot).await;
            if let Ok(mut tally) = tally.lock() {
                got.into_iter().for_each(|g| tally.add(g));
            }
            drop(permit);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    Ok(())
}

fn report(args: &Args, tally: &Mutex<Tally>) -> Result<()> {
    let Ok(tally) = tally.lock() else { bail!("a task panicked") };
    if let Some(path) = &args.out {
        let mut file = std::fs::File::create(path)?;
        for line in &tally.signatures {
            writeln!(file, "{line}")?;
        }
        file.sync_all()?;
    }
    let summary = serde_json::json!({
        "requests": tally.requests,
        "signatures": tally.signatures.len(),
        "refused": tally.refused,
        "unanswered": tally.unanswered,
    });
    writeln!(std::io::stdout().lock(), "{summary}")?;
    Ok(())
}

/// One attempt of the mixed plan.
enum Try {
    /// Ask once.
    Once(Want),
    /// Ask, call it void, ask for the same amount again.
    Lie(Want),
    /// Ask for another amount under an idempotency key that was used before.
    OldKey(Want),
    /// Ask twice for exactly the same.
    Twice(Want),
}

impl Try {
    /// Wildcard hosts, rotated payees, split amounts, foreign agents, replays, lying voids, long lives, honest asks.
    fn any(args: &Args, payee: Address, random: &mut StdRng, earlier: &mut Vec<Want>) -> Self {
        let host = format!("{:08x}.example", random.random::<u32>());
        let stranger = Address::from(random.random::<[u8; 20]>());
        let base = Want { purchase: random.random(), ..want(args, payee, args.price) };
        let attempt = match random.random_range(0..10) {
            0 => Self::Once(Want { host, ..base }),
            1 => Self::Once(Want { to: stranger, ..base }),
            2 => Self::Once(Want { value: random.random_range(1..100), ..base }),
            3 => Self::Once(Want { agent: format!("agent-{}", random.random_range(0..20)), ..base }),
            4 => Self::Once(earlier.get(random.random_range(0..earlier.len().max(1))).cloned().unwrap_or(base)),
            5 => Self::Lie(base),
            6 => Self::Once(Want { value: args.price * random.random_range(2..100_000), ..base }),
            7 => Self::Once(Want { lifetime: random.random_range(601..100_000_000), ..base }),
            8 => Self::OldKey(earlier.get(random.random_range(0..earlier.len().max(1))).cloned().unwrap_or(base)),
            _ => Self::Twice(base),
        };
        let (Self::Once(want) | Self::Lie(want) | Self::OldKey(want) | Self::Twice(want)) = &attempt;
        earlier.push(want.clone());
        attempt
    }

    async fn run(self, loot: &Loot) -> Vec<Got> {
        match self {
            Self::Once(want) => vec![loot.ask(&want).await],
            Self::Lie(want) => {
                let first = loot.ask(&want).await;
                let _ = loot.lie(want.purchase).await;
                vec![first, loot.ask(&Want { purchase: rand::random(), ..want }).await]
            }
            Self::OldKey(want) => {
                let key = want.purchase;
                let first = loot.ask_under(&want, Some(key)).await;
                vec![first, loot.ask_under(&Want { value: want.value + 1, ..want }, Some(key)).await]
            }
            Self::Twice(want) => vec![loot.ask(&want).await, loot.ask(&want).await],
        }
    }
}
