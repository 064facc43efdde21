//! The process: `tollpass cosigner` on a share that a dealer made, with identities enrolled.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, address};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tollpass::clock;
use tollpass::config::Secret;
use tollpass::cosigner::registry::{self, Registry};
use tollpass::cosigner::store::Store;
use tollpass::custody::{Custody, Unseal};
use tollpass::ledger::{Ledger, Purchase};
use tollpass::mpc::{Share, testing};
use tollpass::wire::identity::Identity;

use super::raw::Raw;
use crate::harness::{Agent, Wire, eventually};

/// Opens share 2; a canary.
pub(crate) const PASSPHRASE: &str = "canary-7f1c-passphrase-never-printed";

/// The one payee of the policy.
pub(crate) const fn payee() -> Address {
    address!("1111111111111111111111111111111111111111")
}

const POLICY: &str = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 1000 }\n    allow:\n      \
    - { id: shop, host: [shop.example, localhost, 127.0.0.1], networks: [\"eip155:84532\"], assets: [USDC], pay_to: [\"0x1111111111111111111111111111111111111111\"] }\n";

/// All three shares, the co-signer's key and the share holder's turn: what outlives a process.
pub(crate) struct Deal {
    pub(crate) shares: [Arc<Share>; 3],
    pub(crate) key: Identity,
    /// Every connection of the one share holder exchanges the same pair.
    pub(crate) turns: ([u8; 16], [u8; 16]),
}

impl Deal {
    pub(crate) fn new() -> Self {
        Self { shares: testing::deal_shared("w1"), key: Identity::generate().unwrap(), turns: ([0; 16], rand::random()) }
    }
}

/// A running co-signer. Dropping it kills it.
pub(crate) struct Rig {
    pub(crate) deal: Deal,
    /// Enrolled, both for agent `bot`.
    pub(crate) one: Identity,
    pub(crate) two: Identity,
    dir: TempDir,
    env: Vec<(String, String)>,
    args: Vec<String>,
    running: Option<Running>,
    log: Arc<Mutex<Vec<u8>>>,
}

struct Running {
    child: Child,
    cosigner: SocketAddr,
    admin: SocketAddr,
}

impl Rig {
    /// Deals, writes, enrols, starts.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// As [`Self::start`], with environment and arguments before the subcommand.
    pub(crate) fn start_with(env: &[(&str, &str)], args: &[&str]) -> Self {
        let mut rig = Self::prepare(env, args);
        assert!(rig.launch(), "the co-signer did not start:\n{}", rig.log());
        rig
    }

    /// Everything but the process.
    pub(crate) fn prepare(env: &[(&str, &str)], args: &[&str]) -> Self {
        let (deal, one, two) = (Deal::new(), Identity::generate().unwrap(), Identity::generate().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("cosigner.yaml"), CONFIG).unwrap();
        std::fs::write(at("policy.yaml"), POLICY).unwrap();
        std::fs::write(at("cosigner.pem"), deal.key.to_pem().as_bytes()).unwrap();
        std::fs::set_permissions(at("cosigner.pem"), std::fs::Permissions::from_mode(0o400)).unwrap();
        std::fs::create_dir(at("share")).unwrap();
        Custody::create(&at("share"), &deal.shares[1], &unseal()).unwrap();
        let rig = Self {
            deal,
            one,
            two,
            dir,
            env: env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            running: None,
            log: Arc::default(),
        };
        std::fs::create_dir_all(rig.private()).unwrap();
        rig.enrol("one", &rig.one);
        rig.enrol("two", &rig.two);
        rig
    }

    /// Ties a key to agent `bot`, as `wallet enroll` at the co-signer and a redemption do.
    pub(crate) fn enrol(&self, name: &str, key: &Identity) {
        let token = self.token(name);
        let store = self.store();
        let registry = Registry::new(Arc::new(store));
        block(registry.enroll(&token, key.fingerprint(), clock::read().wall)).unwrap();
    }

    /// A one-time token for an identity of that name.
    pub(crate) fn token(&self, name: &str) -> String {
        let agents = ["bot".parse().unwrap()];
        let wallet = self.deal.shares[0].wallet().id.clone();
        let issued = block(registry::issue(&self.store(), &name.parse().unwrap(), &wallet, &agents, clock::read().wall));
        issued.unwrap().0.to_string()
    }

    /// Takes an identity's rights away, as `wallet revoke` does, from another process than the server's.
    pub(crate) fn revoke(&self, name: &str) {
        let output = self.command().args(["wallet", "revoke", "--config", "cosigner.yaml", name]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The co-signer's store, opened beside it.
    pub(crate) fn store(&self) -> Store {
        Store::open(&self.private()).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn private(&self) -> PathBuf {
        self.path("state/private")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().cosigner
    }

    /// The binary in the rig's folder with nothing inherited.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollpass"));
        command.env_clear().current_dir(self.dir.path()).env("PATH", "/usr/bin:/bin").env("OPEN", PASSPHRASE);
        command
    }

    /// Starts the process; false if it ends before it listens.
    pub(crate) fn launch(&mut self) -> bool {
        let mut command = self.command();
        command.envs(self.env.iter().map(|(n, v)| (n, v)));
        command.args(&self.args).args(["--log-format", "json", "cosigner", "--config", "cosigner.yaml", "--json"]);
        self.adopt(command)
    }

    /// Starts the process by another command that becomes it.
    pub(crate) fn adopt(&mut self, mut command: Command) -> bool {
        self.kill9();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut errors, sink) = (child.stderr.take().unwrap(), self.log.clone());
        let reader = std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = errors.read(&mut buf) {
                sink.lock().unwrap().extend_from_slice(&buf[..n]);
            }
        });
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while out.read_line(&mut line).is_ok_and(|n| n > 0) {
            self.log.lock().unwrap().extend_from_slice(line.as_bytes());
            if let Ok(json) = serde_json::from_str::<Value>(&line)
                && json["event"] == "listening"
            {
                let address = |key: &str| json[key].as_str().unwrap().parse().unwrap();
                self.running = Some(Running { cosigner: address("cosigner"), admin: address("admin"), child });
                return true;
            }
            line.clear();
        }
        child.wait().unwrap();
        reader.join().unwrap();
        false
    }

    /// Ends it if it runs and starts it again without the environment it had; false if it refuses.
    pub(crate) fn restart(&mut self) -> bool {
        self.env.clear();
        self.launch()
    }

    pub(crate) fn kill9(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }

    /// SIGTERM; waits for the end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut running = self.running.take().unwrap();
        kill_process(Pid::from_child(&running.child), Signal::TERM).unwrap();
        running.child.wait().unwrap()
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn signal(&mut self, signal: Signal) -> ExitStatus {
        let mut running = self.running.take().unwrap();
        kill_process(Pid::from_child(&running.child), signal).unwrap();
        running.child.wait().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.running.as_ref().unwrap().child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.running.as_mut()?.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the co-signer ends", || {
            status = self.ended();
            status.is_some()
        });
        self.running = None;
        status.unwrap()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    /// `/metrics` as text.
    pub(crate) fn metrics(&self) -> String {
        let admin = self.running.as_ref().unwrap().admin;
        let mut agent = Agent { wire: Wire::plain(std::net::TcpStream::connect(admin).unwrap()) };
        agent.wire.write(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        agent.response_to("GET").unwrap().text()
    }

    /// The value of the first series that begins so; 0 without one.
    pub(crate) fn gauge(&self, name: &str) -> u64 {
        let text = self.metrics();
        let line = text.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.rsplit_once(' ')).map_or(0, |(_, v)| v.parse::<f64>().unwrap() as u64)
    }

    /// What the co-signer's own ledger says.
    pub(crate) fn purchases(&self) -> Vec<Purchase> {
        Ledger::list(&self.private()).unwrap()
    }

    /// Micro-USD held there.
    pub(crate) fn held(&self) -> i64 {
        self.purchases().iter().map(|p| p.held.micro()).sum()
    }

    /// A connection of an identity, greeted.
    pub(crate) async fn greeted(&self, identity: &Identity) -> Raw {
        let raw = self.dial(identity).await;
        raw.hello().await;
        raw
    }

    /// A connection of an identity that has said nothing yet.
    pub(crate) async fn dial(&self, identity: &Identity) -> Raw {
        Raw::dial(self.address(), identity, &self.deal).await.unwrap()
    }

    /// Alive, and never panicked.
    #[track_caller]
    pub(crate) fn is_well(&mut self) {
        assert!(self.ended().is_none(), "the co-signer ended:\n{}", self.log());
        let log = self.log();
        assert!(!log.contains("panicked") && !log.contains("ended without a result"), "{log}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(30).collect::<Vec<_>>();
            eprintln!("--- end of the co-signer's log ---\n{}\n---", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

const CONFIG: &str = "version: 1\nlisten: 127.0.0.1:0\nadmin: 127.0.0.1:0\nstate: state\nledger: { ephemeral: accept }\n\
    wallet: { share: file:share, unseal: env:OPEN }\nidentity: file:cosigner.pem\npolicy: policy.yaml\n\
    presign: { accept_unreviewed_presign: true }\naccept_unaudited: true\n";

/// What opens share 2 in this process.
pub(crate) fn unseal() -> Unseal {
    Unseal::Value(Secret::new(PASSPHRASE))
}

/// For the few calls of the library that are async, also from within a test that is.
fn block<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}
