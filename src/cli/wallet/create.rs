//! `tollpass wallet create`.

use std::io::Write;
use std::path::PathBuf;

use alloy_primitives::Address;

use super::table::{self, TableArgs, wrong};
use super::{Opener, UNAUDITED, block_on, facts, one_host, opener, print_facts, reopening, tell};
use crate::ceremony::create::{Here, create};
use crate::ceremony::place::{Found, Place};
use crate::ceremony::worker::Which;
use crate::cli::{Failure, Outcome, print_json};
use crate::mpc::{Origin, Party, Plan, Wallet, WalletId};
use crate::payment::{AgentId, parse_address};

/// Arguments of `wallet create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:

Three machines, three operators. Each makes an identity and reads its fingerprint to the other two:
  tollpass wallet identity --out identity.pem

  tollpass wallet create --wallet w1 --party cosigner --listen 0.0.0.0:7403 --share share --unseal file:/secrets/pass \\
      --identity identity.pem --recovery 0x… --peer sidecar=… --peer cold=…
  tollpass wallet create --wallet w1 --party sidecar --join https://cosigner.example:7403 …
  tollpass wallet create --wallet w1 --party cold    --join https://cosigner.example:7403 …

All three screens show one address at the end. The port is needed for the ceremony only.

A trial on one machine, for test networks only:
  tollpass wallet create --one-host trial --wallet w1 --agent research-bot")]
pub struct Args {
    #[command(flatten)]
    table: TableArgs,
    /// Name of the wallet; the same on all three machines.
    #[arg(long, value_name = "NAME")]
    wallet: Option<WalletId>,
    /// Folder for this machine's share; it appears when the wallet exists.
    #[arg(long, value_name = "FOLDER")]
    share: Option<PathBuf>,
    /// Where the passphrase of the share comes from: env:NAME, file:PATH or exec:PROGRAM; never the share's folder.
    #[arg(long, value_parser = opener, value_name = "SOURCE")]
    unseal: Option<Opener>,
    /// Where `wallet recover` sends funds, ever; the same on all three machines.
    #[arg(long, value_parser = address, value_name = "ADDRESS")]
    recovery: Option<Address>,
    /// A creation was interrupted after its tests and another screen shows the wallet: put this share in force, too.
    #[arg(long, conflicts_with_all = ["discard", "one_host", "party"])]
    finish: bool,
    /// A creation was interrupted after its tests and no screen shows the wallet: throw this share away.
    #[arg(long, conflicts_with_all = ["one_host", "party"])]
    discard: bool,
    /// All three parties on this machine, for trials: shares, identities, passphrases and configurations in this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["listen", "join", "share", "unseal", "identity", "party"])]
    one_host: Option<PathBuf>,
    /// With --one-host: an agent for the configurations.
    #[arg(long = "agent", value_name = "NAME", requires = "one_host")]
    agents: Vec<AgentId>,
    /// Set by --one-host: marks the share.
    #[arg(long, hide = true)]
    trial: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn address(text: &str) -> Result<Address, String> {
    parse_address(text).ok_or_else(|| "write a 0x address of 40 hex digits; mixed case must have its EIP-55 checksum".into())
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    if let Some(folder) = &args.one_host {
        let wallet = args.wallet.clone().ok_or_else(|| wrong("write --wallet NAME"))?;
        tell(UNAUDITED);
        return one_host::run(folder, &wallet, args.recovery, &args.agents, args.json, out);
    }
    let share = args.share.as_ref().ok_or_else(|| wrong("write --share FOLDER, where this machine's share goes"))?;
    let place = Place::new(share)?;
    let _alone = place.lock()?;
    let found = place.look()?;
    if args.discard {
        return match found {
            Found::Wallet(_) => Err(wrong(format!("{} holds a wallet: --discard is for one that never came to be", share.display()))),
            _ => Ok(place.discard()?),
        };
    }
    if args.finish {
        let Found::Tested(wallet) = found else {
            return Err(wrong(format!("{}: no creation was interrupted after its tests here", place.pending().display())));
        };
        place.finish()?;
        return answer(&wallet, args, out);
    }
    match found {
        Found::Wallet(wallet) => return Err(wrong(format!("{} holds the share of {} already", share.display(), wallet.id))),
        Found::Tested(wallet) => {
            return Err(wrong(format!(
                "a creation was interrupted here after every pair had signed. If another screen shows {} as created, run \
                 `tollpass wallet create --finish --share {shown}`; if none does, `tollpass wallet create --discard --share {shown}`",
                wallet.address,
                shown = share.display()
            )));
        }
        Found::Nothing => {}
    }
    tell(UNAUDITED);
    let wallet = ceremony(args, place)?;
    answer(&wallet, args, out)
}

fn ceremony(args: &Args, place: Place) -> Result<Wallet, Failure> {
    let id = args.wallet.clone().ok_or_else(|| wrong("write --wallet NAME, the same on all three machines"))?;
    let opener = args.unseal.clone().ok_or_else(|| wrong("write --unseal file:PATH, env:NAME or exec:PROGRAM"))?;
    // Before anybody is kept waiting.
    opener.unseal.passphrase()?;
    let ready = args.table.ready(&Party::ALL, &Default::default())?;
    let origin = if args.trial { Origin::OneHost } else { Origin::Distributed };
    let plan = Plan { wallet: id, origin, recovery: args.recovery, identities: ready.pins().clone(), existing: None };
    if plan.recovery.is_none() {
        tell(
            "note: without --recovery there will be no `wallet recover`: a lost share then means moving the funds by the two others while they last",
        );
    }
    let again = opener.clone();
    let here = Here { place, unseal: opener.unseal, reopen: Box::new(move |folder| reopening(folder, &again, Which::Current)) };
    block_on(async {
        let seated = ready.sit().await?;
        let wallet = create(seated.seat, plan, &here, &tell).await;
        table::close(seated.board).await;
        Ok(wallet?)
    })
}

fn answer(wallet: &Wallet, args: &Args, out: &mut dyn Write) -> Outcome {
    if args.json {
        return print_json(out, &facts(wallet));
    }
    print_facts(wallet, out)?;
    tell("the wallet exists. Compare the address with the other two screens before anything is sent to it.");
    Ok(())
}
