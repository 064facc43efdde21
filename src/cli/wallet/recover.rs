//! `tollpass wallet recover`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use alloy_primitives::{U256, hex};
use serde_json::json;

use super::table::{self, TableArgs, wrong};
use super::{Opener, block_on, opener, party, reopening, tell};
use crate::ceremony::place::{Found, Place};
use crate::ceremony::recover::{Here, recover};
use crate::ceremony::worker::Which;
use crate::cli::{Failure, Outcome, print_json};
use crate::mpc::Party;
use crate::payment::{Asset, AssetId, AssetTable, Signed};

/// Arguments of `wallet recover`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:

On the two machines that are left, one of them the cold one, after the programs that use the shares were stopped:
  tollpass wallet recover --with cold --listen 0.0.0.0:7403 --share share --unseal file:/secrets/pass --identity identity.pem \\
      --asset eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913 --amount 12.5
  tollpass wallet recover --with sidecar --join https://sidecar.example:7403 … --asset … --amount 12.5

The funds go to the address that was fixed when the wallet was created, to no other. Works with a frozen share, but never
with a party that was banned. Anyone may submit the printed calldata to the token contract within the hour; it pays nobody
else.")]
pub struct Args {
    #[command(flatten)]
    table: TableArgs,
    /// The other party.
    #[arg(long, value_parser = party, value_name = "PARTY")]
    with: Party,
    /// Folder of this machine's share.
    #[arg(long, value_name = "FOLDER")]
    share: PathBuf,
    /// Where the passphrase of the share comes from: env:NAME, file:PATH or exec:PROGRAM.
    #[arg(long, value_parser = opener, value_name = "SOURCE")]
    unseal: Opener,
    /// What to move, as CAIP-19; an asset that this program knows.
    #[arg(long, value_name = "ASSET")]
    asset: AssetId,
    /// How much, in whole tokens with decimals; the same on both machines.
    #[arg(long, value_name = "AMOUNT")]
    amount: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let place = Place::new(&args.share)?;
    let Found::Wallet(wallet) = place.look()? else {
        return Err(wrong(format!("{}: no share in force here", args.share.display())));
    };
    if (wallet.party == Party::Cold) == (args.with == Party::Cold) {
        return Err(wrong(format!(
            "this is the {}'s share and --with says {}: one of the two must be cold; what the sidecar and the co-signer sign together \
             goes through the co-signer's policy",
            wallet.party, args.with
        )));
    }
    let asset = AssetTable::shipped().get(&args.asset).cloned();
    let asset = asset.ok_or_else(|| wrong(format!("--asset {}: not an asset that this version knows", args.asset)))?;
    let value = atomic(&args.amount, asset.decimals)?;
    let table = TableArgs {
        party: Some(wallet.party),
        peers: args.table.peers.clone(),
        identity: args.table.identity.clone(),
        join: args.table.join.clone(),
        ..args.table
    };
    let ready = table.ready(&[wallet.party, args.with], &wallet.identities)?;
    let (folder, again) = (place.folder().to_owned(), args.unseal.clone());
    let here = Here {
        asset: asset.clone(),
        value,
        now: u64::try_from(crate::clock::read().wall.secs()).map_err(|_| wrong("the clock of this machine is before 1970"))?,
        reopen: Box::new(move || reopening(&folder, &again, Which::Care)),
    };
    let signed = block_on(async {
        let seated = ready.sit().await?;
        let signed = recover(seated.seat, &here, &tell).await;
        table::close(seated.board).await;
        Ok(signed?)
    })?;
    print(&signed, &asset, args, out)
}

/// Whole tokens with decimals → atomic units, exactly.
fn atomic(text: &str, decimals: u8) -> Result<U256, Failure> {
    let form = || wrong(format!("--amount: write digits with at most {decimals} decimals, such as 12.5"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let decimals = usize::from(decimals);
    let dot_alone = text.contains('.') && fraction.is_empty();
    if whole.is_empty() || whole.len() > 30 || !digits(whole) || !digits(fraction) || fraction.len() > decimals || dot_alone {
        return Err(form());
    }
    let padded = format!("{whole}{fraction:0<decimals$}");
    let value = U256::from_str_radix(&padded, 10).map_err(|_| form())?;
    if value.is_zero() { Err(wrong("--amount: nothing to move")) } else { Ok(value) }
}

fn print(signed: &Signed, asset: &Arc<Asset>, args: &Args, out: &mut dyn Write) -> Outcome {
    let a = signed.authorization();
    let calldata = hex::encode_prefixed(signed.calldata());
    if args.json {
        return print_json(
            out,
            &json!({
                "network": asset.id.chain.to_string(),
                "token": asset.id.token.to_string(),
                "authorization": {
                    "from": a.from.0.to_string(), "to": a.to.0.to_string(), "value": a.value.to_string(),
                    "validAfter": a.valid_after.to_string(), "validBefore": a.valid_before.to_string(),
                    "nonce": a.nonce.bytes().to_string(),
                },
                "signature": hex::encode_prefixed(signed.bytes()),
                "calldata": calldata,
            }),
        );
    }
    writeln!(out, "network   {}", asset.id.chain)?;
    writeln!(out, "call      {}", asset.id.token)?;
    writeln!(out, "moves     {} {} from {} to {}", args.amount, asset.symbol, a.from.0, a.to.0)?;
    writeln!(out, "until     {} (Unix seconds)", a.valid_before)?;
    writeln!(out, "calldata  {calldata}")?;
    tell("signed, not submitted: send the calldata to the token contract from any account with gas.");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn amounts_are_exact_or_refused() {
        for (text, want) in [("12.5", 12_500_000_u64), ("0.000001", 1), ("1", 1_000_000), ("007", 7_000_000)] {
            assert_eq!(atomic(text, 6).unwrap(), U256::from(want), "{text}");
        }
        for bad in ["", ".5", "1.", "0", "0.0", "1.0000001", "-1", "+1", "1e3", "1,5", "1 "] {
            assert!(atomic(bad, 6).is_err(), "{bad}");
        }
    }
}
