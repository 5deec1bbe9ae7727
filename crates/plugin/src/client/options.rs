//! How a plugin is used.

use std::time::Duration;

use graphdriver_core::{DriverOption, Result};

/// Options of the client's end, and what goes on to the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginOptions {
    /// How long the plugin may be silent during a call, and a connection refuse what is sent to it; `None` for ever, as in Docker.
    pub timeout: Option<Duration>,
    /// How long to try when nobody listens on its socket, as while it is started again.
    pub connect_timeout: Duration,
    /// Options for the plugin, as `key=value`.
    pub forwarded: Vec<String>,
}

impl Default for PluginOptions {
    fn default() -> Self {
        Self { timeout: None, connect_timeout: Duration::from_secs(5), forwarded: Vec::new() }
    }
}

impl PluginOptions {
    /// `plugin.timeout` and `plugin.connect_timeout`, in seconds, are for this end. All others go to the plugin, without the prefix `plugin.`.
    ///
    /// # Errors
    /// `InvalidArgument` for a time that is no number.
    pub fn parse(options: &[DriverOption]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            match (option.driver(), option.key()) {
                (Some(_), "timeout") => {
                    parsed.timeout = Some(seconds(option)?).filter(|timeout| !timeout.is_zero());
                }
                (Some(_), "connect_timeout") => parsed.connect_timeout = seconds(option)?,
                (_, key) => parsed.forwarded.push(format!("{key}={}", option.value())),
            }
        }
        Ok(parsed)
    }
}

fn seconds(option: &DriverOption) -> Result<Duration> {
    option.parse_u64().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_and_what_goes_on() {
        let texts = [
            "plugin.timeout=7",
            "plugin.connect_timeout=0",
            "timeout=8",
            "plugin.overlay.sync=none",
            "a=b=c",
        ];
        let parsed = PluginOptions::parse(&texts.map(|text| text.parse().unwrap())).unwrap();
        let expected = PluginOptions {
            timeout: Some(Duration::from_secs(7)),
            connect_timeout: Duration::ZERO,
            forwarded: ["timeout=8", "overlay.sync=none", "a=b=c"].map(str::to_owned).to_vec(),
        };
        assert_eq!(parsed, expected);
        let parse = |text: &str| PluginOptions::parse(&[text.parse().unwrap()]);
        assert_eq!(parse("plugin.timeout=0").unwrap().timeout, None);
        assert!(parse("plugin.timeout=soon").is_err());
    }
}
