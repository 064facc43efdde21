//! `tollpass wallet show`.

use std::io::Write;
use std::path::PathBuf;

use super::table::wrong;
use super::{facts, print_facts};
use crate::ceremony::place::{Found, Place};
use crate::cli::{Outcome, print_json};
use crate::custody::Custody;
use crate::mpc::{Origin, Wallet};

/// Arguments of `wallet show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tollpass wallet show --share /var/lib/tollpass/share

Needs no passphrase and no lock: it shows the public head of the sealed file, which only opening the share would verify.")]
pub struct Args {
    /// Folder of the share.
    #[arg(long, value_name = "FOLDER")]
    share: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let place = Place::new(&args.share)?;
    let (wallet, state) = match place.look()? {
        Found::Wallet(wallet) => (wallet, "in force"),
        Found::Tested(wallet) => (wallet, "tested"),
        Found::Nothing => return Err(wrong(format!("{}: no share here; `tollpass wallet create` makes one", args.share.display()))),
    };
    let (frozen, staged, previous) = if state == "in force" {
        let [_, staged, previous] = Custody::epochs(place.folder())?;
        (Custody::inspect(place.folder())?.1.map(|f| f.to_string()), staged, previous)
    } else {
        (None, None, None)
    };
    let next = staged.as_ref().map(|s| (s.epoch, place.tested().is_some_and(|t| t.epoch == s.epoch)));
    if args.json {
        let mut value = facts(&wallet);
        value["state"] = state.into();
        value["frozen"] = frozen.into();
        value["staged"] = next.map(|(epoch, tested)| serde_json::json!({ "epoch": epoch, "tested": tested })).into();
        value["previous"] = previous.map(|p: Wallet| p.epoch).into();
        return print_json(out, &value);
    }
    print_facts(&wallet, out)?;
    writeln!(out, "state     {}", if state == "tested" { "tested, not in force: see `tollpass wallet create --help`" } else { state })?;
    if let Some(frozen) = frozen {
        writeln!(out, "frozen    {frozen}")?;
    }
    if let Some((epoch, tested)) = next {
        let what = if tested { "tested by every pair" } else { "from a refresh that stopped early; the next one replaces it" };
        writeln!(out, "staged    epoch {epoch}, {what}")?;
    }
    if let Some(previous) = previous {
        writeln!(out, "previous  epoch {}, to be destroyed: finish the refresh", previous.epoch)?;
    }
    if wallet.origin == Origin::OneHost {
        writeln!(out, "trial     all three shares were made on one machine: test networks only")?;
    }
    Ok(())
}
