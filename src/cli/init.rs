//! `tollpass init`: a commented configuration and policy to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Failure, Outcome};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tollpass init --dir /etc/tollpass

Writes tollpass.yaml and policies/agents.yaml, or with --cosigner cosigner.yaml and policy.yaml, and touches nothing that
exists.")]
pub struct Args {
    /// Where to write.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Files for a co-signer instead of a proxy.
    #[arg(long)]
    pub cosigner: bool,
}

const CONFIG: &str = include_str!("init/tollpass.yaml");
const POLICY: &str = include_str!("init/agents.yaml");
const COSIGNER: &str = include_str!("init/cosigner.yaml");
const COSIGNER_POLICY: &str = include_str!("init/cosigner-policy.yaml");

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    // `.` adds nothing to a path that is shown.
    let base = if args.dir == Path::new(".") { PathBuf::new() } else { args.dir.clone() };
    if args.cosigner {
        let files = [(base.join("cosigner.yaml"), COSIGNER), (base.join("policy.yaml"), COSIGNER_POLICY)];
        write_all(&files, out)?;
        let (config, policy) = (files[0].0.display(), files[1].0.display());
        writeln!(
            out,
            "\nNext:\n  1. Make the wallet with the other two parties: `tollpass wallet create --help`.\n  2. Say what it may sign in {policy}.\n  \
             3. tollpass cosigner --config {config} --check\n  4. tollpass cosigner --config {config}\n  \
             5. tollpass wallet enroll --config {config} --name sidecar-1 --agent research-bot"
        )?;
        return Ok(());
    }
    let files = [(base.join("tollpass.yaml"), CONFIG), (base.join("policies").join("agents.yaml"), POLICY)];
    write_all(&files, out)?;
    // Agents run anywhere, so what they are told is absolute.
    let trust = std::path::absolute(base.join("state").join("trust"))?;
    write!(
        out,
        "
Next:
  1. Say what may be bought, and for how much, in {policy}.
  2. Give the trial signer a key that holds no more than you can lose:
       export TOLLPASS_DEV_KEY=0x$(openssl rand -hex 32)
  3. See whether everything is right, and which address pays:
       tollpass serve --config {config} --check
  4. Send some USDC to that address, then run:
       tollpass serve --config {config}
  5. Point your agent at it. For http and https alike:
       export HTTP_PROXY=http://127.0.0.1:8402 HTTPS_PROXY=http://127.0.0.1:8402
       export http_proxy=$HTTP_PROXY https_proxy=$HTTPS_PROXY NODE_USE_ENV_PROXY=1
       export SSL_CERT_FILE={trust}/bundle.pem NODE_EXTRA_CA_CERTS={trust}/ca.pem
",
        policy = files[1].0.display(),
        config = files[0].0.display(),
        trust = trust.display(),
    )?;
    Ok(())
}

/// Writes all or, if one exists, none.
fn write_all(files: &[(PathBuf, &str)], out: &mut dyn Write) -> Outcome {
    if let Some((there, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        return Err(Failure::Config(format!("{} exists: remove it, or write elsewhere with --dir DIR", there.display())));
    }
    for (path, content) in files {
        let written = || -> std::io::Result<()> {
            if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        };
        written().with_context(|| format!("cannot write {}", path.display())).map_err(|e| match e.downcast_ref::<std::io::Error>() {
            Some(io) if io.kind() == ErrorKind::AlreadyExists => Failure::Config(format!("{} exists", path.display())),
            _ => Failure::Failed(e),
        })?;
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}
