//! `tollpass cosigner`: the judge with share 2, or with `--check` only a look at its files.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Failure, Outcome, print_json};
use crate::clock;
use crate::cosigner::config::Config;
use crate::cosigner::run::{self, Options};
use crate::custody::Custody;
use crate::mpc::Party;
use crate::policy::Policy;
use crate::reload::{Signing, beside, read_policy_sources};

/// The configuration file that is read unless told otherwise.
pub(super) const CONFIG: &str = "cosigner.yaml";

/// Arguments of `cosigner`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass cosigner --config /etc/tollpass/cosigner.yaml
  tollpass cosigner --config cosigner.yaml --check

SIGHUP looks at the policy at once; SIGTERM finishes running requests, then stops.")]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
    /// Check configuration, share and policy without listening; exit 2 if something is wrong.
    #[arg(long)]
    pub check: bool,
    /// Print JSON: the findings of --check, or the bound addresses.
    #[arg(long)]
    pub json: bool,
    /// Take the clock as it is although it ran backwards since the last payment.
    #[arg(long)]
    pub accept_clock: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let config = Config::load(&args.config);
    if args.check {
        return check(&args.config, config, args.json, out);
    }
    Ok(run::run(&config?, Options { json: args.json, accept_clock: args.accept_clock })?)
}

fn check(path: &Path, config: Result<Config, crate::config::ConfigError>, json: bool, out: &mut dyn Write) -> Outcome {
    let (mut errors, mut warnings, mut facts) = (Vec::new(), Vec::new(), Vec::new());
    match config {
        Ok(config) => look(&config, &mut errors, &mut warnings, &mut facts),
        Err(e) => errors.extend(e.0.iter().map(ToString::to_string)),
    }
    if json {
        let facts: serde_json::Map<String, serde_json::Value> =
            facts.into_iter().map(|(k, v): (&str, String)| (k.to_owned(), v.into())).collect();
        print_json(out, &serde_json::json!({ "ok": errors.is_empty(), "errors": errors, "warnings": warnings, "facts": facts }))?;
    } else {
        errors.iter().try_for_each(|e| writeln!(out, "error: {e}"))?;
        warnings.iter().try_for_each(|w| writeln!(out, "warning: {w}"))?;
        facts.iter().try_for_each(|(name, value)| writeln!(out, "{name:<10} {value}"))?;
        match errors.len() {
            0 => writeln!(out, "{}: ok, {} warnings", path.display(), warnings.len())?,
            n => writeln!(out, "{}: {n} errors, {} warnings", path.display(), warnings.len())?,
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::Config(String::new())) }
}

fn look(config: &Config, errors: &mut Vec<String>, warnings: &mut Vec<String>, facts: &mut Vec<(&'static str, String)>) {
    facts.push(("listen", config.listen.to_string()));
    facts.push(("state", config.state.display().to_string()));
    match run::identity(&config.identity) {
        Ok(identity) => facts.push(("identity", identity.public().fingerprint().to_string())),
        Err(e) => errors.push(format!("`identity`: {e:#}")),
    }
    match Custody::inspect(&config.share) {
        Ok((wallet, frozen)) => {
            if wallet.party != Party::Cosigner {
                errors.push(format!("{}: the {}'s share: a co-signer holds its own and no other", config.share.display(), wallet.party));
            }
            errors.extend(frozen.map(|f| format!("{}: {f}", config.share.display())));
            facts.push(("wallet", format!("{} {} (epoch {}, {})", wallet.id, wallet.address, wallet.epoch, wallet.origin.as_str())));
        }
        Err(e) => errors.push(format!("`wallet.share`: {e}")),
    }
    match read_policy_sources(&config.policy) {
        Err(e) => errors.push(format!("{}: cannot be read: {e}", config.policy.display())),
        Ok(sources) => match Policy::parse_for_cosigner(&sources, 1) {
            Ok(policy) => {
                warnings.extend(policy.warnings().iter().map(ToString::to_string));
                if let Some(signing) = Signing::new(&config.policy_keys, &config.private()).map(Signing::of_cosigner) {
                    let near = beside(&config.policy, &sources);
                    errors.extend(signing.admits(&config.policy, &policy, &sources, &near, clock::read().wall).err().unwrap_or_default());
                }
                facts.push((
                    "policy",
                    format!("{} ({} agents, digest {})", config.policy.display(), policy.agents().count(), policy.digest()),
                ));
            }
            Err(e) => errors.extend(e.0.iter().map(ToString::to_string)),
        },
    }
    if config.chains.is_empty() && !config.accept_unaudited {
        warnings.push("no `chains`: the wallet's balance is not watched, so the 100 USD bound for unaudited code is yours to keep".into());
    }
}
