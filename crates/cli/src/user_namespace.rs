//! What an ordinary user needs to keep layers: a user namespace in which this process is root.
//!
//! The process moves itself there with [unshare(2)](https://man7.org/linux/man-pages/man2/unshare.2.html), so that it keeps its id, its terminal and its exit status. The ids of
//! `/etc/subuid` and `/etc/subgid` can be mapped only from outside, by newuidmap(1) and newgidmap(1): a helper process, started before, does that.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use graphdriver::{Error, archive};
use graphdriver_sys::capability::{Capability, has_effective};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Pid, Uid, User, getegid, geteuid, getppid};

use crate::shared_namespace;
use crate::subordinate_ids::{self, IdRange};

/// Name of the hidden command that the helper process runs.
pub(crate) const MAP_IDS: &str = "map-ids";

/// What this process may do, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// It could mount from the start.
    Given,
    /// It is root of a user namespace of its own, with further ids of the user.
    ManyIds,
    /// It is root of a user namespace of its own, which has that one id only.
    OneId,
    /// User namespaces cannot be had here.
    None,
}

impl Privilege {
    /// Whether mounts of this process end with it.
    pub(crate) fn is_own_namespace(self) -> bool {
        matches!(self, Self::ManyIds | Self::OneId)
    }

    /// Adds what to do about it to an error that comes from having few ids.
    pub(crate) fn explain(self, error: Error) -> Error {
        if !self.is_own_namespace() || !is_chown(&error) {
            return error;
        }
        let kind = error.kind();
        let detail = "an owner is not among the ids of this user namespace; give your user ranges in /etc/subuid and \
                      /etc/subgid (usermod --add-subuids, and newuidmap installed), or keep no owners with \
                      -o ignore_chown_errors=true";
        Error::new(kind, "keep owners").detail(detail).source(error)
    }
}

/// Whether changing an owner is what failed, by an id that the namespace lacks (`EINVAL`) or for want of privilege (`EPERM`).
fn is_chown(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<archive::Error>() {
            // The operation is the name of the system call: fchown, fchownat, lchown.
            let is_refused = matches!(error.errno(), Some(Errno::EINVAL | Errno::EPERM));
            if is_refused && error.to_string().contains("chown") {
                return true;
            }
        }
        cause = error.source();
    }
    false
}

/// Makes this process root of a user namespace, unless it can mount as it is: of the one that `unshare` has made, or a new one. There must be one thread only.
pub(crate) fn enter(run_root: &Path) -> Privilege {
    if has_effective(Capability::SysAdmin).unwrap_or(false) {
        return Privilege::Given;
    }
    match shared_namespace::join(run_root) {
        Ok(true) => return privilege_by_map(),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "no use of the user namespace that is there"),
    }
    let (uid, gid) = (geteuid(), getegid());
    let mapper =
        IdMapper::start(uid).inspect_err(|error| tracing::warn!(%error, "no further ids")).ok().flatten();
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        tracing::warn!(error = errno.desc(), "no user namespace; going on without privilege");
        return Privilege::None;
    }
    if let Some(mapper) = mapper {
        match mapper.map() {
            Ok(()) => return Privilege::ManyIds,
            Err(error) => tracing::warn!(%error, "no further ids"),
        }
    }
    match map_one_id(uid, gid) {
        Ok(()) => Privilege::OneId,
        Err(error) => {
            tracing::warn!(error = %error.report(), "no ids in the user namespace");
            Privilege::None
        }
    }
}

/// What the map of the namespace that was joined says.
fn privilege_by_map() -> Privilege {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if map.lines().count() > 1 { Privilege::ManyIds } else { Privilege::OneId }
}

/// The process that maps ids from outside.
struct IdMapper(Child);

