//! What an ordinary user has, started by root so that there is one.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::store::{Entry, PROGRAM, append, tar};

/// A user that nobody has told anything about: no name, no subordinate ids.
const USER: u32 = 54_321;

struct User {
    dir: TempDir,
}

impl User {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        chown(dir.path().join("home"), Some(USER), Some(USER)).unwrap();
        // Where the program is built, nobody else may be allowed to look. Copied by another process: a child that another thread of this one starts
        // meanwhile would hold the copy open for writing, and so "busy" (ETXTBSY).
        let copy = Command::new("cp").arg(PROGRAM).arg(dir.path().join("graphdriver")).status().unwrap();
        assert!(copy.success());
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("graphdriver"));
        command.args(arguments).uid(USER).gid(USER).env_clear().env("PATH", "/usr/bin:/bin");
        command
            .env("XDG_DATA_HOME", self.path("home/data"))
            .env("GRAPHDRIVER_RUN_ROOT", self.path("home/run"));
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str], status: i32) -> String {
        let output = self.run(arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {message}");
        message
    }

    /// A tar with a file of the user with this number.
    fn tar(&self, owner: u64) -> String {
        let mut header = tar::Header::new_gnu();
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mode(0o644);
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, header, "file", b"x");
        let path = self.path(&format!("{owner}.tar"));
        fs::write(&path, builder.into_inner().unwrap()).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

#[test]
#[ignore = "needs root"]
fn layers_are_kept_in_the_users_own_directory() {
    let user = User::new();
    for driver in ["vfs", "overlay"] {
        user.ok(&["--driver", driver, "apply", "base", &user.tar(0)]);
        assert_eq!(user.ok(&["--driver", driver, "list"]), "base\n");
        assert!(user.path("home/data/graphdriver").join(driver).is_dir());
    }
}

#[test]
#[ignore = "needs root"]
fn owners_without_a_place_are_explained() {
    let user = User::new();
    let message = user.fails(&["--driver", "vfs", "apply", "base", &user.tar(7)], 1);
    assert!(message.contains("/etc/subuid") && message.contains("ignore_chown_errors=true"), "{message}");
    user.ok(&["--driver", "vfs", "-o", "ignore_chown_errors=true", "apply", "base", &user.tar(7)]);
}

#[test]
#[ignore = "needs root"]
fn a_mount_needs_a_namespace_that_stays() {
    let user = User::new();
    fs::write(user.path("link.tar"), tar(&[Entry::Link("link", "target")])).unwrap();
    user.ok(&["--driver", "overlay", "apply", "base", user.path("link.tar").to_str().unwrap()]);
    user.ok(&["create", "--rw", "work", "--parent", "base"]);
    let message = user.fails(&["mount", "work"], 3);
    assert!(message.contains("graphdriver unshare"), "{message}");
    user.fails(&["unmount", "work"], 3);
    let program = user.path("graphdriver");
    let script = format!(
        "set -e; id -u; cd \"$({0} mount work)\"; readlink link; echo x > new; cd /; {0} changes work; {0} unmount work",
        program.display()
    );
    assert_eq!(user.ok(&["unshare", "--", "sh", "-c", &script]), "0\ntarget\nA /new\n");
    assert_eq!(user.fails(&["unshare", "--", "sh", "-c", "exit 6"], 6), "");
}

#[test]
#[ignore = "needs root"]
fn all_processes_of_a_user_see_what_is_mounted() {
    let user = User::new();
    fs::write(user.path("link.tar"), tar(&[Entry::Link("link", "target")])).unwrap();
    // A relative path, which has to mean the same in any namespace.
    let apply = |id: &str| user.ok(&["--driver", "overlay", "apply", id, "link.tar"]);
    apply("base");
    let script = "path=$(./graphdriver mount base); echo $path; read x; ./graphdriver unmount base";
    let mut command = user.command(&["unshare", "--", "sh", "-c", script]);
    let mut session = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut path = String::new();
    BufReader::new(session.stdout.take().unwrap()).read_line(&mut path).unwrap();

    apply("other");
    assert!(user.fails(&["remove", "base"], 1).contains("base"));
    let second = user.ok(&["unshare", "--", "readlink", &format!("{}/link", path.trim_end())]);
    assert_eq!(second, "target\n");

    drop(session.stdin.take());
    assert!(session.wait().unwrap().success());
    user.ok(&["remove", "base", "other"]);
}

/// Ids from `/etc/subuid` and `/etc/subgid`, which differ, have several ranges, and name the user by name or by number.
#[test]
#[ignore = "needs root"]
fn further_ids_are_mapped_by_newuidmap() {
    let files = [
        ("ids-test:200000:10\nother:1:1\nids-test:300000:100\n", "54321:400000:1000\n"),
        ("54321:200000:10\n54321:300000:100\n", "ids-test:400000:1000\n"),
    ];
    for (subuid, subgid) in files {
        let user = User::new();
        let known = |file: &str, line: &str| {
            let text = fs::read_to_string(format!("/etc/{file}")).unwrap();
            fs::write(user.path(file), format!("{text}{line}")).unwrap();
        };
        // newuidmap serves nobody without a name.
        known("passwd", &format!("ids-test:x:{USER}:{USER}::/:/bin/sh\n"));
        known("group", &format!("ids-test:x:{USER}:\n"));
        fs::write(user.path("subuid"), subuid).unwrap();
        fs::write(user.path("subgid"), subgid).unwrap();
        let script = format!(
            "set -e; for file in passwd group subuid subgid; do mount --bind ./$file /etc/$file; done; \
             exec setpriv --reuid {USER} --regid {USER} --clear-groups ./graphdriver --driver overlay apply base {}",
            user.tar(15),
        );
        let mut command = user.command(&["unused"]);
        let environment: Vec<_> =
            command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
        command = Command::new("unshare");
        command
            .args(["-m", "--", "sh", "-c", &script])
            .env_clear()
            .envs(environment)
            .current_dir(user.dir.path());
        let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Container id 0 is the user, 1 to 10 are the first range, and so on.
        let stat = fs::metadata(user.path("home/data/graphdriver/overlay/base/diff/file")).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (300_004, 400_014));
    }
}
