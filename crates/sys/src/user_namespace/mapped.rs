//! A user namespace as a descriptor, for mounts that show other owners than the disk has.
//!
//! Only a process can make one. So this is the one place of these crates where a process is started: a child that
//! shares the memory of its parent, waits in the kernel, runs none of the program's code, and is gone before the call
//! that needed it returns.

use std::ffi::{c_int, c_void};
use std::fmt::Write as _;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::{fmt, fs, io, mem, ptr};

use libc::c_long;
use nix::errno::Errno;

use crate::syscall::retry_on_interrupt;

/// `count` ids from `inside` on in a namespace are those from `outside` on in the one of the caller: a line of
/// `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside of the namespace.
    pub inside: u32,
    /// First id in the caller's namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// Every id as itself.
    pub const IDENTITY: Self = Self { inside: 0, outside: 0, count: u32::MAX };
}

/// Makes a user namespace with these maps and returns a descriptor of it, as
/// [`MountAttr::userns`](crate::mount_api::MountAttr::userns) wants one. It lasts as long as the descriptor, or a mount
/// made with it.
///
/// Takes any maps from a caller with `CAP_SETUID` and `CAP_SETGID` that has all the outside ids itself; from any other
/// caller one line each, with its own effective id outside.
///
/// A child process is started for it (`clone(2)`) and reaped before this returns. It raises no `SIGCHLD`, is not found by a
/// `wait(2)` for any child (without `__WALL`), dies with the calling thread should that be killed, and holds no lock or copy of the program's memory.
///
/// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html). Linux 5.4.
///
/// # Errors
///
/// Naming the step: `EPERM` for maps that the caller may not have, or where a system forbids namespaces; `EINVAL` for
/// ranges that are empty or overlap, or more than 340; `ENOSPC` for more namespaces than `user.max_user_namespaces`
/// allows, `EUSERS` for more than 32 within each other; `ENOENT` without `/proc`; `EAGAIN`, `ENOMEM`.
#[doc(alias = "CLONE_NEWUSER")]
pub fn create(uids: &[IdRange], gids: &[IdRange]) -> Result<OwnedFd, CreateError> {
    let child = Child::start().map_err(|errno| CreateError::new("clone", errno.into()))?;
    child.write("uid_map", &lines(uids))?;
    let gids = lines(gids);
    match child.write("gid_map", &gids) {
        // Who has no privilege may map a group only when none can be dropped inside any more.
        Err(error) if error.source.raw_os_error() == Some(libc::EPERM) => {
            child.write("setgroups", "deny")?;
            child.write("gid_map", &gids)?;
        }
        written => written?,
    }
    let path = child.proc("ns/user");
    let namespace = fs::File::open(path).map_err(|source| CreateError::new("open ns/user", source))?;
    // As long as it lives, everything opened by its number was its own.
    child.check_alive()?;
    Ok(namespace.into())
}

/// Why there is no namespace.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreateError {
    /// What failed: `clone`, or the use of a file below `/proc/PID`.
    pub step: &'static str,
    /// How.
    pub source: io::Error,
}

