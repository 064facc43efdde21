//! Names looked up, and remembered for a few seconds. The system's resolver does not say how long an answer holds, so it is held
//! for less than any sensible time to live. What is remembered is never trusted: every connection asks the guard about every address
//! again, so a name that moves to a private address gains nothing (S16).

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::payment::Reason;

/// How long an answer is remembered.
const FOUND: Duration = Duration::from_secs(5);

/// How long a failure is: long enough for a burst of requests, short enough for a name that was just made.
const FAILED: Duration = Duration::from_secs(1);

/// Names remembered. One more is looked up every time.
const MOST: usize = 1024;

/// Look-ups at once. Each takes a thread, and a name server that does not answer must not take all of them.
const AT_ONCE: usize = 64;

/// Addresses of one name that are of any use.
const ADDRESSES: usize = 16;

/// See the module documentation.
pub(super) struct Names {
    known: Mutex<HashMap<Arc<str>, Arc<Name>>>,
    looking: Semaphore,
}

/// One name. Whoever holds the lock looks it up, the others wait for the answer.
#[derive(Default)]
struct Name {
    answer: tokio::sync::Mutex<Option<Answer>>,
    /// Until when the answer counts; for clearing up.
    until: Mutex<Option<Instant>>,
}

struct Answer {
    found: Option<Arc<[IpAddr]>>,
    until: Instant,
}

impl Default for Names {
    fn default() -> Self {
        Self { known: Mutex::default(), looking: Semaphore::new(AT_ONCE) }
    }
}

impl Names {
    /// The addresses of `name`: remembered, or by asking the system.
    pub(super) async fn resolve(&self, name: &Arc<str>) -> Result<Arc<[IpAddr]>, Reason> {
        let ask = async || Ok(tokio::net::lookup_host((&**name, 0)).await?.map(|a| a.ip()).collect());
        self.find(name, ask).await
    }

    async fn find(&self, name: &Arc<str>, ask: impl AsyncFnOnce() -> io::Result<Vec<IpAddr>>) -> Result<Arc<[IpAddr]>, Reason> {
        let line = self.line(name);
        let mut answer = line.answer.lock().await;
        if let Some(known) = answer.as_ref().filter(|a| a.until > Instant::now()) {
            return known.found.clone().ok_or(Reason::DnsError);
        }
        let found = {
            let _turn = self.looking.acquire().await.map_err(|_| Reason::Internal)?;
            ask().await.ok().filter(|all| !all.is_empty())
        };
        let found: Option<Arc<[IpAddr]>> = found.map(distinct);
        let until = Instant::now() + if found.is_some() { FOUND } else { FAILED };
        *lock(&line.until) = Some(until);
        *answer = Some(Answer { found: found.clone(), until });
        found.ok_or(Reason::DnsError)
    }

    /// Where the answer for `name` is, or will be; one that nobody remembers if there are too many.
    fn line(&self, name: &Arc<str>) -> Arc<Name> {
        let mut known = lock(&self.known);
        if let Some(line) = known.get(name) {
            return line.clone();
        }
        if known.len() >= MOST {
            let now = Instant::now();
            // Somebody asks right now where more than the map holds the line.
            known.retain(|_, line| Arc::strong_count(line) > 1 || lock(&line.until).is_some_and(|until| until > now));
        }
        let line = Arc::<Name>::default();
        if known.len() < MOST {
            known.insert(name.clone(), line.clone());
        }
        line
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resolver lists an address once per kind of socket.
fn distinct(all: Vec<IpAddr>) -> Arc<[IpAddr]> {
    let mut out: Vec<IpAddr> = Vec::new();
    for ip in all {
        if out.len() < ADDRESSES && !out.contains(&ip) {
            out.push(ip);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn run<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
    }

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    fn ips(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn many_that_ask_at_once_cost_one_look_up_and_so_do_those_after_them() {
        run(async {
            let (names, asked) = (Arc::new(Names::default()), Arc::new(AtomicUsize::new(0)));
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..20 {
                let (names, asked) = (names.clone(), asked.clone());
                all.spawn(async move {
                    let ask = async || {
                        asked.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        Ok(ips(&["192.0.2.1", "192.0.2.1", "2001:db8::1"]))
                    };
                    names.find(&name("a.example"), ask).await
                });
            }
            for found in all.join_all().await {
                assert_eq!(found.unwrap()[..], ips(&["192.0.2.1", "2001:db8::1"]));
            }
            let unasked = names.find(&name("a.example"), async || unreachable!()).await;
            assert_eq!((unasked.unwrap().len(), asked.load(Ordering::Relaxed)), (2, 1));
        });
    }

    #[test]
    fn an_answer_and_a_failure_are_forgotten_in_time() {
        run(async {
            let names = Names::default();
            let at = |name: &str| *lock(&names.line(&self::name(name)).until);
            let fails = names.find(&name("no.example"), async || Err(io::ErrorKind::NotFound.into())).await;
            assert_eq!(fails, Err(Reason::DnsError));
            assert_eq!(names.find(&name("no.example"), async || unreachable!()).await, Err(Reason::DnsError));
            assert_eq!(names.find(&name("empty.example"), async || Ok(Vec::new())).await, Err(Reason::DnsError));
            names.find(&name("a.example"), async || Ok(ips(&["192.0.2.1"]))).await.unwrap();
            let left = |name: &str| at(name).unwrap().saturating_duration_since(Instant::now());
            assert!(left("no.example") <= FAILED && left("a.example") > FAILED && left("a.example") <= FOUND);
            let past = Instant::now().checked_sub(FOUND).unwrap();
            let line = names.line(&name("a.example"));
            *line.answer.lock().await = Some(Answer { found: Some(ips(&["192.0.2.1"]).into()), until: past });
            let moved = names.find(&name("a.example"), async || Ok(ips(&["192.0.2.2"]))).await;
            assert_eq!(moved.unwrap()[..], ips(&["192.0.2.2"]));
        });
    }

    #[test]
    fn what_is_remembered_is_bounded_and_makes_room_for_what_is_new() {
        run(async {
            let names = Names::default();
            for n in 0..MOST + 50 {
                names.find(&name(&format!("{n}.example")), async || Ok(ips(&["192.0.2.1"]))).await.unwrap();
            }
            assert_eq!(lock(&names.known).len(), MOST);
            let past = Instant::now().checked_sub(FOUND).unwrap();
            lock(&names.known).values().take(100).for_each(|line| *lock(&line.until) = Some(past));
            names.find(&name("new.example"), async || Ok(ips(&["192.0.2.1"]))).await.unwrap();
            assert_eq!(lock(&names.known).len(), MOST - 100 + 1);
        });
    }
}
