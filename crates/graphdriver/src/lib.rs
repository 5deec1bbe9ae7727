//! Container layers on Linux: create, fill, mount, diff and remove, with the drivers you name.
