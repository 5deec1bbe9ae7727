//! GNU tar: archives as they are, without whiteouts.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use super::{program, run};

pub(crate) const NAME: &str = "tar";

/// Packs the files of the directory that are named.
pub(crate) fn create(dir: &Path, names: &[&str], archive: &Path) {
    run(program(NAME).args(["-c", "--numeric-owner", "-f"]).arg(archive).arg("-C").arg(dir).args(names));
}

/// Unpacks everything that it knows how to.
pub(crate) fn extract(archive: &Path, dir: &Path) {
    let mut tar = program(NAME);
    tar.args([
        "-x",
        "-p",
        "--numeric-owner",
        "--delay-directory-restore",
        "--xattrs",
        "--xattrs-include=*",
        "-f",
    ])
    .arg(archive)
    .arg("-C")
    .arg(dir);
    run(&mut tar);
}

/// Reads the archive to its end; anything that it remarks upon fails.
pub(crate) fn list(archive: &Path) -> Vec<u8> {
    let output = run(program(NAME).args(["-t", "-v", "--numeric-owner", "-f"]).arg(archive));
    assert!(output.stderr.is_empty(), "tar complains: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The names of the entries, as it quotes them.
pub(crate) fn names(archive: &Path) -> BTreeSet<String> {
    let output = run(program(NAME).args(["-t", "-f"]).arg(archive));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Compresses the archive into the new file `compressed`.
pub(crate) fn compress(archive: &Path, compressed: &Path) {
    let file = File::create_new(compressed).unwrap();
    run(program("gzip").args(["-1", "--stdout"]).arg(archive).stdout(file));
}
