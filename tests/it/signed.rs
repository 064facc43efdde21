//! Signed policies on the real program: who may write the files is not who may raise.

use std::path::Path;
use std::process::Command;

use alloy_primitives::hex;

use crate::harness::{Minisign, Plan, Program, Setup, eventually, sha256};
use crate::till::Till;

/// What the policy lets one payment cost; the seller asks for one cent.
fn capped(cap: &str) -> String {
    Setup::policy_with(&format!("per_payment: {cap}, day: 100"), "", "")
}

fn boss() -> Minisign {
    Minisign::new(1)
}

/// A moment of the past; each is later than the one before.
const fn moment(n: u64) -> u64 {
    1_700_000_000 + n
}

fn setup(policy: &str, signature: Option<String>) -> Setup {
    let mut setup = Setup::new().policy(policy);
    setup.more = format!("policy_keys: [\"{}\", \"{}\"]\n", Minisign::new(9).public(), boss().public());
    setup.files.extend(signature.map(|text| ("policy.yaml.minisig".to_owned(), text)));
    setup
}

/// A program that runs under a signed policy with this cap.
fn till(cap: &str) -> Till {
    Till::new(setup(&capped(cap), Some(boss().sign(&capped(cap), moment(1)))), |_| Plan::ok("sold"))
}

/// Writes policy and signature, the signature first, so that no third state is looked at.
fn put(program: &Program, policy: &str, signature: Option<&str>) {
    let path = program.path("policy.yaml.minisig");
    match signature {
        Some(text) => std::fs::write(path, text).unwrap(),
        None => drop(std::fs::remove_file(path)),
    }
    program.policy_write(policy);
}

fn success(program: &Program) -> f64 {
    program.metrics().sum("tollpass_policy_reload_success", &[])
}

/// It is refused, the log says so, and the policy before stays.
#[track_caller]
fn refused(till: &Till, policy: &str, signature: Option<&str>, says: &[&str]) {
    let (before, log) = (till.get("/").status, till.program.log().len());
    put(&till.program, policy, signature);
    eventually(&format!("the log says {says:?}"), || says.iter().all(|text| till.program.log()[log..].contains(text)));
    eventually("the metric says so", || success(&till.program) == 0.0);
    assert_eq!(till.get("/").status, before);
}

/// It takes effect.
#[track_caller]
fn taken(till: &Till, policy: &str, signature: Option<&str>) {
    let digest = || till.program.metrics().label("tollpass_policy_info", "digest");
    let before = digest();
    put(&till.program, policy, signature);
    eventually("the new policy is in effect", || digest() != before && success(&till.program) == 1.0);
}

#[test]
fn anybody_tightens_and_only_a_newer_signature_loosens() {
    let till = till("1");
    assert_eq!(till.get("/").status, 200);
    taken(&till, &capped("0.001"), None);
    assert_eq!(till.get("/").reason(), "cap_per_payment");
    let (first, second) = (boss().sign(&capped("1"), moment(1)), boss().sign(&capped("1"), moment(2)));
    refused(
        &till,
        &capped("0.002"),
        None,
        &[
            "policy.yaml:5:",
            "agents.bot.caps.per_payment: raised from 0.001 to 0.002",
            "minisign -S -s KEY -m ./policy.yaml",
            "there is no signature",
        ],
    );
    // The one that was signed and accepted first, put back.
    refused(&till, &capped("1"), Some(&first), &["raised from 0.001 to 1", "and one from 2023-11-14T22:13:21Z was accepted"]);
    let other = Minisign::new(2).sign(&capped("1"), moment(3));
    refused(&till, &capped("1"), Some(&other), &["is by a key that `policy_keys` does not name"]);
    refused(&till, &capped("2"), Some(&second), &["does not match"]);
    refused(&till, &capped("1").replace('\n', "\r\n"), Some(&second), &["does not match"]);
    refused(&till, &capped("1"), Some(&second[..second.len() / 2]), &["is no signature of minisign, or a part of one"]);
    let future = boss().sign(&capped("1"), 4_000_000_000);
    refused(&till, &capped("1"), Some(&future), &["which is yet to come"]);
    taken(&till, &capped("1"), Some(&second));
    assert_eq!(till.get("/").status, 200);
    // Broken files are what they were: kept out, whoever signed them.
    let broken = "version: 1\nagents: [";
    refused(&till, broken, Some(&boss().sign(broken, moment(4))), &["this is not YAML"]);
}

#[test]
fn a_restart_compares_with_what_took_effect_last() {
    let mut till = till("1");
    let first = boss().sign(&capped("1"), moment(1));
    taken(&till, &capped("0.001"), None);
    till.program.kill9();
    put(&till.program, &capped("1"), Some(&first));
    let said = till.program.refuses_to_start();
    assert!(said.contains("raised from 0.001 to 1") && said.contains("was accepted") && said.contains("policy.accepted"), "{said}");
    let check = till.program.run(&["serve", "--config", "tollpass.yaml", "--check"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&check.stdout).contains("needs a signature"));
    put(&till.program, &capped("0.001"), None);
    till.program.restart();
    assert_eq!(till.get("/").reason(), "cap_per_payment", "what took effect before needs no signature");
    put(&till.program, &capped("1"), Some(&boss().sign(&capped("1"), moment(2))));
    till.program.restart();
    assert_eq!(till.get("/").status, 200);
    // What cannot be compared is not taken for unchanged.
    till.program.kill9();
    std::fs::write(till.program.path("state/private/policy.accepted"), "{").unwrap();
    assert!(till.program.refuses_to_start().contains("policy.accepted: cannot be read"));
}

