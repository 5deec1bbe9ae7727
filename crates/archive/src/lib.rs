//! Container layer tars in and out: apply, export, changes, on real file systems and against hostile input.
