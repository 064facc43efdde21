//! `tollpass wallet refresh`.

use std::io::Write;
use std::path::PathBuf;

use super::table::{self, TableArgs, wrong};
use super::{Opener, block_on, facts, opener, print_facts, reopening, tell};
use crate::ceremony::place::{Found, Place};
use crate::ceremony::refresh::{Here, Refreshed, finish_alone, refresh};
use crate::ceremony::worker::Which;
use crate::cli::{Outcome, print_json};
use crate::mpc::{Party, Wallet};

/// Arguments of `wallet refresh`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:

Stop the programs that use the shares, then on the three machines:
  tollpass wallet refresh --listen 0.0.0.0:7403 --share share --unseal file:/secrets/pass --identity identity.pem
  tollpass wallet refresh --join https://cosigner.example:7403 --share share --unseal … --identity …

The address stays. Bans end, and shares of before sign with none of after. An interrupted refresh leaves a wallet that
signs; the next run finishes it.")]
pub struct Args {
    #[command(flatten)]
    table: TableArgs,
    /// Folder of this machine's share.
    #[arg(long, value_name = "FOLDER")]
    share: PathBuf,
    /// Where the passphrase of the share comes from: env:NAME, file:PATH or exec:PROGRAM.
    #[arg(long, value_parser = opener, value_name = "SOURCE")]
    unseal: Opener,
    /// A refresh was interrupted after its tests and another screen shows the new epoch in force: put it in force here, too,
    /// without the others.
    #[arg(long)]
    finish: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let place = Place::new(&args.share)?;
    let Found::Wallet(before) = place.look()? else {
        return Err(wrong(format!("{}: no share in force here", args.share.display())));
    };
    if args.finish {
        let wallet = finish_alone(&place, &args.unseal.unseal)?;
        tell("in force here. Run the refresh once more when all three can: it destroys the old shares.");
        return print(&wallet, args, out);
    }
    let mut table =
        TableArgs { peers: args.table.peers.clone(), identity: args.table.identity.clone(), join: args.table.join.clone(), ..args.table };
    if table.party.is_some_and(|p| p != before.party) {
        return Err(wrong(format!("{} is the {}'s share", args.share.display(), before.party)));
    }
    table.party = Some(before.party);
    let ready = table.ready(&Party::ALL, &before.identities)?;
    let (folder, again) = (place.folder().to_owned(), args.unseal.clone());
    let here = Here { place, unseal: args.unseal.unseal.clone(), reopen: Box::new(move || reopening(&folder, &again, Which::Staged)) };
    let done = block_on(async {
        let seated = ready.sit().await?;
        let done = refresh(seated.seat, &here, &tell).await;
        table::close(seated.board).await;
        Ok(done?)
    })?;
    homework(&done, args);
    print(&done.wallet, args, out)
}

/// What only people can do (S7).
fn homework(done: &Refreshed, args: &Args) {
    if done.finished_earlier {
        tell("finished the refresh that was interrupted; run it again for another epoch.");
    }
    if !done.all_destroyed {
        tell("the other parties did not all say that their old share is destroyed: look at `tollpass wallet show` on their machines.");
    }
    tell(&format!(
        "this machine's share of epoch {old} is destroyed. Old shares are worth nothing only once two parties have no copy of theirs \
         left. Destroy by hand, here and at one other party at least, whatever has epoch {old} or older:\n  \
         - backups of {share} (share, share.previous, share.next)\n  \
         - snapshots and images of the disk or volume it is on\n  \
         - copies on other machines, and what a copy-on-write disk or an SSD keeps of overwritten blocks",
        old = done.wallet.epoch.saturating_sub(1),
        share = args.share.display()
    ));
}

fn print(wallet: &Wallet, args: &Args, out: &mut dyn Write) -> Outcome {
    if args.json { print_json(out, &facts(wallet)) } else { print_facts(wallet, out) }
}
