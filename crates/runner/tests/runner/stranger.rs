//! A process with a pid of our choice, as it comes about when pids wrap around.

use std::io;

pub struct Stranger(i32);

/// `struct clone_args` up to `set_tid_size`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

impl Stranger {
    /// Needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. It ends at any signal.
    pub fn with_pid(pid: u32) -> io::Result<Stranger> {
        let wanted = [pid as i32];
        let arguments = CloneArgs {
            exit_signal: libc::SIGCHLD as u64,
            set_tid: wanted.as_ptr() as u64,
            set_tid_size: 1,
            ..CloneArgs::default()
        };
        // SAFETY: without flags it is a fork; the child calls nothing but pause, which is async-signal-safe.
        match unsafe { libc::syscall(libc::SYS_clone3, &arguments, size_of::<CloneArgs>()) } {
            -1 => Err(io::Error::last_os_error()),
            0 => loop {
                // SAFETY: it has no conditions.
                unsafe { libc::pause() };
            },
            child => {
                assert_eq!(child as u32, pid);
                Ok(Stranger(child as i32))
            }
        }
    }

    pub fn lives(&self) -> bool {
        // SAFETY: it is our child, and nobody else waits for it.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::WNOHANG) == 0 }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // SAFETY: until it is waited for, its pid is its own.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}
