//! Other programs that may be at work in the same store.

use std::fs::File;
use std::io;

use graphdriver_core::{Error, ErrorKind, Result};
use graphdriver_sys::ofd_lock::{LockKind, try_lock};

use crate::layout::Layout;

/// While it lives, no process of containers/storage makes or removes layers in the store.
#[derive(Debug)]
pub(crate) struct LockedOut {
    _lock: Option<File>,
}

/// Makes sure that no other program is making a layer this moment, and that none begins: containers/storage locks `<root>/<driver>-layers/layers.lock`
/// meanwhile.
///
/// # Errors
/// `LayerInUse` while a program has the lock, and always in a store of Docker's, whose daemon has no lock that could be asked for.
pub(crate) fn lock_out(store: &Layout) -> Result<LockedOut> {
    let busy =
        |detail: &str| Err(Error::new(ErrorKind::LayerInUse, "remove").path(store.path()).detail(detail));
    let (Some(root), Some(name)) = (store.path().parent(), store.path().file_name()) else {
        return Ok(LockedOut { _lock: None });
    };
    if root.join("image").join(name).is_dir() {
        return busy(
            "the store is Docker's, whose daemon may be making the layer; stop it, and remove the layer by its id",
        );
    }
    let path = root.join(format!("{}-layers", name.to_string_lossy())).join("layers.lock");
    let lock = match File::options().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockedOut { _lock: None }),
        lock => lock.map_err(|error| Error::io("open", &path, error))?,
    };
    match try_lock(&lock, 0, 0, LockKind::Exclusive) {
        Ok(true) => Ok(LockedOut { _lock: Some(lock) }),
        Ok(false) => {
            busy("a program of containers/storage is at work in the store; try again when it is done")
        }
        Err(errno) => Err(Error::syscall("fcntl", path, errno)),
    }
}
