//! `tollpass healthcheck`: a probe for images without a shell.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Failure, Outcome, config_if_any};
use crate::config::Listen;
use crate::net;

/// Arguments of `healthcheck`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass healthcheck
  tollpass healthcheck --addr 127.0.0.1:9403 --live

Exit status: 0 if ready (or live), 1 if not.")]
pub struct Args {
    /// Admin or health listener; else the one in the configuration, else 127.0.0.1:9402.
    #[arg(long, value_name = "IP:PORT")]
    pub addr: Option<SocketAddr>,
    /// The configuration file to take the address from.
    #[arg(long, value_name = "FILE", conflicts_with = "addr")]
    pub config: Option<PathBuf>,
    /// Ask only whether the process answers.
    #[arg(long)]
    pub live: bool,
    /// Seconds to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub timeout: u64,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let addr = match args.addr {
        Some(addr) => addr,
        None => match &args.config {
            Some(_) => config_if_any(args.config.as_deref())?.as_ref().and_then(|c| probe_address(&c.listen)),
            None => Some(SocketAddr::from(([127, 0, 0, 1], 9402))),
        }
        .ok_or_else(|| Failure::Config("the configuration has neither listen.admin nor listen.health: set one".into()))?,
    };
    let path = if args.live { "/livez" } else { "/readyz" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, body) =
        runtime.block_on(net::get(addr, path, Duration::from_secs(args.timeout))).map_err(|e| Failure::Failed(anyhow::Error::new(e)))?;
    let body = String::from_utf8_lossy(&body);
    writeln!(out, "{}", body.trim_end())?;
    if status == 200 { Ok(()) } else { Err(Failure::Failed(anyhow::anyhow!("{path} answered {status}"))) }
}

/// Where a probe on this machine reaches the proxy: a listener on all addresses is asked on loopback.
fn probe_address(listen: &Listen) -> Option<SocketAddr> {
    let mut addr = listen.admin.or(listen.health)?;
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    Some(addr)
}
