//! `tollpass probe`: the process that asks sellers for a co-signer (S4). It has no share, no key and no ledger.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use http::Uri;
use tokio::signal::unix::{SignalKind, signal};

use super::Outcome;
use crate::cosigner::probe::process::{self, Fetch, Fetched};
use crate::cosigner::probe::{MAX_ANSWER, PATIENCE};
use crate::net::address::permits;
use crate::net::{self, BoxFuture, Fetcher};

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tollpass probe --socket /run/tollpass/probe.sock        and in cosigner.yaml: probe: file:/run/tollpass/probe.sock

An allow entry of the co-signer's policy with `probe: true` is then paid only if the seller, asked from here, wants exactly
this payment. Run it as the co-signer's user, but without access to its files; the socket is made with mode 0600.")]
pub struct Args {
    /// The Unix socket to answer on.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Ask sellers at private and loopback addresses too; never link-local or metadata addresses.
    #[arg(long)]
    pub allow_private: bool,
    /// PEM file of a further root to trust; may be given more than once.
    #[arg(long = "extra-root", value_name = "FILE")]
    pub extra_roots: Vec<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    crate::state::harden();
    let allow_private = args.allow_private;
    let fetcher = Fetcher::new(&args.extra_roots, move |ip| permits(ip, allow_private))?.bounded(MAX_ANSWER, PATIENCE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bound = process::bind(&args.socket).await;
        let listener = bound.with_context(|| format!("cannot listen on {} (--socket)", args.socket.display()))?;
        writeln!(out, "tollpass probe listens on {}", args.socket.display())?;
        out.flush()?;
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        process::serve(listener, Arc::new(Asks(Arc::new(fetcher))), async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        })
        .await;
        let _ = std::fs::remove_file(&args.socket);
        Ok(())
    })
}

/// Our own client, as the probe's process wants it.
struct Asks(Arc<Fetcher>);

impl Fetch for Asks {
    fn get(&self, url: Uri) -> BoxFuture<Result<Fetched, String>> {
        let fetcher = self.0.clone();
        Box::pin(async move {
            let answer = fetcher.fetch(net::Fetch::get(url)).await.map_err(|e| e.to_string())?;
            let (head, body) = answer.into_parts();
            Ok(Fetched { status: head.status.as_u16(), headers: head.headers, body })
        })
    }
}
