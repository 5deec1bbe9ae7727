//! The vfs driver of graphdriver: one full copy per layer, reflinked where the file system can.
