//! No secret in outputs (security.md §8): canary shares, keys, passphrase, partials and signatures, looked for in every form
//! in everything that two processes at log level trace write, while they pay, refuse, panic, ban, fail to start and are dumped.

use std::io::{Read as _, Seek as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy_primitives::hex;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use rustix::process::Signal;
use tollpass::mpc::testing;
use tollpass::mpc::{Partial, Party};
use tollpass::wire::identity::Identity;
use tollpass::wire::message::{Begin, Enroll, Enrolled, Opened, path};

use crate::adversary::{PASSPHRASE, Rig};
use crate::harness::{Plan, Setup};
use crate::till::Till;

const CENT: u64 = 10_000;

/// Secrets by name.
#[derive(Default)]
struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        assert!(bytes.len() >= 16, "{name} is too short to be looked for");
        self.0.push((name.to_owned(), bytes.to_vec()));
    }

    /// Both halves of a key file: its private scalar and the text it is written in.
    fn identity(&mut self, name: &str, identity: &Identity) {
        let pem = identity.to_pem();
        let text: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
        let der = STANDARD.decode(&text).unwrap();
        // ECPrivateKey: version 1, then the octet string of 32 bytes.
        let at = der.windows(5).position(|w| w == [2, 1, 1, 4, 32]).unwrap() + 5;
        self.add(name, &der[at..at + 32]);
        self.add(&format!("{name} (PEM)"), &text.as_bytes()[44..84]);
    }

    fn of(rig: &Rig) -> Self {
        let mut all = Self::default();
        for (party, share) in ["share 1", "share 2", "share 3"].iter().zip(&rig.deal.shares) {
            for (name, bytes) in testing::canaries(share) {
                all.add(&format!("{party}, {name}"), &bytes);
            }
        }
        all.add("passphrase", PASSPHRASE.as_bytes());
        all.identity("co-signer's key", &rig.deal.key);
        all.identity("sidecar's key", &rig.one);
        all
    }

    /// Names of those that `text` holds in any form.
    fn found_in(&self, text: &[u8]) -> Vec<String> {
        let text = latin(text);
        let is_in = |needle: &[u8]| text.contains(&latin(needle));
        let all = self.0.iter().flat_map(|(name, secret)| forms(secret).into_iter().map(move |(form, n)| (name, form, n)));
        all.filter(|(_, _, needle)| is_in(needle)).map(|(name, form, _)| format!("{name} as {form}")).collect()
    }

    #[track_caller]
    fn absent_from(&self, what: &str, text: &[u8]) {
        let found = self.found_in(text);
        assert!(found.is_empty(), "{what} holds {found:?}");
    }

    /// Every file below; answers how many bytes.
    #[track_caller]
    fn absent_from_folder(&self, what: &str, folder: &Path) -> usize {
        let mut bytes = 0;
        for file in files(folder) {
            let text = std::fs::read(&file).unwrap();
            bytes += text.len();
            self.absent_from(&format!("{what}: {}", file.display()), &text);
        }
        bytes
    }
}

/// A character for each byte: the standard library searches text fast, also in a debug build.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// The first bytes of a secret as a program may happen to write them.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let part = &secret[..secret.len().min(24)];
    let list = |bytes: &[u8]| bytes.iter().take(10).map(u8::to_string).collect::<Vec<_>>().join(", ").into_bytes();
    let mut reversed = secret.to_vec();
    reversed.reverse();
    let mut all = vec![
        ("bytes", part.to_vec()),
        ("bytes from the end", reversed[..part.len()].to_vec()),
        ("hex", hex::encode(part).into_bytes()),
        ("HEX", hex::encode_upper(part).into_bytes()),
        ("a list", list(part)),
        ("a JSON list", list(part).into_iter().filter(|b| *b != b' ').collect()),
    ];
    for shift in 0..3 {
        // Wherever it stands in a longer text: without the characters that its neighbours have a part in.
        let padded = [&vec![0; shift][..], part].concat();
        for engine in [&STANDARD, &URL_SAFE] {
            let text = engine.encode(&padded);
            all.push(("base64", text.as_bytes()[4..text.len() - 4].to_vec()));
        }
    }
    all
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else if path.is_file() {
                vec![path]
            } else {
                Vec::new()
            }
        })
        .collect()
}

