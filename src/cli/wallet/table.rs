//! How a party comes to the table: which one it is, where the board is, whom it expects.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{party, tell};
use crate::ceremony::Seat;
use crate::ceremony::board::{Board, Line};
use crate::cli::Failure;
use crate::mpc::{Fingerprint, Party};
use crate::wire::identity::{Identity, load_or_refuse};
use crate::wire::link::{self, Client, Peer};

/// Arguments that every ceremony has.
#[derive(Debug, clap::Args)]
pub(super) struct TableArgs {
    /// Which party this machine is: sidecar, cosigner or cold.
    #[arg(long, value_parser = party, value_name = "PARTY")]
    pub party: Option<Party>,
    /// Serve the board here; one party does.
    #[arg(long, value_name = "ADDR", conflicts_with = "join")]
    pub listen: Option<SocketAddr>,
    /// Join the board that another party serves: https://HOST:PORT, or PARTY=https://HOST:PORT if it is not the cosigner.
    #[arg(long, value_name = "URL")]
    pub join: Option<String>,
    /// The fingerprint on another party's own screen, as PARTY=FINGERPRINT; asked for on a terminal if left out.
    #[arg(long = "peer", value_parser = peer, value_name = "PARTY=FINGERPRINT")]
    pub peers: Vec<(Party, Fingerprint)>,
    /// This party's identity: what `tollpass wallet identity` made.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// How long to wait for the other parties to come.
    #[arg(long, value_parser = duration, default_value = "10m", value_name = "TIME")]
    pub wait: Duration,
    /// How long to wait for each of their later steps.
    #[arg(long, value_parser = duration, default_value = "2m", value_name = "TIME", hide = true)]
    pub patience: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
}

fn peer(text: &str) -> Result<(Party, Fingerprint), String> {
    let form = "write PARTY=FINGERPRINT, such as cold=64 hex digits";
    let (name, fingerprint) = text.split_once('=').ok_or(form)?;
    Ok((party(name)?, fingerprint.parse().map_err(|e: crate::mpc::FingerprintError| e.to_string())?))
}

/// What is known before the network is touched.
pub(super) struct Ready {
    me: Party,
    identity: Identity,
    pins: BTreeMap<Party, Fingerprint>,
    board: Where,
    gather: Duration,
    patience: Duration,
}

enum Where {
    Listen(SocketAddr),
    Join(Party, String),
}

/// A seat, and the board that ends with it.
pub(super) struct Seated {
    pub(super) seat: Seat,
    /// Dropped: the board stops.
    pub(super) board: Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
}

impl TableArgs {
    /// The party, which every ceremony needs.
    pub(super) fn me(&self) -> Result<Party, Failure> {
        self.party.ok_or_else(|| wrong("say which party this machine is: --party sidecar, cosigner or cold"))
    }

    /// Reads everything and asks for what is missing. `known` are fingerprints that the share remembers.
    pub(super) fn ready(&self, members: &[Party], known: &BTreeMap<Party, Fingerprint>) -> Result<Ready, Failure> {
        let me = self.me()?;
        let file = self.identity.as_ref().ok_or_else(|| wrong("write --identity FILE; `tollpass wallet identity --out FILE` makes one"))?;
        let identity = load_or_refuse(file).map_err(|e| wrong(format!("{}: {e}", file.display())))?;
        let mine = identity.public().fingerprint();
        let mut pins: BTreeMap<Party, Fingerprint> = known.iter().filter(|(p, _)| members.contains(p)).map(|(p, f)| (*p, *f)).collect();
        if pins.get(&me).is_some_and(|pin| *pin != mine) {
            return Err(wrong(format!("{} is not the identity that this wallet was created with", file.display())));
        }
        pins.insert(me, mine);
        for (party, fingerprint) in &self.peers {
            if !members.contains(party) {
                return Err(wrong(format!("--peer {party}: the {party} takes no part in this ceremony")));
            }
            if pins.insert(*party, *fingerprint).is_some_and(|before| before != *fingerprint) {
                return Err(wrong(format!("--peer {party}: not the {party}'s fingerprint as this machine knows it")));
            }
        }
        let missing: Vec<Party> = members.iter().copied().filter(|p| !pins.contains_key(p)).collect();
        ask(me, mine, &missing, &mut pins)?;
        let mut distinct: Vec<_> = pins.values().collect();
        distinct.sort();
        distinct.dedup();
        if distinct.len() != members.len() {
            return Err(wrong("two parties have one fingerprint: each needs an identity of its own"));
        }
        let board = self.board(me, members)?;
        Ok(Ready { me, identity, pins, board, gather: self.wait, patience: self.patience })
    }

