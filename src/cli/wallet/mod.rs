//! `tollpass wallet …`: the life of a threshold wallet.

mod enroll;
mod revoke;

use std::io::Write;

use super::Outcome;

/// `tollpass wallet …`
#[derive(Debug, clap::Subcommand)]
pub enum WalletCommand {
    /// Tie a share holder's key to agents: issue a one-time token, or redeem one.
    Enroll(enroll::Args),
    /// Take an identity's rights away; counts from its next request on.
    Revoke(revoke::Args),
}

pub(super) fn run(command: &WalletCommand, out: &mut dyn Write) -> Outcome {
    match command {
        WalletCommand::Enroll(args) => enroll::run(args, out),
        WalletCommand::Revoke(args) => revoke::run(args, out),
    }
}