#[test]
fn the_search_finds_a_secret_in_every_form() {
    let mut canaries = Canaries::default();
    let secret: Vec<u8> = (100..132).collect();
    canaries.add("key", &secret);
    let shown = [
        secret.clone(),
        secret.iter().rev().copied().collect(),
        format!("{secret:?}").into_bytes(),
        serde_json::to_vec(&secret).unwrap(),
        hex::encode(&secret).into_bytes(),
        hex::encode_upper(&secret).into_bytes(),
        STANDARD.encode(&secret).into_bytes(),
        URL_SAFE.encode([&[1][..], &secret, &[2]].concat()).into_bytes(),
        STANDARD.encode([&[1, 2][..], &secret].concat()).into_bytes(),
    ];
    for text in shown {
        assert!(!canaries.found_in(&[b"before ", &text[..], b" after"].concat()).is_empty(), "{}", String::from_utf8_lossy(&text));
    }
    canaries.absent_from("another text", b"nothing to see here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_a_co_signer_at_level_trace_shows_no_secret_whatever_happens_to_it() {
    let trace = ["--log-level", "trace"];
    let mut rig = Rig::start_with(&[("TOLLPASS_FAILPOINT", "!cosigner_joined:3"), ("RUST_BACKTRACE", "full")], &trace);
    let mut canaries = Canaries::of(&rig);
    // Signatures, refusals, and a panic with a session in its hands.
    let raw = rig.greeted(&rig.one).await;
    for _ in 0..2 {
        let (completing, finish) = raw.half(CENT).await;
        let partial = raw.finish(&finish).await.yes().partial;
        canaries.add("u of a partial", &partial[1..33]);
        canaries.add("w of a partial", &partial[partial.len() - 32..]);
        let signature = completing.complete(&Partial::from_bytes(partial)).unwrap();
        canaries.add("s of a signature", &signature[32..64]);
    }
    raw.ask::<Opened>(path::BEGIN, &raw.mine(rand::random(), CENT).begin).await.closed();
    assert!(rig.log().contains("failpoint cosigner_joined"), "it did not panic");
    let raw = rig.greeted(&rig.one).await;
    raw.pay(CENT).await;
    let token = rig.token("three");
    canaries.add("a token", token.as_bytes());
    let stranger = rig.dial(&Identity::generate().unwrap()).await;
    stranger.ask::<Enrolled>(path::ENROLL, &Enroll { token }).await.yes();
    // A ban at the end, then a start that is refused, then starts with wrong keys.
    let (intent, digest) = raw.intent(rand::random(), CENT, |_| ());
    for bit in 0..256 {
        let round1 = testing::Cheat::begin(raw.share(), Party::Cosigner, [9; 32], digest.0).probing(bit);
        if raw.ask::<Opened>(path::BEGIN, &Begin { intent: intent.clone(), sign_id: [9; 32], round1 }).await.word() != "yes" {
            break;
        }
    }
    let metrics = rig.metrics();
    rig.stop();
    for folder in ["state", "share"] {
        canaries.absent_from_folder("the co-signer's folder", &rig.path(folder));
    }
    rig.restart();
    let mut errors = Vec::new();
    for (name, text) in [
        ("a passphrase in the file", format!("unseal: \"{PASSPHRASE}\"")),
        ("a passphrase as a program", format!("unseal: \"exec:{PASSPHRASE}\"")),
        ("another passphrase", "unseal: env:OTHER".to_owned()),
    ] {
        let config = std::fs::read_to_string(rig.path("cosigner.yaml")).unwrap().replace("unseal: env:OPEN", &text);
        std::fs::write(rig.path("broken.yaml"), config).unwrap();
        for args in [&["cosigner", "--config", "broken.yaml", "--check"][..], &["cosigner", "--config", "broken.yaml"]] {
            let output = rig.command().env("OTHER", &PASSPHRASE[1..]).args(trace).args(args).output().unwrap();
            // `exec:` names a program, which an error may name too.
            if !name.ends_with("program") {
                errors.extend([output.stdout, output.stderr].concat());
            }
        }
    }
    let pem = std::fs::read(rig.path("cosigner.pem")).unwrap();
    std::fs::write(rig.path("cosigner.pem.2"), [&pem[..pem.len() / 2], b"\n"].concat()).unwrap();
    let broken = std::fs::read_to_string(rig.path("cosigner.yaml")).unwrap().replace("cosigner.pem", "cosigner.pem.2");
    std::fs::write(rig.path("broken.yaml"), broken).unwrap();
    let output = rig.command().args(trace).args(["cosigner", "--config", "broken.yaml"]).output().unwrap();
    assert!(!output.status.success());
    errors.extend([output.stdout, output.stderr].concat());
    let log = rig.log();
    assert!(log.contains("TRACE") && log.contains("frozen"), "{log}");
    canaries.absent_from("/metrics", metrics.as_bytes());
    canaries.absent_from("errors at the start", &errors);
    canaries.absent_from("the log", log.as_bytes());
    println!("{} canaries in {} bytes of log, {} of metrics, {} of errors: none", canaries.0.len(), log.len(), metrics.len(), errors.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_a_proxy_at_level_trace_shows_no_secret_and_keeps_signatures_in_its_private_folder() {
    let rig = Rig::start_with(&[], &["--log-level", "trace"]);
    let mut canaries = Canaries::of(&rig);
    let sidecar = tempfile::tempdir().unwrap();
    let at = |name: &str| sidecar.path().join(name);
    std::fs::create_dir(at("share")).unwrap();
    let unseal = tollpass::custody::Unseal::Value(tollpass::config::Secret::new(PASSPHRASE));
    tollpass::custody::Custody::create(&at("share"), &rig.deal.shares[0], &unseal).unwrap();
    std::fs::write(at("id.pem"), rig.one.to_pem().as_bytes()).unwrap();
    Command::new("chmod").arg("0400").arg(at("id.pem")).status().unwrap();
    let signer = format!(
        "mpc: {{ wallet: w1, share: \"file:{}\", unseal: env:UNSEAL, identity: \"file:{}\", pin: {}, cosigner: \"https://{}\", accept_unreviewed_presign: true, pool: 4 }}",
        at("share").display(),
        at("id.pem").display(),
        rig.deal.key.fingerprint(),
        rig.address()
    );
    let mut setup = Setup::new().signer(&signer).env("UNSEAL", PASSPHRASE).env("RUST_BACKTRACE", "full");
    setup.args = ["--log-level", "trace"].map(str::to_owned).to_vec();
    let till = Till::new(setup, |_| Plan::ok("sold"));
    for n in 0..4 {
        let answer = till.get(&format!("/{n}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut signatures = 0;
    for call in till.seller.paid() {
        let header = STANDARD.decode(call.head.get("payment-signature").unwrap()).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        let signature = hex::decode(header["payload"]["signature"].as_str().unwrap()).unwrap();
        canaries.add("r of a signature", &signature[..32]);
        canaries.add("s of a signature", &signature[32..64]);
        signatures += 1;
    }
    assert!(signatures >= 4);
    let (log, metrics) = (till.program.log(), till.program.admin_get("/metrics").unwrap().text());
    assert!(log.contains("TRACE"));
    canaries.absent_from("the proxy's log", log.as_bytes());
    canaries.absent_from("the proxy's metrics", metrics.as_bytes());
    canaries.absent_from("the co-signer's log", rig.log().as_bytes());
    canaries.absent_from_folder("the co-signer's state", &rig.path("state"));
    canaries.absent_from_folder("what agents may read", &till.program.path("state/trust"));
    canaries.absent_from_folder("share folder", &at("share"));
    // By design: a complete signature waits in the private ledger to be sent again (M1.5). Nothing else of these does.
    let known = |found: &String| found.contains("of a signature");
    for file in files(&till.program.path("state/private")) {
        let found = canaries.found_in(&std::fs::read(&file).unwrap());
        assert!(found.iter().all(known), "{}: {found:?}", file.display());
    }
    println!("{} canaries in {} bytes of log, {} of metrics: none", canaries.0.len(), log.len(), metrics.len());
}

#[test]
fn s8_debug_of_what_holds_secrets_shows_none() {
    let rig = Rig::prepare(&[], &[]);
    let canaries = Canaries::of(&rig);
    let config = tollpass::cosigner::config::Config::parse(
        &rig.path("cosigner.yaml"),
        &std::fs::read_to_string(rig.path("cosigner.yaml")).unwrap(),
        &|_| Some(PASSPHRASE.to_owned()),
    )
    .unwrap();
    let finished = tollpass::wire::message::Finished {
        partial: testing::canaries(&rig.deal.shares[1])[0].1.clone(),
        rho: [0; 32],
        remaining_micro: None,
        head: 1,
    };
    let answer = tollpass::wire::message::Answer::Yes(finished.clone());
    let shown = format!("{:?} {:#?} {:?} {config:?} {finished:#?} {answer:?} {:?}", rig.deal.shares, rig.one, rig.deal.key, rig.store());
    canaries.absent_from("Debug", shown.as_bytes());
}

/// Of nobody in particular.
const NOBODY: u32 = 65_534;

#[test]
fn s8_memory_of_a_co_signer_reaches_no_core_file_and_no_process_of_its_user() {
    let mut rig = Rig::prepare(&[], &[]);
    let canaries = Canaries::of(&rig);
    // Its own copy of the program, so that another user can run it.
    let program = rig.path("tollpass");
    std::fs::copy(env!("CARGO_BIN_EXE_tollpass"), &program).unwrap();
    let root = rustix::process::getuid().is_root();
    if root {
        let owner = format!("{NOBODY}:{NOBODY}");
        assert!(Command::new("chown").args(["-R", &owner]).arg(rig.dir()).status().unwrap().success());
    }
    let drop_to = |command: &mut Command| {
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
    };
    let mut start = Command::new("sh");
    start.env_clear().current_dir(rig.dir()).env("PATH", "/usr/bin:/bin").env("OPEN", PASSPHRASE);
    start.args(["-c", "ulimit -c unlimited; exec ./tollpass --log-format json cosigner --config cosigner.yaml --json"]);
    drop_to(&mut start);
    assert!(rig.adopt(start), "{}", rig.log());
    let id = rig.id();
    // A process of the same user, without privileges.
    for file in ["environ", "maps", "mem"] {
        let mut peek = Command::new("head");
        peek.args(["-c", "1"]).arg(format!("/proc/{id}/{file}"));
        drop_to(&mut peek);
        let output = peek.output().unwrap();
        let denied = !output.status.success() && output.stdout.is_empty();
        println!("same user reads /proc/PID/{file}: {}", if denied { "denied" } else { "ALLOWED" });
        assert!(denied, "{file} can be read");
    }
    let mut gcore = Command::new("gcore");
    gcore.arg("-o").arg(rig.path("dump")).arg(id.to_string()).env("DEBUGINFOD_URLS", "");
    drop_to(&mut gcore);
    match gcore.output() {
        Ok(output) => println!("same user runs gcore: {}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("no word")),
        Err(error) => println!("gcore: {error}; /proc was tried instead"),
    }
    let dumped = files(rig.dir()).into_iter().any(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with("dump")));
    assert!(!dumped, "gcore of the same user made a dump");
    if root {
        // Not promised: root of the machine. Said, not asserted.
        println!("root reads the memory and finds: {:?}", canaries.found_in_memory(id));
    }
    // It dies of SIGABRT, although its user wants cores.
    println!("core_pattern {}", std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default().trim());
    let status = rig.signal(Signal::ABORT);
    assert_eq!(status.signal(), Some(6));
    assert!(!status.core_dumped(), "a core was written");
    let cores: Vec<_> = files(rig.dir()).into_iter().filter(|f| f.to_string_lossy().contains("core.")).collect();
    assert!(cores.is_empty(), "{cores:?}");
}

impl Canaries {
    /// Names of the secrets in a process's writable memory, as bytes; needs root.
    fn found_in_memory(&self, id: u32) -> Vec<String> {
        let maps = std::fs::read_to_string(format!("/proc/{id}/maps")).unwrap_or_default();
        let Ok(mut memory) = std::fs::File::open(format!("/proc/{id}/mem")) else { return vec!["not even root may".into()] };
        let mut found = std::collections::BTreeSet::new();
        for line in maps.lines().filter(|l| l.contains(" rw")) {
            let Some((from, to)) = line.split_whitespace().next().and_then(|r| r.split_once('-')) else { continue };
            let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else { continue };
            let mut bytes = vec![0; usize::try_from(to - from).unwrap().min(64 << 20)];
            if memory.seek(std::io::SeekFrom::Start(from)).is_err() || memory.read_exact(&mut bytes).is_err() {
                continue;
            }
            let bytes = latin(&bytes);
            let turned = |secret: &[u8]| secret.iter().rev().take(16).copied().collect::<Vec<u8>>();
            let holds = |secret: &[u8]| bytes.contains(&latin(&secret[..16])) || bytes.contains(&latin(&turned(secret)));
            found.extend(self.0.iter().filter(|(_, secret)| holds(secret)).map(|(name, _)| name.clone()));
        }
        found.into_iter().collect()
    }
}
