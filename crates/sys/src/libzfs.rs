//! Asking ZFS through libzfs, the C library under `zfs` and `zpool`, which is loaded at run time.
//!
//! Its interface (`libzfs.h`) is promised to nobody and changes with its soname. So only what was compared with the headers of a version is loaded, where the kernel's module is of that version too, and of
//! that only what reads; properties go by their names, not by numbers. Needs what the programs need: `/dev/zfs`, and for most pools root.
//!
//! The library keeps state of its own that threads must not share. One [`Session`] is there at a time in the whole process; others wait. It prints nothing here, and starts no program where the module is loaded.

mod functions;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::fs;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use self::functions::{DatasetHandle, Functions, Handle, PoolHandle};

/// Beginnings of versions of the kernel's module, and the library whose header of that version was compared with [`functions`].
const VERSIONS: [(&str, &str); 2] = [("2.1.", "libzfs.so.4"), ("2.3.", "libzfs.so.6")];

/// The version of the module that is loaded.
const MODULE_VERSION: &str = "/sys/module/zfs/version";

/// `EZFS_NOENT` of `zfs_error_t`: no such pool or dataset.
const NO_ENTRY: c_int = 2009;
/// `ZFS_TYPE_FILESYSTEM` of `zfs_type_t`.
const FILE_SYSTEM: c_int = 1;
/// The longest value of a property with its NUL, `ZFS_MAXPROPLEN` of 2.3; that of 2.1 is half of it.
const LONGEST_VALUE: usize = 8192;
/// What `zfs list` prints for a property that a dataset has not.
const NO_VALUE: &str = "-";

/// The library, loaded; it stays until the process ends.
#[derive(Debug)]
pub struct Libzfs {
    functions: Functions,
}

impl Libzfs {
    /// The library of the version that the kernel's module has.
    ///
    /// # Errors
    /// Why there is none: no module, a version that nobody compared, or in the loader's words.
    pub fn load() -> Result<&'static Self, &'static str> {
        static LOADED: OnceLock<Result<Libzfs, String>> = OnceLock::new();
        LOADED.get_or_init(Self::find).as_ref().map_err(String::as_str)
    }

    fn find() -> Result<Self, String> {
        let version =
            fs::read_to_string(MODULE_VERSION).map_err(|error| format!("{MODULE_VERSION}: {error}"))?;
        let version = version.trim_end();
        let name = library_for(version)
            .ok_or_else(|| format!("libzfs is not known to be right for ZFS {version}: 2.1 and 2.3 are"))?;
        Functions::load(name).map(|functions| Self { functions }).map_err(|error| error.to_string())
    }

    /// Waits until no other thread has one, and opens a session.
    ///
    /// # Errors
    /// What `libzfs_init` left in `errno`: no module, no `/dev/zfs`, no permission.
    pub fn session(&'static self) -> io::Result<Session> {
        static ALONE: Mutex<()> = Mutex::new(());
        // All state is the library's, which no panic of ours leaves half-way.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: takes nothing; the lock keeps other threads out.
        let handle = unsafe { (self.functions.libzfs_init)() };
        let handle = NonNull::new(handle).ok_or_else(io::Error::last_os_error)?;
        let session = Session { functions: &self.functions, handle, _alone: alone };
        // SAFETY: the handle is open; 0 is `B_FALSE`.
        unsafe { (self.functions.libzfs_print_on_error)(handle.as_ptr(), 0) };
        Ok(session)
    }
}

fn library_for(version: &str) -> Option<&'static str> {
    VERSIONS.iter().find(|(beginning, _)| version.starts_with(beginning)).map(|(_, library)| *library)
}

/// An answer that the library refused, by its number (`zfs_error_t`); zero for properties that it does not know and values that are not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub i32);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "libzfs: error {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// The only one in the process; every question in it is asked of the kernel. For one thread.
pub struct Session {
    functions: &'static Functions,
    handle: NonNull<Handle>,
    /// Let go of after the handle was closed.
    _alone: MutexGuard<'static, ()>,
}

