//! What a process used: CPU by thread, memory. And a page of its metrics.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// CPU time since the start of a process.
#[derive(Clone, Copy, Default)]
pub(super) struct Cpu {
    /// All threads.
    pub(super) all: Duration,
    /// The threads of the arithmetic alone.
    pub(super) crew: Duration,
}

impl Cpu {
    /// Nanoseconds by thread, from the scheduler's own books. Threads that have ended are not in it: ours live as long as
    /// their process.
    pub(super) fn of(pid: u32) -> Self {
        let mut cpu = Self::default();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
            let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let spent = Duration::from_nanos(read("schedstat").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0));
            cpu.all += spent;
            if read("comm").trim().ends_with("-sign") {
                cpu.crew += spent;
            }
        }
        cpu
    }

    /// Since `earlier`, for each of `count`, milliseconds: all threads, and the arithmetic's alone.
    pub(super) fn each(self, earlier: Self, count: usize) -> (f64, f64) {
        let each = |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() * 1e3 / count as f64;
        (each(self.all, earlier.all), each(self.crew, earlier.crew))
    }
}

/// Resident memory, bytes.
pub(super) fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The sum of a metric's samples whose labels contain `with`.
pub(super) fn metric(admin: SocketAddr, name: &str, with: &str) -> f64 {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    sum(&text, name, with)
}

/// The same from a rendered page.
pub(super) fn sum(text: &str, name: &str, with: &str) -> f64 {
    let samples = text.lines().filter(|l| l.starts_with(name) && l.contains(with));
    samples.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
