//! A wallet in two folders, and the co-signer as an operator would start it. The shares come from the dealer of the test
//! build; everything else is the real program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use alloy_primitives::Address;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tollpass::config::Secret;
use tollpass::custody::{Custody, Unseal};

use super::eventually;
use super::program::{Metrics, scrape};
use super::wire::free_port;

const PASSPHRASE: &str = "correct horse";

/// Two shares of one key with what their holders need: `cs/` and `sc/`.
pub(crate) struct Wallet {
    dir: TempDir,
    pub(crate) address: Address,
    port: u16,
    pin: String,
    /// Further lines of `cosigner.yaml`.
    pub(crate) more: String,
}

impl Wallet {
    /// Deals a wallet and writes the co-signer's files; its policy allows one cent, and more, to the usual payee.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [one, two, _] = tollpass::mpc::testing::deal("w1");
        let address = one.wallet().address;
        for (name, share) in [("sc", &one), ("cs", &two)] {
            let folder = dir.path().join(name).join("share");
            std::fs::create_dir_all(&folder).unwrap();
            Custody::create(&folder, share, &Unseal::Value(Secret::new(PASSPHRASE))).unwrap();
        }
        let identity = tollpass::wire::identity::create(&dir.path().join("cs/id.pem")).unwrap();
        std::fs::write(dir.path().join("cs/ca.pem"), identity.certificate_pem()).unwrap();
        let pin = identity.public().fingerprint().to_string();
        let wallet = Self { dir, address, port: free_port(), pin, more: String::new() };
        wallet.policy("per_payment: 5, day: 1000");
        wallet
    }

    /// The co-signer's address, host:port.
    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its fingerprint.
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }

    /// What opens both shares.
    pub(crate) const fn passphrase(&self) -> &'static str {
        PASSPHRASE
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the co-signer's policy with these caps.
    pub(crate) fn policy(&self, caps: &str) {
        let payee = crate::till::payee();
        let text = format!(
            "version: 1\nagents:\n  bot:\n    caps: {{ {caps} }}\n    allow:\n      - {{ id: cs-shop, host: [localhost, 127.0.0.1], \
             networks: [\"eip155:84532\"], assets: [USDC], pay_to: [\"{payee}\"], plain_http: true }}\n"
        );
        std::fs::write(self.path("cs/policy.yaml"), text).unwrap();
    }

    fn write(&self) {
        let text = format!(
            "version: 1\nlisten: 127.0.0.1:{}\nadmin: 127.0.0.1:0\nstate: state\nledger: {{ ephemeral: accept }}\n\
             wallet: {{ share: file:share, unseal: env:UNSEAL }}\nidentity: file:id.pem\npolicy: policy.yaml\n{}",
            self.port, self.more
        );
        std::fs::write(self.path("cs/cosigner.yaml"), text).unwrap();
    }

    /// Starts the co-signer.
    #[track_caller]
    pub(crate) fn start(&self, env: &[(&str, &str)]) -> Cosigner {
        self.write();
        Cosigner::launch(&self.path("cs"), env)
    }

    /// Issues a token for `name`, tied to `agent`.
    #[track_caller]
    pub(crate) fn token(&self, name: &str, agent: &str) -> String {
        self.write();
        let issued = ok(&tollpass(&self.path("cs"), &["wallet", "enroll", "--name", name, "--agent", agent, "--json"]));
        assert_eq!(issued["pin"], self.pin.as_str());
        issued["token"].as_str().unwrap().to_owned()
    }

    /// Redeems it with the key in `sc/<key>`.
    pub(crate) fn redeem(&self, token: &str, key: &str) -> Output {
        self.redeem_with(token, key, &[])
    }

    /// The same, killed at `step`.
    pub(crate) fn redeem_dying(&self, token: &str, key: &str, step: &str) -> Output {
        self.redeem_with(token, key, &[("TOLLPASS_FAILPOINT", step)])
    }

    fn redeem_with(&self, token: &str, key: &str, env: &[(&str, &str)]) -> Output {
        let folder = self.path("sc");
        std::fs::write(folder.join("token"), token).unwrap();
        let url = format!("https://127.0.0.1:{}", self.port);
        let args = ["wallet", "enroll", "--redeem", "token", "--identity", key, "--cosigner", &url, "--pin", &self.pin, "--json"];
        command(&folder, env).args(args).output().unwrap()
    }

    /// Enrols `sc/id.pem` as `sidecar` for `bot`: needs a running co-signer.
    #[track_caller]
    pub(crate) fn enroll(&self) {
        let enrolled = ok(&self.redeem(&self.token("sidecar", "bot"), "id.pem"));
        assert_eq!(enrolled["address"], self.address.to_string());
        assert_eq!(enrolled["agents"], serde_json::json!(["bot"]));
    }

    /// The proxy's `signer` section.
    pub(crate) fn signer(&self, more: &str) -> String {
        self.signer_at("sc", self.port, more)
    }

    /// The same with the share in another folder, and another co-signer.
    pub(crate) fn signer_at(&self, folder: &str, port: u16, more: &str) -> String {
        let (share, id) = (self.path(folder).join("share"), self.path("sc/id.pem"));
        format!(
            "mpc: {{ wallet: w1, share: \"file:{}\", unseal: env:UNSEAL, identity: \"file:{}\", ca: \"file:{}\", cosigner: \"https://127.0.0.1:{port}\"{more} }}",
            share.display(),
            id.display(),
            self.path("cs/ca.pem").display()
        )
    }
}

