//! `cargo xtask plugin-bundle`: a directory that `docker plugin create` makes a managed plugin of.

use std::fs;
use std::path::{Path, PathBuf};

use lddtree::DependencyAnalyzer;
use serde_json::{Value, json};

use crate::Result;
use crate::command::{cargo, check, target_dir};

/// Where the plugin keeps everything; mounts below it are seen by Docker.
const PROPAGATED: &str = "/var/lib/graphdriver";

/// Directories of the plugin's root that must be there, and are empty.
const DIRS: [&str; 8] =
    ["dev", "etc", "proc", "run/docker/plugins", "run/graphdriver", "sys", "tmp", "var/lib/graphdriver"];

/// What work on layers takes, beyond what Docker gives to every plugin: mounts, attributes `trusted.*` and limits are the first.
const CAPABILITIES: [&str; 3] = ["CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH", "CAP_MKNOD"];

/// What the bundle is of.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Directory to make; it must not be there yet.
    dir: PathBuf,
    /// The driver that the plugin serves.
    #[arg(long, default_value = "overlay")]
    driver: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    check(cargo().args(["build", "--release", "--package", "graphdriver-cli"]))?;
    make(&options.dir, &target_dir().join("release/graphdriver"), &options.driver)?;
    println!("{}: docker plugin create NAME {0}", options.dir.display());
    Ok(())
}

/// Makes the bundle in the new directory `dir`, of the program and what it is linked with.
fn make(dir: &Path, program: &Path, driver: &str) -> Result<()> {
    fs::create_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let root = dir.join("rootfs");
    for name in DIRS {
        fs::create_dir_all(root.join(name))?;
    }
    copy(program, &root, Path::new("usr/bin/graphdriver"))?;
    let needed = DependencyAnalyzer::new(PathBuf::from("/")).analyze(program);
    let needed = needed.map_err(|error| format!("{}: {error}", program.display()))?;
    if let Some(loader) = &needed.interpreter {
        copy(Path::new(loader), &root, Path::new(loader).strip_prefix("/")?)?;
    }
    for library in needed.libraries.into_values() {
        if !library.found() {
            return Err(format!("{}: no {}", program.display(), library.name).into());
        }
        copy(&library.path, &root, library.path.strip_prefix("/")?)?;
    }
    fs::write(dir.join("config.json"), serde_json::to_vec_pretty(&config(driver))?)?;
    Ok(())
}

fn copy(file: &Path, root: &Path, place: &Path) -> Result<()> {
    let place = root.join(place);
    fs::create_dir_all(place.parent().unwrap_or(root))?;
    fs::copy(file, &place).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(())
}

/// <https://docs.docker.com/engine/extend/config/>
fn config(driver: &str) -> Value {
    json!({
        "description": format!("graphdriver: layers by its driver {driver}"),
        "documentation": "https://github.com/graphdriver/graphdriver/blob/main/docs/docker-plugin.md",
        "interface": { "types": ["docker.graphdriver/1.0"], "socket": "plugin.sock" },
        "entrypoint": [
            "/usr/bin/graphdriver", "--driver", driver, "--run-root", "/run/graphdriver",
            "plugin", "serve", "--name", "graphdriver", "--socket", "/run/docker/plugins/plugin.sock",
        ],
        "workdir": "/",
        "network": { "type": "none" },
        "propagatedMount": PROPAGATED,
        "linux": { "capabilities": CAPABILITIES },
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_bundle_has_what_docker_expects() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        make(&bundle, &std::env::current_exe().unwrap(), "vfs").unwrap();
        let root = bundle.join("rootfs");
        assert!(root.join("usr/bin/graphdriver").is_file());
        let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
        assert!(root.join(config["propagatedMount"].as_str().unwrap().trim_start_matches('/')).is_dir());
        assert!(root.join("run/docker/plugins").is_dir());
        assert!(
            make(&bundle, Path::new("/bin/sh"), "vfs").is_err(),
            "a directory that is there is somebody's"
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn its_program_runs_with_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        make(&bundle, &std::env::current_exe().unwrap(), "vfs").unwrap();
        let mut command = Command::new("chroot");
        command.arg(bundle.join("rootfs")).args(["/usr/bin/graphdriver", "--list"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("its_program_runs"));
    }
}
