//! The thief of the demo: another program, with the sidecar's share, identity and passphrase, and without its policy.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::backstage::Backstage;
use super::goods::WEATHER;
use super::report::Attempt;

/// What the co-signer has to say to each attempt.
const EXPECTED: [(&str, &str); 4] = [
    ("over_cap", "cap_per_payment"),
    ("unlisted_payee", "unverified_payee"),
    ("foreign_agent", "agent_not_tied"),
    ("lying_void", "cap_day"),
];

/// The thief's program, beside ours; not part of an installation.
pub(super) fn program() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name("tollpass-thief");
    path.is_file().then_some(path)
}

/// Copies the loot and lets the thief try. Blocking.
pub(super) fn strike(program: &Path, backstage: &Backstage) -> Result<Vec<Attempt>> {
    let loot = backstage.steal()?;
    let output = Command::new(program)
        .args(["--agent", super::AGENT, "--plan", "demo"])
        .arg("--identity")
        .arg(&loot.identity)
        .arg("--share")
        .arg(&loot.share)
        .arg("--passphrase")
        .arg(&loot.passphrase)
        .args(["--cosigner", &backstage.cosigner.to_string(), "--pin", &backstage.pin])
        .args(["--payee", &WEATHER.payee().to_string(), "--price", &WEATHER.price.to_string()])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!("the thief stopped: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout).lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    lines.iter().map(Attempt::read).collect::<Option<_>>().context("the thief's report cannot be read")
}

impl Attempt {
    fn read(line: &Value) -> Option<Self> {
        let text = |key: &str| line.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| line.get(key).and_then(Value::as_i64);
        Some(Self {
            what: text("attempt")?,
            amount: number("amount")?,
            outcome: text("outcome")?,
            reason: text("reason"),
            rule: text("rule"),
            remaining: number("remaining_micro"),
        })
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "attempt": self.what,
            "amount_usd": crate::payment::MicroUsd::new(self.amount).to_string(),
            "outcome": self.outcome,
            "reason": self.reason,
            "rule": self.rule,
            "by": "cosigner",
        })
    }
}

/// The first attempt that went otherwise than it should.
pub(super) fn surprise(attempts: &[Attempt]) -> Option<String> {
    let tried: Vec<(&str, &str)> = attempts.iter().map(|a| (a.what.as_str(), a.reason.as_deref().unwrap_or_default())).collect();
    let as_expected = tried == EXPECTED && attempts.iter().all(|a| a.outcome == "refused" && a.rule.is_some());
    (!as_expected).then(|| format!("the thief's attempts ended otherwise than they should: {attempts:?}"))
}