    fn board(&self, me: Party, members: &[Party]) -> Result<Where, Failure> {
        match (self.listen, &self.join) {
            (Some(address), None) => Ok(Where::Listen(address)),
            (None, Some(url)) => {
                let (server, url) = match url.split_once('=') {
                    Some((name, url)) => (party(name).map_err(wrong)?, url),
                    None => {
                        let others: Vec<Party> = members.iter().copied().filter(|p| *p != me).collect();
                        let usual = others.iter().copied().find(|p| *p == Party::Cosigner).or_else(|| others.first().copied());
                        (usual.ok_or_else(|| wrong("nobody to join"))?, url.as_str())
                    }
                };
                if server == me || !members.contains(&server) {
                    return Err(wrong(format!("--join: the {server} cannot serve the board for the {me}")));
                }
                Ok(Where::Join(server, authority(url)?))
            }
            _ => Err(wrong("one party serves the board with --listen ADDR, the others say --join https://HOST:PORT")),
        }
    }
}

impl Ready {
    pub(super) fn pins(&self) -> &BTreeMap<Party, Fingerprint> {
        &self.pins
    }

    /// Binds or prepares to connect.
    pub(super) async fn sit(self) -> Result<Seated, Failure> {
        let Self { me, identity, pins, board, gather, patience } = self;
        let (line, board) = match board {
            Where::Listen(address) => {
                let listener = tokio::net::TcpListener::bind(address).await;
                let listener = listener.map_err(|e| wrong(format!("--listen {address}: {e}")))?;
                tell(&format!("the board is at {}", link::local_addr(&listener)?));
                let table: Vec<_> = pins.iter().map(|(p, f)| (*p, *f)).collect();
                let board = Arc::new(Board::new(table, |key| {
                    tell(&format!("somebody with the fingerprint {key} tried to join: none of the parties that were named"));
                }));
                let (stop, stopped) = oneshot::channel();
                let stopped = async {
                    let _ = stopped.await;
                };
                let served = tokio::spawn(link::serve(listener, identity.clone(), board.clone(), stopped));
                (Line::Own(board), Some((stop, served)))
            }
            Where::Join(server, authority) => {
                let pin = pins.get(&server).copied().ok_or_else(|| wrong("the board's party is not known"))?;
                (Line::Far(Client::new(identity.clone(), Peer { authority, pin }, Duration::from_secs(5))), None)
            }
        };
        Ok(Seated { seat: Seat { me, identity, pins, line, gather, patience }, board })
    }
}

/// Lets the others read the last posts, then ends the board.
pub(super) async fn close(board: Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>) {
    if let Some((stop, served)) = board {
        let _ = stop.send(());
        let _ = tokio::time::timeout(Duration::from_secs(3), served).await;
    }
}

fn authority(url: &str) -> Result<String, Failure> {
    let form = || wrong("--join: write https://HOST:PORT, such as https://cosigner.example:7403");
    let rest = url.strip_prefix("https://").ok_or_else(form)?.trim_end_matches('/');
    let uri: http::Uri = format!("https://{rest}").parse().map_err(|_| form())?;
    match (uri.host(), uri.port_u16(), uri.path()) {
        (Some(_), Some(_), "/") if !rest.contains('@') => Ok(rest.to_owned()),
        _ => Err(form()),
    }
}

/// Asks a person for the fingerprints that were not given.
fn ask(me: Party, mine: Fingerprint, missing: &[Party], pins: &mut BTreeMap<Party, Fingerprint>) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(|p| format!("--peer {p}=FINGERPRINT")).collect();
    if !std::io::stdin().is_terminal() {
        return Err(wrong(format!(
            "write {}, as the other party's own screen shows it (this party, the {me}, is {mine})",
            names.join(" and ")
        )));
    }
    tell(&format!("this party is the {me}; read its fingerprint to the others over the telephone, not over this network:\n  {mine}"));
    let mut lines = std::io::stdin().lock().lines();
    let mut line = || lines.next().and_then(Result::ok).ok_or_else(|| wrong("no answer"));
    for party in missing {
        tell(&format!("the fingerprint of the {party}, as its own screen shows it:"));
        pins.insert(*party, line()?.parse().map_err(|e: crate::mpc::FingerprintError| wrong(e.to_string()))?);
    }
    for (party, pin) in pins.iter() {
        tell(&format!("  {:<9} {pin}", party.as_str()));
    }
    tell("are these what the other parties' own screens show? write yes:");
    if line()?.trim() == "yes" { Ok(()) } else { Err(wrong("not compared: nothing was done")) }
}

pub(super) fn wrong(text: impl Into<String>) -> Failure {
    Failure::Config(format!("tollpass: {}", text.into()))
}
