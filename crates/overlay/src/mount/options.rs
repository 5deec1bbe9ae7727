//! Mount options as people and programs give them, `nodev,metacopy=on`, read into types.

use graphdriver_core::{Error, ErrorKind, Result};

use super::attributes::{self, Attributes};
use super::parameters::{self, Wishes};

/// What mount options ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MountRequest {
    /// Of any mount.
    pub(crate) attributes: Attributes,
    /// Of overlay mounts.
    pub(crate) wishes: Wishes,
}

/// `defaults` and what the caller asks for; where both say something of the same thing, the caller's holds.
pub(crate) fn merge(defaults: &[String], callers: &[String]) -> Vec<String> {
    let callers: Vec<&str> = split(callers).collect();
    let overridden = |option: &str| callers.iter().any(|other| subject(other) == subject(option));
    let kept = split(defaults).filter(|option| !overridden(option));
    kept.chain(callers.iter().copied()).map(str::to_owned).collect()
}

impl MountRequest {
    /// What `options` ask for: one option in each text, or several with commas between them.
    ///
    /// # Errors
    /// `InvalidArgument` naming the option that is not known, and all that are; one that is the driver's business; and two that exclude each other.
    pub(crate) fn parse(options: &[String]) -> Result<Self> {
        let mut request = Self { attributes: Attributes::NONE, wishes: Wishes::default() };
        let mut seen: Vec<&str> = Vec::new();
        for option in split(options).filter(|option| *option != "defaults") {
            let contradicts = |other: &&&str| **other != option && subject(other) == subject(option);
            if let Some(other) = seen.iter().find(contradicts) {
                return Err(invalid(format!("{other} and {option} exclude each other")));
            }
            seen.push(option);
            request.take(option)?;
        }
        Ok(request)
    }

    fn take(&mut self, option: &str) -> Result<()> {
        if let Some(attributes) = Attributes::of_word(option) {
            self.attributes = self.attributes.and(attributes);
            return Ok(());
        }
        if self.wishes.take(option) {
            return Ok(());
        }
        Err(refuse(option))
    }
}

fn split(options: &[String]) -> impl Iterator<Item = &str> {
    options.iter().flat_map(|text| text.split(',')).map(str::trim)
}

/// What an option decides.
fn subject(option: &str) -> &str {
    attributes::subject(option).unwrap_or_else(|| option.split('=').next().unwrap_or(option))
}

/// What only the driver can know, and what it has another way for.
const RESERVED: [(&str, &str); 7] = [
    ("lowerdir", "the layers are the driver's business"),
    ("lowerdir+", "the layers are the driver's business"),
    ("datadir+", "the layers are the driver's business"),
    ("upperdir", "the layers are the driver's business"),
    ("workdir", "the layers are the driver's business"),
    ("context", "labels are given apart from the options"),
    ("userxattr", "the driver gives it in user namespaces, and elsewhere it would hide what layers delete"),
];

fn refuse(option: &str) -> Error {
    let key = subject(option);
    if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == key) {
        return invalid(format!("option {option:?} is refused: {why}"));
    }
    if let Some(values) = parameters::values(key) {
        return invalid(format!("option {option:?} has no such value; known are {}", values.join(", ")));
    }
    let known: Vec<&str> =
        ["defaults"].into_iter().chain(attributes::words()).chain(parameters::keys()).collect();
    invalid(format!("unknown option {option:?}; known are {}", known.join(", ")))
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, "parse mount options").detail(detail)
}

#[cfg(test)]
mod tests {
    use graphdriver_sys::mount_api::MountAttrFlags;
    use nix::mount::MsFlags;

    use super::super::parameters::RedirectDir;
    use super::*;

    fn texts(options: &[&str]) -> Vec<String> {
        options.iter().map(ToString::to_string).collect()
    }

    fn parse(options: &[&str]) -> Result<MountRequest> {
        MountRequest::parse(&texts(options))
    }

    #[test]
    fn words_of_any_mount() {
        let request = parse(&["nodev", "noatime,rw", "defaults"]).unwrap();
        assert_eq!(request.attributes.flags, MountAttrFlags::NODEV | MountAttrFlags::NOATIME);
        assert_eq!(request.attributes.classic, MsFlags::MS_NODEV | MsFlags::MS_NOATIME);
        assert!(!request.attributes.is_read_only());
        assert_eq!(request.wishes, Wishes::default());
        assert!(parse(&["ro"]).unwrap().attributes.is_read_only());
        assert_eq!(parse(&[]).unwrap().attributes, Attributes::NONE);
    }

    #[test]
    fn parameters_of_overlay() {
        let wishes =
            parse(&["metacopy=on,redirect_dir=follow", "index=off", "volatile", "xino=auto"]).unwrap().wishes;
        let expected = Wishes {
            metacopy: Some(true),
            redirect_dir: Some(RedirectDir::Follow),
            index: Some(false),
            volatile: true,
            xino: Some("auto"),
            ..Wishes::default()
        };
        assert_eq!(wishes, expected);
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        for (options, part) in [
            (&["bind"][..], "unknown option \"bind\"; known are defaults, ro, rw,"),
            (&[""], "unknown option \"\""),
            (&["RO"], "unknown option \"RO\""),
            (&["nodev,,ro"], "unknown option \"\""),
            (&["lowerdir=/etc"], "layers are the driver's business"),
            (&["upperdir=/etc"], "layers are the driver's business"),
            (&["workdir=/etc"], "layers are the driver's business"),
            (&["context=x"], "labels are given apart"),
            (&["userxattr"], "in user namespaces"),
            (&["metacopy=maybe"], "no such value; known are on, off"),
            (&["metacopy"], "no such value; known are on, off"),
            (&["volatile=on"], "unknown option \"volatile=on\""),
            (&["redirect_dir=yes"], "known are on, off, follow, nofollow"),
            (&["noatime", "strictatime"], "noatime and strictatime exclude each other"),
            (&["ro", "rw"], "ro and rw exclude each other"),
            (&["metacopy=on", "metacopy=off"], "metacopy=on and metacopy=off exclude each other"),
        ] {
            let error = parse(options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{options:?}");
            assert!(error.to_string().contains(part), "{options:?}: {error}");
        }
    }

    #[test]
    fn the_callers_options_win_one_by_one() {
        for (defaults, callers, merged) in [
            (&["nodev", "metacopy=on"][..], &[][..], &["nodev", "metacopy=on"][..]),
            (&["nodev", "metacopy=on"], &["ro"], &["nodev", "metacopy=on", "ro"]),
            (&["nodev,metacopy=on"], &["metacopy=off"], &["nodev", "metacopy=off"]),
            (&["nodev", "noatime"], &["dev", "relatime"], &["dev", "relatime"]),
            (&["nodev"], &["nodev"], &["nodev"]),
            (&["ro"], &["rw"], &["rw"]),
            // What only a mount program knows is merged alike.
            (&["fsync=0"], &["fsync=1,x"], &["fsync=1", "x"]),
        ] {
            assert_eq!(merge(&texts(defaults), &texts(callers)), texts(merged), "{defaults:?} {callers:?}");
        }
    }
}
