//! `tollpass demo`: see it pay, without a network, an account or a configuration.

use std::io::Write;

use super::Outcome;
use crate::demo;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass demo                  run it, then stay up to be tried with curl
  tollpass demo --once --json    run it once, for a program to read

Exit status: 0 if every request went as it should and the sellers got exactly what the proxy says, else 1.")]
pub struct Args {
    /// Stop after the report instead of staying up until Ctrl-C.
    #[arg(long)]
    pub once: bool,
    /// Ordinary purchases; the ones that are refused come on top.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub payments: u16,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Only print the configuration and the policies it would run with.
    #[arg(long, conflicts_with_all = ["once", "json"])]
    pub show_files: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let payments = usize::from(args.payments);
    if args.show_files {
        for (name, text) in demo::files(payments) {
            writeln!(out, "# {name}\n{text}")?;
        }
        return Ok(());
    }
    Ok(demo::run(demo::Options { once: args.once, payments, json: args.json }, out)?)
}
