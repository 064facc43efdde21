//! Ceremonies with the real program: three processes, three folders, a board over TLS (S6, S7).

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use serde_json::Value;
use tollpass::custody::{Custody, Unseal};
use tollpass::mpc::{Begun, Joined, Party, Share};

/// Where the wallets of these tests recover to.
pub(crate) const RECOVERY: &str = "0x000000000000000000000000000000000000dEaD";

/// Three parties' folders, identities and passphrases, as three operators would have them.
pub(crate) struct Trio {
    home: PathBuf,
    pub(crate) pins: BTreeMap<Party, String>,
    /// Another user for each party.
    uids: Option<[u32; 3]>,
    /// Removes the folder.
    _temp: Option<tempfile::TempDir>,
}

/// How a process of a party ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
    pub(crate) errors: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.said).unwrap_or_else(|e| panic!("{e}: {} {}", self.said, self.errors))
    }
}

pub(crate) fn tollpass() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollpass"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Trio {
    pub(crate) fn new() -> Self {
        Self::with_uids(None)
    }

    fn with_uids(uids: Option<[u32; 3]>) -> Self {
        let temp = tempfile::Builder::new().prefix("trio").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut trio = Self { home: temp.path().to_owned(), pins: BTreeMap::new(), uids, _temp: Some(temp) };
        fs::set_permissions(&trio.home, fs::Permissions::from_mode(0o711)).unwrap();
        for party in Party::ALL {
            for folder in [trio.of(party), trio.home.join("passphrases").join(party.as_str())] {
                fs::create_dir_all(&folder).unwrap();
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
                trio.own(party, &folder);
            }
            fs::set_permissions(trio.home.join("passphrases"), fs::Permissions::from_mode(0o711)).unwrap();
            fs::write(trio.passphrase(party), format!("open {party}")).unwrap();
            fs::set_permissions(trio.passphrase(party), fs::Permissions::from_mode(0o400)).unwrap();
            trio.own(party, &trio.passphrase(party));
            let mut identity = trio.as_party(party);
            let made = identity.args(["wallet", "identity", "--out"]).arg(trio.identity(party)).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            trio.pins.insert(party, String::from_utf8(made.stdout).unwrap().trim().to_owned());
        }
        trio
    }

    /// A copy with the same shares in another folder.
    pub(crate) fn copied(&self) -> Self {
        let temp = tempfile::Builder::new().prefix("trio").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let done = Command::new("cp").arg("-a").arg(format!("{}/.", self.home.display())).arg(temp.path()).status().unwrap();
        assert!(done.success());
        Self { home: temp.path().to_owned(), pins: self.pins.clone(), uids: self.uids, _temp: Some(temp) }
    }

    fn own(&self, party: Party, path: &Path) {
        if let Some(uids) = self.uids {
            let uid = uids[usize::from(party.index()) - 1];
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
        }
    }

    /// The program, as the party's own user if it has one.
    fn as_party(&self, party: Party) -> Command {
        let mut command = tollpass();
        if let Some(uids) = self.uids {
            let uid = uids[usize::from(party.index()) - 1];
            command.uid(uid).gid(uid);
        }
        command
    }

    pub(crate) fn of(&self, party: Party) -> PathBuf {
        self.home.join(party.as_str())
    }

    pub(crate) fn share(&self, party: Party) -> PathBuf {
        self.of(party).join("share")
    }

    fn identity(&self, party: Party) -> PathBuf {
        self.of(party).join("identity.pem")
    }

    fn passphrase(&self, party: Party) -> PathBuf {
        self.home.join("passphrases").join(party.as_str()).join("passphrase")
    }

    /// `tollpass wallet VERB` with what every ceremony of this party needs.
    pub(crate) fn command(&self, verb: &str, party: Party) -> Command {
        let mut command = self.as_party(party);
        command.args(["wallet", verb, "--json", "--share"]).arg(self.share(party));
        command.arg("--unseal").arg(format!("file:{}", self.passphrase(party).display()));
        command.arg("--identity").arg(self.identity(party)).args(["--wait", "60s", "--patience", "60s"]);
        command
    }

    /// A creation's command: the plan and the other two fingerprints.
    pub(crate) fn creation(&self, party: Party) -> Command {
        let mut command = self.command("create", party);
        command.args(["--party", party.as_str(), "--wallet", "w1", "--recovery", RECOVERY]);
        for (other, pin) in self.pins.iter().filter(|(p, _)| **p != party) {
            command.arg("--peer").arg(format!("{other}={pin}"));
        }
        command
    }

    /// Runs a ceremony: `host` serves the board, the others join; how each ended.
    pub(crate) fn ceremony(&self, host: Party, commands: Vec<(Party, Command)>) -> BTreeMap<Party, Ended> {
        let (mut serving, joining): (Vec<_>, Vec<_>) = commands.into_iter().partition(|(p, _)| *p == host);
        let (_, mut command) = serving.pop().unwrap();
        let mut child = command.args(["--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut before = String::new();
        let board = loop {
            let mut line = String::new();
            if errors.read_line(&mut line).unwrap() == 0 {
                return BTreeMap::from([(host, finish(child, before, errors))]);
            }
            match line.trim().strip_prefix("the board is at ") {
                Some(address) => break address.to_owned(),
                None => before.push_str(&line),
            }
        };
        let mut running = vec![(host, thread::spawn(move || finish(child, before, errors)))];
        for (party, mut command) in joining {
            let mut child = command.arg("--join").arg(format!("{host}=https://{board}")).spawn().unwrap();
            let errors = BufReader::new(child.stderr.take().unwrap());
            running.push((party, thread::spawn(move || finish(child, String::new(), errors))));
        }
        running.into_iter().map(|(party, thread)| (party, thread.join().unwrap())).collect()
    }

    pub(crate) fn create(&self) -> BTreeMap<Party, Ended> {
        self.ceremony(Party::Cosigner, Party::ALL.map(|p| (p, self.creation(p))).into())
    }

    pub(crate) fn refresh(&self) -> BTreeMap<Party, Ended> {
        self.ceremony(Party::Cosigner, Party::ALL.map(|p| (p, self.command("refresh", p))).into())
    }

    /// `wallet show`, or nothing if there is no share.
    pub(crate) fn show(&self, party: Party) -> Option<Value> {
        let out = self.as_party(party).args(["wallet", "show", "--json", "--share"]).arg(self.share(party)).output().unwrap();
        out.status.success().then(|| serde_json::from_slice(&out.stdout).unwrap())
    }

    pub(crate) fn shares(&self) -> Vec<Arc<Share>> {
        let open = |p| Custody::open(&self.share(p), &Unseal::File(self.passphrase(p))).unwrap().share().clone();
        Party::ALL.into_iter().map(open).collect()
    }

    /// Every pair signs, and the signature is one of the wallet's account, by another implementation of the curve.
    pub(crate) fn all_pairs_sign(&self, case: &str) {
        let shares = self.shares();
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let digest = B256::from(rand::random::<[u8; 32]>());
            let id = rand::random();
            let (begun, a1) = Begun::new(shares[a].clone(), shares[b].wallet().party, id, digest).unwrap();
            let (joined, b1, b2) = Joined::new(shares[b].clone(), shares[a].wallet().party, id, digest, &a1)
                .unwrap_or_else(|e| panic!("{case}: {a} and {b}: {e}"));
            let (completing, a2) = begun.advance(&b1, &b2).unwrap();
            let rsv = completing.complete(&joined.finish(&a2).unwrap()).unwrap();
            assert_eq!(signer(digest, &rsv), shares[a].wallet().address, "{case}: {a} and {b}");
        }
    }
}

