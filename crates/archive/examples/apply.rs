//! Unpacks a layer tar: `apply DIRECTORY [execute|overlay|aufs] [THREADS] < layer.tar`.

use std::io::stdin;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{ApplyOptions, RootDir, WhiteoutMode, apply};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let directory = arguments.first().ok_or("usage: apply DIRECTORY [execute|overlay|aufs] [THREADS]")?;
    let whiteouts = match arguments.get(1).map(String::as_str) {
        None | Some("execute") => WhiteoutMode::Execute,
        Some("overlay") => WhiteoutMode::Overlay(OverlayXattrs::Trusted),
        Some("aufs") => WhiteoutMode::Aufs,
        Some(other) => return Err(format!("unknown way {other:?} to treat whiteouts").into()),
    };
    let threads = arguments.get(2).map_or(Ok(0), |threads| threads.parse())?;
    let options = ApplyOptions { whiteouts, threads, ..ApplyOptions::default() };
    let applied = apply(&RootDir::open(directory)?, &mut stdin().lock(), &options)?;
    println!("{} entries, {} bytes", applied.entries, applied.bytes);
    Ok(())
}
