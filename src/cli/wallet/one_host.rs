//! `tollpass wallet create --one-host`: the real ceremony, three processes over loopback, for trials.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use alloy_primitives::{Address, hex};
use rand::TryRng as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::table::wrong;
use super::tell;
use crate::cli::{Failure, Outcome, print_json};
use crate::mpc::{Fingerprint, Party, WalletId};
use crate::payment::AgentId;
use crate::wire::identity;

pub(super) fn run(
    folder: &Path,
    wallet: &WalletId,
    recovery: Option<Address>,
    agents: &[AgentId],
    json: bool,
    out: &mut dyn Write,
) -> Outcome {
    let home = Home::make(folder)?;
    let address = ceremony(&home, wallet, recovery)?;
    let files = configurations(&home, wallet, agents)?;
    if json {
        return print_json(
            out,
            &json!({
                "wallet": wallet.as_str(), "address": address, "origin": "one-host",
                "shares": Party::ALL.map(|p| home.of(p).join("share").display().to_string()),
                "identities": home.pins.iter().map(|(p, f)| (p.as_str(), f.to_string())).collect::<BTreeMap<_, _>>(),
                "files": files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>(),
            }),
        );
    }
    writeln!(out, "wallet    {wallet}")?;
    writeln!(out, "address   {address}")?;
    writeln!(out, "origin    one-host: all three shares were on this machine, so it signs for test networks only")?;
    for file in &files {
        writeln!(out, "wrote     {}", file.display())?;
    }
    tell(&format!("next: tollpass cosigner --config {}", home.folder.join("cosigner/cosigner.yaml").display()));
    Ok(())
}

/// The folders of three parties, and beside them the passphrases.
struct Home {
    folder: PathBuf,
    pins: BTreeMap<Party, Fingerprint>,
}

impl Home {
    fn make(folder: &Path) -> Result<Self, Failure> {
        let shown = folder.display();
        let failed = |what: &str| wrong(format!("--one-host {shown}: {what}"));
        if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(failed("the folder is not empty: write the name of a new one"));
        }
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed(&e.to_string()));
        make(folder)?;
        // The program may run its parties in other folders.
        let folder = folder.canonicalize().map_err(|e| failed(&e.to_string()))?;
        let mut pins = BTreeMap::new();
        for party in Party::ALL {
            make(&folder.join(party.as_str()))?;
            make(&folder.join("passphrases").join(party.as_str()))?;
            let made = identity::create(&folder.join(party.as_str()).join("identity.pem")).map_err(|e| failed(&e.to_string()))?;
            pins.insert(party, made.public().fingerprint());
            let mut random = Zeroizing::new([0_u8; 32]);
            rand::rngs::SysRng.try_fill_bytes(&mut *random).map_err(|_| failed("the operating system gives no random bytes"))?;
            let text = Zeroizing::new(hex::encode(*random));
            let path = folder.join("passphrases").join(party.as_str()).join("passphrase");
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
        Ok(Self { folder, pins })
    }

    fn of(&self, party: Party) -> PathBuf {
        self.folder.join(party.as_str())
    }

    /// The command line of one party, as its operator would type it.
    fn command(&self, party: Party, wallet: &WalletId, recovery: Option<Address>) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "tollpass".into()));
        command.args(["wallet", "create", "--trial", "--json", "--wait", "2m", "--party", party.as_str(), "--wallet", wallet.as_str()]);
        command.arg("--share").arg(self.of(party).join("share")).arg("--identity").arg(self.of(party).join("identity.pem"));
        let passphrase = self.folder.join("passphrases").join(party.as_str()).join("passphrase");
        command.arg("--unseal").arg(format!("file:{}", passphrase.display()));
        for (other, pin) in self.pins.iter().filter(|(p, _)| **p != party) {
            command.arg("--peer").arg(format!("{other}={pin}"));
        }
        if let Some(recovery) = recovery {
            command.arg("--recovery").arg(recovery.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Children that end with this process's interest in them.
struct Children(Vec<(Party, Child)>);

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs all three; answers the one address.
fn ceremony(home: &Home, wallet: &WalletId, recovery: Option<Address>) -> Result<String, Failure> {
    let (said, heard) = mpsc::channel();
    let mut children = Children(Vec::new());
    let mut host = home.command(Party::Cosigner, wallet, recovery);
    let mut cosigner = host.args(["--listen", "127.0.0.1:0"]).spawn()?;
    forward(Party::Cosigner, &mut cosigner, Some(said));
    children.0.push((Party::Cosigner, cosigner));
    let board = heard.recv_timeout(std::time::Duration::from_secs(60)).map_err(|_| failed("the co-signer's process did not start"))?;
    for party in [Party::Sidecar, Party::Cold] {
        let mut command = home.command(party, wallet, recovery);
        let mut child = command.arg("--join").arg(format!("https://{board}")).spawn()?;
        forward(party, &mut child, None);
        children.0.push((party, child));
    }
    let mut addresses = Vec::new();
    for (party, child) in &mut children.0 {
        let mut answer = String::new();
        if let Some(mut output) = child.stdout.take() {
            output.read_to_string(&mut answer)?;
        }
        if !child.wait()?.success() {
            return Err(failed(&format!("the {party}'s process failed: see above")));
        }
        let facts: Value =
            serde_json::from_str(&answer).map_err(|_| failed(&format!("the {party} answered something else than its facts")))?;
        addresses.push(facts["address"].as_str().unwrap_or_default().to_owned());
    }
    addresses.dedup();
    match addresses.as_slice() {
        [one] if !one.is_empty() => Ok(one.clone()),
        _ => Err(failed("the three screens do not show one address")),
    }
}

fn failed(text: &str) -> Failure {
    Failure::Failed(anyhow::anyhow!("{text}"))
}

/// Passes a child's progress on, line by line, and its board's address to who waits for it.
fn forward(party: Party, child: &mut Child, mut board: Option<mpsc::Sender<String>>) {
    let Some(errors) = child.stderr.take() else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            if let (Some(address), Some(said)) = (line.strip_prefix("the board is at "), &board) {
                let _ = said.send(address.to_owned());
                board = None;
            }
            // What all three say is said once, by the program that started them.
            if !line.starts_with("note: ") {
                eprintln!("{:<9} {line}", party.as_str());
            }
        }
    });
}

