//! What stands behind the demo's proxy: a wallet in three shares from a real ceremony, and a co-signer, a process of its own
//! with its own folder, policy and ledger.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alloy_primitives::Address;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::AGENT;
use crate::net;

/// Name of the demo's wallet.
pub(super) const WALLET: &str = "demo";

const CONFIG: &str = include_str!("cosigner.yaml");
/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(60);

/// The wallet and the running co-signer; dropping it stops the process.
pub(super) struct Backstage {
    folder: PathBuf,
    process: Child,
    /// Where it listens.
    pub(super) cosigner: SocketAddr,
    /// Its fingerprint.
    pub(super) pin: String,
    /// The wallet's account.
    pub(super) address: Address,
}

/// What a thief takes from the sidecar.
pub(super) struct Loot {
    pub(super) identity: PathBuf,
    pub(super) share: PathBuf,
    pub(super) passphrase: PathBuf,
}

impl Backstage {
    /// Ceremony, co-signer, enrolment: three commands that an operator would type.
    pub(super) fn set_up(folder: &Path, policy: &str, out: &mut dyn std::io::Write) -> Result<Self> {
        let home = folder.join("wallet");
        writeln!(out, "Making a wallet: three processes, three shares, no whole key ...")?;
        out.flush()?;
        let made = tollpass(&["wallet", "create", "--one-host", &home.to_string_lossy(), "--wallet", WALLET, "--agent", AGENT, "--json"])?;
        let text = |key: &str| made.get(key).and_then(Value::as_str).map(str::to_owned).with_context(|| format!("no {key} of the wallet"));
        let address = text("address")?.parse().context("the wallet's address")?;
        let pin = made["identities"]["cosigner"].as_str().context("no fingerprint of the co-signer")?.to_owned();
        let config = home.join("cosigner/cosigner.yaml");
        fs::write(&config, CONFIG)?;
        fs::write(home.join("cosigner/policy.yaml"), policy)?;
        let (process, cosigner) = start(&config)?;
        let backstage = Self { folder: home, process, cosigner, pin, address };
        backstage.enroll(&config)?;
        Ok(backstage)
    }

    /// Ties the sidecar's key to its one agent.
    fn enroll(&self, config: &Path) -> Result<()> {
        let issued =
            tollpass(&["wallet", "enroll", "--config", &config.to_string_lossy(), "--name", "demo-sidecar", "--agent", AGENT, "--json"])?;
        let token = issued["token"].as_str().context("no token from `wallet enroll`")?;
        let path = self.folder.join("token");
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(token.as_bytes())?;
        let identity = self.folder.join("sidecar/identity.pem");
        let cosigner = format!("https://{}", self.cosigner);
        tollpass(&[
            "wallet",
            "enroll",
            "--redeem",
            &path.to_string_lossy(),
            "--identity",
            &identity.to_string_lossy(),
            "--cosigner",
            &cosigner,
            "--pin",
            &self.pin,
            "--json",
        ])?;
        Ok(fs::remove_file(path)?)
    }

    /// The co-signer's policy file.
    pub(super) fn policy(&self) -> PathBuf {
        self.folder.join("cosigner/policy.yaml")
    }

    /// A copy of the sidecar's share, identity and passphrase, as of now.
    pub(super) fn steal(&self) -> Result<Loot> {
        let loot = self.folder.join("loot");
        let share = loot.join("share");
        fs::create_dir_all(&share)?;
        for entry in fs::read_dir(self.folder.join("sidecar/share"))? {
            let entry = entry?;
            fs::copy(entry.path(), share.join(entry.file_name()))?;
        }
        let identity = loot.join("identity.pem");
        fs::copy(self.folder.join("sidecar/identity.pem"), &identity)?;
        fs::create_dir_all(loot.join("secrets"))?;
        let passphrase = loot.join("secrets/passphrase");
        fs::copy(self.folder.join("passphrases/sidecar/passphrase"), &passphrase)?;
        Ok(Loot { identity, share, passphrase })
    }
}

impl Drop for Backstage {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs this program with `args`; answers the JSON it prints.
fn tollpass(args: &[&str]) -> Result<Value> {
    let what = || format!("tollpass {}", args.iter().take(2).copied().collect::<Vec<_>>().join(" "));
    let output = Command::new(std::env::current_exe()?).args(args).stdin(Stdio::null()).output().with_context(what)?;
    if !output.status.success() {
        bail!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).with_context(what)
}

/// Starts the co-signer and waits until it listens.
fn start(config: &Path) -> Result<(Child, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--log-level", "error", "cosigner", "--config"]).arg(config).arg("--json");
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start the co-signer")?;
    let output = process.stdout.take().context("the co-signer has no output")?;
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = said.send(line);
        }
    });
    let first = heard.recv_timeout(START).ok().and_then(|line| serde_json::from_str::<Value>(&line).ok());
    let address = first.as_ref().and_then(|line| line["cosigner"].as_str()?.parse().ok());
    let Some(address) = address else {
        let _ = process.kill();
        let _ = process.wait();
        bail!("the co-signer did not start");
    };
    Ok((process, address))
}

/// Waits until the proxy has found its co-signer.
pub(super) async fn ready(admin: SocketAddr) -> Result<()> {
    let deadline = std::time::Instant::now() + START;
    loop {
        let (_, text) = net::get(admin, "/metrics", START).await.context("cannot read /metrics")?;
        let text = String::from_utf8_lossy(&text);
        if text.lines().any(|l| l.starts_with("tollpass_cosigner_up{") && l.ends_with(" 1")) {
            return Ok(());
        }
        if std::time::Instant::now() >= deadline {
            bail!("the proxy does not reach the co-signer");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
