//! The program under test, started as an operator would: a configuration file, a policy file, a state folder.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use alloy_primitives::{Address, address};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::agent::{Agent, Response};
use super::setup::Setup;
use super::wire::Wire;
use super::{PATIENCE, eventually};

/// Account 0 of the public test mnemonic.
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// Its address: who pays.
pub(crate) const fn payer() -> Address {
    address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
}

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    setup: Setup,
    dir: Arc<TempDir>,
    child: Child,
    proxy: SocketAddr,
    admin: SocketAddr,
    /// The line that says where it listens.
    listening: Value,
    log: Arc<Mutex<String>>,
    /// Lines on standard output after the first.
    out: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Writes the files, starts the program and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(setup: Setup) -> Self {
        Self::start_with(setup, |_| {})
    }

    /// As [`Self::start`]; `prepare` may change the folder before the start.
    #[track_caller]
    pub(crate) fn start_with(setup: Setup, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        setup.write(dir.path());
        prepare(dir.path());
        let (log, out) = (Arc::default(), Arc::default());
        let (child, listening) = launch(&setup, dir.path(), &log, &out);
        let (proxy, admin) = (address_in(&listening, "proxy"), address_in(&listening, "admin"));
        let program = Self { setup, dir: Arc::new(dir), child, proxy, admin, listening, log, out };
        eventually("/readyz says 200", || program.admin_get("/readyz").is_some_and(|r| r.status == 200));
        program
    }

    /// Starts another process on the same files that takes over from this one, with these further environment variables.
    /// Returns as soon as it listens; it may not pay yet.
    #[track_caller]
    pub(crate) fn successor(&self, env: &[(&str, &str)]) -> Self {
        let mut setup = self.setup.clone();
        if !setup.args.iter().any(|a| a == "--handover") {
            setup.args.push("--handover".into());
        }
        setup.env.extend(env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let (log, out) = (Arc::default(), Arc::default());
        let (child, listening) = launch(&setup, self.dir.path(), &log, &out);
        let (proxy, admin) = (address_in(&listening, "proxy"), address_in(&listening, "admin"));
        Self { setup, dir: self.dir.clone(), child, proxy, admin, listening, log, out }
    }

    /// What `/readyz` says is missing; `None` if it cannot be reached.
    pub(crate) fn missing(&self) -> Option<Vec<String>> {
        let answer = self.admin_get("/readyz")?.json();
        Some(answer["missing"].as_array()?.iter().filter_map(|m| Some(m.as_str()?.to_owned())).collect())
    }

    /// Writes the files and runs `tollpass` with these arguments to its end, in the folder of the files.
    pub(crate) fn once(setup: &Setup, args: &[&str]) -> Output {
        let dir = tempfile::tempdir().unwrap();
        setup.write(dir.path());
        command(setup, dir.path()).args(args).output().unwrap()
    }

    /// Runs another command of the program on the same files.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        command(&self.setup, self.dir.path()).args(args).output().unwrap()
    }

    /// `tollpass ledger show --json`: what the program itself says it bought.
    #[track_caller]
    pub(crate) fn ledger(&self) -> Value {
        let output = self.run(&["ledger", "show", "--config", "tollpass.yaml", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Where agents connect.
    pub(crate) const fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Another listener, by its key under `listen`.
    #[track_caller]
    pub(crate) fn listener(&self, key: &str) -> SocketAddr {
        address_in(&self.listening, key)
    }

    /// Where operators look.
    pub(crate) const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A fresh connection to the proxy.
    pub(crate) fn agent(&self) -> Agent {
        Agent::to(self.proxy)
    }

    /// GET over a fresh connection.
    #[track_caller]
    pub(crate) fn get(&self, url: &str) -> Response {
        self.agent().get(url)
    }

    /// A request over a fresh connection.
    #[track_caller]
    pub(crate) fn request(&self, method: &str, url: &str, headers: &str, body: &[u8]) -> Response {
        self.agent().request(method, url, headers, body)
    }

    /// A path of the admin listener; `None` if it cannot be reached.
    pub(crate) fn admin_get(&self, path: &str) -> Option<Response> {
        operator_get(self.admin, path)
    }

    /// `/metrics` now.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        scrape(self.admin)
    }

    /// The folder of configuration, policy and state.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in that folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// PEM of the CA that agents have to trust.
    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.path("state/trust/ca.pem")).unwrap()
    }

    /// Everything on standard error so far, over all starts.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What stands on standard output after the first line.
    pub(crate) fn out(&self) -> Vec<String> {
        self.out.lock().unwrap().clone()
    }

    /// Overwrites the policy file in place; does not wait.
    pub(crate) fn policy_write(&self, text: &str) {
        std::fs::write(self.path("policy.yaml"), text).unwrap();
    }

    /// Overwrites the policy file and waits until it is in effect.
    #[track_caller]
    pub(crate) fn policy_set(&self, text: &str) {
        let before = self.metrics().label("tollpass_policy_info", "digest");
        self.policy_write(text);
        eventually("the new policy is in effect", || self.metrics().label("tollpass_policy_info", "digest") != before);
    }

    /// Starts it on the same files, waits until it gives up with status 2, and answers what it said.
    #[track_caller]
    pub(crate) fn refuses_to_start(&self) -> String {
        let mut command = command(&self.setup, self.dir.path());
        let mut child = command.args(["serve", "--config", "tollpass.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().unwrap() {
                None if Instant::now() < deadline => std::thread::sleep(std::time::Duration::from_millis(10)),
                status => break status,
            }
        };
        let _ = child.kill();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let _ = child.wait();
        assert_eq!(status.and_then(|s| s.code()), Some(2), "{said}");
        said
    }

    /// Process id, to look at the process from outside.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that was ever resident, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill9(&mut self) {
        let _ = kill_process(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }

    /// Stops it as a debugger would, or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        kill_process(self.pid(), if frozen { Signal::STOP } else { Signal::CONT }).unwrap();
    }

    /// SIGTERM; returns at once.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Waits for the program to end by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Kills it if it still runs and starts it again on the same state, with the same files. Ports change.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// As [`Self::restart`], with other additional environment variables than before.
    #[track_caller]
    pub(crate) fn restart_with(&mut self, env: &[(&str, &str)]) {
        self.kill9();
        self.setup.env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        (self.child, self.listening) = launch(&self.setup, self.dir.path(), &self.log, &self.out);
        (self.proxy, self.admin) = (address_in(&self.listening, "proxy"), address_in(&self.listening, "admin"));
        eventually("/readyz says 200 again", || self.admin_get("/readyz").is_some_and(|r| r.status == 200));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- log of the program ---\n{}---", self.log());
        }
    }
}