fn finish(mut child: Child, before: String, mut errors: impl Read) -> Ended {
    let mut output = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut said = String::new();
        output.read_to_string(&mut said).map(|_| said)
    });
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    let said = reader.join().unwrap().unwrap();
    Ended { status: child.wait().unwrap(), said, errors: before + &rest }
}

/// Who signed: recovered with k256 and Keccak, none of our own code.
fn signer(digest: B256, rsv: &[u8]) -> Address {
    use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
    let signature = Signature::from_slice(&rsv[..64]).unwrap();
    assert!(signature.normalize_s().is_none(), "a high s");
    let key = VerifyingKey::recover_from_prehash(digest.as_slice(), &signature, RecoveryId::from_byte(rsv[64] - 27).unwrap()).unwrap();
    Address::from_slice(&keccak256(&key.to_encoded_point(false).as_bytes()[1..])[12..])
}

/// The EIP-712 digest of an EIP-3009 transfer on Base Sepolia's USDC, from its text.
fn transfer_digest(a: &Value) -> B256 {
    let word = |text: &str| U256::from_str_radix(text, 10).unwrap().to_be_bytes::<32>();
    let address = |text: &str| text.parse::<Address>().unwrap().into_word().0;
    let text = |key: &str| a[key].as_str().unwrap();
    let kind =
        keccak256("TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)");
    let message = [
        kind.0,
        address(text("from")),
        address(text("to")),
        word(text("value")),
        word(text("validAfter")),
        word(text("validBefore")),
        text("nonce").parse::<B256>().unwrap().0,
    ];
    // Read from the token contract on chain.
    let separator = hex!("71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818");
    keccak256([&[0x19, 0x01][..], &separator, keccak256(message.concat()).as_slice()].concat())
}

