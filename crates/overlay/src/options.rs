//! What can be set about the driver.

use graphdriver_core::{DriverOption, Result};

use crate::mount::MountApi;

/// The keys that are known.
const KNOWN: [&str; 1] = ["ignore_chown_errors"];

/// The options of the driver, as given by `overlay.KEY=VALUE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OverlayOptions {
    /// Keep the calling process's ids where the owner of a file cannot be set: for user namespaces with a single id.
    pub(crate) ignore_chown_errors: bool,
}

impl OverlayOptions {
    /// # Errors
    /// `InvalidArgument` for a key that is not known, naming those that are, and for a value that does not fit.
    pub(crate) fn parse(options: &[DriverOption]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            match option.key() {
                "ignore_chown_errors" => parsed.ignore_chown_errors = option.parse_bool()?,
                _ => return Err(option.unknown(&KNOWN)),
            }
        }
        Ok(parsed)
    }
}

/// Choices that the driver otherwise makes by itself, for tests that want each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverlayTuning {
    /// How mounts are made; `None` for the best way that the kernel has.
    pub mount_api: Option<MountApi>,
    /// Diffs come from the layer's own directory where they can; otherwise two mounts are always compared.
    pub native_diff: bool,
}

impl Default for OverlayTuning {
    fn default() -> Self {
        Self { mount_api: None, native_diff: true }
    }
}

#[cfg(test)]
mod tests {
    use graphdriver_core::ErrorKind;

    use super::*;

    fn parse(texts: &[&str]) -> Result<OverlayOptions> {
        let options: Vec<DriverOption> = texts.iter().map(|text| text.parse().unwrap()).collect();
        OverlayOptions::parse(&options)
    }

    #[test]
    fn known_options() {
        assert_eq!(parse(&[]).unwrap(), OverlayOptions::default());
        for text in
            ["overlay.ignore_chown_errors=true", "overlay2.ignore_chown_errors=1", "ignore_chown_errors=T"]
        {
            assert!(parse(&[text]).unwrap().ignore_chown_errors, "{text}");
        }
        assert!(!parse(&["ignore_chown_errors=1", "ignore_chown_errors=0"]).unwrap().ignore_chown_errors);
    }

    #[test]
    fn others_are_errors_that_name_the_known_ones() {
        let error = parse(&["overlay.ignore_chown_error=true"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().ends_with("known options are: ignore_chown_errors"), "{error}");
        assert_eq!(parse(&["ignore_chown_errors=yes"]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
