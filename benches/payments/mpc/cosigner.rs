//! The real `tollpass cosigner`, with its own ledger and store on the disk of the bench.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::process::{self, Cpu};
use super::wallet::Wallet;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tollpass");

/// What both policies pay in; the payee is the one of the fixture's challenge.
const POLICY: &str = "version: 1
caps: { wallet: { day: 9000000 }, payee: { day: 9000000 }, identity: { day: 9000000 } }
agents:
  bot:
    caps: { per_payment: 5, hour: 900000, day: 9000000, week: 90000000 }
    rate: { per_minute: 1000000 }
    allow:
      - { id: seller, networks: [\"eip155:84532\"], assets: [USDC], pay_to: [\"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"], host: \"*\", any_host: true }
";

const CONFIG: &str = "version: 1
listen: \"127.0.0.1:0\"
admin: 127.0.0.1:0
state: state
ledger: { ephemeral: accept }
wallet: { share: file:share, unseal: file:passphrase }
identity: file:identity.pem
policy: policy.yaml
presign: { accept_unreviewed_presign: true }
";

pub(super) struct Cosigner {
    child: Child,
    pub(super) address: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Cosigner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cosigner {
    pub(super) fn start(wallet: &Wallet) -> Self {
        let folder = &wallet.cosigner.folder;
        std::fs::write(folder.join("cosigner.yaml"), CONFIG).unwrap();
        std::fs::write(folder.join("policy.yaml"), POLICY).unwrap();
        let mut child = tollpass(folder, &["cosigner", "--json", "--config", "cosigner.yaml"]);
        let mut child = child.stdout(Stdio::piped()).stderr(std::fs::File::create(folder.join("log")).unwrap()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the co-signer did not start: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default()));
        let bound = |key: &str| event[key].as_str().unwrap().parse().unwrap();
        let started = Self { address: bound("cosigner"), admin: bound("admin"), child };
        started.enroll(wallet);
        started
    }

    /// As two operators would: a token there, redeemed here.
    fn enroll(&self, wallet: &Wallet) {
        let mut issue = tollpass(&wallet.cosigner.folder, &["wallet", "enroll", "--config", "cosigner.yaml", "--json"]);
        let answer = issue.args(["--name", "bench", "--agent", "bot"]).output().unwrap();
        let issued: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"));
        let token = wallet.sidecar.folder.join("token");
        std::fs::write(&token, issued["token"].as_str().unwrap()).unwrap();
        let mut redeem = tollpass(&wallet.sidecar.folder, &["wallet", "enroll", "--redeem", "token", "--identity", "identity.pem"]);
        let answer =
            redeem.args(["--cosigner", &format!("https://{}", self.address), "--pin", issued["pin"].as_str().unwrap()]).output().unwrap();
        assert!(answer.status.success(), "{answer:?}");
    }

    pub(super) fn cpu(&self) -> Cpu {
        Cpu::of(self.child.id())
    }

    pub(super) fn memory(&self) -> u64 {
        process::memory(self.child.id())
    }

    /// Presignatures that are ready now.
    pub(super) fn presignatures(&self) -> usize {
        process::metric(self.admin, "tollpass_cosigner_presignatures{", "") as usize
    }

    /// Signatures given so far: interactive and presigned.
    pub(super) fn signatures(&self) -> (usize, usize) {
        let count = |kind: &str| process::metric(self.admin, "tollpass_cosigner_requests_total", kind) as usize;
        (count("kind=\"finish\",result=\"ok\""), count("kind=\"present\",result=\"ok\""))
    }
}

fn tollpass(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).current_dir(folder);
    command
}
