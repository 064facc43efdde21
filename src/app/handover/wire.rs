//! What two processes on the same state say to each other: one JSON object per packet on a Unix socket, with listening
//! sockets beside it (SCM_RIGHTS). Only the same user is listened to.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// Version of this conversation.
pub(super) const VERSION: u32 = 1;

/// Name of the socket in `<state>/private`.
const NAME: &str = "handover.sock";

/// Most sockets in one packet; the kernel's bound is 253.
pub(super) const MAX_SOCKETS: usize = 128;

/// Largest packet.
const MAX_BYTES: usize = 16 * 1024;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Said {
    /// New: give me your sockets.
    Give { version: u32 },
    /// Old: these, for this key of `listen` and this address; with sockets beside it. Several packets per key are possible.
    Sockets { key: String, asked: SocketAddr },
    /// Old: that was all.
    All,
    /// New: I accept from these keys; stop, settle what is paid, let go of the ledger.
    Serving { keys: Vec<String> },
    /// New: I have ledger and signer.
    Took,
    /// Old: no, and why.
    No { why: String },
}

/// The new process's end. Blocking.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

impl Line {
    /// Calls the process that listens in `private`; `None` if nobody does.
    pub(super) fn call(private: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let fd = socket(SocketFlags::CLOEXEC)?;
        match rustix::net::connect(&fd, &SocketAddrUnix::new(private.join(NAME))?) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        set_socket_timeout(&fd, Timeout::Recv, Some(patience))?;
        same_user(&fd)?;
        Ok(Some(Self(fd)))
    }

    pub(super) fn say(&self, said: &Said) -> io::Result<()> {
        say(&self.0, said, &[])
    }

    /// Waits for the next packet, as long as it was said at the call.
    pub(super) fn hear(&self) -> io::Result<(Said, Vec<TcpListener>)> {
        hear(&self.0, RecvFlags::empty())
    }

    /// True once the other side has gone.
    pub(super) fn is_over(&self) -> bool {
        hear(&self.0, RecvFlags::DONTWAIT).is_err_and(|e| e.kind() != io::ErrorKind::WouldBlock)
    }
}

/// The running process's end.
#[derive(Debug)]
pub(in crate::app) struct Call(UnixStream);

impl Call {
    pub(super) async fn say(&self, said: &Said, sockets: &[TcpListener]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, || say(&self.0, said, sockets)).await
    }

    pub(super) async fn hear(&self) -> io::Result<Said> {
        self.0.async_io(Interest::READABLE, || hear(&self.0, RecvFlags::DONTWAIT)).await.map(|(said, _)| said)
    }

    /// Refuses without waiting for anything.
    pub(super) fn refuse(&self, why: &str) {
        // A caller that cannot take one packet is not there any more.
        let _ = say(&self.0, &Said::No { why: why.to_owned() }, &[]);
    }
}

/// Where a running process can be called.
#[derive(Debug)]
pub(super) struct Bell {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Bell {
    /// Listens in `private`, in place of whoever did before: only the process with the ledger's lock calls this.
    pub(super) fn hang(private: &Path) -> io::Result<Self> {
        let (path, temp) = (private.join(NAME), private.join("handover.new"));
        let fd = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        match fs::remove_file(&temp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        rustix::net::bind(&fd, &SocketAddrUnix::new(&temp)?)?;
        // The folder is closed to others already.
        fs::set_permissions(&temp, fs::Permissions::from_mode(0o600))?;
        rustix::net::listen(&fd, 8)?;
        fs::rename(&temp, &path)?;
        let inode = fs::metadata(&path)?.ino();
        // The standard type is about the address family; that this socket keeps packets apart is no business of its.
        Ok(Self { listener: UnixListener::from_std(net::UnixListener::from(fd))?, path, inode })
    }

    /// False if another process has put its own in this place.
    pub(super) fn hangs(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode)
    }

    /// The next call of a process of the same user.
    pub(super) async fn answer(&self) -> io::Result<Call> {
        let (stream, _) = self.listener.accept().await?;
        same_user(&stream)?;
        Ok(Call(stream))
    }
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn same_user(fd: impl AsFd) -> io::Result<()> {
    let peer = socket_peercred(fd)?;
    if peer.uid == rustix::process::geteuid() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the other end belongs to user {}", peer.uid.as_raw())))
}

/// Sends one packet without waiting.
fn say(fd: impl AsFd, said: &Said, sockets: &[TcpListener]) -> io::Result<()> {
    let text = serde_json::to_vec(said)?;
    let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many sockets for one packet"));
    }
    rustix::net::sendmsg(fd, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// Receives one packet; the end of the conversation is [`io::ErrorKind::UnexpectedEof`].
fn hear(fd: impl AsFd, flags: RecvFlags) -> io::Result<(Said, Vec<TcpListener>)> {
    let mut text = vec![0; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(fd, &mut [IoSliceMut::new(&mut text)], &mut beside, flags | RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            sockets.extend(fds.map(TcpListener::from));
        }
    }
    match text.get(..got.bytes) {
        Some(text) if !text.is_empty() => Ok((serde_json::from_slice(text)?, sockets)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
