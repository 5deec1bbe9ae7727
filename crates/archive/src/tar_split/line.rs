//! One line of a record, read and written. No I/O.
//!
//! JSON as Go's `encoding/json` writes the `Entry` of `github.com/vbatts/tar-split/tar/storage`: `type` 1 (file) or 2 (segment), `name` or, where that is not
//! UTF-8, `name_raw` in base64, `size` and `payload` in base64, `position` counted from 0.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Bytes of the archive that are no file's contents.
    Segment(Vec<u8>),
    /// The contents of a file of the layer stand here; of 0 bytes for whatever else has an entry.
    File { name: Vec<u8>, bytes: u64, crc: u64 },
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("an entry of type {0}")]
    Type(u8),
    #[error("an entry at position {found} where {expected} is due")]
    Position { found: u64, expected: u64 },
    #[error("a file of {0} bytes")]
    Size(i64),
    #[error("a payload that is not base64")]
    Base64,
    #[error("a checksum of {0} bytes")]
    Checksum(usize),
}

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    name: String,
    name_raw: Option<String>,
    #[serde(default)]
    size: i64,
    payload: Option<String>,
    #[serde(default)]
    position: u64,
}

impl Line {
    /// The line `text`, which must be the one at `position`.
    pub(super) fn parse(text: &[u8], position: u64) -> Result<Self, LineError> {
        let fields: Fields = serde_json::from_slice(text)?;
        if fields.position != position {
            return Err(LineError::Position { found: fields.position, expected: position });
        }
        let payload = decoded(fields.payload.as_deref().unwrap_or_default())?;
        match fields.kind {
            SEGMENT => Ok(Self::Segment(payload)),
            FILE => {
                let name_raw = decoded(fields.name_raw.as_deref().unwrap_or_default())?;
                let name = if name_raw.is_empty() { fields.name.into_bytes() } else { name_raw };
                let bytes = u64::try_from(fields.size).map_err(|_| LineError::Size(fields.size))?;
                let crc = match <[u8; 8]>::try_from(payload.as_slice()) {
                    Ok(crc) => u64::from_be_bytes(crc),
                    Err(_) if bytes == 0 => 0,
                    Err(_) => return Err(LineError::Checksum(payload.len())),
                };
                // The size field of a link may say something; Go writes it down with the checksum of no bytes.
                Ok(Self::File { name, bytes: if crc == 0 { 0 } else { bytes }, crc })
            }
            kind => Err(LineError::Type(kind)),
        }
    }
}

