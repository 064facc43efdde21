//! `tollpass policy check`: every mistake and warning of policy files.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Failure, Outcome, config_if_any, print_json};
use crate::clock;
use crate::payment::Timestamp;
use crate::policy::{Policy, PolicyKey, Source};
use crate::reload::{Signing, read_policy_sources};

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass policy check policies/
  tollpass policy check policies/*.yaml --json
  tollpass policy check policies/ --against old/      what would need a signature, and where
  tollpass policy check policies/ --key RWQf6LRC…     whether it is signed

Exit status: 0 if every policy loads, 2 if one does not or is not signed, 1 if it is looser than --against; warnings do not count.")]
pub struct CheckArgs {
    /// Files or folders, each a policy of its own; else what the configuration names, else policies/.
    pub paths: Vec<PathBuf>,
    /// The configuration file whose policy is meant.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    pub config: Option<PathBuf>,
    /// Say where the policy is looser than this one; anything that is not provably equal or tighter counts as looser.
    #[arg(long, value_name = "OLD")]
    pub against: Option<PathBuf>,
    /// Public key of somebody who may loosen it, as in `policy_keys`: the policy must be signed. May be given several times.
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<PolicyKey>,
    /// The policy of a co-signer.
    #[arg(long)]
    pub cosigner: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl CheckArgs {
    fn parse(&self, path: &Path) -> Result<(Vec<Source>, Policy), Vec<String>> {
        let sources = read_policy_sources(path).map_err(|e| vec![format!("{}: cannot be read: {e}", path.display())])?;
        let parse = if self.cosigner { Policy::parse_for_cosigner } else { Policy::parse };
        let policy = parse(&sources, 1).map_err(|e| e.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok((sources, policy))
    }
}

/// One policy's findings.
#[derive(Default)]
struct Checked {
    path: String,
    digest: Option<String>,
    agents: Vec<String>,
    errors: Vec<String>,
    warnings: Vec<String>,
    signed: Option<Timestamp>,
    /// Where it is looser than `--against`.
    looser: Vec<String>,
}

pub(super) fn run(args: &CheckArgs, out: &mut dyn Write) -> Outcome {
    let paths = match &args.paths[..] {
        [] => vec![config_if_any(args.config.as_deref())?.map_or_else(|| PathBuf::from("policies"), |c| c.policy)],
        given => given.to_vec(),
    };
    let old = match args.against.as_deref().map(|path| args.parse(path)) {
        None => None,
        Some(Ok((_, policy))) => Some(policy),
        Some(Err(errors)) => return Err(Failure::Config(errors.join("\n"))),
    };
    let all: Vec<Checked> = paths.iter().map(|path| check(path, args, old.as_ref())).collect();
    if args.json {
        let rows: Vec<_> = all.iter().map(Checked::to_json).collect();
        print_json(out, &serde_json::json!(rows))?;
    } else {
        all.iter().try_for_each(|c| c.write(out))?;
    }
    if all.iter().any(|c| !c.errors.is_empty()) {
        return Err(Failure::Config(String::new()));
    }
    match (all.iter().find(|c| !c.looser.is_empty()), &args.against) {
        (Some(c), Some(old)) => Err(Failure::Failed(anyhow::anyhow!(
            "{} is looser than {}: where `policy_keys` is set it needs a signature",
            c.path,
            old.display()
        ))),
        _ => Ok(()),
    }
}

fn check(path: &Path, args: &CheckArgs, old: Option<&Policy>) -> Checked {
    let mut checked = Checked { path: path.display().to_string(), ..Checked::default() };
    match args.parse(path) {
        Err(errors) => checked.errors = errors,
        Ok((sources, policy)) => {
            checked.digest = Some(policy.digest().to_string());
            checked.agents = policy.agents().map(ToString::to_string).collect();
            checked.warnings = policy.warnings().iter().map(ToString::to_string).collect();
            checked.looser = old.map(|old| policy.looser_than(old)).unwrap_or_default().iter().map(|l| l.shown_in(&sources)).collect();
            match Signing::new(&args.keys, Path::new("")).map(|signing| signing.signed(path, &sources, clock::read().wall)) {
                None => {}
                Some(Ok(at)) => checked.signed = Some(at),
                Some(Err(why)) => checked.errors.push(why),
            }
        }
    }
    checked
}

impl Checked {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "path": self.path, "ok": self.errors.is_empty(), "digest": self.digest, "agents": self.agents,
            "errors": self.errors, "warnings": self.warnings, "looser": self.looser,
            "signed": self.signed.map(Timestamp::rfc3339),
        })
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for error in &self.errors {
            writeln!(out, "error: {error}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for looser in &self.looser {
            writeln!(out, "looser: {looser}")?;
        }
        if let Some(at) = self.signed {
            writeln!(out, "{}: signed on {}", self.path, at.rfc3339())?;
        }
        match (&self.digest, self.errors.len()) {
            (Some(digest), 0) => {
                writeln!(out, "{}: ok, {} warnings, agents: {} (digest {digest})", self.path, self.warnings.len(), self.agents.join(", "))
            }
            (_, n) => writeln!(out, "{}: {n} errors", self.path),
        }
    }
}