impl Session {
    /// The values of properties of a file system, as `zfs list -H -p` prints them; `None` when there is none of this name.
    ///
    /// # Errors
    /// What the library refuses; the dataset is a volume; a property or value is not known.
    pub fn values<const N: usize>(
        &self,
        dataset: &CStr,
        properties: [&CStr; N],
    ) -> Result<Option<[String; N]>, Refused> {
        let properties = self.properties(properties)?;
        let Some(dataset) = self.open(dataset)? else { return Ok(None) };
        dataset.values(&properties).map(Some)
    }

    /// The same of each file system directly below `dataset`, in no order. None for volumes.
    ///
    /// # Errors
    /// As [`values`](Self::values); there is no such dataset.
    pub fn children<const N: usize>(
        &self,
        dataset: &CStr,
        properties: [&CStr; N],
    ) -> Result<Vec<[String; N]>, Refused> {
        let properties = self.properties(properties)?;
        let dataset = self.open(dataset)?.ok_or(Refused(NO_ENTRY))?;
        let mut list = Children { functions: self.functions, properties, rows: Ok(Vec::new()) };
        let context = (&raw mut list).cast::<c_void>();
        // SAFETY: the handle is open, and `context` is what the function takes, alive and used by nobody else until this returns.
        let code = unsafe {
            (self.functions.zfs_iter_filesystems)(dataset.handle.as_ptr(), add_child::<N>, context)
        };
        match list.rows {
            Ok(_) if code != 0 => Err(self.refused()),
            rows => rows,
        }
    }

    /// The health of a pool, as `zpool list -H -o health` prints it.
    ///
    /// # Errors
    /// What the library refuses; there is no such pool.
    pub fn pool_health(&self, pool: &CStr) -> Result<String, Refused> {
        // SAFETY: the handle is open, and the name ends with a NUL.
        let handle = unsafe { (self.functions.zpool_open_canfail)(self.handle.as_ptr(), pool.as_ptr()) };
        let pool =
            Pool { functions: self.functions, handle: NonNull::new(handle).ok_or_else(|| self.refused())? };
        // SAFETY: the handle is open.
        let state = unsafe { (self.functions.zpool_get_state_str)(pool.handle.as_ptr()) };
        // SAFETY: a string constant of the library, or null.
        unsafe { text(state) }.ok_or_else(|| self.refused())
    }

    fn open(&self, dataset: &CStr) -> Result<Option<Dataset>, Refused> {
        // SAFETY: the handle is open, and the name ends with a NUL.
        let handle =
            unsafe { (self.functions.zfs_open)(self.handle.as_ptr(), dataset.as_ptr(), FILE_SYSTEM) };
        match NonNull::new(handle) {
            Some(handle) => Ok(Some(Dataset { functions: self.functions, handle })),
            None => match self.refused() {
                Refused(NO_ENTRY) => Ok(None),
                refused => Err(refused),
            },
        }
    }

    /// The library's numbers for properties, which are told apart by their names.
    fn properties<const N: usize>(&self, names: [&CStr; N]) -> Result<[c_int; N], Refused> {
        let mut numbers = [0; N];
        for (name, number) in names.into_iter().zip(&mut numbers) {
            // SAFETY: the name ends with a NUL.
            *number = unsafe { (self.functions.zfs_name_to_prop)(name.as_ptr()) };
            if *number < 0 {
                return Err(Refused(0));
            }
        }
        Ok(numbers)
    }

    /// Why the last call failed.
    fn refused(&self) -> Refused {
        // SAFETY: the handle is open.
        Refused(unsafe { (self.functions.libzfs_errno)(self.handle.as_ptr()) })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the handle is open, everything opened by it is closed, and nobody uses it after this.
        unsafe { (self.functions.libzfs_fini)(self.handle.as_ptr()) };
    }
}

/// An open dataset: what the kernel said of it when it was opened.
struct Dataset {
    functions: &'static Functions,
    handle: NonNull<DatasetHandle>,
}

impl Dataset {
    fn is_file_system(&self) -> bool {
        // SAFETY: the handle is open.
        let kind = unsafe { (self.functions.zfs_get_type)(self.handle.as_ptr()) };
        kind == FILE_SYSTEM
    }

