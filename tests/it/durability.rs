//! The order of durability (money.md §5): no byte of a payment leaves before the sync that covers its hold has returned.
//!
//! SIGKILL keeps the page cache, so only the system calls can show this. `strace` writes them down; a small checker reads.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use alloy_primitives::hex;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Act, Plan, Setup, Terms};
use crate::till::{Gate, Till, decode, payee};

const CALLS: &str = "write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg,fdatasync,fsync,sync_file_range";

/// One finished or unfinished system call of a trace.
#[derive(Clone, Debug)]
struct Syscall {
    name: String,
    /// What the first descriptor is, by `strace -y`.
    file: String,
    /// Every string of the arguments, decoded and joined.
    data: Vec<u8>,
    /// Line of the trace at which it began.
    began: usize,
    /// Line at which it had returned, and with what; `None` if it never did.
    returned: Option<(usize, i64)>,
}

/// Reads a trace of `strace -f -y -xx`: `PID name(<fd</path>>, "…") = ret`, in one line or cut in two.
fn parse(trace: &str) -> Vec<Syscall> {
    let mut calls: Vec<Syscall> = Vec::new();
    let mut pending: HashMap<&str, usize> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            if let Some(call) = pending.remove(pid) {
                assert!(resumed.starts_with(calls[call].name.as_str()), "line {number}: {line:.80}");
                calls[call].returned = result(resumed).map(|value| (number, value));
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let unfinished = arguments.ends_with("<unfinished ...>");
        let returned = if unfinished { None } else { result(arguments).map(|value| (number, value)) };
        let call = Syscall { name: name.into(), file: file(arguments), data: strings(arguments), began: number, returned };
        if unfinished {
            pending.insert(pid, calls.len());
        }
        calls.push(call);
    }
    calls
}

/// The number behind the last ` = `, which may stand in a column of its own.
fn result(text: &str) -> Option<i64> {
    let (call, value) = text.rsplit_once(" = ")?;
    if call.trim_end().ends_with(')') { value.split_whitespace().next()?.parse().ok() } else { None }
}

/// `9</path>, …` → `/path`, whose bytes may be written in hexadecimal too.
fn file(arguments: &str) -> String {
    let Some((_, rest)) = arguments.split_once('<') else { return String::new() };
    let name = rest.split_once(">,").or_else(|| rest.split_once(">)")).or_else(|| rest.split_once("> ")).map_or(rest, |(name, _)| name);
    if name.contains("\\x") { String::from_utf8_lossy(&unescape(name)).into_owned() } else { name.into() }
}

/// The quoted strings, behind the descriptor.
fn strings(arguments: &str) -> Vec<u8> {
    arguments.split('"').skip(1).step_by(2).flat_map(unescape).collect()
}

/// `\x41\x42` → `AB`; everything else stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if let (b'\\', Some(b'x'), Some(digits)) = (first, tail.first(), tail.get(1..3))
            && let Ok(byte) = hex::decode(digits)
        {
            out.extend(byte);
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

fn contains(data: &[u8], needle: &[u8]) -> bool {
    data.windows(needle.len()).any(|w| w == needle)
}

/// The value of a payment header in what went to a socket.
fn credential(data: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(data);
    let lower = text.to_ascii_lowercase();
    let name = ["payment-signature:", "x-payment:"].into_iter().find(|name| lower.contains(&format!("\r\n{name}")))?;
    let from = lower.find(&format!("\r\n{name}"))? + 2 + name.len();
    Some(text[from..].split("\r\n").next().unwrap_or_default().trim().to_owned())
}

/// Checks a trace; gives the nonces of all payments that left, or says which one left too early.
fn check(trace: &str) -> Result<Vec<String>, String> {
    let calls = parse(trace);
    let syncs: Vec<&Syscall> = calls
        .iter()
        .filter(|c| matches!(c.name.as_str(), "fdatasync" | "fsync") && c.file.ends_with("-wal") && c.returned.is_some_and(|r| r.1 == 0))
        .collect();
    let mut nonces = Vec::new();
    for send in calls.iter().filter(|c| !c.file.starts_with('/')) {
        let Some(credential) = credential(&send.data) else { continue };
        let nonce = decode(&credential)["payload"]["authorization"]["nonce"].as_str().ok_or("no nonce")?.to_owned();
        let bytes = hex::decode(&nonce).map_err(|e| e.to_string())?;
        let holds = calls.iter().filter(|c| c.file.ends_with("-wal") && c.name.contains("write") && contains(&c.data, &bytes));
        let covered = holds.filter_map(|hold| hold.returned).any(|(written, _)| {
            // A sync covers what was written before it began, and counts once it has returned.
            syncs.iter().any(|s| s.began > written && s.returned.is_some_and(|(at, _)| at < send.began))
        });
        if !covered {
            return Err(format!("line {}: the payment {nonce} left before its hold was synced", send.began + 1));
        }
        nonces.push(nonce);
    }
    Ok(nonces)
}

struct Tracer(Child);

impl Tracer {
    /// Attaches to every thread of `pid`; says why if that is not possible here.
    fn attach(pid: u32, out: &Path) -> Result<Self, String> {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-xx", "-s", "65536", "-e", "signal=none", "-e"]).arg(format!("trace={CALLS}"));
        command.arg("-o").arg(out).arg("-p").arg(pid.to_string());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|e| format!("strace: {e}"))?;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().transpose().ok().flatten().unwrap_or_default();
        // It goes on talking about threads; somebody has to listen.
        std::thread::spawn(move || lines.for_each(drop));
        if first.contains("attached") {
            return Ok(Self(child));
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(first)
    }

    /// Detaches and writes out what it has.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
        let _ = self.0.wait();
    }
}

