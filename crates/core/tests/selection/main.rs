//! Which driver is chosen, by tables: homes that exist, drivers that fail, what is called and what comes out.

#![allow(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod fake;

use std::fs;

use graphdriver_core::{ErrorKind, OpenOptions, Registry};

use fake::{calls, entry, fail};

/// Registered in another order than the priority has, to tell the two apart.
fn registry() -> Registry {
    let mut registry = Registry::new();
    for entry in [
        entry(&["vfs"], false),
        entry(&["other"], true),
        entry(&["zfs"], true),
        entry(&["btrfs"], true),
        entry(&["overlay", "overlay2"], true),
    ] {
        registry.register(entry).unwrap();
    }
    registry
}

/// A root with these homes, each with a file in it, and with an empty directory for each of `empty`.
fn root(homes: &[&str], empty: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for home in homes {
        fs::create_dir(root.path().join(home)).unwrap();
        fs::write(root.path().join(home).join("file"), b"").unwrap();
    }
    for home in empty {
        fs::create_dir(root.path().join(home)).unwrap();
    }
    root
}

fn options(root: &tempfile::TempDir, priority: &[&str]) -> OpenOptions {
    let mut options = OpenOptions::new(root.path(), root.path().join("run"));
    options.priority = priority.iter().map(ToString::to_string).collect();
    options
}

struct Case {
    homes: &'static [&'static str],
    empty: &'static [&'static str],
    name: Option<&'static str>,
    priority: &'static [&'static str],
    failing: &'static [(&'static str, ErrorKind)],
    /// The driver's name, or the kind of failure and a part of its text.
    expected: Result<&'static str, (ErrorKind, &'static str)>,
    calls: &'static [&'static str],
}

const NOTHING_SPECIAL: Case = Case {
    homes: &[],
    empty: &[],
    name: None,
    priority: &[],
    failing: &[],
    expected: Ok("overlay"),
    calls: &["probe overlay", "open overlay"],
};

