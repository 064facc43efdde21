//! `tollpass operator`: a token for a program that uses the operator's API on `listen.admin`.

use std::io::Write;

use anyhow::Context as _;
use rand::TryRng as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Failure, Outcome, print_json};
use crate::admin::api::Role;
use crate::admin::tokens::OperatorTokens;
use crate::agents::token_text;

/// Arguments of `operator`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tollpass operator ci --role read --role operate

Prints the token, which is shown only now, and the entry for the file that `admin: { tokens: file:PATH }` names. A running
proxy takes the new file by itself. On the proxy's own machine the commands need no token: they use the socket.")]
pub struct Args {
    /// Its name in the log.
    pub name: String,
    /// What it may do: read, operate, approve, raise. Give it once for each.
    #[arg(long = "role", value_name = "ROLE", required = true, value_parser = role)]
    pub roles: Vec<Role>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn role(text: &str) -> Result<Role, String> {
    Role::ALL.into_iter().find(|r| r.as_str() == text).ok_or_else(|| "write read, operate, approve or raise".into())
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let mut random = Zeroizing::new([0_u8; 32]);
    rand::rngs::SysRng.try_fill_bytes(&mut *random).context("the operating system gives no random bytes")?;
    let token = Zeroizing::new(token_text(&random));
    let roles: Vec<&str> = args.roles.iter().map(|r| r.as_str()).collect();
    let hash = alloy_primitives::hex::encode(Sha256::digest(token.as_bytes()));
    let entry = format!("operators:\n  \"{}\": {{ roles: [{}], tokens: [\"sha256:{hash}\"] }}\n", args.name, roles.join(", "));
    OperatorTokens::parse("the entry", &entry).map_err(|e| Failure::Config(e.to_string()))?;
    if args.json {
        return print_json(out, &serde_json::json!({ "operator": args.name, "token": token.as_str(), "add": entry }));
    }
    writeln!(out, "{}", token.as_str())?;
    eprintln!("add this to the operators' file; the token itself is shown only now:\n{entry}");
    Ok(())
}
