//! `cargo xtask tidy`: rules that neither compiler nor clippy knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;
use crate::command::{cargo, output, repository};

/// A source file longer than this is to be split.
const MAX_LINES: usize = 800;

/// The crates by rank: each may depend on those of a lower rank only. Drivers are on one rank: they do not know each other.
const RANKS: [(&str, u32); 14] = [
    ("graphdriver-sys", 0),
    ("graphdriver-archive", 1),
    ("graphdriver-core", 2),
    ("graphdriver-aufs", 3),
    ("graphdriver-btrfs", 3),
    ("graphdriver-overlay", 3),
    ("graphdriver-vfs", 3),
    ("graphdriver-zfs", 3),
    ("graphdriver-plugin", 3),
    ("graphdriver", 4),
    ("graphdriver-cli", 5),
    ("graphdriver-conformance", 6),
    ("graphdriver-interop", 6),
    ("graphdriver-bench", 6),
];

/// Everything that may stand at the top of the repository besides dot files.
const TOP: [&str; 10] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "crates",
    "docs",
    "tests",
    "xtask",
];

pub(crate) fn run() -> Result<()> {
    let files = tracked_files()?;
    let mut findings = Vec::new();
    findings.extend(dependency_direction()?);
    findings.extend(top_level(&files));
    for file in &files {
        let Ok(text) = fs::read_to_string(repository().join(file)) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => findings.extend(source(file, &text)),
            Some("md") => findings.extend(links(file, &text)),
            Some("toml") if file.ends_with("Cargo.toml") => findings.extend(lints(file, &text)),
            _ => {}
        }
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if !findings.is_empty() {
        return Err(format!("{} findings", findings.len()).into());
    }
    println!("tidy: {} files, nothing found", files.len());
    Ok(())
}

/// Files that git tracks or would track.
fn tracked_files() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(repository());
    let listed = String::from_utf8(output(&mut git)?.stdout)?;
    Ok(listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

fn top_level(files: &[PathBuf]) -> Vec<String> {
    let names: BTreeSet<&str> = files.iter().filter_map(|file| file.iter().next()?.to_str()).collect();
    let unexpected = names.into_iter().filter(|name| !name.starts_with('.') && !TOP.contains(name));
    unexpected.map(|name| format!("{name}: does not belong at the top of the repository")).collect()
}

/// Dependencies between the crates of the workspace, development dependencies excepted, go from higher to lower rank.
fn dependency_direction() -> Result<Vec<String>> {
    let ranks = BTreeMap::from(RANKS);
    let metadata = output(cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_slice(&metadata.stdout)?;
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(rank) = ranks.get(name) else {
            if name != "xtask" {
                findings.push(format!("{name}: has no rank in tidy's table of crates"));
            }
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let development = dependency["kind"].as_str() == Some("dev");
            if ranks.get(on).is_some_and(|other| other >= rank) && !development {
                findings.push(format!("{name}: may not depend on {on}"));
            }
        }
    }
    Ok(findings)
}

fn source(file: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{}: {lines} lines, more than {MAX_LINES}", file.display()));
    }
    if !text.starts_with("//!") && !text.starts_with("#!") {
        findings.push(format!("{}: does not begin by saying what it is for (//!)", file.display()));
    }
    findings
}

/// Every crate takes the workspace's lints, which forbid `unsafe`; `sys` has its own, and the fuzz targets are outside of the workspace.
fn lints(file: &Path, text: &str) -> Option<String> {
    let exempt =
        file == Path::new("Cargo.toml") || file.starts_with("crates/sys") || file.starts_with("tests/fuzz");
    let inherits = text.contains("[lints]\nworkspace = true");
    (!exempt && !inherits).then(|| format!("{}: does not take the workspace's lints", file.display()))
}

/// Relative links of a page lead to files that exist.
fn links(file: &Path, text: &str) -> Vec<String> {
    let directory = repository().join(file.parent().unwrap_or(Path::new("")));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let broken = local.filter(|target| {
        let path = target.split('#').next().unwrap_or(target);
        !directory.join(path).exists()
    });
    broken.map(|target| format!("{}: the link to {target} leads nowhere", file.display())).collect()
}
