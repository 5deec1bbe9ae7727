//! What goes to standard output: lines, tables, JSON.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use graphdriver::{Change, ChangeKind};
use serde::Serialize;

use crate::failure::{Failure, Result};

const BUFFER: usize = 64 << 10;

/// Writes to standard output through a buffer.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result {
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    write(&mut out).and_then(|()| out.flush()).map_err(Failure::of_output)
}

/// One line.
pub(crate) fn line(text: impl AsRef<[u8]>) -> Result {
    print(|out| {
        out.write_all(text.as_ref())?;
        out.write_all(b"\n")
    })
}

/// A value as JSON and a newline: indented for people, on one line for programs.
pub(crate) fn json(value: &impl Serialize) -> Result {
    print(|out| {
        if io::stdout().is_terminal() {
            serde_json::to_writer_pretty(&mut *out, value)?;
        } else {
            serde_json::to_writer(&mut *out, value)?;
        }
        out.write_all(b"\n")
    })
}

/// Names and values, the values in one column.
pub(crate) fn table<N: AsRef<str>, V: AsRef<str>>(rows: &[(N, V)]) -> Result {
    let width = rows.iter().map(|(name, _)| name.as_ref().chars().count()).max().unwrap_or(0);
    print(|out| {
        rows.iter()
            .try_for_each(|(name, value)| writeln!(out, "{:width$}  {}", name.as_ref(), value.as_ref()))
    })
}

/// Changes, a line each: coloured and with escapes for odd names on a terminal, the names' own bytes in a pipe.
pub(crate) fn changes(changes: &[Change]) -> Result {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let is_coloured = AutoStream::choice(&stdout) != ColorChoice::Never;
    print(|out| {
        changes.iter().try_for_each(|change| {
            let style = if is_coloured { style(change.kind) } else { Style::new() };
            write!(out, "{style}{} ", change.kind.letter())?;
            let path = change.path.as_os_str().as_encoded_bytes();
            out.write_all(&if is_terminal { escaped(path) } else { path.into() })?;
            writeln!(out, "{style:#}")
        })
    })
}

/// A change as JSON has it. JSON is text: a name that is not gets its bytes in `path_hex`.
#[derive(Serialize)]
pub(crate) struct ChangeRecord<'a> {
    kind: char,
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl<'a> From<&'a Change> for ChangeRecord<'a> {
    fn from(change: &'a Change) -> Self {
        let bytes = change.path.as_os_str().as_encoded_bytes();
        let path_hex = str::from_utf8(bytes).is_err().then(|| hex::encode(bytes));
        Self { kind: change.kind.letter(), path: change.path.to_string_lossy(), path_hex }
    }
}

fn style(kind: ChangeKind) -> Style {
    let colour = match kind {
        ChangeKind::Add => AnsiColor::Green,
        ChangeKind::Modify => AnsiColor::Yellow,
        ChangeKind::Delete => AnsiColor::Red,
    };
    colour.on_default()
}

/// A name with what a terminal would act upon, and what is no text, written as `\xNN`.
fn escaped(name: &[u8]) -> Cow<'_, [u8]> {
    match str::from_utf8(name) {
        Ok(text) if !text.contains(|c: char| c.is_control() || c == '\\') => return name.into(),
        _ => {}
    }
    let mut out = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => {
                    let _ = write!(out, "\\x{:02x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn names_cannot_play_with_the_terminal() {
        let table: [(&[u8], &str); 6] = [
            (b"/etc/passwd", "/etc/passwd"),
            ("/ünïcode".as_bytes(), "/ünïcode"),
            (b"/new\nline", "/new\\nline"),
            (b"/\x1b[2J", "/\\x1b[2J"),
            (b"/\xff\xfe-no", "/\\xff\\xfe-no"),
            (b"/back\\slash", "/back\\\\slash"),
        ];
        for (name, expected) in table {
            assert_eq!(str::from_utf8(&escaped(name)).unwrap(), expected);
        }
    }

    #[test]
    fn json_keeps_names_that_are_no_text() {
        let change = Change::new(OsStr::from_bytes(b"/\xff"), ChangeKind::Add);
        let json = serde_json::to_string(&ChangeRecord::from(&change)).unwrap();
        assert_eq!(json, "{\"kind\":\"A\",\"path\":\"/\u{fffd}\",\"path_hex\":\"2fff\"}");
    }
}
