//! `tollpass operator`: a token for a program that uses the operator's API on `listen.admin`.

use std::io::Write;

use anyhow::Context as _;
use rand::TryRng as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Failure, Outcome, print_json};
use crate::admin::api::Role;
use crate::admin::tokens::OperatorTokens;
use crate::admin::totp::Totp;
use crate::agents::token_text;

/// Arguments of `operator`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass operator ci --role read --role operate
  tollpass operator ann@example.com --role approve --totp

Prints the token, which is shown only now, and the entry for the file that `admin: { tokens: file:PATH }` names. A running
proxy takes the new file by itself. On the proxy's own machine the commands need no token: they use the socket.

With --totp the second line is an otpauth:// URI for an authenticator; `qrencode -t ansiutf8` shows it as a code to scan. Its secret
stands in the file too, which must then be closed to others: chmod 0400.")]
pub struct Args {
    /// Its name in the log.
    pub name: String,
    /// What it may do: read, operate, approve, raise. Give it once for each.
    #[arg(long = "role", value_name = "ROLE", required = true, value_parser = role)]
    pub roles: Vec<Role>,
    /// Make a second factor too: a secret for an authenticator, which some approvals ask for.
    #[arg(long)]
    pub totp: bool,
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
    let totp = args.totp.then(totp).transpose()?;
    let secret = totp.as_ref().map(|totp| Zeroizing::new(format!(", totp: \"{}\"", *totp.base32()))).unwrap_or_default();
    let entry = format!("operators:\n  \"{}\": {{ roles: [{}], tokens: [\"sha256:{hash}\"]{} }}\n", args.name, roles.join(", "), *secret);
    let entry = Zeroizing::new(entry);
    OperatorTokens::parse("the entry", &entry).map_err(|e| Failure::Config(e.to_string()))?;
    let uri = totp.map(|totp| totp.uri(&args.name));
    if args.json {
        let mut made = serde_json::json!({ "operator": args.name, "token": token.as_str(), "add": entry.as_str() });
        if let Some(uri) = &uri {
            made["otpauth"] = uri.as_str().into();
        }
        return print_json(out, &made);
    }
    writeln!(out, "{}", token.as_str())?;
    if let Some(uri) = &uri {
        writeln!(out, "{}", uri.as_str())?;
    }
    eprintln!("add this to the operators' file; what is above is shown only now:\n{}", *entry);
    Ok(())
}

fn totp() -> Result<Totp, Failure> {
    let mut random = Zeroizing::new([0_u8; 20]);
    rand::rngs::SysRng.try_fill_bytes(&mut *random).context("the operating system gives no random bytes")?;
    Ok(Totp::new(&random))
}
