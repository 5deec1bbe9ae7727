//! What is called of libzfs. The declarations are those of `libzfs.h` and `sys/fs/zfs.h`, the same in 2.1.11 and in 2.3.9.
//!
//! There, `boolean_t` and `zfs_type_t` are enums without negative values, `zfs_prop_t` is one with them, and `zprop_source_t *` is only ever null here: all are passed as an `int` is.

use std::ffi::{c_char, c_int, c_void};

use libloading::{Error, Library};

/// `libzfs_handle_t`.
#[repr(C)]
pub(super) struct Handle {
    _private: [u8; 0],
}

/// `zfs_handle_t`.
#[repr(C)]
pub(super) struct DatasetHandle {
    _private: [u8; 0],
}

/// `zpool_handle_t`.
#[repr(C)]
pub(super) struct PoolHandle {
    _private: [u8; 0],
}

/// `zfs_iter_f`.
type Visit = unsafe extern "C" fn(*mut DatasetHandle, *mut c_void) -> c_int;

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// Each is good as long as `_library` is there.
        #[derive(Debug)]
        pub(super) struct Functions {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            _library: Library,
        }

        impl Functions {
            fn of(library: Library) -> Result<Self, Error> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the library has this function with these arguments, as the headers say.
                        let function = unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) };
                        *function?
                    },)*
                    _library: library,
                })
            }
        }
    };
}

functions! {
    libzfs_init: fn() -> *mut Handle;
    libzfs_fini: fn(*mut Handle);
    libzfs_print_on_error: fn(*mut Handle, c_int);
    libzfs_errno: fn(*mut Handle) -> c_int;
    zfs_open: fn(*mut Handle, *const c_char, c_int) -> *mut DatasetHandle;
    zfs_close: fn(*mut DatasetHandle);
    zfs_get_type: fn(*const DatasetHandle) -> c_int;
    zfs_name_to_prop: fn(*const c_char) -> c_int;
    zfs_prop_get: fn(*mut DatasetHandle, c_int, *mut c_char, usize, *mut c_void, *mut c_char, usize, c_int) -> c_int;
    zfs_iter_filesystems: fn(*mut DatasetHandle, Visit, *mut c_void) -> c_int;
    zpool_open_canfail: fn(*mut Handle, *const c_char) -> *mut PoolHandle;
    zpool_close: fn(*mut PoolHandle);
    zpool_get_state_str: fn(*mut PoolHandle) -> *const c_char;
}

impl Functions {
    /// Those of the library with this soname, wherever the loader finds it.
    pub(super) fn load(name: &str) -> Result<Self, Error> {
        // SAFETY: the libraries that libzfs needs, and itself, do nothing when they are loaded that other threads could see.
        Self::of(unsafe { Library::new(name) }?)
    }
}
