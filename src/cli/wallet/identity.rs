//! `tollpass wallet identity`.

use std::io::Write;
use std::path::PathBuf;

use super::table::wrong;
use crate::cli::{Outcome, print_json};
use crate::wire::identity;

/// Arguments of `wallet identity`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass wallet identity --out cosigner/identity.pem    make one; the file is 0400 and never overwritten
  tollpass wallet identity --show cosigner/identity.pem   show its fingerprint again

The fingerprint is what the operators of the other parties compare, by telephone or in person, before a ceremony.")]
pub struct Args {
    /// Make a new one in this file.
    #[arg(long, value_name = "FILE", required_unless_present = "show")]
    out: Option<PathBuf>,
    /// Show the fingerprint of this one.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    show: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let (path, made) = match (&args.out, &args.show) {
        (Some(path), _) => (path, identity::create(path)),
        (None, Some(path)) => (path, identity::load_or_refuse(path)),
        (None, None) => return Err(wrong("write --out FILE")),
    };
    let identity = made.map_err(|e| wrong(format!("{}: {e}", path.display())))?;
    let fingerprint = identity.public().fingerprint().to_string();
    if args.json {
        return print_json(out, &serde_json::json!({ "identity": path.display().to_string(), "fingerprint": fingerprint }));
    }
    writeln!(out, "{fingerprint}")?;
    Ok(())
}
