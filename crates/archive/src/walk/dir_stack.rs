//! Going down and up a tree of any depth with a fixed number of descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

/// How many directories above the current one are kept open. Deeper trees than this are rare; there, going up costs two system calls.
const KEPT_OPEN: usize = 24;

/// The directories on the way down to the current one.
///
/// Invariant: the current directory is open. Those far above are closed and found again through `..`, which must lead to the
/// directory that was left: when another process moved the one below meanwhile, going up fails with `ESTALE`.
#[derive(Debug)]
pub(crate) struct DirStack {
    current: OwnedFd,
    above: Vec<Above>,
}

#[derive(Debug)]
enum Above {
    Open(OwnedFd),
    Closed { dev: u64, ino: u64 },
}

impl DirStack {
    /// Starts in `top`.
    pub(crate) fn new(top: OwnedFd) -> Self {
        Self { current: top, above: Vec::new() }
    }

    /// The directory at the bottom.
    pub(crate) fn current(&self) -> BorrowedFd<'_> {
        self.current.as_fd()
    }

    /// Goes down to `dir`, a directory in the current one.
    pub(crate) fn push(&mut self, dir: OwnedFd) -> nix::Result<()> {
        if let Some(index) = self.above.len().checked_sub(KEPT_OPEN)
            && let Above::Open(fd) = &self.above[index]
        {
            let stat = fstat(fd)?;
            self.above[index] = Above::Closed { dev: stat.st_dev, ino: stat.st_ino };
        }
        self.above.push(Above::Open(std::mem::replace(&mut self.current, dir)));
        Ok(())
    }

    /// Goes up by one; stays where it is at the top.
    pub(crate) fn pop(&mut self) -> nix::Result<()> {
        self.current = match self.above.pop() {
            None => return Ok(()),
            Some(Above::Open(fd)) => fd,
            Some(Above::Closed { dev, ino }) => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let fd = openat(&self.current, "..", flags, Mode::empty())?;
                let stat = fstat(&fd)?;
                if (stat.st_dev, stat.st_ino) != (dev, ino) {
                    return Err(Errno::ESTALE);
                }
                fd
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::walk::open_dir_at;

    fn descend(stack: &mut DirStack, depth: usize) -> Vec<u64> {
        (0..depth)
            .map(|_| {
                nix::sys::stat::mkdirat(stack.current(), "d", Mode::S_IRWXU).unwrap();
                stack.push(open_dir_at(stack.current(), "d").unwrap()).unwrap();
                fstat(stack.current()).unwrap().st_ino
            })
            .collect()
    }

    #[test]
    fn comes_back_through_every_level() {
        let dir = tempfile::tempdir().unwrap();
        let mut stack = DirStack::new(File::open(dir.path()).unwrap().into());
        let mut inodes = descend(&mut stack, 2 * KEPT_OPEN);
        assert_eq!(stack.above.iter().filter(|above| matches!(above, Above::Open(_))).count(), KEPT_OPEN);
        while let Some(inode) = inodes.pop() {
            assert_eq!(fstat(stack.current()).unwrap().st_ino, inode);
            stack.pop().unwrap();
        }
        stack.pop().unwrap();
        assert_eq!(
            fstat(stack.current()).unwrap().st_ino,
            fstat(File::open(dir.path()).unwrap()).unwrap().st_ino
        );
    }

    #[test]
    fn notices_a_directory_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut stack = DirStack::new(File::open(dir.path()).unwrap().into());
        descend(&mut stack, KEPT_OPEN + 2);
        fs::rename(dir.path().join("d/d"), dir.path().join("elsewhere")).unwrap();
        for _ in 0..KEPT_OPEN {
            stack.pop().unwrap();
        }
        assert_eq!(stack.pop().unwrap_err(), Errno::ESTALE);
    }
}