/// The binary with nothing inherited but a search path: no proxy variables, no CA variables, no log filters.
fn command(setup: &Setup, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollpass"));
    command.env_clear().current_dir(dir).env("PATH", "/usr/bin:/bin").env("TOLLPASS_DEV_KEY", KEY);
    for (name, value) in &setup.env {
        command.env(name, value);
    }
    command
}

#[track_caller]
fn launch(setup: &Setup, dir: &Path, log: &Arc<Mutex<String>>, out: &Arc<Mutex<Vec<String>>>) -> (Child, Value) {
    let mut command = command(setup, dir);
    command.args(["--log-format", "json", "serve", "--config", "tollpass.yaml", "--json"]).args(&setup.args);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let sink = log.clone();
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = errors.read(&mut buf) {
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buf[..n]));
        }
    });
    let lines = lines(child.stdout.take().unwrap(), out.clone());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the program did not start:\n{}", log.lock().unwrap());
        };
        let Ok(json) = serde_json::from_str::<Value>(&line) else { continue };
        if json["event"] == "listening" {
            return (child, json);
        }
    }
}

#[track_caller]
fn address_in(listening: &Value, key: &str) -> SocketAddr {
    listening[key].as_str().unwrap_or_else(|| panic!("no {key} in {listening}")).parse().unwrap()
}

/// Lines as they come, and those that nobody waits for any more into `rest`.
fn lines(out: impl Read + Send + 'static, rest: Arc<Mutex<Vec<String>>>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Err(unread) = sender.send(line) {
                rest.lock().unwrap().push(unread.0);
            }
        }
    });
    receiver
}

/// A path of an operator's listener; `None` if it cannot be reached.
fn operator_get(address: SocketAddr, path: &str) -> Option<Response> {
    let mut agent = Agent { wire: Wire::plain(TcpStream::connect(address).ok()?) };
    agent.wire.write(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    agent.response_to("GET").ok()
}

/// `/metrics` there, now.
#[track_caller]
pub(super) fn scrape(address: SocketAddr) -> Metrics {
    let response = operator_get(address, "/metrics").unwrap();
    assert_eq!(response.status, 200);
    Metrics::parse(&response.text())
}

/// One scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    /// Name, labels, value; in the order of the page.
    pub(crate) series: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    fn parse(text: &str) -> Self {
        let mut series = Vec::new();
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = key.split_once('{').map_or((key, ""), |(n, l)| (n, l.trim_end_matches('}')));
            let labels = labels
                .split("\",")
                .filter_map(|pair| pair.split_once("=\""))
                .map(|(n, v)| (n.trim().to_owned(), v.trim_end_matches('"').to_owned()));
            series.push((name.to_owned(), labels.collect(), value.parse().unwrap()));
        }
        Self { series }
    }

    /// Sum over all series of that name that carry these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |have: &BTreeMap<String, String>| labels.iter().all(|(n, v)| have.get(*n).is_some_and(|h| h == v));
        self.series.iter().filter(|(n, have, _)| n == name && fits(have)).map(|(_, _, v)| v).sum()
    }

    /// True if some series has that name; histograms count by their `_count`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.series.iter().any(|(n, ..)| n == name || n.strip_suffix("_count") == Some(name))
    }

    /// The value of a label of the first series of that name.
    pub(crate) fn label(&self, name: &str, label: &str) -> Option<String> {
        self.series.iter().find(|(n, ..)| n == name)?.1.get(label).cloned()
    }
}
