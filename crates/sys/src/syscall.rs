//! What every raw system call here shares: results and the descriptors among them.

use nix::Result;
use nix::errno::{Errno, ErrnoSentinel};

/// The result of a system call that returns a count or zero.
pub(crate) fn count<T>(returned: T) -> Result<usize>
where
    T: ErrnoSentinel + PartialEq + TryInto<usize>,
{
    // The only negative value is -1, which is the error.
    Errno::result(returned)?.try_into().map_err(|_| Errno::EOVERFLOW)
}

/// Calls again as long as a signal interrupts the call.
pub(crate) fn retry_on_interrupt<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut answers = [Err(Errno::EINTR), Err(Errno::EINTR), Ok(7)].into_iter();
        assert_eq!(retry_on_interrupt(|| answers.next().expect("stops at the first answer")), Ok(7));
        assert_eq!(retry_on_interrupt(|| Err::<(), _>(Errno::EIO)), Err(Errno::EIO));
    }
}