#[test]
fn s6_three_processes_make_a_wallet_and_every_pair_signs_refreshes_and_recovers() {
    let trio = Trio::new();
    let at = std::time::Instant::now();
    let ended = trio.create();
    for (party, end) in &ended {
        assert!(end.status.success(), "{party}: {}", end.errors);
        assert!(end.errors.contains("no third party has audited"), "{party}: {}", end.errors);
    }
    println!("create: {:?} wall, three machines on one", at.elapsed());
    let address = ended[&Party::Cold].json()["address"].clone();
    for (party, end) in &ended {
        let facts = end.json();
        assert_eq!((&facts["address"], &facts["origin"], &facts["epoch"]), (&address, &"distributed".into(), &1.into()), "{party}");
        assert_eq!(facts["recovery"], RECOVERY);
        assert!(!trio.of(*party).join("share.pending").exists());
        // The sealed file alone has the secret, and others cannot read it.
        assert_eq!(fs::metadata(trio.share(*party).join("share")).unwrap().permissions().mode() & 0o777, 0o400);
    }
    trio.all_pairs_sign("created");
    let again = trio.creation(Party::Cold).args(["--join", "https://127.0.0.1:1"]).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "{again:?}");
    let at = std::time::Instant::now();
    for (party, end) in trio.refresh() {
        assert!(end.status.success(), "{party}: {}", end.errors);
        let facts = end.json();
        assert_eq!((&facts["address"], &facts["epoch"]), (&address, &2.into()), "{party}");
        assert!(end.errors.contains("backups"), "{party} was not told what to destroy: {}", end.errors);
        assert!(!trio.share(party).join("share.previous").exists() && !trio.share(party).join("share.next").exists());
    }
    println!("refresh: {:?} wall", at.elapsed());
    trio.all_pairs_sign("refreshed");
    for pair in [(Party::Sidecar, Party::Cold), (Party::Cosigner, Party::Cold)] {
        recovers(&trio, pair, &address);
    }
    refuses_another_amount(&trio);
}