/// Standard output of a command that succeeded, as JSON.
#[track_caller]
fn ok(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs another command of the program in `dir`.
pub(crate) fn tollpass(dir: &Path, args: &[&str]) -> Output {
    command(dir, &[]).args(args).output().unwrap()
}

fn command(dir: &Path, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollpass"));
    command.env_clear().current_dir(dir).env("PATH", "/usr/bin:/bin").env("UNSEAL", PASSPHRASE);
    for (name, value) in env {
        command.env(name, value);
    }
    command
}

/// A running co-signer. Dropping it kills it.
pub(crate) struct Cosigner {
    dir: PathBuf,
    child: Child,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Cosigner {
    #[track_caller]
    fn launch(dir: &Path, env: &[(&str, &str)]) -> Self {
        let log: Arc<Mutex<String>> = Arc::default();
        let (child, admin) = spawn(dir, env, &log);
        Self { dir: dir.to_owned(), child, admin, log }
    }

    /// Kills it if it still runs and starts it again.
    #[track_caller]
    pub(crate) fn restart(&mut self, env: &[(&str, &str)]) {
        self.kill9();
        (self.child, self.admin) = spawn(&self.dir, env, &self.log);
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill9(&mut self) {
        let _ = kill_process(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn pause(&self, pause: bool) {
        kill_process(self.pid(), if pause { Signal::STOP } else { Signal::CONT }).unwrap();
    }

    /// Waits for the program to end by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the co-signer ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// SIGTERM, and the exit status.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.wait()
    }

    /// `/metrics` now.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        scrape(self.admin)
    }

    /// Everything on standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Cosigner {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- log of the co-signer ---\n{}---", self.log());
        }
    }
}

#[track_caller]
fn spawn(dir: &Path, env: &[(&str, &str)], log: &Arc<Mutex<String>>) -> (Child, SocketAddr) {
    let mut command = command(dir, env);
    command.args(["--log-format", "json", "cosigner", "--json"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut errors, sink) = (child.stderr.take().unwrap(), Arc::clone(log));
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = errors.read(&mut buf) {
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buf[..n]));
        }
    });
    let mut line = String::new();
    let _ = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
    let Ok(json) = serde_json::from_str::<Value>(&line) else {
        let _ = child.wait();
        panic!("the co-signer did not start:\n{}", log.lock().unwrap());
    };
    let admin = json["admin"].as_str().unwrap().parse().unwrap();
    (child, admin)
}