impl CreateError {
    fn new(step: &'static str, source: io::Error) -> Self {
        Self { step, source }
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make user namespace: {}", self.step)
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

fn lines(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for IdRange { inside, outside, count } in ranges {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{inside} {outside} {count}");
    }
    text
}

/// Bytes of stack for a function that makes three system calls.
const STACK_BYTES: usize = 64 * 1024;

/// A process that waits to be killed. Killed and reaped when dropped.
struct Child {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    /// Where it runs: to be freed after its end only.
    _stack: Vec<u128>,
}

impl Child {
    /// Shares the memory instead of copying its page tables, which would take the longer the larger the program is, and the descriptors: copies would
    /// keep files, mounts and locks that another thread closes meanwhile.
    fn start() -> Result<Self, Errno> {
        let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
        let top = stack.as_mut_ptr_range().end.cast::<c_void>();
        let parent = ptr::without_provenance_mut(std::process::id() as usize);
        // No exit signal (the low byte): the program's handler for SIGCHLD and its waits are not to see this child.
        let flags = libc::CLONE_NEWUSER | libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_FILES;
        let mut pidfd: RawFd = -1;
        // A handler that ran in the child would run on memory that both share.
        let blocked = BlockedSignals::block()?;
        // SAFETY: the stack lives until the child is reaped, which dropping it waits for. The function does nothing but system calls that
        // take no memory and do not fail, so that it does not write to what it shares with this thread, errno included. The kernel
        // writes one descriptor.
        let pid = unsafe { libc::clone(wait_for_death, top, flags, parent, &raw mut pidfd) };
        drop(blocked);
        let pid = Errno::result(pid)?;
        // SAFETY: the kernel has just made this descriptor, close-on-exec as all of its kind.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Self { pid, pidfd, _stack: stack })
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.pid)
    }

    fn write(&self, file: &'static str, text: &str) -> Result<(), CreateError> {
        // In one write, as the kernel wants it, and without making a file.
        let write = || {
            io::Write::write_all(&mut fs::File::options().write(true).open(self.proc(file))?, text.as_bytes())
        };
        write().map_err(|source| CreateError::new(file, source))
    }

    fn check_alive(&self) -> Result<(), CreateError> {
        // SAFETY: signal 0 and no siginfo: nothing is sent.
        let sent = unsafe { pidfd_send_signal(&self.pidfd, 0) };
        Errno::result(sent).map(drop).map_err(|errno| CreateError::new("keep the child", errno.into()))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the descriptor is of our own child.
        let _ = unsafe { pidfd_send_signal(&self.pidfd, libc::SIGKILL) };
        // Fails only with ECHILD, when another thread has reaped it.
        let _ = retry_on_interrupt(|| {
            // SAFETY: a zeroed siginfo is a valid one.
            let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
            let fd = self.pidfd.as_raw_fd().unsigned_abs();
            // SAFETY: the kernel writes one siginfo.
            let waited =
                unsafe { libc::waitid(libc::P_PIDFD, fd, &raw mut info, libc::WEXITED | libc::__WALL) };
            Errno::result(waited)
        });
    }
}

/// See [pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html).
///
/// # Safety
///
/// The process is one that may be sent this signal.
unsafe fn pidfd_send_signal(pidfd: &OwnedFd, signal: c_int) -> c_long {
    let none = ptr::null::<libc::siginfo_t>();
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }
}

/// All that the child does. It shares memory, thread-local variables included, with a thread of the parent: no call of a library that may use
/// them, but the bare system calls.
extern "C" fn wait_for_death(parent: *mut c_void) -> c_int {
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    // SAFETY: as above.
    let now = unsafe { libc::syscall(libc::SYS_getppid) };
    // Otherwise the parent was killed before the signal for that was set.
    while usize::try_from(now) == Ok(parent.addr()) {
        // SAFETY: waits for no descriptors and without limit.
        unsafe { libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0) };
    }
    0
}

/// Blocks all signals of this thread until dropped; a child made meanwhile keeps them blocked.
struct BlockedSignals {
    before: u64,
}

impl BlockedSignals {
    /// By the system call, because the C library's function leaves out signals of its own.
    fn block() -> Result<Self, Errno> {
        let mut before = 0_u64;
        // SAFETY: the kernel reads and writes sets of eight bytes.
        let returned = unsafe { set_mask(&u64::MAX, &raw mut before) };
        Errno::result(returned).map(|_| Self { before })
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: as above; null for not wanting the old set.
        unsafe { set_mask(&self.before, ptr::null_mut()) };
    }
}