fn check(cases: &[Case]) {
    for (number, case) in cases.iter().enumerate() {
        // A thread each, because what drivers note and how they fail is kept by thread.
        let run = || {
            for (call, kind) in case.failing {
                fail(call, *kind);
            }
            let root = root(case.homes, case.empty);
            let before: Vec<_> =
                fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            let chosen = registry().select(case.name, &options(&root, case.priority));
            match (&chosen, case.expected) {
                (Ok(driver), Ok(name)) => assert_eq!(driver.name(), name, "case {number}"),
                (Err(error), Err((kind, text))) => {
                    let report = error.report().to_string();
                    assert_eq!(error.kind(), kind, "case {number}: {report}");
                    assert!(report.contains(text), "case {number}: {report}");
                }
                (chosen, expected) => panic!("case {number}: {chosen:?} instead of {expected:?}"),
            }
            assert_eq!(calls(), case.calls, "case {number}");
            let after: Vec<_> =
                fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(before, after, "case {number}");
        };
        std::thread::scope(|scope| {
            scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }
}

#[test]
fn a_name_decides_whatever_is_there() {
    check(&[
        Case { name: Some("zfs"), expected: Ok("zfs"), calls: &["open zfs"], ..NOTHING_SPECIAL },
        Case {
            name: Some("vfs"),
            homes: &["overlay", "btrfs"],
            expected: Ok("vfs"),
            calls: &["open vfs"],
            ..NOTHING_SPECIAL
        },
        Case {
            name: Some("overlay2"),
            expected: Ok("overlay2"),
            calls: &["open overlay2"],
            ..NOTHING_SPECIAL
        },
        Case {
            name: Some("devicemapper"),
            expected: Err((
                ErrorKind::NotSupported,
                "there is no driver \"devicemapper\"; this program has: vfs, other, zfs, btrfs, overlay",
            )),
            calls: &[],
            ..NOTHING_SPECIAL
        },
        Case {
            name: Some(""),
            expected: Err((ErrorKind::NotSupported, "no driver \"\"")),
            calls: &[],
            ..NOTHING_SPECIAL
        },
        Case {
            name: Some("zfs"),
            failing: &[("open zfs", ErrorKind::Prerequisites)],
            expected: Err((ErrorKind::Prerequisites, "zfs: open zfs: as the test wants")),
            calls: &["open zfs"],
            ..NOTHING_SPECIAL
        },
    ]);
}

#[test]
fn the_priority_decides_where_nothing_is() {
    check(&[
        NOTHING_SPECIAL,
        Case {
            priority: &["zfs", "btrfs"],
            expected: Ok("zfs"),
            calls: &["probe zfs", "open zfs"],
            ..NOTHING_SPECIAL
        },
        Case {
            priority: &["vfs", "btrfs"],
            expected: Ok("vfs"),
            calls: &["probe vfs", "open vfs"],
            ..NOTHING_SPECIAL
        },
        Case {
            priority: &["overlay2"],
            expected: Ok("overlay2"),
            calls: &["probe overlay2", "open overlay2"],
            ..NOTHING_SPECIAL
        },
        Case {
            priority: &["devicemapper", "btrfs"],
            expected: Ok("btrfs"),
            calls: &["probe btrfs", "open btrfs"],
            ..NOTHING_SPECIAL
        },
    ]);
}

#[test]
fn what_does_not_work_here_is_passed_over() {
    check(&[
        Case {
            failing: &[("probe overlay", ErrorKind::NotSupported), ("open btrfs", ErrorKind::Prerequisites)],
            expected: Ok("zfs"),
            calls: &["probe overlay", "probe btrfs", "open btrfs", "probe zfs", "open zfs"],
            ..NOTHING_SPECIAL
        },
        Case {
            failing: &[
                ("probe overlay", ErrorKind::IncompatibleFs),
                ("probe btrfs", ErrorKind::Prerequisites),
                ("probe zfs", ErrorKind::NotSupported),
            ],
            expected: Ok("other"),
            calls: &["probe overlay", "probe btrfs", "probe zfs", "probe other", "open other"],
            ..NOTHING_SPECIAL
        },
        Case {
            failing: &[
                ("probe overlay", ErrorKind::IncompatibleFs),
                ("probe btrfs", ErrorKind::Prerequisites),
                ("probe zfs", ErrorKind::NotSupported),
                ("probe other", ErrorKind::NotSupported),
            ],
            expected: Ok("vfs"),
            calls: &["probe overlay", "probe btrfs", "probe zfs", "probe other", "probe vfs", "open vfs"],
            ..NOTHING_SPECIAL
        },
        Case {
            priority: &["btrfs"],
            failing: &[("probe btrfs", ErrorKind::Prerequisites)],
            expected: Ok("other"),
            calls: &["probe btrfs", "probe other", "open other"],
            ..NOTHING_SPECIAL
        },
    ]);
}

#[test]
fn any_other_failure_is_the_answer() {
    check(&[
        Case {
            failing: &[("probe overlay", ErrorKind::NoSpace)],
            expected: Err((ErrorKind::NoSpace, "overlay: probe overlay: as the test wants")),
            calls: &["probe overlay"],
            ..NOTHING_SPECIAL
        },
        Case {
            failing: &[("open overlay", ErrorKind::InvalidArgument)],
            expected: Err((ErrorKind::InvalidArgument, "open overlay")),
            calls: &["probe overlay", "open overlay"],
            ..NOTHING_SPECIAL
        },
    ]);
}

#[test]
fn when_nothing_works_each_reason_is_told() {
    let failing = &[
        ("probe overlay", ErrorKind::NotSupported),
        ("probe btrfs", ErrorKind::NotSupported),
        ("probe zfs", ErrorKind::NotSupported),
        ("probe other", ErrorKind::NotSupported),
        ("probe vfs", ErrorKind::NotSupported),
        ("probe overlay2", ErrorKind::NotSupported),
    ];
    check(&[
        Case {
            failing,
            expected: Err((
                ErrorKind::NotSupported,
                "no supported storage driver found: overlay: probe overlay: as the test wants; btrfs: probe btrfs: ",
            )),
            calls: &["probe overlay", "probe btrfs", "probe zfs", "probe other", "probe vfs"],
            ..NOTHING_SPECIAL
        },
        Case {
            failing,
            priority: &["gear", "vfs", "overlay2"],
            expected: Err((ErrorKind::NotSupported, "there is no driver \"gear\"")),
            calls: &["probe vfs", "probe overlay2", "probe other", "probe zfs", "probe btrfs"],
            ..NOTHING_SPECIAL
        },
    ]);
}

#[test]
fn a_home_that_exists_decides() {
    check(&[
        Case { homes: &["zfs"], expected: Ok("zfs"), calls: &["open zfs"], ..NOTHING_SPECIAL },
        Case { homes: &["overlay2"], expected: Ok("overlay2"), calls: &["open overlay2"], ..NOTHING_SPECIAL },
        Case {
            homes: &["btrfs"],
            priority: &["overlay"],
            expected: Ok("btrfs"),
            calls: &["open btrfs"],
            ..NOTHING_SPECIAL
        },
        Case {
            homes: &["btrfs"],
            empty: &["zfs", "overlay"],
            expected: Ok("btrfs"),
            calls: &["open btrfs"],
            ..NOTHING_SPECIAL
        },
        Case { homes: &["unrelated"], empty: &["zfs"], ..NOTHING_SPECIAL },
        // No other is tried, else its layers would be gone from sight.
        Case {
            homes: &["btrfs"],
            failing: &[("open btrfs", ErrorKind::Prerequisites)],
            expected: Err((ErrorKind::Prerequisites, "btrfs: open btrfs")),
            calls: &["open btrfs"],
            ..NOTHING_SPECIAL
        },
    ]);
}

#[test]
fn a_last_resort_counts_when_it_is_alone() {
    check(&[
        Case { homes: &["vfs"], expected: Ok("vfs"), calls: &["open vfs"], ..NOTHING_SPECIAL },
        Case { homes: &["vfs", "zfs"], expected: Ok("zfs"), calls: &["open zfs"], ..NOTHING_SPECIAL },
        Case { empty: &["vfs"], ..NOTHING_SPECIAL },
    ]);
}

#[test]
fn several_homes_are_refused_before_anything_is_opened() {
    let text = "contains several valid graphdrivers: btrfs, overlay; clean up, or choose one explicitly (--driver <DRIVER>)";
    let expected = Err((ErrorKind::InvalidArgument, text));
    check(&[
        Case { homes: &["overlay", "btrfs"], expected, calls: &[], ..NOTHING_SPECIAL },
        Case {
            homes: &["overlay", "btrfs", "vfs"],
            priority: &["btrfs"],
            expected,
            calls: &[],
            ..NOTHING_SPECIAL
        },
        Case {
            homes: &["overlay", "overlay2"],
            expected: Err((ErrorKind::InvalidArgument, ": overlay, overlay2; ")),
            calls: &[],
            ..NOTHING_SPECIAL
        },
    ]);
}

#[test]
fn homes_are_directories_with_something_in_them() {
    let root = root(&["vfs", "overlay2", "unrelated"], &["zfs"]);
    fs::write(root.path().join("btrfs"), b"a file").unwrap();
    assert_eq!(registry().homes(root.path()).unwrap(), ["overlay2", "vfs"]);
    assert_eq!(registry().homes(&root.path().join("missing")).unwrap(), [""; 0]);
}

#[test]
fn names_are_registered_once() {
    let mut registry = registry();
    for (names, text) in [
        (&["zfs"][..], "name already registered zfs"),
        (&["new", "overlay2"], "name already registered overlay2"),
        (&[], "a driver needs a name"),
        (&[""], "a driver needs a name"),
    ] {
        let error = registry.register(entry(names, true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(registry.entries().len(), 5);
    assert!(registry.find("new").is_none());
}

#[test]
fn a_home_that_cannot_be_looked_into_is_an_error_and_no_guess() {
    let root = root(&[], &[]);
    // Leads to itself, which even root cannot follow.
    std::os::unix::fs::symlink("overlay", root.path().join("overlay")).unwrap();
    let error = registry().select(None, &options(&root, &[])).unwrap_err();
    assert_eq!((error.kind(), error.failed_path()), (ErrorKind::Io, Some(&*root.path().join("overlay"))));
    assert_eq!(calls(), [""; 0]);
}
