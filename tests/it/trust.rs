//! `state/trust`: what agents' programs trust, and that no more than that is theirs to read.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use crate::harness::{Program, Setup};

/// The output of a program that may not be there; `None` and a word why in that case.
fn try_run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {:?} cannot be run: {error}", command.get_program());
            None
        }
    }
}

#[test]
fn java_reads_the_truststore_and_trusts_every_certificate_of_the_bundle() {
    let program = Program::start(Setup::new());
    let path = program.path("state/trust/truststore.p12");
    let mut keytool = Command::new("keytool");
    keytool.args(["-J-Duser.language=en", "-list", "-storetype", "PKCS12", "-storepass", "changeit", "-keystore"]).arg(path);
    let Some(output) = try_run(&mut keytool) else { return };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let bundle = std::fs::read_to_string(program.path("state/trust/bundle.pem")).unwrap();
    let entries = said.lines().filter(|l| l.ends_with("trustedCertEntry,") || l.contains(", trustedCertEntry")).count();
    assert_eq!(entries, bundle.matches("BEGIN CERTIFICATE").count(), "{said}");
    assert!(said.lines().any(|l| l.starts_with("tollpass, ")), "{said}");
}

#[test]
fn the_ca_survives_a_restart_and_a_hand_over() {
    let mut program = Program::start(Setup::new());
    let ca = program.ca();
    let key = std::fs::read(program.path("state/private/ca.key")).unwrap();
    program.restart();
    assert_eq!(program.ca(), ca);
    let next = program.successor(&[]);
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(next.ca(), ca);
    assert_eq!(std::fs::read(next.path("state/private/ca.key")).unwrap(), key);
}

#[test]
fn another_user_reads_what_is_public_and_nothing_else() {
    const NOBODY: u32 = 65534;
    let program = Program::start(Setup::new());
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can look at it as another user");
        return;
    }
    // The folder of a test is closed to others; the operator's is not.
    std::fs::set_permissions(program.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let cat = |name: &str| {
        let output = Command::new("cat").arg(program.path(name)).uid(NOBODY).gid(NOBODY).output().unwrap();
        output.status.success()
    };
    for name in ["ca.pem", "bundle.pem", "truststore.p12"] {
        assert!(cat(&format!("state/trust/{name}")), "{name} is for everybody");
    }
    for name in ["ca.key", "ledger.db", "ledger.lock"] {
        assert!(program.path(&format!("state/private/{name}")).exists(), "{name}");
        assert!(!cat(&format!("state/private/{name}")), "{name} is ours alone");
    }
    let list = |name: &str| Command::new("ls").arg(program.path(name)).uid(NOBODY).gid(NOBODY).output().unwrap().status.success();
    assert!(list("state/trust") && !list("state/private"));
}
