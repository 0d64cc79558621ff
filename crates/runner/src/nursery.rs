//! Where supervisors come from: one process, started with the studio, that makes another of itself for each pair of
//! pipes it is sent. That costs a fork, where executing the program each time would cost as much as a whole launch.
//!
//! It ends when the studio does; the supervisors it has made do not need it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::sys;

/// The studio's end.
pub(crate) struct Nursery {
    socket: OwnedFd,
}

/// A supervisor that has no attempt yet.
pub(crate) struct Spare {
    /// The specification is written here.
    pub(crate) spec: File,
    pub(crate) answer: File,
}

impl Nursery {
    pub(crate) fn start(argv: &[OsString]) -> io::Result<Nursery> {
        let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (socket, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(other).stdout(Stdio::null()).stderr(Stdio::null());
        // It detaches at once, which ends the process that was started here.
        command.spawn()?.wait()?;
        Ok(Nursery { socket })
    }

    /// Fails when the nursery is gone. It does not wait for the supervisor.
    pub(crate) fn spare(&self) -> io::Result<Spare> {
        let (its_spec, spec) = pipe_with(PipeFlags::CLOEXEC)?;
        let (answer, its_answer) = pipe_with(PipeFlags::CLOEXEC)?;
        let pipes = [its_spec.as_fd(), its_answer.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&pipes));
        sendmsg(&self.socket, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)?;
        Ok(Spare { spec: spec.into(), answer: answer.into() })
    }
}

/// Body of the nursery, whose stdin is the other end. Returns in every supervisor it makes, with its pipes in place of
/// stdin and stdout; `false` in the nursery itself, once the studio is gone.
///
/// # Safety
/// The process has one thread.
pub(crate) unsafe fn run() -> io::Result<bool> {
    sys::reap_children_unseen(true);
    loop {
        let Some([spec, answer]) = next()? else { return Ok(false) };
        // SAFETY: with one thread, as the caller says, the child may do anything.
        if unsafe { sys::fork()? }.is_none() {
            sys::reap_children_unseen(false);
            rustix::process::setpgid(None, None)?;
            rustix::stdio::dup2_stdin(&spec)?;
            rustix::stdio::dup2_stdout(&answer)?;
            return Ok(true);
        }
    }
}

/// The next pair of pipes; `None` when nobody can send any more.
fn next() -> io::Result<Option<[OwnedFd; 2]>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut byte)];
    let receive = || recvmsg(rustix::stdio::stdin(), &mut into, &mut control, RecvFlags::CMSG_CLOEXEC);
    if rustix::io::retry_on_intr(receive)?.bytes == 0 {
        return Ok(None);
    }
    let mut pipes = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(pipes) => Some(pipes),
        _ => None,
    });
    let pipes: Vec<OwnedFd> = pipes.by_ref().flatten().collect();
    pipes.try_into().map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
}
