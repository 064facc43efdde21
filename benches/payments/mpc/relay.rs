//! A TCP relay that delivers every byte late: what a distance does to a connection, without privileges.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Listens on a free port; what comes from either side arrives at the other one half of `round_trip` later.
pub(super) fn start(to: SocketAddr, round_trip: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(to) else { continue };
            pipe(near.try_clone().unwrap(), far.try_clone().unwrap(), round_trip / 2);
            pipe(far, near, round_trip / 2);
        }
    });
    address
}

/// One direction: a thread reads and stamps, another one waits and writes. The distance has room for everything under way.
fn pipe(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let _ = to.set_nodelay(true);
    let (stamped, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 || stamped.send((Instant::now() + delay, buffer[..n].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (at, bytes) in due {
            // Finer than a timer of the runtime, which would round each way up to a millisecond.
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
