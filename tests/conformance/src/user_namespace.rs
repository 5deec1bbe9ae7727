//! Running a case as root of a user namespace, as rootless engines do.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setresgid, setresuid};

use crate::needs::{Need, Privilege};
use crate::process;
use crate::trials::Outcome;

/// The ordinary user that root plays.
const USER: u32 = 1000;

/// Root of the namespace is the user, the other ids are a range of their own, as `newuidmap(1)` sets up with `/etc/subuid`.
const RANGE_MAP: &str = "0 1000 1\n1 100000 65535\n";

const READY: &str = "unshared";

/// What a process has in the namespace that [`run`] makes.
pub fn privilege() -> Privilege {
    if Uid::effective().is_root() { Privilege::Owners } else { Privilege::Capable }
}

/// Runs the experiment `name` in a new user namespace and mount namespace, in the directory `dir`.
///
/// It takes two processes: one that enters the namespaces, and as its child one that is started in them, because a process that has changed its ids may not look at itself below `/proc`.
pub fn run(name: &str, dir: &Path) -> Result<(), Outcome> {
    let as_root = Uid::effective().is_root();
    if as_root {
        chown(dir, Some(USER), Some(USER)).unwrap();
    }
    let mut child = process::spawn("user-namespace", &[name.as_ref(), dir.as_os_str()], Stdio::piped());
    if let Err(need) = hand_over_ids(&mut child, as_root) {
        child.wait().unwrap();
        return Err(Outcome::Lacks(need));
    }
    let output = child.wait_with_output().unwrap();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(LACKS) => {
            Err(Outcome::Lacks(Need::FileSystem(String::from_utf8_lossy(&output.stdout).trim().to_owned())))
        }
        _ => Err(Outcome::Fails(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Exit status of a case that could not run; the reason is on standard output.
pub const LACKS: i32 = 77;

fn hand_over_ids(child: &mut Child, as_root: bool) -> Result<(), Need> {
    let mut first_line = String::new();
    // Byte by byte: what follows belongs to the case.
    let stdout = child.stdout.as_mut().unwrap();
    BufReader::with_capacity(1, stdout).read_line(&mut first_line).unwrap();
    if first_line.trim() != READY {
        return Err(Need::Kernel(format!("user namespaces: {}", first_line.trim())));
    }
    if as_root {
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", child.id()), RANGE_MAP).unwrap();
        }
    }
    child.stdin.take().unwrap().write_all(b"mapped").unwrap();
    Ok(())
}

/// The part of the process that enters the namespaces.
pub fn enter(words: &[String]) -> ExitCode {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        println!("unshare: {errno}");
        return ExitCode::FAILURE;
    }
    if !uid.is_root() {
        fs::write("/proc/self/setgroups", "deny").unwrap();
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    }
    println!("{READY}");
    let mut word = String::new();
    std::io::stdin().read_to_string(&mut word).unwrap();
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).unwrap();
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).unwrap();
    let status = Command::new(process::THIS_PROGRAM).arg("--role=case").args(words).status().unwrap();
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
