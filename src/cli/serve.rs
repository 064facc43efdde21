//! `tollpass serve`: run the proxy, or with `--check` only look at its files.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Failure, Outcome, print_json};
use crate::agents::Tokens;
use crate::app::{self, ServeOptions};
use crate::clock;
use crate::config::{Config, SignerConfig};
use crate::custody::Custody;
use crate::policy::Policy;
use crate::reload::{Signing, beside, read_policy_sources};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass serve --config /etc/tollpass/tollpass.yaml
  tollpass serve --config tollpass.yaml --check
  tollpass serve --config tollpass.yaml --handover     a new version, or a new configuration, without a gap

SIGHUP looks at the policy and the tokens at once; SIGTERM finishes running requests, then stops.")]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = super::CONFIG)]
    pub config: PathBuf,
    /// Check configuration, policy and tokens without listening; exit 2 if something is wrong.
    #[arg(long)]
    pub check: bool,
    /// Print JSON: the findings of --check, or the bound addresses.
    #[arg(long)]
    pub json: bool,
    /// Take the clock as it is although it ran backwards since the last payment.
    #[arg(long)]
    pub accept_clock: bool,
    /// Take over from the process that runs on the same state: its sockets, so that no connection is refused, then its ledger. It
    /// finishes what it has begun, and ends. Without such a process, start as usual.
    #[arg(long, conflicts_with = "check")]
    pub handover: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    if args.check {
        return check(&args.config, args.json, out);
    }
    let config = Config::load(&args.config)?;
    Ok(app::serve(config, ServeOptions { json: args.json, accept_clock: args.accept_clock, handover: args.handover })?)
}

/// What `--check` found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    ok: bool,
    errors: Vec<String>,
    warnings: Vec<String>,
    facts: Vec<(&'static str, String)>,
}

fn check(path: &Path, json: bool, out: &mut dyn Write) -> Outcome {
    let mut f = Findings::default();
    match Config::load(path) {
        Ok(config) => f.config(&config),
        Err(e) => f.errors.extend(e.0.iter().map(ToString::to_string)),
    }
    f.ok = f.errors.is_empty();
    if json {
        let facts: serde_json::Map<String, serde_json::Value> = f.facts.iter().map(|(k, v)| ((*k).to_owned(), v.as_str().into())).collect();
        let (errors, warnings) = (&f.errors, &f.warnings);
        print_json(out, &serde_json::json!({ "ok": f.ok, "errors": errors, "warnings": warnings, "facts": facts }))?;
    } else {
        f.write(path, out)?;
    }
    if f.ok { Ok(()) } else { Err(Failure::Config(String::new())) }
}

impl Findings {
    fn config(&mut self, config: &Config) {
        let off = || "off".to_owned();
        self.facts = vec![
            ("proxy", config.listen.proxy.to_string()),
            ("admin", config.listen.admin.map_or_else(off, |a| a.to_string())),
            ("health", config.listen.health.map_or_else(off, |a| a.to_string())),
            ("state", config.state.display().to_string()),
            ("intercept", format!("{:?}", config.tls.intercept).to_lowercase()),
        ];
        self.signer(config);
        for root in &config.tls.extra_roots {
            match std::fs::read_to_string(root) {
                Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => {}
                Ok(_) => self.errors.push(format!("{}: `tls.extra_roots`: no PEM certificate in it", root.display())),
                Err(e) => self.errors.push(format!("{}: `tls.extra_roots`: cannot be read: {e}", root.display())),
            }
        }
        let policy = self.policy(config);
        if let Some(draft) = &config.policy_shadow {
            match super::explain::policy_at(draft) {
                Ok(policy) => self.facts.push(("shadow", format!("{} (digest {})", draft.display(), policy.digest()))),
                // It judges nothing then, and keeps nobody from paying.
                Err(Failure::Config(text)) => self.warnings.extend(text.lines().map(|line| format!("`policy_shadow`: {line}"))),
                Err(Failure::Failed(error)) => self.warnings.push(format!("`policy_shadow`: {error:#}")),
            }
        }
        let tokens = config.agents.tokens.as_deref().and_then(|path| self.tokens(path));
        if let Some(policy) = policy {
            let named: Vec<String> = policy.agents().map(ToString::to_string).collect();
            let callers = config.agents.default.iter().chain(tokens.iter().flat_map(|t| t.agents().map(|(a, _)| a)));
            for caller in callers.filter(|c| !named.contains(&c.to_string())) {
                let text = format!("agent `{caller}` may call, but the policy does not name it: nothing is paid for it");
                if !self.warnings.contains(&text) {
                    self.warnings.push(text);
                }
            }
        }
    }