#[test]
fn a_trial_on_one_host_is_marked_and_its_files_are_ready_to_run() {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = temp.path().join("trial");
    let at = std::time::Instant::now();
    let made = tollpass()
        .args(["wallet", "create", "--one-host"])
        .arg(&folder)
        .args(["--wallet", "w1", "--agent", "ann", "--agent", "bob", "--recovery", RECOVERY, "--json"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{errors}");
    assert!(errors.contains("no third party has audited"), "{errors}");
    println!("one-host create: {:?} wall", at.elapsed());
    let facts: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(facts["origin"], "one-host");
    for share in facts["shares"].as_array().unwrap() {
        let share = Path::new(share.as_str().unwrap());
        let (wallet, frozen) = Custody::inspect(share).unwrap();
        assert_eq!((wallet.origin, frozen), (tollpass::mpc::Origin::OneHost, None));
        assert_eq!(wallet.address.to_string(), facts["address"].as_str().unwrap());
        // No share opens with what lies beside it.
        assert!(!share.parent().unwrap().join("passphrase").exists());
    }
    let cosigner = folder.join("cosigner/cosigner.yaml");
    let config = tollpass::cosigner::config::Config::load(&cosigner).unwrap_or_else(|e| panic!("{e}"));
    assert!(config.share.join("share").exists());
    tollpass::config::Config::load(&folder.join("sidecar/tollpass.yaml")).unwrap_or_else(|e| panic!("{e}"));
    for policy in ["cosigner", "sidecar"] {
        let checked = tollpass().args(["policy", "check"]).arg(folder.join(policy).join("policy.yaml")).output().unwrap();
        assert!(checked.status.success(), "{policy}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    let again = tollpass().args(["wallet", "create", "--wallet", "w1", "--one-host"]).arg(&folder).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    refuses_a_main_network(&folder);
}

/// Shares that were on one machine together sign for test networks only (S6).
fn refuses_a_main_network(folder: &Path) {
    let refused = tollpass()
        .args(["wallet", "recover", "--with", "cold", "--listen", "127.0.0.1:0", "--amount", "1"])
        .args(["--asset", "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "--share"])
        .arg(folder.join("sidecar/share"))
        .arg("--unseal")
        .arg(format!("file:{}", folder.join("passphrases/sidecar/passphrase").display()))
        .arg("--identity")
        .arg(folder.join("sidecar/identity.pem"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && errors.contains("test networks only"), "{errors}");
}

const USDC: &str = "eip155:84532/erc20:0x036CbD53842c5426634e7929541eC2318f3dCF7e";

fn recovery(trio: &Trio, me: Party, with: Party, amount: &str) -> (Party, Command) {
    let mut command = trio.command("recover", me);
    command.args(["--with", with.as_str(), "--asset", USDC, "--amount", amount]);
    (me, command)
}

fn recovers(trio: &Trio, (host, other): (Party, Party), address: &Value) {
    let ended = trio.ceremony(host, vec![recovery(trio, host, other, "12.5"), recovery(trio, other, host, "12.5")]);
    for (party, end) in &ended {
        assert!(end.status.success(), "{party}: {}", end.errors);
        let signed = end.json();
        let a = &signed["authorization"];
        assert_eq!((&a["from"], &a["to"], &a["value"]), (address, &RECOVERY.into(), &"12500000".into()), "{party}");
        let rsv = hex::decode(signed["signature"].as_str().unwrap()).unwrap();
        assert_eq!(signer(transfer_digest(a), &rsv).to_string(), address.as_str().unwrap(), "{party}");
        let calldata = signed["calldata"].as_str().unwrap();
        // Selector, nine words; the last three are v, r, s.
        assert!(calldata.starts_with("0xe3ee160e") && calldata.len() == 2 + 8 + 9 * 64, "{calldata}");
        assert!(calldata.ends_with(&hex::encode(&rsv[..64])));
    }
    assert_eq!(ended[&host].json(), ended[&other].json());
}

fn refuses_another_amount(trio: &Trio) {
    let (host, other) = (Party::Sidecar, Party::Cold);
    let ended = trio.ceremony(host, vec![recovery(trio, host, other, "12.5"), recovery(trio, other, host, "12.6")]);
    for (party, end) in &ended {
        assert_eq!(end.status.code(), Some(1), "{party}: {}", end.errors);
        assert!(end.errors.contains("another amount"), "{party}: {}", end.errors);
        assert!(end.said.is_empty());
    }
    let (_, mut both_online) = recovery(trio, Party::Sidecar, Party::Cosigner, "1");
    let refused = both_online.args(["--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn s6_a_wrong_fingerprint_stops_the_ceremony_on_all_screens() {
    let trio = Trio::new();
    let wrong = "00".repeat(32);
    // The cold party was told another fingerprint for the sidecar than the sidecar has.
    let mut commands: Vec<_> = Party::ALL.into_iter().filter(|p| *p != Party::Cold).map(|p| (p, trio.creation(p))).collect();
    let mut cold = trio.command("create", Party::Cold);
    cold.args(["--party", "cold", "--wallet", "w1", "--recovery", RECOVERY]);
    cold.arg("--peer").arg(format!("sidecar={wrong}")).arg("--peer").arg(format!("cosigner={}", trio.pins[&Party::Cosigner]));
    commands.push((Party::Cold, cold));
    for (party, end) in trio.ceremony(Party::Cosigner, commands) {
        assert_eq!(end.status.code(), Some(1), "{party}: {}", end.errors);
        assert!(end.errors.contains("fingerprint"), "{party}: {}", end.errors);
        assert!(!trio.share(party).exists() && !trio.of(party).join("share.pending").exists(), "{party}");
    }
}

#[test]
fn s6_a_board_that_is_not_the_compared_one_is_not_spoken_to() {
    let trio = Trio::new();
    let wrong = "00".repeat(32);
    let commands = Party::ALL.map(|party| {
        let mut command = trio.command("create", party);
        command.args(["--party", party.as_str(), "--wallet", "w1"]);
        for (other, pin) in trio.pins.iter().filter(|(p, _)| **p != party) {
            let pin = if party == Party::Cold && *other == Party::Cosigner { &wrong } else { pin };
            command.arg("--peer").arg(format!("{other}={pin}"));
        }
        command.args(["--wait", "5s"]);
        (party, command)
    });
    // The last --wait would be refused as a second one: build them without the first.
    let commands = commands.map(|(party, command)| (party, without_first_wait(&command)));
    for (party, end) in trio.ceremony(Party::Cosigner, commands.into()) {
        assert_eq!(end.status.code(), Some(1), "{party}: {}", end.errors);
        assert!(!trio.share(party).exists(), "{party}");
    }
}

/// The same command with its first `--wait` taken out.
fn without_first_wait(command: &Command) -> Command {
    let mut args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let at = args.iter().position(|a| a == "--wait").unwrap();
    args.drain(at..at + 2);
    let mut copy = tollpass();
    copy.args(args);
    copy
}

#[test]
fn s6_parties_with_different_plans_say_which_word_differs() {
    let trio = Trio::new();
    let commands = Party::ALL.map(|party| {
        let mut command = trio.command("create", party);
        let recovery = if party == Party::Cold { "0x000000000000000000000000000000000000bEEF" } else { RECOVERY };
        command.args(["--party", party.as_str(), "--wallet", "w1", "--recovery", recovery]);
        for (other, pin) in trio.pins.iter().filter(|(p, _)| **p != party) {
            command.arg("--peer").arg(format!("{other}={pin}"));
        }
        (party, command)
    });
    for (party, end) in trio.ceremony(Party::Cosigner, commands.into()) {
        assert_eq!(end.status.code(), Some(1), "{party}: {}", end.errors);
        assert!(end.errors.contains("recovery address"), "{party}: {}", end.errors);
    }
}

#[test]
fn s1_with_one_user_per_party_none_reads_another_ones_files() {
    if !rustix_is_root() {
        println!("skipped: only root can start processes of three users");
        return;
    }
    let uids = [64_201, 64_202, 64_203];
    let probe = Command::new(env!("CARGO_BIN_EXE_tollpass")).arg("--version").uid(uids[0]).gid(uids[0]).output();
    if !probe.is_ok_and(|p| p.status.success()) {
        println!("skipped: another user cannot run the program where it was built");
        return;
    }
    let trio = Trio::with_uids(Some(uids));
    for (party, end) in trio.create() {
        assert!(end.status.success(), "{party}: {}", end.errors);
    }
    let mut tried = 0;
    for (reader, uid) in Party::ALL.into_iter().zip(uids) {
        for owner in Party::ALL {
            let files = [trio.share(owner).join("share"), trio.share(owner).join("custody"), trio.identity(owner), trio.passphrase(owner)];
            for file in files {
                let read = Command::new("cat").arg(&file).uid(uid).gid(uid).stderr(Stdio::null()).output().unwrap();
                assert_eq!(read.status.success(), reader == owner, "{reader} reads {}", file.display());
                tried += 1;
            }
        }
    }
    println!("{tried} reads tried; each party read its own files only");
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