impl IdMapper {
    /// Starts it, if the user has further ids and the programs to map them exist.
    fn start(uid: Uid) -> io::Result<Option<Self>> {
        if ranges(uid)?.is_none() {
            return Ok(None);
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg(MAP_IDS).stdin(Stdio::piped()).stdout(Stdio::null());
        Ok(Some(Self(command.spawn()?)))
    }

    /// Has the ids of this process mapped, which must be in its new namespace now.
    fn map(mut self) -> io::Result<()> {
        let go = self.0.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(b"\n"));
        let status = self.0.wait()?;
        go?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("mapping ids failed: {status}"))) }
    }
}

/// The helper: waits until its parent is in a new user namespace, then maps ids for it.
pub(crate) fn map_ids() -> ExitCode {
    let mut go = [0; 1];
    // The end of the pipe means that there is no namespace.
    if io::stdin().read_exact(&mut go).is_err() {
        return ExitCode::FAILURE;
    }
    match map_ids_of(getppid()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("graphdriver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn map_ids_of(process: Pid) -> io::Result<()> {
    let Some((uids, gids)) = ranges(geteuid())? else { return Err(io::Error::other("no subordinate ids")) };
    run_mapper("newuidmap", process, geteuid().as_raw(), &uids)?;
    run_mapper("newgidmap", process, getegid().as_raw(), &gids)
}

/// Container id 0 is the user, 1 and up are the ranges.
fn run_mapper(program: &str, process: Pid, own: u32, ranges: &[IdRange]) -> io::Result<()> {
    let mut arguments = vec![process.as_raw().to_string(), "0".into(), own.to_string(), "1".into()];
    let mut next = 1;
    for range in ranges {
        arguments.extend([next, range.start, range.count].map(|number| number.to_string()));
        next = next.saturating_add(range.count);
    }
    let status = Command::new(program).args(arguments).status();
    let status = status.map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program} failed: {status}"))) }
}

/// The user's ranges of uids and gids, if there are some of both.
fn ranges(uid: Uid) -> io::Result<Option<(Vec<IdRange>, Vec<IdRange>)>> {
    let name = User::from_uid(uid)?.map(|user| user.name);
    let ranges_in = |path: &str| {
        let text = fs::read(path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(error),
        })?;
        Ok::<_, io::Error>(subordinate_ids::parse(&text, name.as_deref(), uid.as_raw()))
    };
    let (uids, gids) = (ranges_in("/etc/subuid")?, ranges_in("/etc/subgid")?);
    Ok((!uids.is_empty() && !gids.is_empty()).then_some((uids, gids)))
}

/// Maps the one id that needs no helper; what was mapped before stays.
fn map_one_id(uid: Uid, gid: Gid) -> Result<(), Error> {
    let write = |file: &str, line: &str| {
        let path = format!("/proc/self/{file}");
        fs::write(&path, line).map_err(|error| Error::io("write", path, error))
    };
    if fs::read("/proc/self/uid_map").is_ok_and(|map| map.is_empty()) {
        write("uid_map", &format!("0 {uid} 1\n"))?;
    }
    if fs::read("/proc/self/gid_map").is_ok_and(|map| map.is_empty()) {
        // Linux 3.19 and newer want this first: a process must not shed groups that deny it something.
        write("setgroups", "deny\n")?;
        write("gid_map", &format!("0 {gid} 1\n"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_owner_is_explained_where_there_are_few_ids() {
        let refused = |call, errno| Error::from(archive::Error::syscall(call, "etc/shadow", errno));
        let explained = Privilege::OneId.explain(refused("fchownat", Errno::EINVAL)).report().to_string();
        assert!(explained.contains("ignore_chown_errors") && explained.contains("etc/shadow"), "{explained}");
        for (privilege, error) in [
            (Privilege::Given, refused("fchownat", Errno::EPERM)),
            (Privilege::None, refused("fchownat", Errno::EPERM)),
            (Privilege::OneId, refused("fchownat", Errno::EIO)),
            (Privilege::OneId, refused("mkdirat", Errno::EPERM)),
        ] {
            assert!(!privilege.explain(error).report().to_string().contains("ignore_chown_errors"));
        }
    }
}