/// # Safety
///
/// `old` is null or for eight bytes.
unsafe fn set_mask(new: &u64, old: *mut u64) -> c_long {
    // SAFETY: the sets are as long as is said.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, ptr::from_ref(new), old, size_of::<u64>())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::fcntl::AT_FDCWD;
    use nix::unistd::{getegid, geteuid};

    use super::*;
    use crate::mount_api::{MountAttr, OpenTreeFlags, SetAttrFlags, mount_setattr, open_tree};
    use crate::test_dir;

    fn one(inside: u32, outside: u32, count: u32) -> [IdRange; 1] {
        [IdRange { inside, outside, count }]
    }

    /// Systems that forbid user namespaces to ordinary users exist; then the error names the step.
    #[test]
    fn anyone_may_map_his_own_id() {
        let own = (one(0, geteuid().as_raw(), 1), one(0, getegid().as_raw(), 1));
        match create(&own.0, &own.1) {
            Ok(namespace) => {
                let ours = fs::metadata("/proc/self/ns/user").unwrap().ino();
                assert_ne!(fs::File::from(namespace).metadata().unwrap().ino(), ours);
            }
            Err(error) => {
                let errno = error.source.raw_os_error();
                assert!(
                    [Some(libc::EPERM), Some(libc::ENOSPC), Some(libc::EACCES)].contains(&errno),
                    "{error}: {errno:?}"
                );
            }
        }
    }

    #[test]
    fn no_child_is_left_and_the_signal_mask_is_as_before() {
        let mask = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("SigBlk")).map(str::to_owned)
        };
        let before = mask();
        for _ in 0..20 {
            // Too many ids for anyone: the last one does not exist.
            let refused = create(&one(1, 1, u32::MAX), &one(0, 0, 1)).unwrap_err();
            assert!(["clone", "uid_map"].contains(&refused.step), "{refused}");
        }
        assert_eq!(mask(), before);
        if let Ok(children) = fs::read_to_string("/proc/thread-self/children") {
            assert_eq!(children.trim(), "");
        }
    }

    #[test]
    #[ignore = "needs root: run by cargo xtask test"]
    fn a_mount_shows_owners_through_the_maps() {
        shows_owners_through_maps(&test_dir::on_disk()).unwrap();
        if let Err(refused) = shows_owners_through_maps(&test_dir::on_tmpfs()) {
            assert_eq!(refused, nix::errno::Errno::EINVAL);
            assert!(!test_dir::kernel_is_at_least(6, 3));
        }
    }

    /// Fails if the file system cannot be mounted like that.
    fn shows_owners_through_maps(dir: &tempfile::TempDir) -> nix::Result<()> {
        for (name, uid, gid) in [("root", 0, 0), ("user", 7, 9), ("none", 70_000, 9)] {
            fs::write(dir.path().join(name), b"").unwrap();
            std::os::unix::fs::chown(dir.path().join(name), Some(uid), Some(gid)).unwrap();
        }
        let uids = [one(0, 100_000, 5), one(5, 200_000, 10)].concat();
        let namespace = create(&uids, &[IdRange::IDENTITY]).unwrap();
        let tree = open_tree(AT_FDCWD, dir.path(), OpenTreeFlags::CLONE).unwrap();
        let shown = MountAttr { userns: Some(std::os::fd::AsFd::as_fd(&namespace)), ..MountAttr::default() };
        mount_setattr(&tree, "", SetAttrFlags::EMPTY_PATH, &shown)?;
        drop(namespace);
        let owner = |name: &str| {
            let stat = crate::statx(&tree, name, nix::fcntl::AtFlags::empty(), crate::StatxMask::BASIC_STATS)
                .unwrap();
            (stat.uid, stat.gid)
        };
        assert_eq!(owner("root"), (100_000, 0));
        assert_eq!(owner("user"), (200_002, 9));
        assert_eq!(owner("none"), (65534, 9));
        Ok(())
    }

    /// Namespaces made by several threads at once, while others start processes and wait for them.
    #[test]
    #[ignore = "needs root: run by cargo xtask test"]
    fn many_at_once_beside_other_children() {
        std::thread::scope(|scope| {
            for first in [10_000, 20_000, 30_000] {
                scope.spawn(move || {
                    for _ in 0..50 {
                        create(&one(0, first, 1000), &one(0, first, 1000)).unwrap();
                    }
                });
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert!(std::process::Command::new("/bin/true").status().unwrap().success());
                    }
                });
            }
        });
    }
}