    fn signer(&mut self, config: &Config) {
        match &config.signer {
            SignerConfig::Mpc(mpc) => match Custody::inspect(&mpc.share) {
                Ok((wallet, frozen)) => {
                    self.errors.extend(frozen.map(|f| format!("{}: {f}", mpc.share.display())));
                    let (epoch, origin, address) = (wallet.epoch, wallet.origin.as_str(), wallet.address);
                    self.facts.push(("signer", format!("mpc, pays from {address} with {} (epoch {epoch}, {origin})", mpc.cosigner)));
                }
                Err(e) => self.errors.push(format!("{}: `signer.mpc.share`: {e}", config.file.display())),
            },
            #[cfg(feature = "local-signer")]
            SignerConfig::Local { key } => match crate::signer::local::LocalSigner::start(key.expose()) {
                Ok(signer) => {
                    let account = config.agents.default.clone().or_else(|| "any".parse().ok());
                    let payer = account.and_then(|a| crate::signer::Signer::account(&signer, &a).ok());
                    self.facts.push(("signer", payer.map_or_else(|| "local".into(), |p| format!("local, pays from {}", p.0))));
                }
                Err(e) => self.errors.push(format!("{}: `signer.local.key`: {e}", config.file.display())),
            },
            #[cfg(not(feature = "local-signer"))]
            SignerConfig::Local { .. } => {
                self.errors.push(format!("{}: `signer.local`: this build has no local signer", config.file.display()))
            }
        }
    }

    fn policy(&mut self, config: &Config) -> Option<Policy> {
        let path = config.policy.as_path();
        let sources = match read_policy_sources(path) {
            Ok(sources) => sources,
            Err(e) => {
                self.errors.push(format!("{}: cannot be read: {e}", path.display()));
                return None;
            }
        };
        match Policy::parse(&sources, 1) {
            Ok(policy) => {
                self.warnings.extend(policy.warnings().iter().map(ToString::to_string));
                let text =
                    format!("{} ({} agents, {} files, digest {})", path.display(), policy.agents().count(), sources.len(), policy.digest());
                self.facts.push(("policy", text));
                if let Some(signing) = Signing::new(&config.policy_keys, &config.private()) {
                    let admitted = signing.admits(path, &policy, &sources, &beside(path, &sources), clock::read().wall);
                    self.errors.extend(admitted.err().unwrap_or_default());
                }
                Some(policy)
            }
            Err(e) => {
                self.errors.extend(e.0.iter().map(ToString::to_string));
                None
            }
        }
    }

    fn tokens(&mut self, path: &Path) -> Option<Tokens> {
        let name = path.display().to_string();
        let read = std::fs::read_to_string(path)
            .map_err(|e| vec![format!("{name}: cannot be read: {e}; `tollpass agent token NAME --file {name}` writes one")]);
        let parsed = read.and_then(|text| Tokens::parse(&name, &text).map_err(|e| e.0.iter().map(ToString::to_string).collect()));
        match parsed {
            Ok(tokens) => {
                self.facts.push(("tokens", format!("{name} ({} agents)", tokens.agents().count())));
                Some(tokens)
            }
            Err(errors) => {
                self.errors.extend(errors);
                None
            }
        }
    }

    fn write(&self, path: &Path, out: &mut dyn Write) -> std::io::Result<()> {
        for error in &self.errors {
            writeln!(out, "error: {error}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for (name, value) in &self.facts {
            writeln!(out, "{name:<10} {value}")?;
        }
        match self.errors.len() {
            0 => writeln!(out, "{}: ok, {} warnings", path.display(), self.warnings.len()),
            n => writeln!(out, "{}: {n} errors, {} warnings", path.display(), self.warnings.len()),
        }
    }
}
