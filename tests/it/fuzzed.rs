//! The fuzz targets' own code over the seeds and some thousand mutations of them: a short smoke of `make fuzz`.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

#[path = "../../fuzz/harness/decode.rs"]
mod decode;
#[path = "../../fuzz/harness/edge.rs"]
mod edge;
#[path = "../../fuzz/harness/sealed.rs"]
mod sealed;
#[path = "../../fuzz/harness/server.rs"]
mod server;
#[path = "../../fuzz/harness/strict.rs"]
mod strict;

/// Seeds in which something is signed.
const SIGNING: [&str; 9] = ["pay", "two-connections", "same-purchase", "dearer", "presign", "replay", "disconnect", "revoke", "policy"];

/// What the seeds of a target are, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let read = |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap());
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| read(e.unwrap().path())).collect();
    all.sort();
    assert!(all.len() > 5);
    all
}

/// A few bytes changed, or two seeds joined in the middle.
fn mutated(seeds: &[(String, Vec<u8>)], random: &mut StdRng) -> Vec<u8> {
    let mut pick = || seeds[random.random_range(0..seeds.len())].1.clone();
    let (mut bytes, other) = (pick(), pick());
    if random.random_range(0..3) == 0 {
        let at = random.random_range(0..=bytes.len().min(other.len())) / 8 * 8;
        bytes.truncate(at);
        bytes.extend_from_slice(&other[at..]);
    }
    for _ in 0..random.random_range(0..5) {
        if let Some(at) = (!bytes.is_empty()).then(|| random.random_range(0..bytes.len())) {
            bytes[at] = random.random();
        }
    }
    bytes
}

#[test]
fn no_envelope_or_message_breaks_a_rule() {
    let (seeds, mut random) = (seeds("envelope"), StdRng::seed_from_u64(1));
    seeds.iter().for_each(|(_, seed)| decode::run(seed));
    (0..3000).for_each(|_| decode::run(&mutated(&seeds, &mut random)));
}

#[test]
fn whatever_passes_the_scanner_is_read_in_one_way() {
    let (seeds, mut random) = (seeds("strict"), StdRng::seed_from_u64(1));
    for (name, seed) in &seeds {
        assert_eq!(strict::run(seed) > 0, !name.starts_with("bad"), "{name}");
    }
    let agreed: usize = (0..3000).map(|_| strict::run(&mutated(&seeds, &mut random))).sum();
    println!("{agreed} messages in 3000 inputs");
    assert!(agreed > 500);
}

#[test]
fn what_an_agent_says_first_has_one_meaning() {
    let (seeds, mut random) = (seeds("edge"), StdRng::seed_from_u64(1));
    for (name, seed) in &seeds {
        assert_eq!(edge::run(seed), !name.starts_with("bad"), "{name}");
    }
    let taken = (0..5000).filter(|_| edge::run(&mutated(&seeds, &mut random))).count();
    println!("{taken} of 5000 inputs taken");
    assert!(taken > 500);
}

#[test]
fn s8_a_share_opens_only_if_nobody_wrote_in_its_folder() {
    let (seeds, mut random, folder) = (seeds("custody"), StdRng::seed_from_u64(1), sealed::Folder::new());
    for (name, seed) in &seeds {
        assert_eq!(folder.run(seed), name == "same", "{name}");
    }
    let opened = (0..300).filter(|_| folder.run(&mutated(&seeds, &mut random))).count();
    println!("{opened} of 300 inputs left the folder as it was");
}

/// Not a test of its own: the sequences run in a process with a simulated clock, in which any panic, also one that the
/// service would catch, is the end.
#[test]
fn the_process_that_runs_sequences() {
    if std::env::var_os("TOLLPASS_CLOCK_AHEAD_MS").is_none() {
        return;
    }
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
        std::process::abort();
    }));
    let (seeds, mut random, mut bench) = (seeds("cosigner"), StdRng::seed_from_u64(2), server::Bench::new());
    let mut all = server::Told::default();
    let mut frozen = 0;
    let mut add = |told: server::Told| {
        all.requests += told.requests;
        all.partials += told.partials;
        all.refused += told.refused;
        all.closed += told.closed;
        frozen += usize::from(told.frozen);
    };
    for (name, seed) in &seeds {
        let told = bench.run(seed);
        println!("{name:<16} {told:?}");
        // The seeds still say what their names say.
        assert!(told.frozen == (name == "probe") || name.starts_with("hurt"), "{name}: {told:?}");
        assert!(told.partials > 0 || !SIGNING.contains(&name.as_str()), "{name}: {told:?}");
        add(told);
    }
    (0..50).for_each(|_| add(bench.run(&mutated(&seeds, &mut random))));
    println!("sequences: {all:?}, {frozen} wallets frozen");
    assert!(all.partials > 30 && all.refused > 50 && all.closed > 20 && frozen > 0);
}

#[test]
fn s5_no_sequence_of_requests_breaks_a_rule_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fuzzed::the_process_that_runs_sequences", "--nocapture"])
        .env("TOLLPASS_CLOCK_AHEAD_MS", folder.path().join("ahead"))
        .output()
        .unwrap();
    let (said, cried) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "ended by signal {:?}\n{said}\n{cried}", output.status.signal());
    println!("{said}");
}
