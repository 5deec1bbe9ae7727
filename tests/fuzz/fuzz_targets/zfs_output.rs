//! What `zfs` and `zpool` print.

#![no_main]

#[path = "../../../crates/zfs/src/parse.rs"]
mod parse;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|output: &[u8]| {
    let _ = (parse::rows::<1>(output), parse::rows::<3>(output), parse::sum(output));
    for line in parse::diff(output).into_iter().flatten() {
        let paths = [Some(line.path), line.now];
        assert!(paths.iter().flatten().all(|path| path.is_absolute() && !has_nul(path)));
    }
});

fn has_nul(path: &std::path::Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&0)
}
