//! `tollpass wallet reopen`: the new process in which a ceremony tries a share. Hidden; it speaks frames, not text.

use std::path::PathBuf;

use super::{Opener, opener};
use crate::ceremony::worker::{Which, serve};
use crate::cli::Outcome;

/// Arguments of `wallet reopen`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    share: PathBuf,
    #[arg(long, value_parser = opener)]
    unseal: Opener,
    #[arg(long, conflicts_with = "care")]
    staged: bool,
    #[arg(long)]
    care: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let which = match (args.staged, args.care) {
        (true, _) => Which::Staged,
        (_, true) => Which::Care,
        _ => Which::Current,
    };
    // The parent was told what is wrong; it is the one that reports it.
    serve(&args.share, &args.unseal.unseal, which, std::io::stdin().lock(), std::io::stdout().lock())
        .map_err(|_| crate::cli::Failure::Config(String::new()))
}
