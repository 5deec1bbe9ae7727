//! An image that has nothing but a shell and what it starts.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::peer::gnu_tar;

/// Links for the programs that containers are told to start. Copied by a program of its own, so that no child of ours has the file open for writing when it is started.
const COMMANDS: &str = "\
mkdir bin && cp \"$(command -v busybox)\" bin/busybox && \
for name in sh cat chmod chown ln mkdir mkfifo rm; do ln -s busybox bin/$name; done";

/// Writes its only layer to the new file `archive`.
pub(crate) fn make_archive(archive: &Path) {
    let root = archive.with_extension("root");
    fs::create_dir(&root).unwrap();
    let status = Command::new("sh").args(["-e", "-c", COMMANDS]).current_dir(&root).status().unwrap();
    assert!(status.success(), "copy a shell: {status}");
    gnu_tar::create(&root, &["bin"], archive);
}
