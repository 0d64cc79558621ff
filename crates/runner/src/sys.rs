//! The few system calls that rustix leaves to libc.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::ioctl::{self, Updater, opcode};
use rustix::process::{Pid, Signal};
use serde::Serialize;

use crate::Exit;

/// Lets all threads of the process allocate from one heap, and gives large pieces back to the system at once: what one
/// thread has freed another can use, so that a process which rests stays small. Call it before there is a second thread.
pub fn keep_heap_small() {
    const LARGE: libc::c_int = 1 << 20;
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets two numbers of the allocator; where it cannot, it changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Gives the system back what of the heap nothing uses. Takes a millisecond or so for some megabytes.
pub fn give_heap_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// As JSON with a line break behind it, so that who reads it need not wait for the end of the pipe.
pub(crate) fn to_line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Up to the first line break or the end, whichever comes first; all that is in the pipe then is taken out of it.
pub(crate) fn read_line(pipe: impl AsFd) -> io::Result<Vec<u8>> {
    let mut line = vec![0; 4096];
    let mut length = 0;
    loop {
        let bytes = rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut line[length..]))?;
        length += bytes;
        if bytes == 0 || line[..length].ends_with(b"\n") {
            line.truncate(length);
            return Ok(line);
        }
        if length == line.len() {
            line.resize(2 * length, 0);
        }
    }
}

/// The same as `fs::read` with fewer calls where the file does not say how long it is, as those of `/proc`, or is short.
pub(crate) fn read_whole(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(4096);
    File::open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

/// Leaves the studio: belongs to nobody, has no terminal, holds no file but the standard three.
///
/// # Safety
/// The process has one thread, and no value in it owns a file descriptor.
pub(crate) unsafe fn detach() -> io::Result<()> {
    // SAFETY: no value owns one of these descriptors, says the caller. An old kernel without the call is no harm: the
    // studio opens everything close-on-exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    // SAFETY: with one thread, the child may do anything.
    unsafe { fork_and_end_parent()? };
    rustix::process::setsid()?;
    // Not a session leader any more, so it can never get a terminal.
    // SAFETY: as above.
    unsafe { fork_and_end_parent()? };
    rustix::process::chdir("/")?;
    Ok(())
}

/// # Safety
/// The process has one thread.
unsafe fn fork_and_end_parent() -> io::Result<()> {
    // SAFETY: as the caller says.
    if unsafe { fork()? }.is_none() { Ok(()) } else { end_without_cleanup(0) }
}

/// Returns the child's pid, and `None` in the child.
///
/// # Safety
/// The process has one thread.
pub(crate) unsafe fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: with one thread, no lock can be left held in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Like [`fork`], with the child in this control group from its first moment: to move it there later takes
/// milliseconds.
///
/// # Safety
/// The process has one thread.
pub(crate) unsafe fn fork_into(cgroup: impl AsFd) -> io::Result<Option<Pid>> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    // SAFETY: all of its fields are numbers, for which zero means nothing asked.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.as_fd().as_raw_fd() as u64;
    // SAFETY: the kernel reads no more than the size says. Without CLONE_VM the child has a copy of everything, as after
    // fork, and with one thread no lock can be left held in it.
    match unsafe { libc::syscall(libc::SYS_clone3, &mut args, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(i32::try_from(pid).ok().and_then(Pid::from_raw)),
    }
}

/// Whether children that end leave nothing to wait for.
pub(crate) fn reap_children_unseen(unseen: bool) {
    // SAFETY: neither action runs code of ours.
    unsafe { libc::signal(libc::SIGCHLD, if unseen { libc::SIG_IGN } else { libc::SIG_DFL }) };
}

/// Ends a process whose exit handlers and buffers belong to its other half.
pub(crate) fn end_without_cleanup(code: i32) -> ! {
    // SAFETY: nothing runs in this process after it.
    unsafe { libc::_exit(code) }
}

/// Blocks every signal and returns a descriptor to read them from.
pub(crate) fn signals_as_file() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigfillset before use; signalfd returns a new descriptor or -1.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        if libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The numbers of the signals that came since last time.
pub(crate) fn read_signals(file: &OwnedFd) -> Vec<i32> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut signals = Vec::new();
    let mut info = [0u8; SIZE];
    while rustix::io::read(file, &mut info) == Ok(SIZE) {
        // The number is the first field.
        signals.push(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]));
    }
    signals
}

/// Gives every signal its default action and blocks none, whatever the studio was started with (`nohup`, a shell's `&`).
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL runs no code of ours, and numbers that cannot be set are refused; the set is initialised by
    // sigemptyset before use.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Signals the process group that the process of this pidfd leads; `INVAL` before Linux 6.9.
pub(crate) fn signal_group(leader: impl AsFd, signal: Signal) -> rustix::io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    let (fd, info) = (leader.as_fd().as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: the descriptor is open, and without a siginfo the kernel reads no memory of ours.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal.as_raw(), info, PIDFD_SIGNAL_PROCESS_GROUP) };
    if sent == 0 { Ok(()) } else { Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}

/// How a process ended that was not our child, once it was reaped; `None` where the kernel does not tell (before 6.15).
pub(crate) fn exit_of_stranger(pidfd: impl AsFd) -> Option<Exit> {
    /// `struct pidfd_info` in its first version, which every later kernel accepts.
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroup_id: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    const PIDFD_GET_INFO: ioctl::Opcode = opcode::read_write::<PidfdInfo>(0xFF, 11);

    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the opcode carries the size of this struct, and the kernel writes no more than that.
    unsafe { ioctl::ioctl(pidfd, Updater::<PIDFD_GET_INFO, PidfdInfo>::new(&mut info)) }.ok()?;
    let status = info.exit_code;
    if info.mask & PIDFD_INFO_EXIT == 0 {
        None
    } else if libc::WIFSIGNALED(status) {
        Some(Exit::Signal(libc::WTERMSIG(status)))
    } else {
        Some(Exit::Code(libc::WEXITSTATUS(status)))
    }
}
