//! Layers from anybody, applied beside a directory that must stay as it is.

#![no_main]

use std::fs;

use graphdriver_archive::{ApplyOptions, RootDir, WhiteoutMode, apply};
use libfuzzer_sys::fuzz_target;

const BLOCK_BYTES: usize = 512;

fuzz_target!(|input: (bool, &[u8])| {
    let (is_aufs, bytes) = input;
    let beside = tempfile::tempdir().expect("a temporary directory");
    let (layer, victim) = (beside.path().join("layer"), beside.path().join("victim"));
    fs::create_dir(&layer).expect("mkdir");
    fs::write(&victim, "as it was").expect("write");
    let options = ApplyOptions {
        whiteouts: if is_aufs { WhiteoutMode::Aufs } else { WhiteoutMode::Execute },
        ignore_chown_errors: true,
        in_user_namespace: true,
        ..ApplyOptions::default()
    };
    let root = RootDir::open(&layer).expect("open");
    let _ = apply(&root, &mut &with_checksums(bytes)[..], &options);
    assert_eq!(fs::read_to_string(&victim).ok().as_deref(), Some("as it was"));
    assert_eq!(fs::read_dir(beside.path()).expect("list").count(), 2);
});

/// With the right checksum in every block but empty ones, so that each can be a header.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut archive = bytes.to_vec();
    for block in archive.chunks_exact_mut(BLOCK_BYTES).filter(|block| block.iter().any(|byte| *byte != 0)) {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
    archive
}
