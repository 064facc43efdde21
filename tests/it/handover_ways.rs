//! A hand-over under continuous traffic through every other listener: SOCKS5, TLS to the proxy, redirected connections.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::handover::{has_ledger, whole};
use crate::harness::{Agent, Program, Seller, Setup, Wire, eventually};

/// Asks again and again, each time over a connection of its own, until it is told to end. Any failure ends the test.
struct Stream {
    name: &'static str,
    served: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Stream {
    fn start(name: &'static str, done: &Arc<AtomicBool>, once: impl Fn() -> io::Result<Agent> + Send + 'static) -> Self {
        let (served, done) = (Arc::<AtomicUsize>::default(), done.clone());
        let count = served.clone();
        let thread = std::thread::spawn(move || {
            while !done.load(Ordering::Acquire) {
                let n = count.load(Ordering::Acquire);
                let answer = once().and_then(|mut agent| whole(agent.response_to("GET")?));
                let answer = answer.unwrap_or_else(|e| panic!("{name}, request {n}: {e}"));
                assert_eq!((answer.status, answer.text().as_str()), (200, "free"), "{name}, request {n}");
                count.fetch_add(1, Ordering::AcqRel);
            }
        });
        Self { name, served, thread }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Acquire)
    }

    fn goes_on(&self) {
        let before = self.served();
        eventually(self.name, || self.thread.is_finished() || self.served() > before + 20);
    }
}

fn connect(address: SocketAddr) -> io::Result<Agent> {
    Ok(Agent { wire: Wire::plain(TcpStream::connect(address)?) })
}

fn over_socks(address: SocketAddr, seller: SocketAddr) -> io::Result<Agent> {
    let mut agent = connect(address)?;
    agent.wire.write(&[5, 1, 0])?;
    agent.wire.exactly(2)?;
    agent.wire.write(&[&[5, 1, 0, 1, 127, 0, 0, 1], &seller.port().to_be_bytes()[..]].concat())?;
    let said = agent.wire.exactly(10)?;
    assert_eq!(said[1], 0, "the answer to a SOCKS request");
    agent.wire.write(format!("GET / HTTP/1.1\r\nHost: {seller}\r\nConnection: close\r\n\r\n").as_bytes())?;
    Ok(agent)
}

fn over_tls(address: SocketAddr, ca: &str, seller: &Seller) -> io::Result<Agent> {
    let mut agent = connect(address)?.try_tls("localhost", ca)?;
    agent.wire.write(&Agent::request_bytes("GET", &seller.url("/"), "Connection: close\r\n", b""))?;
    Ok(agent)
}

/// Two hand-overs, one after the other; every stream goes on before, between and after.
fn hand_over_twice(mut program: Program, streams: Vec<Stream>, done: &AtomicBool) {
    for _ in 0..2 {
        streams.iter().for_each(Stream::goes_on);
        let next = program.successor(&[]);
        has_ledger(&next);
        streams.iter().for_each(Stream::goes_on);
        assert_eq!(program.wait().code(), Some(0), "{}", program.log());
        program = next;
    }
    done.store(true, Ordering::Release);
    for stream in streams {
        println!("{}: {} requests", stream.name, stream.served());
        stream.thread.join().unwrap();
    }
}

#[test]
fn no_connection_through_socks_or_tls_is_refused_or_reset() {
    let seller = Arc::new(Seller::http(|call| call.reply(200, "", "free")));
    let program = Program::start(Setup::new().listen(&["socks", "https"]).limits("connections: 4000"));
    let (socks, https, ca, done) = (program.listener("socks"), program.listener("https"), program.ca(), Arc::default());
    // The seller outlives both streams, whichever ends first.
    let (address, sold) = (seller.address, Arc::clone(&seller));
    let streams = vec![
        Stream::start("socks", &done, move || over_socks(socks, address)),
        Stream::start("https", &done, move || over_tls(https, &ca, &sold)),
    ];
    hand_over_twice(program, streams, &done);
    drop(seller);
}

/// Says to the test below that it is where redirects are its own business.
const INSIDE: &str = "TOLLPASS_TEST_NAMESPACE";

/// Where nobody listens: what is not redirected cannot succeed.
const OUTSIDE: &str = "203.0.113.10";

fn tool(name: &str, args: &str) -> Result<(), String> {
    // Where Debian keeps them, also for users who do not have these folders in their path.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(name).args(args.split(' ')).env("PATH", path).output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())) }
}

/// An address, a route, and a redirect of one port outside to ours.
fn redirect(from: u16, to: u16) -> Result<(), String> {
    tool("ip", "link set lo up")?;
    tool("ip", "address add 10.64.0.2/32 dev lo")?;
    tool("ip", "route add default dev lo src 10.64.0.2")?;
    let nft = || {
        tool("nft", "add table ip ways")?;
        tool("nft", "add chain ip ways out { type nat hook output priority -100 ; }")?;
        tool("nft", &format!("add rule ip ways out ip daddr {OUTSIDE} tcp dport {from} redirect to :{to}"))
    };
    let iptables = || tool("iptables", &format!("-w -t nat -A OUTPUT -d {OUTSIDE} -p tcp --dport {from} -j REDIRECT --to-ports {to}"));
    nft().or_else(|nft| iptables().map_err(|iptables| format!("{nft}; {iptables}")))
}

/// Not a test of its own: it runs in a namespace that the one below makes.
#[test]
fn the_process_in_a_namespace() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    // Nothing can be bound, by anybody, before the loopback interface is up.
    if let Err(why) = tool("ip", "link set lo up") {
        return println!("skipped: {why}");
    }
    let seller = Seller::http(|call| call.reply(200, "", "free"));
    let program = Program::start(Setup::new().listen(&["transparent"]).limits("connections: 4000"));
    if let Err(why) = redirect(seller.port(), program.listener("transparent").port()) {
        return println!("skipped: {why}");
    }
    let (port, done) = (seller.port(), Arc::default());
    let outside = SocketAddr::new(OUTSIDE.parse().unwrap(), port);
    let once = move || {
        let mut agent = connect(outside)?;
        agent.wire.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        Ok(agent)
    };
    hand_over_twice(program, vec![Stream::start("transparent", &done, once)], &done);
    println!("done: {} requests reached the seller", seller.count());
}

#[test]
fn no_redirected_connection_is_refused_or_reset() {
    let this = std::env::current_exe().unwrap();
    let mut why = String::new();
    for flags in ["-n", "-Urn"] {
        let trial = Command::new("unshare").args([flags, "true"]).output();
        match trial {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                why += &String::from_utf8_lossy(&output.stderr);
                continue;
            }
            Err(error) => {
                why += &format!("unshare: {error}");
                continue;
            }
        }
        let output = Command::new("unshare")
            .args([flags, this.to_str().unwrap(), "--exact", "handover_ways::the_process_in_a_namespace", "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("done: ") || said.contains("skipped: "), "{said}");
        return println!("{said}");
    }
    println!("skipped: no network namespace: {why}");
}