#[test]
fn m1_5_no_byte_of_a_payment_leaves_before_its_hold_is_synced() {
    let gate = Gate::default();
    let pass = gate.clone();
    let till = Till::with(Setup::new(), Terms::v2(payee(), 10_000), move |visit| {
        // The first of every kind fails, so that purchases are adopted, presented again and signed again too.
        match visit.head.target() {
            "/again" if !pass.is_open() => Plan::keep(Act::Answer(500, String::new(), Vec::new())),
            _ => Plan::ok("sold"),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    let tracer = match Tracer::attach(till.program.id(), &file) {
        Ok(tracer) => tracer,
        Err(why) => {
            println!("skipped: cannot trace system calls here: {why}");
            return;
        }
    };
    let mut agents: Vec<_> = (0..12).map(|n| till.ask(&format!("/{n}"))).collect();
    assert!(agents.iter_mut().all(|a| a.response().status == 200));
    for n in 0..8 {
        assert_eq!(till.get(&format!("/alone/{n}")).status, 200);
    }
    assert_eq!(till.get("/again").status, 500);
    gate.open();
    assert_eq!(till.get("/again").status, 200);
    till.states(&["settled"; 21]);
    tracer.stop();
    let trace = fs::read_to_string(&file).unwrap();
    let nonces = check(&trace).unwrap_or_else(|fault| panic!("{fault}\n{}", around(&trace, &fault)));
    let paid: HashSet<String> = till.seller.paid().iter().map(|s| nonce_of(s.head.get("payment-signature").unwrap())).collect();
    assert_eq!(nonces.iter().cloned().collect::<HashSet<_>>(), paid, "the trace shows every payment the seller saw");
    assert_eq!((nonces.len(), paid.len()), (22, 21));
    println!("{} payments in {} system calls, each behind its sync", nonces.len(), parse(&trace).len());
    // And the checker would have noticed: the same trace without a single sync of the log.
    let unsynced: String = trace.lines().filter(|l| !l.contains("fdatasync") && !l.contains("fsync")).map(|l| format!("{l}\n")).collect();
    assert!(check(&unsynced).is_err());
}

fn nonce_of(credential: &str) -> String {
    decode(credential)["payload"]["authorization"]["nonce"].as_str().unwrap().to_owned()
}

/// Some lines of the trace before the fault, shortened.
fn around(trace: &str, fault: &str) -> String {
    let at: usize = fault.split([' ', ':']).nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    trace.lines().skip(at.saturating_sub(20)).take(21).map(|l| format!("{l:.160}\n")).collect()
}

// --- the checker itself ---

const NONCE: &str = "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("\\x{b:02x}")).collect()
}

fn hold(pid: u32) -> String {
    let page = [&[0_u8; 16][..], &hex::decode(NONCE).unwrap(), &[9; 8]].concat();
    format!("{pid} pwrite64(9</s/ledger.db-wal>, \"{}\", 56, 4096) = 56", escaped(&page))
}

fn send(pid: u32, call: &str) -> String {
    use base64::Engine as _;
    let json = format!(r#"{{"payload":{{"authorization":{{"nonce":"{NONCE}"}}}}}}"#);
    let value = base64::engine::general_purpose::STANDARD.encode(json);
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\npayment-signature: {value}\r\n\r\n");
    let data = escaped(request.as_bytes());
    match call {
        "writev" => format!("{pid} writev(12<socket:[77]>, [{{iov_base=\"{data}\", iov_len=9}}], 1) = 9"),
        _ => format!("{pid} {call}(12<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"{data}\", 9, MSG_NOSIGNAL, NULL, 0) = 9"),
    }
}

#[test]
fn the_checker_accepts_only_a_sync_that_began_after_the_hold_and_returned_before_the_payment() {
    let sync = "7 fdatasync(9</s/ledger.db-wal>)  = 0";
    let cases: [(&str, Vec<String>, bool); 9] = [
        ("in order", vec![hold(7), sync.into(), send(8, "sendto")], true),
        (
            "in order, cut in two",
            vec![
                hold(7),
                "7 fdatasync(9</s/ledger.db-wal> <unfinished ...>".into(),
                "8 write(1</x>, \"\\x41\", 1) = 1".into(),
                "7 <... fdatasync resumed>)   = 0".into(),
                send(8, "writev"),
            ],
            true,
        ),
        ("no sync", vec![hold(7), send(8, "sendto")], false),
        ("sync after the payment", vec![hold(7), send(8, "writev"), sync.into()], false),
        ("sync before the hold", vec![sync.into(), hold(7), send(8, "sendto")], false),
        (
            "sync not yet returned",
            vec![
                hold(7),
                "7 fdatasync(9</s/ledger.db-wal> <unfinished ...>".into(),
                send(8, "write"),
                "7 <... fdatasync resumed>) = 0".into(),
            ],
            false,
        ),
        ("sync failed", vec![hold(7), "7 fdatasync(9</s/ledger.db-wal>) = -1 EIO (Input/output error)".into(), send(8, "sendto")], false),
        ("sync of another file", vec![hold(7), "7 fdatasync(9</s/ledger.head>) = 0".into(), send(8, "sendto")], false),
        ("no hold", vec![sync.into(), send(8, "sendto")], false),
    ];
    for (what, lines, good) in cases {
        let verdict = check(&lines.join("\n"));
        assert_eq!(verdict.is_ok(), good, "{what}: {verdict:?}");
    }
    assert_eq!(check("").unwrap().len(), 0, "a trace without payments has nothing to be covered");
}
