//! Packages of a Debian suite, unpacked and not installed.
//!
//! apt runs with lists, a cache and a package database of its own, so that nothing of this machine changes and no privilege is needed. Where packages come from is taken from the
//! machine's own configuration: another suite is looked for where this machine gets its own from.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::Flock;

use super::cache;
use crate::Result;
use crate::command::{check, line, output};

/// Signs every suite; part of every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite, such as `trixie` with its updates.
#[derive(Debug)]
pub(super) struct Suite {
    codename: String,
    config: PathBuf,
    archives: PathBuf,
    /// apt refuses to work twice in one place.
    _alone: Flock<File>,
}

impl Suite {
    /// The suite that this machine runs.
    ///
    /// # Errors
    /// When this is no Debian on amd64, whose packages the guests are made of.
    pub(super) fn of_this_machine() -> Result<String> {
        let release = fs::read_to_string("/etc/os-release")?;
        let value = |key| release.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        if std::env::consts::ARCH != "x86_64" || value("ID=") != "debian" || !Path::new(KEYRING).exists() {
            return Err("guests are made of Debian's packages for amd64, by its apt: run this there".into());
        }
        Ok(value("VERSION_CODENAME=").to_owned())
    }

    /// A suite by codename, as it is now in the archives.
    pub(super) fn fetch(codename: &str) -> Result<Self> {
        let alone = cache::lock("apt", codename)?;
        let home = cache::directory(&format!("apt/{codename}"))?;
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(home.join(directory))?;
        }
        // Nothing is installed, so that the dependencies of a package are all that it needs.
        fs::write(home.join("status"), "")?;
        fs::write(home.join("sources.list"), sources(codename)?)?;
        let config = home.join("apt.conf");
        fs::write(&config, configuration(&home))?;
        let archives = home.join("cache/archives");
        let suite = Self { codename: codename.to_owned(), config, archives, _alone: alone };
        println!("Ask for Debian's packages of {codename}");
        check(suite.apt_get().args(["-qq", "-o", "APT::Update::Error-Mode=any", "update"]))?;
        Ok(suite)
    }

    /// The package that a metapackage stands for, such as the newest kernel, as `name=version`.
    pub(super) fn newest(&self, metapackage: &str) -> Result<String> {
        let shown = output(self.apt("apt-cache").args(["show", "--no-all-versions", metapackage]))?;
        newest(&String::from_utf8(shown.stdout)?)
            .ok_or_else(|| format!("{metapackage} of {} stands for nothing", self.codename).into())
    }

    /// What has to be unpacked for `packages` to run on nothing, as `name=version`.
    pub(super) fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let shown = output(self.apt_get().args(["-qq", "--simulate", "install"]).args(packages))?;
        let shown = String::from_utf8(shown.stdout)?;
        // Inst libc6 (2.36-9 Debian:12/oldstable [amd64])
        let installed = shown.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
            Some(format!("{name}={}", rest.split(' ').next()?))
        });
        Ok(installed.collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Downloads `packages` and unpacks them into the new directory `tree`, in which `/bin`, `/sbin` and `/lib` are those of `/usr`.
    pub(super) fn unpack(&self, packages: &[String], tree: &Path) -> Result<()> {
        for name in ["bin", "sbin", "lib", "lib64"] {
            fs::create_dir_all(tree.join("usr").join(name))?;
            std::os::unix::fs::symlink(Path::new("usr").join(name), tree.join(name))?;
        }
        println!("Fetch {} packages of {}", packages.len(), self.codename);
        let downloads = tempfile::tempdir_in(&self.archives)?;
        check(self.apt_get().current_dir(&downloads).args(["-qq", "download"]).args(packages))?;
        for package in fs::read_dir(&downloads)? {
            unpack(&package?.path(), tree)?;
        }
        Ok(())
    }

    fn apt_get(&self) -> Command {
        self.apt("apt-get")
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Read last, so that it wins over the machine's configuration, of which proxies and the like remain.
        command.arg("--config-file").arg(&self.config).stdin(Stdio::null());
        command
    }
}

/// `dpkg-deb --extract` would put a directory in the place of a link to one.
fn unpack(package: &Path, tree: &Path) -> Result<()> {
    let mut dpkg =
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"]).arg(tree);
    let unpacked = check(tar.stdin(dpkg.stdout.take().ok_or("dpkg-deb has no output")?));
    if !dpkg.wait()?.success() {
        return Err(format!("{}: {}", package.display(), line(&tar)).into());
    }
    unpacked
}

fn configuration(home: &Path) -> String {
    let home = home.display();
    format!(
        r#"Dir::State "{home}";
Dir::State::status "{home}/status";
Dir::State::lists "{home}/lists";
Dir::Cache "{home}/cache";
Dir::Cache::archives "{home}/cache/archives";
Dir::Etc::sourcelist "{home}/sources.list";
Dir::Etc::sourceparts "-";
Acquire::Languages "none";
APT::Architecture "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#
    )
}

/// The lines of a `sources.list` for `codename`, from where this machine gets its own suite.
fn sources(codename: &str) -> Result<String> {
    let own = Suite::of_this_machine()?;
    let indexes = output(Command::new("apt-get").args(["update", "--print-uris"]).stdin(Stdio::null()))?;
    let lines = source_lines(&String::from_utf8(indexes.stdout)?, &own, codename);
    if lines.is_empty() {
        return Err(
            format!("apt on this machine has no source for {own}, next to which to find {codename}").into()
        );
    }
    Ok(lines)
}

fn newest(shown: &str) -> Option<String> {
    // Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)
    let (name, version) =
        shown.lines().find_map(|line| line.strip_prefix("Depends: "))?.split_once(" (= ")?;
    Some(format!("{name}={}", version.split(')').next()?))
}

fn source_lines(indexes: &str, own: &str, codename: &str) -> String {
    // 'scheme://host/debian/dists/bookworm-updates/InRelease' file-name 0
    let releases = indexes.lines().filter_map(|line| {
        let (archive, release) = line.strip_prefix('\'')?.split_once("/dists/")?;
        let (suite, _) = release.split_once("/InRelease'")?;
        let pocket = suite.strip_prefix(own)?;
        ["", "-updates", "-security"].contains(&pocket).then_some((archive, pocket))
    });
    let lines = releases.map(|(archive, pocket)| {
        format!("deb [signed-by={KEYRING}] {archive} {codename}{pocket} main contrib\n")
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metapackage_names_a_package_and_its_version() {
        let shown =
            "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        assert_eq!(newest(shown).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64=6.1.192-2"));
        assert_eq!(newest("Package: hello\nDepends: libc6 (>= 2.4)\n"), None);
    }

    #[test]
    fn another_suite_lies_beside_this_one() {
        let indexes = "\
'https://mirror.invalid/debian/dists/bookworm/InRelease' mirror_debian_dists_bookworm_InRelease 0 
'https://mirror.invalid/debian/dists/bookworm-backports/InRelease' mirror_debian_dists_bookworm-backports_InRelease 0 
'https://mirror.invalid/debian-security/dists/bookworm-security/InRelease' mirror_InRelease 0 
'https://other.invalid/apt/dists/nodistro/InRelease' other_InRelease 0 
'https://mirror.invalid/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror_Packages 0 
";
        let expected = "\
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://mirror.invalid/debian trixie main contrib
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://mirror.invalid/debian-security trixie-security main contrib
";
        assert_eq!(source_lines(indexes, "bookworm", "trixie"), expected);
        assert_eq!(source_lines(indexes, "sid", "trixie"), "");
    }
}
