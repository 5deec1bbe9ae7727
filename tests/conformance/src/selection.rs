//! Which trials are asked for other than by a part of their names.

use std::collections::BTreeSet;

use crate::backing::Backing;
use crate::configuration::Configuration;
use crate::trials::Experiment;

/// The drivers and file systems asked for; none means all.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    drivers: Vec<String>,
    file_systems: Vec<String>,
}

impl Selection {
    /// Takes the options `--driver` and `--fs` out of the words of a command line. Each names one or several, separated by commas.
    pub fn take_from(words: &mut Vec<String>) -> Result<Self, String> {
        let selection =
            Self { drivers: take_option(words, "--driver")?, file_systems: take_option(words, "--fs")? };
        let drivers = Configuration::ALL.iter().flat_map(|it| [it.driver_name(), it.name]);
        check_names("driver", &selection.drivers, drivers)?;
        check_names("file system", &selection.file_systems, Backing::ALL.into_iter().map(Backing::name))?;
        Ok(selection)
    }

    pub fn contains(&self, experiment: &Experiment) -> bool {
        let driver = [experiment.configuration.driver_name(), experiment.configuration.name];
        let has = |names: &[String], name: &str| names.is_empty() || names.iter().any(|it| it == name);
        driver.iter().any(|name| has(&self.drivers, name))
            && has(&self.file_systems, experiment.backing.name())
    }
}

/// Removes `option` with its value, written as one word or as two, wherever it stands.
fn take_option(words: &mut Vec<String>, option: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    while let Some(at) = words.iter().position(|word| word.split('=').next() == Some(option)) {
        let word = words.remove(at);
        let value = match word.split_once('=') {
            Some((_, value)) => value.to_owned(),
            None if at < words.len() => words.remove(at),
            None => return Err(format!("{option} wants a name")),
        };
        names.extend(value.split(',').map(str::to_owned));
    }
    Ok(names)
}

fn check_names<'a>(what: &str, names: &[String], known: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let known: BTreeSet<&str> = known.collect();
    match names.iter().find(|name| !known.contains(name.as_str())) {
        Some(name) => {
            let known: Vec<&str> = known.into_iter().collect();
            Err(format!("there is no {what} {name}; there are {}", known.join(" ")))
        }
        None => Ok(()),
    }
}
