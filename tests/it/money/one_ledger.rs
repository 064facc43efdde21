//! M1.9: one ledger, one process.

use super::*;

/// Runs `tollpass serve` with this configuration to its end.
#[track_caller]
fn serve_to_end(dir: &Path, config: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollpass"));
    command.args(["serve", "--config", config, "--json"]).current_dir(dir).env_clear();
    command.env("TOLLPASS_DEV_KEY", format!("0x{}", "11".repeat(32)));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut status = None;
    for _ in 0..500 {
        status = child.try_wait().unwrap();
        if status.is_some() {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
    if status.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    (status.is_some_and(|s| !s.success()), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn m1_9_a_second_process_on_the_same_state_says_so_and_ends() {
    let till = Till::new(Setup::new(), |_| Plan::ok("sold"));
    let (failed, errors) = serve_to_end(till.program.dir(), "tollpass.yaml");
    assert!(failed, "it must not run");
    assert!(errors.contains("ledger.lock") && errors.contains("tollpass serve --handover"), "{errors}");
    assert_eq!(till.get("/x").status, 200, "the first one is not disturbed");
}

#[test]
fn m1_9_a_memory_file_system_is_refused_unless_accepted() {
    let shm = Path::new("/dev/shm");
    let Ok(state) = tempfile::Builder::new().prefix("tollpass-it-").tempdir_in(shm) else {
        println!("skipped: /dev/shm is no place to write to");
        return;
    };
    let config = |ledger: &str| {
        format!(
            "version: 1\nlisten: {{ proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }}\nstate: {}\nledger: {{ {ledger} }}\npolicy: policy.yaml\n\
             agents: {{ default: bot }}\nsigner: {{ local: {{ key: env:TOLLPASS_DEV_KEY }} }}\n",
            state.path().display()
        )
    };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("policy.yaml"), Setup::new().policy).unwrap();
    fs::write(dir.path().join("strict.yaml"), config("store: sqlite")).unwrap();
    let (failed, errors) = serve_to_end(dir.path(), "strict.yaml");
    assert!(failed && errors.contains("memory file system") && errors.contains("ephemeral: accept"), "{errors}");
    // The same state, accepted.
    let accepted = config("store: sqlite, ephemeral: accept");
    drop(Program::start_with(Setup::new(), |dir| fs::write(dir.join("tollpass.yaml"), accepted).unwrap()));
}
