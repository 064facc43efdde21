//! `tollpass policy check`: every mistake and warning of policy files.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Failure, Outcome, config_if_any, print_json};
use crate::policy::Policy;
use crate::reload::read_policy_sources;

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass policy check policies/
  tollpass policy check policies/*.yaml --json

Exit status: 0 if every policy loads, 2 if one does not; warnings do not count.")]
pub struct CheckArgs {
    /// Files or folders, each a policy of its own; else what the configuration names, else policies/.
    pub paths: Vec<PathBuf>,
    /// The configuration file whose policy is meant.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// One policy's findings.
struct Checked {
    path: String,
    digest: Option<String>,
    agents: Vec<String>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn run(args: &CheckArgs, out: &mut dyn Write) -> Outcome {
    let paths = match &args.paths[..] {
        [] => vec![config_if_any(args.config.as_deref())?.map_or_else(|| PathBuf::from("policies"), |c| c.policy)],
        given => given.to_vec(),
    };
    let all: Vec<Checked> = paths.iter().map(|path| check(path)).collect();
    if args.json {
        let rows: Vec<_> = all.iter().map(Checked::to_json).collect();
        print_json(out, &serde_json::json!(rows))?;
    } else {
        all.iter().try_for_each(|c| c.write(out))?;
    }
    if all.iter().all(|c| c.errors.is_empty()) { Ok(()) } else { Err(Failure::Config(String::new())) }
}

fn check(path: &Path) -> Checked {
    let mut checked =
        Checked { path: path.display().to_string(), digest: None, agents: Vec::new(), errors: Vec::new(), warnings: Vec::new() };
    match read_policy_sources(path) {
        Err(e) => checked.errors.push(format!("{}: cannot be read: {e}", path.display())),
        Ok(sources) => match Policy::parse(&sources, 1) {
            Err(e) => checked.errors = e.0.iter().map(ToString::to_string).collect(),
            Ok(policy) => {
                checked.digest = Some(policy.digest().to_string());
                checked.agents = policy.agents().map(ToString::to_string).collect();
                checked.warnings = policy.warnings().iter().map(ToString::to_string).collect();
            }
        },
    }
    checked
}

impl Checked {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "path": self.path, "ok": self.errors.is_empty(), "digest": self.digest, "agents": self.agents,
            "errors": self.errors, "warnings": self.warnings,
        })
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for error in &self.errors {
            writeln!(out, "error: {error}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        match (&self.digest, self.errors.len()) {
            (Some(digest), _) => {
                writeln!(out, "{}: ok, {} warnings, agents: {} (digest {digest})", self.path, self.warnings.len(), self.agents.join(", "))
            }
            (None, n) => writeln!(out, "{}: {n} errors", self.path),
        }
    }
}