    fn values<const N: usize>(&self, properties: &[c_int; N]) -> Result<[String; N], Refused> {
        let values = properties.iter().map(|property| self.value(*property));
        let values: Vec<String> = values.collect::<Option<_>>().ok_or(Refused(0))?;
        values.try_into().map_err(|_| Refused(0))
    }

    /// What `zfs list` would print; `None` for what is not text.
    fn value(&self, property: c_int) -> Option<String> {
        let mut value = [0_u8; LONGEST_VALUE];
        let (no_source, no_status, literal) = (ptr::null_mut(), ptr::null_mut(), 1);
        // SAFETY: the handle is open; the library ends what it writes with a NUL within the length that it is told; where the value is from is not asked.
        let code = unsafe {
            (self.functions.zfs_prop_get)(
                self.handle.as_ptr(),
                property,
                value.as_mut_ptr().cast::<c_char>(),
                value.len(),
                no_source,
                no_status,
                0,
                literal,
            )
        };
        if code != 0 {
            return Some(NO_VALUE.to_owned());
        }
        Some(CStr::from_bytes_until_nul(&value).ok()?.to_str().ok()?.to_owned())
    }
}

impl Drop for Dataset {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody uses it after this.
        unsafe { (self.functions.zfs_close)(self.handle.as_ptr()) };
    }
}

struct Pool {
    functions: &'static Functions,
    handle: NonNull<PoolHandle>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody uses it after this.
        unsafe { (self.functions.zpool_close)(self.handle.as_ptr()) };
    }
}

/// What is collected while the library lists children.
struct Children<const N: usize> {
    functions: &'static Functions,
    properties: [c_int; N],
    rows: Result<Vec<[String; N]>, Refused>,
}

/// Takes one child; anything but zero ends the list.
///
/// # Safety
/// `handle` is an open dataset that is this function's to close, and `context` the [`Children`] that were handed to `zfs_iter_filesystems`.
unsafe extern "C" fn add_child<const N: usize>(handle: *mut DatasetHandle, context: *mut c_void) -> c_int {
    // SAFETY: as above, and nobody else has a reference while the library lists.
    let list = unsafe { &mut *context.cast::<Children<N>>() };
    let Some(handle) = NonNull::new(handle) else { return 0 };
    let dataset = Dataset { functions: list.functions, handle };
    let (Ok(rows), true) = (&mut list.rows, dataset.is_file_system()) else { return 0 };
    match dataset.values(&list.properties) {
        Ok(values) => {
            rows.push(values);
            0
        }
        Err(refused) => {
            list.rows = Err(refused);
            1
        }
    }
}

/// A copy of a string of the library's.
///
/// # Safety
/// `string` is null, or ends with a NUL and does not change meanwhile.
unsafe fn text(string: *const c_char) -> Option<String> {
    if string.is_null() {
        return None;
    }
    // SAFETY: as above.
    let string = unsafe { CStr::from_ptr(string) };
    Some(string.to_str().ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_were_compared_are_loaded() {
        for (version, library) in [
            ("2.1.11-1+deb12u1", Some("libzfs.so.4")),
            ("2.1.0", Some("libzfs.so.4")),
            ("2.3.9-0+deb13u1", Some("libzfs.so.6")),
            ("2.2.2-1", None),
            ("2.4.0", None),
            ("2.10.1", None),
            ("2.30.1", None),
            ("0.8.6", None),
            ("", None),
        ] {
            assert_eq!(library_for(version), library, "{version}");
        }
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = Functions::load("libzfs.so.0").unwrap_err();
        assert!(error.to_string().contains("libzfs.so.0"), "{error}");
    }

    #[test]
    fn strings_are_copied() {
        // SAFETY: a constant.
        assert_eq!(unsafe { text(c"ONLINE".as_ptr()) }.as_deref(), Some("ONLINE"));
        // SAFETY: null.
        assert_eq!(unsafe { text(ptr::null()) }, None);
    }
}
