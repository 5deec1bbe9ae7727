//! The file that says what lies below a layer.

use std::fs;
use std::io;
use std::path::Path;

use graphdriver_core::{Error, ErrorKind, LayerId, Result};

/// The layers named in the file `path`, the nearest first; `None` when there is no such file.
///
/// # Errors
/// `Io` for a line that names no layer.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<LayerId>>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| Error::io("read", path, error))?,
    };
    parse(&text).map(Some).map_err(|line| {
        Error::new(ErrorKind::Io, "read").path(path).detail(format!("the line {line:?} names no layer"))
    })
}

/// The text of the file for a child of `parent`, below which are `ancestors`.
pub(crate) fn text_for_child(parent: Option<&LayerId>, ancestors: &[LayerId]) -> String {
    parent.into_iter().chain(ancestors).fold(String::new(), |text, id| text + id.as_str() + "\n")
}

/// Or the line that names no layer. Empty lines are passed over, as the Go drivers do.
fn parse(text: &str) -> std::result::Result<Vec<LayerId>, String> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| line.parse::<LayerId>().map_err(|_| line.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let ids: Vec<LayerId> = ["b", "a"].map(|id| id.parse().unwrap()).into();
        let text = text_for_child(Some(&ids[0]), &ids[1..]);
        assert_eq!(text, "b\na\n");
        assert_eq!(parse(&text).unwrap(), ids);
        assert_eq!(text_for_child(None, &[]), "");
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("b\n\na").unwrap(), ids);
        assert_eq!(parse("b\n../a\n").unwrap_err(), "../a");
    }
}