/// Configurations to start from; relative paths, so that the folder can be moved.
fn configurations(home: &Home, wallet: &WalletId, agents: &[AgentId]) -> Result<Vec<PathBuf>, Failure> {
    let cosigner = "\
# The co-signer of a trial wallet. Start it with: tollpass cosigner --config cosigner.yaml
version: 1
listen: \"127.0.0.1:7402\"
admin: 127.0.0.1:9412
state: state
wallet: { share: file:share, unseal: file:../passphrases/cosigner/passphrase }
identity: file:identity.pem
policy: policy.yaml
";
    let sidecar = format!(
        "\
# The proxy of a trial wallet. Start it with: tollpass serve --config tollpass.yaml
version: 1
listen: {{ proxy: 127.0.0.1:8402, admin: 127.0.0.1:9402 }}
state: state
policy: policy.yaml
agents: {{ default: {default} }}
signer:
  mpc:
    wallet: {wallet}
    share: file:share
    unseal: file:../passphrases/sidecar/passphrase
    identity: file:identity.pem
    cosigner: \"https://127.0.0.1:7402\"
    pin: \"{pin}\"
",
        default = agents.first().map_or("research-bot", AgentId::as_str),
        pin = home.pins.get(&Party::Cosigner).map(ToString::to_string).unwrap_or_default(),
    );
    let files = [
        (Party::Cosigner, "cosigner.yaml", cosigner.to_owned()),
        (Party::Cosigner, "policy.yaml", policy(agents, "pay_to: [\"0x000000000000000000000000000000000000dEaD\"]")),
        (Party::Sidecar, "tollpass.yaml", sidecar),
        (Party::Sidecar, "policy.yaml", policy(agents, "pay_to: any")),
    ];
    let write = |(party, name, text): (Party, &str, String)| {
        let path = home.of(party).join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

/// One cent a payment, a dollar a day, on test networks, to one host: small enough to leave as it is by mistake.
fn policy(agents: &[AgentId], payee: &str) -> String {
    let mut text = String::from("# Edit host and payee: these pay nobody yet.\nversion: 1\nagents:\n");
    let names: Vec<&str> = if agents.is_empty() { vec!["research-bot"] } else { agents.iter().map(AgentId::as_str).collect() };
    for name in names {
        let _ = write!(
            text,
            "  {name}:\n    caps: {{ per_payment: 0.01, day: 1 }}\n    allow:\n      - {{ id: trial, host: seller.invalid, networks: [\"eip155:84532\"], assets: [USDC], {payee} }}\n"
        );
    }
    text
}
