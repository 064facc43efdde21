//! A waiter's place at an exchange. It is taken by one at a time, and may be taken again after it was left (M1.1).

use std::sync::{Arc, Weak};

use super::{End, Exchange, First, Waiter};

/// The place of one waiter. What is said of it later than another took the place is of no effect.
#[derive(Clone)]
pub(in crate::proxy) struct Seat {
    exchange: Arc<Exchange>,
    /// How often the place was taken before.
    number: u32,
}

/// A seat as its connection knows it: without keeping the answer in memory.
pub(in crate::proxy) struct Watched {
    exchange: Weak<Exchange>,
    number: u32,
}

impl Watched {
    /// The seat, while its waiter is neither served nor gone.
    pub(in crate::proxy) fn taken(&self) -> Option<Seat> {
        let seat = Seat { exchange: self.exchange.upgrade()?, number: self.number };
        seat.is_taken().then_some(seat)
    }
}

impl Seat {
    /// Of the waiter that the exchange was made for.
    pub(in crate::proxy) const fn first(exchange: Arc<Exchange>) -> Self {
        Self { exchange, number: 0 }
    }

    pub(super) const fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    pub(in crate::proxy) fn watched(&self) -> Watched {
        Watched { exchange: Arc::downgrade(&self.exchange), number: self.number }
    }

    /// True while its waiter is neither served nor gone, here or where it was sent.
    fn is_taken(&self) -> bool {
        let s = self.exchange.lock();
        if s.seat != self.number {
            return false;
        }
        let elsewhere = s.elsewhere();
        let live = s.waiter == Waiter::Live;
        drop(s);
        live || elsewhere.is_some_and(|other| other.is_taken())
    }

    /// The agent hung up, or its connection ended before the answer was flushed.
    pub(in crate::proxy) fn leave(&self) {
        let (left, elsewhere) = self.exchange.change(|s| {
            if s.seat != self.number {
                return (false, None);
            }
            let left = s.waiter == Waiter::Live;
            if left {
                s.waiter = Waiter::Gone;
            }
            (left, s.elsewhere())
        });
        if let Some(other) = elsewhere {
            other.leave();
        } else if left {
            self.exchange.tell();
        }
    }

    /// The answer was flushed whole.
    pub(in crate::proxy) fn serve(&self) {
        self.exchange.change(|s| {
            if s.seat == self.number {
                s.waiter = Waiter::Served;
            }
        });
    }
}

impl Exchange {
    /// Becomes the waiter of a running exchange; none if its beginning is gone or somebody else waits.
    pub(super) fn attach(self: &Arc<Self>) -> Option<Seat> {
        self.change(|s| {
            let possible = s.waiter == Waiter::Gone && s.start == 0 && s.end != Some(End::Cut) && !s.switched();
            possible.then(|| {
                s.waiter = Waiter::Live;
                s.seat += 1;
                s.next = 0;
                s.unread = s.bytes;
                Seat { exchange: self.clone(), number: s.seat }
            })
        })
    }

    /// Sends the waiter to `seat`; false if the waiter is gone, and the purchase an orphan again.
    pub(in crate::proxy) fn hand_over(&self, seat: &Seat) -> bool {
        self.change(|s| {
            let live = s.waiter == Waiter::Live;
            if live {
                s.first = Some(First::Elsewhere(seat.clone()));
                s.waiter = Waiter::Served;
            }
            s.end = Some(End::Cut);
            live
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Waker};

    use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};

    use super::super::super::io::{AgentIo, Unflushed};
    use super::super::Waiting;
    use super::*;

    /// The last that is dropped of a connection: what its agent can see.
    struct Socket(Seat, Arc<AtomicBool>);

    impl Drop for Socket {
        fn drop(&mut self) {
            self.1.store(self.0.watched().taken().is_none(), Ordering::SeqCst);
        }
    }

    impl AsyncRead for Socket {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn m1_1_a_waiter_is_gone_before_its_agent_can_see_the_end_of_the_connection() {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let mut cx = Context::from_waker(Waker::noop());
            for shut_down in [true, false] {
                let (exchange, unflushed) = (Exchange::new(), Arc::new(Unflushed::default()));
                let (seat, seen) = (Seat::first(exchange.clone()), Arc::default());
                let mut waiting = Box::pin(Waiting::new(seat.clone()).response(&unflushed));
                assert!(waiting.as_mut().poll(&mut cx).is_pending());
                assert!(exchange.wanted());
                let mut io = AgentIo::new(tokio::io::empty(), unflushed.clone());
                if shut_down {
                    io.shutdown().await.unwrap();
                } else {
                    drop(AgentIo::new(Socket(seat.clone(), Arc::clone(&seen)), unflushed.clone()));
                    assert!(seen.load(Ordering::SeqCst));
                }
                assert!(!exchange.wanted(), "{shut_down}");
                // hyper drops the request afterwards; by then its place may be somebody else's.
                let next = exchange.attach().unwrap();
                drop(waiting);
                assert!(next.watched().taken().is_some(), "{shut_down}");
                assert!(pin!(Waiting::new(next).response(&unflushed)).poll(&mut cx).is_pending());
                assert!(!exchange.wanted(), "who waits on a connection that has ended does not");
            }
        });
    }
}
