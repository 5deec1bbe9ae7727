//! Sizes as people write them.

use crate::error::{Error, ErrorKind, Result};

/// The number of bytes that `text` stands for: a decimal number, optionally one space, optionally a unit.
///
/// Units are `b`, `k`, `m`, `g`, `t` and `p`, each a power of 1024, optionally followed by `b` or `ib`, in upper or lower case: `50kb` is 51200, as in the Go drivers (`RAMInBytes` of go-units).
/// Part of a byte is dropped.
///
/// # Errors
/// `InvalidArgument` for anything else, and for what does not fit into 64 bits.
#[doc(alias = "RAMInBytes")]
pub fn parse_size(text: &str) -> Result<u64> {
    let invalid = |what: &str| {
        Error::new(ErrorKind::InvalidArgument, "parse size").detail(format!("invalid {what}: '{text}'"))
    };
    let number_len = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(number_len);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let shift = unit_shift(unit).ok_or_else(|| invalid(if number.is_empty() { "size" } else { "suffix" }))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid("size"));
    }
    scale(whole, fraction, shift).ok_or_else(|| invalid("size"))
}

/// `bytes` with four significant digits and a unit (`B`, `KiB` to `EiB`): 51200 is `50KiB`, 1500000 is `1.431MiB`.
#[doc(alias = "BytesSize")]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let index = (bytes.max(1).ilog2() / 10) as usize;
    let shift = 10 * index;
    let whole = bytes >> shift;
    let decimals = 3 - whole.max(1).ilog10().min(3);
    // Rounded in units of the last digit that is shown.
    let scale = 10_u128.pow(decimals);
    let rounded = (u128::from(bytes) * scale + ((1_u128 << shift) >> 1)) >> shift;
    let (whole, fraction) = (rounded / scale, rounded % scale);
    if fraction == 0 {
        return format!("{whole}{}", UNITS[index]);
    }
    let fraction = format!("{fraction:0width$}", width = decimals as usize);
    format!("{whole}.{}{}", fraction.trim_end_matches('0'), UNITS[index])
}

/// The power of two that a unit stands for.
fn unit_shift(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    if matches!(&*unit, "" | "b") {
        return Some(0);
    }
    let (prefix, rest) = unit.split_at_checked(1)?;
    let power = "kmgtp".find(prefix)?;
    matches!(rest, "" | "b" | "ib").then_some(10 * (u32::try_from(power).ok()? + 1))
}

/// `whole.fraction` times two to the power of `shift`; exact, and `None` when it is no number or too large.
fn scale(whole: &str, fraction: &str, shift: u32) -> Option<u64> {
    let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let whole = number(whole)?.checked_mul(1 << shift)?;
    // The largest unit has fewer than 18 decimal digits; what follows is less than a byte.
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let part = (number(fraction)? << shift) / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    u64::try_from(whole.checked_add(part)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_go_units_parses() {
        let table = [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("50kb", 51200),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32KiB", 32 << 10),
            ("32 kib", 32 << 10),
            ("32 KB", 32 << 10),
            ("32Mb", 32 << 20),
            ("32 Gb", 32 << 30),
            ("10m", 10 << 20),
            ("32Tb", 32 << 40),
            ("32Pb", 32 << 50),
            ("32.5kB", 33280),
            ("0.5 k", 512),
            (".5k", 512),
            ("5.k", 5120),
            ("32.3", 32),
            ("0.0001k", 0),
            ("1.999999999999999999999999b", 1),
            ("18446744073709551615", u64::MAX),
            ("32 ", 32),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text:?}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_is_wrong() {
        let table = [
            ("", "size"),
            ("hello", "size"),
            ("-32", "size"),
            (" 32", "size"),
            (".", "size"),
            (".kb", "size"),
            ("1.2.3", "size"),
            ("16384p", "size"),
            ("18446744073709551616", "size"),
            ("999999999999999999999999999999999999999999999p", "size"),
            ("32m b", "suffix"),
            ("32bm", "suffix"),
            ("32kk", "suffix"),
            ("32kbi", "suffix"),
            ("32  kb", "suffix"),
            ("32e", "suffix"),
            ("32q", "suffix"),
            ("32é", "suffix"),
        ];
        for (text, what) in table {
            let error = parse_size(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert_eq!(error.to_string(), format!("parse size: invalid {what}: '{text}'"));
        }
    }

    #[test]
    fn formats_with_four_digits() {
        let table = [
            (0, "0B"),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (51200, "50KiB"),
            (1_000_000, "976.6KiB"),
            (1_500_000, "1.431MiB"),
            ((1 << 20) - 1, "1024KiB"),
            (10 << 30, "10GiB"),
            (u64::MAX, "16EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(format_size(bytes), text, "{bytes}");
        }
    }
}