#[test]
fn the_first_policy_needs_a_signature() {
    for (signature, says) in [
        (None, "there is no signature"),
        (Some(Minisign::new(2).sign(&capped("1"), moment(1))), "is by a key that `policy_keys` does not name"),
    ] {
        let output = Program::once(&setup(&capped("1"), signature), &["serve", "--config", "tollpass.yaml"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("the first policy needs a signature") && said.contains(says), "{said}");
        assert!(said.contains("sign with: minisign -S -s KEY -m "), "{said}");
    }
}

/// The list of digests of these files, as `sha256sum` writes it.
fn sums(files: &[(&str, &str)]) -> String {
    files.iter().map(|(name, text)| format!("{}  {name}\n", hex::encode(sha256(text.as_bytes())))).collect()
}

#[test]
fn a_folder_is_signed_as_a_whole_so_that_no_old_file_stands_beside_new_ones() {
    let limits = "version: 1\nbudgets: [ { name: all, limit: 0.005, window: month, agents: all } ]\n";
    let wide = limits.replace("0.005", "5");
    let (main, dear) = (capped("1"), capped("2"));
    let mut setup = setup("", None);
    setup.policy_path = "policies".into();
    let list = sums(&[("10.yaml", main.as_str()), ("20.yaml", limits)]);
    for (name, text) in [
        ("10.yaml", main.clone()),
        ("20.yaml", limits.into()),
        ("SHA256SUMS", list.clone()),
        ("SHA256SUMS.minisig", boss().sign(&list, moment(1))),
    ] {
        setup = setup.file(&format!("policies/{name}"), text);
    }
    let till = Till::new(setup, |_| Plan::ok("sold"));
    assert_eq!(till.get("/").reason(), "budget_exceeded");
    let write = |name: &str, text: &str| std::fs::write(till.program.path(&format!("policies/{name}")), text).unwrap();
    let says = |text: &str| {
        eventually(text, || till.program.log().contains(text));
        assert_eq!(till.get("/").reason(), "budget_exceeded");
    };
    // Without the file that limits: what is left was signed, but not alone.
    std::fs::remove_file(till.program.path("policies/20.yaml")).unwrap();
    says("budgets.all: the budget is gone");
    eventually("the metric says so", || success(&till.program) == 0.0);
    write("20.yaml", limits);
    eventually("it is as it was", || success(&till.program) == 1.0);
    let digest = || till.program.metrics().label("tollpass_policy_info", "digest");
    let before = digest();
    // A newer list, and a file that is not the one in it.
    let newer = sums(&[("10.yaml", dear.as_str()), ("20.yaml", limits)]);
    write("SHA256SUMS", &newer);
    write("SHA256SUMS.minisig", &boss().sign(&newer, moment(2)));
    write("10.yaml", &dear);
    eventually("the new folder is in effect", || digest() != before);
    write("20.yaml", &wide);
    says("20.yaml is not the file that was signed");
    let last = sums(&[("10.yaml", dear.as_str()), ("20.yaml", wide.as_str())]);
    write("SHA256SUMS", &last);
    write("SHA256SUMS.minisig", &boss().sign(&last, moment(3)));
    eventually("the wide budget is in effect", || till.get("/").status == 200);
}

#[test]
fn what_the_tool_itself_signs_is_taken() {
    if Command::new("minisign").arg("-v").output().is_err() {
        eprintln!("skipped: there is no minisign here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let minisign = |args: &[&str], at: &Path| {
        let output = Command::new("minisign").args(args).current_dir(at).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    minisign(&["-G", "-W", "-p", "boss.pub", "-s", "boss.key"], dir.path());
    let public = std::fs::read_to_string(dir.path().join("boss.pub")).unwrap();
    let key = dir.path().join("boss.key").display().to_string();
    let mut setup = Setup::new().policy(capped("1"));
    setup.more = format!("policy_keys: [\"{}\"]\n", public.lines().nth(1).unwrap());
    let till = {
        let chain = crate::harness::Chain::new();
        let terms = crate::harness::Terms::v2(crate::till::payee(), crate::till::CENT);
        let seller = crate::harness::Seller::http(crate::harness::shop(&chain, terms, |_| Plan::ok("sold")));
        let sign = |dir: &Path| minisign(&["-S", "-s", &key, "-m", "policy.yaml"], dir);
        Till { chain, seller, program: Program::start_with(setup, sign) }
    };
    assert_eq!(till.get("/").status, 200);
    let checked = till.program.run(&["policy", "check", "policy.yaml", "--key", public.lines().nth(1).unwrap()]);
    assert!(String::from_utf8_lossy(&checked.stdout).contains("policy.yaml: signed on 20"), "{checked:?}");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_co_signer_holds_its_own_policy_to_signatures() {
    use crate::harness::Wallet;
    let mut wallet = Wallet::new();
    wallet.more = format!("policy_keys: [\"{}\"]\n", boss().public());
    let file = wallet.path("cs/policy.yaml");
    let sign = |n: u64| {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(wallet.path("cs/policy.yaml.minisig"), boss().sign(&text, moment(n))).unwrap();
    };
    wallet.policy("per_payment: 0.001, day: 100");
    sign(1);
    let cosigner = wallet.start(&[]);
    wallet.enroll();
    let setup = Setup::new().signer(&wallet.signer("")).env("UNSEAL", wallet.passphrase());
    let till = Till::new(setup, |_| Plan::ok("sold"));
    assert_eq!(till.get("/1").reason(), "cap_per_payment");
    wallet.policy("per_payment: 1, day: 100");
    eventually("the co-signer says so", || cosigner.log().contains("agents.bot.caps.per_payment: raised from 0.001 to 1"));
    assert_eq!(till.get("/2").reason(), "cap_per_payment");
    sign(2);
    eventually("it takes effect", || till.get("/3").status == 200);
}
