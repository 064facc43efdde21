//! Many bytes from one socket to another without copying them: through a pipe (`splice(2)`).

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::stream::{AgentStream, SellerStream};

/// Most bytes moved at once.
const MOST: usize = 1 << 20;

/// Room asked for a pipe, whose places hold a piece of a packet each. More than the system gives unasked (64 KiB), so that a
/// receive buffer is emptied at once; where it gives no more, it goes in smaller steps.
const ROOM: usize = 256 << 10;

/// Pipes of a thread that wait for work.
const SPARE: usize = 8;

thread_local! {
    /// Empty pipes: a tunnel has one only while something lies in it.
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A stream that may be nothing but a socket.
pub(super) trait Socket {
    /// The socket, if every byte that is read or written passes it as it is.
    fn socket(&self) -> Option<&TcpStream>;
}

impl Socket for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl Socket for AgentStream {
    fn socket(&self) -> Option<&TcpStream> {
        self.tcp()
    }
}

impl Socket for SellerStream {
    fn socket(&self) -> Option<&TcpStream> {
        self.tcp()
    }
}

/// Bytes on their way, in the kernel.
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

impl Pipe {
    /// One of the thread's, or a new one.
    fn take() -> io::Result<Self> {
        if let Some(spare) = PIPES.with_borrow_mut(Vec::pop) {
            return Ok(spare);
        }
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused once a user has many of them.
        let _ = fcntl_setpipe_size(&into, ROOM);
        Ok(Self { out, into, held: 0 })
    }

    /// Back to the thread, for the next tunnel. One with bytes in it is gone for good.
    fn give_back(self) {
        PIPES.with_borrow_mut(|pipes| {
            if self.held == 0 && pipes.len() < SPARE {
                pipes.push(self);
            }
        });
    }
}

/// What became of an attempt.
pub(super) enum Passed {
    /// Nothing was tried: there is no pipe to be had (too many open files), or these sockets know of none. They can still be read.
    Nothing,
    /// All was taken.
    All(usize),
    /// Some of it waits here.
    Some(usize, Pipe),
}

/// Moves what there is from one socket towards the other; 0 is the end of the source.
pub(super) fn pass(cx: &mut Context<'_>, from: &TcpStream, to: &TcpStream) -> Poll<io::Result<Passed>> {
    loop {
        ready!(from.poll_read_ready(cx))?;
        let Ok(mut pipe) = Pipe::take() else { return Poll::Ready(Ok(Passed::Nothing)) };
        let moved = from.try_io(Interest::READABLE, || Ok(splice(from, None, &pipe.into, None, MOST, flags())?));
        match moved {
            Ok(moved) => {
                pipe.held = moved;
                let drained = drain(cx, &mut pipe, to)?;
                return Poll::Ready(Ok(if drained.is_ready() {
                    pipe.give_back();
                    Passed::All(moved)
                } else {
                    Passed::Some(moved, pipe)
                }));
            }
            Err(error) => {
                pipe.give_back();
                match error.kind() {
                    io::ErrorKind::WouldBlock => {}
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => return Poll::Ready(Ok(Passed::Nothing)),
                    _ => return Poll::Ready(Err(error)),
                }
            }
        }
    }
}

/// Moves what lies in the pipe on. Ready when it is empty.
fn drain(cx: &mut Context<'_>, pipe: &mut Pipe, to: &TcpStream) -> Poll<io::Result<()>> {
    while pipe.held > 0 {
        ready!(to.poll_write_ready(cx))?;
        match to.try_io(Interest::WRITABLE, || Ok(splice(&pipe.out, None, to, None, pipe.held, flags())?)) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(moved) => pipe.held -= moved.min(pipe.held),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}

/// The same for a pipe that waited; `None` in its place once it is empty.
pub(super) fn go_on(cx: &mut Context<'_>, waiting: &mut Option<Box<Pipe>>, to: &TcpStream) -> Poll<io::Result<()>> {
    let Some(pipe) = waiting else { return Poll::Ready(Ok(())) };
    ready!(drain(cx, pipe, to))?;
    if let Some(pipe) = waiting.take() {
        pipe.give_back();
    }
    Poll::Ready(Ok(()))
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

/// Whether this thread ever had a pipe that came back empty.
#[cfg(test)]
pub(super) fn used() -> bool {
    PIPES.with_borrow(|pipes| !pipes.is_empty())
}