/// Appends the line of a segment.
pub(super) fn push_segment(text: &mut Vec<u8>, payload: &[u8], position: u64) {
    text.extend_from_slice(br#"{"type":2,"payload":""#);
    push_base64(text, payload);
    push_position(text, position);
}

/// Appends the line of a file.
pub(super) fn push_file(text: &mut Vec<u8>, name: &[u8], bytes: u64, crc: u64, position: u64) {
    text.extend_from_slice(br#"{"type":1,"#);
    match std::str::from_utf8(name) {
        Ok("") => {}
        Ok(name) => {
            text.extend_from_slice(br#""name":"#);
            // Memory takes all that is written, and a string is always valid.
            let _ = serde_json::to_writer(&mut *text, name);
            text.push(b',');
        }
        Err(_) => {
            text.extend_from_slice(br#""name_raw":""#);
            push_base64(text, name);
            text.extend_from_slice(br#"","#);
        }
    }
    if bytes == 0 {
        text.extend_from_slice(br#""payload":null"#);
        return push_position_after(text, position);
    }
    let _ = write!(text, r#""size":{bytes},"payload":""#);
    push_base64(text, &crc.to_be_bytes());
    push_position(text, position);
}

fn push_position(text: &mut Vec<u8>, position: u64) {
    text.push(b'"');
    push_position_after(text, position);
}

fn push_position_after(text: &mut Vec<u8>, position: u64) {
    let _ = writeln!(text, r#","position":{position}}}"#);
}

fn push_base64(text: &mut Vec<u8>, bytes: &[u8]) {
    let start = text.len();
    text.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The space is exactly what the encoding takes.
    let written = STANDARD.encode_slice(bytes, &mut text[start..]).unwrap_or(0);
    text.truncate(start + written);
}

fn decoded(text: &str) -> Result<Vec<u8>, LineError> {
    STANDARD.decode(text).map_err(|_| LineError::Base64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines as Go's packer writes them.
    #[test]
    fn lines_are_those_of_go() {
        let mut text = Vec::new();
        push_segment(&mut text, b"\0\x01\xff", 0);
        push_file(&mut text, b"etc/", 0, 0, 1);
        push_file(&mut text, "etc/\u{fc}\"".as_bytes(), 6, 0x1234_5678_9abc_def0, 2);
        push_file(&mut text, b"\xff", 1, 1, 3);
        let expected = [
            r#"{"type":2,"payload":"AAH/","position":0}"#,
            r#"{"type":1,"name":"etc/","payload":null,"position":1}"#,
            "{\"type\":1,\"name\":\"etc/\u{fc}\\\"\",\"size\":6,\"payload\":\"EjRWeJq83vA=\",\"position\":2}",
            r#"{"type":1,"name_raw":"/w==","size":1,"payload":"AAAAAAAAAAE=","position":3}"#,
            "",
        ];
        assert_eq!(String::from_utf8(text).unwrap(), expected.join("\n"));
    }

    #[test]
    fn fields_that_go_leaves_out_or_writes_may_be_missing() {
        let file = |name: &[u8], bytes, crc| Line::File { name: name.to_vec(), bytes, crc };
        for (text, expected) in [
            (r#"{"type":1,"name":"a","payload":null,"position":7}"#, file(b"a", 0, 0)),
            (r#"{"type":1,"payload":null,"position":7}"#, file(b"", 0, 0)),
            (r#"{"type":1,"name":"\u003c\/","position":7,"extra":[1]}"#, file(b"</", 0, 0)),
            // The size field of a hard link, and the checksum of the nothing that followed.
            (r#"{"type":1,"name":"a","size":9,"payload":"AAAAAAAAAAA=","position":7}"#, file(b"a", 0, 0)),
            (r#"{"type":2,"payload":null,"position":7}"#, Line::Segment(Vec::new())),
        ] {
            assert_eq!(Line::parse(text.as_bytes(), 7).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn damage_is_told() {
        for (text, expected) in [
            (r#"{"type":3,"position":0}"#, "an entry of type 3"),
            (r#"{"type":2,"position":4}"#, "an entry at position 4 where 0 is due"),
            (r#"{"type":2,"payload":"A","position":0}"#, "a payload that is not base64"),
            (r#"{"type":1,"name":"a","size":1,"payload":"AAAA","position":0}"#, "a checksum of 3 bytes"),
            (r#"{"type":1,"name":"a","size":1,"position":0}"#, "a checksum of 0 bytes"),
            (r#"{"type":1,"name":"a","size":-1,"position":0}"#, "a file of -1 bytes"),
            (r#"{"type":2,"payload":"#, "EOF while parsing a value at line 1 column 20"),
            ("", "EOF while parsing a value at line 1 column 0"),
        ] {
            assert_eq!(Line::parse(text.as_bytes(), 0).unwrap_err().to_string(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            name in prop::collection::vec(any::<u8>(), 0..30),
            bytes in 1..=u64::try_from(i64::MAX).unwrap(),
            crc in 1..=u64::MAX,
        ) {
            let mut text = Vec::new();
            push_segment(&mut text, &payload, 5);
            prop_assert_eq!(Line::parse(&text, 5).unwrap(), Line::Segment(payload));
            text.clear();
            push_file(&mut text, &name, bytes, crc, 6);
            prop_assert_eq!(Line::parse(&text, 6).unwrap(), Line::File { name, bytes, crc });
        }

        #[test]
        fn any_bytes_end(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Line::parse(&text, 0);
        }
    }
}
