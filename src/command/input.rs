//! Files and standard input of the commands, with limits, and times in arguments.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::time::{SystemTime, UNIX_EPOCH};

use super::progress::Progress;
use super::{escaped, Streams};
use crate::certificate::time;

/// The label of standard input in messages.
pub(super) const STDIN: &str = "standard input";

/// The name of an operand in messages. `-` is standard input.
pub(super) fn label(file: &OsStr) -> String {
    match file {
        file if file == "-" => STDIN.to_owned(),
        file => escaped(file),
    }
}

/// Reads a file, or standard input for `-`, of at most `max` bytes, and reports that it takes long,
/// unless it is typed.
///
/// # Errors
/// As [`read`].
pub(super) fn read_with_progress(
    file: &OsStr,
    streams: &mut Streams,
    max: usize,
    progress: &mut Progress,
) -> Result<Vec<u8>, String> {
    let Streams { input, err, .. } = streams;
    if file == "-" && io::stdin().is_terminal() {
        return read(file, *input, max);
    }
    let what = format!("reading {}", label(file));
    progress.during(*err, &what, || read(file, *input, max))
}

/// Reads a file, or standard input for `-`, of at most `max` bytes.
///
/// # Errors
/// What is wrong, with the name of the file, as one line.
pub(super) fn read(file: &OsStr, stdin: &mut dyn Read, max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let result = match file {
        file if file == "-" => read_limited(stdin, max, &mut bytes),
        file => File::open(file).and_then(|file| read_limited(file, max, &mut bytes)),
    };
    match result {
        Err(error) => Err(format!("{}: cannot be read: {error}", label(file))),
        Ok(()) if bytes.len() > max => {
            let limit = match max >> 20 {
                0 => format!("{} KB", max >> 10),
                megabytes => format!("{megabytes} MB"),
            };
            Err(format!(
                "{}: over {limit}, the limit for this file",
                label(file)
            ))
        }
        Ok(()) => Ok(bytes),
    }
}

/// One byte more than `max` is read, to recognise a longer file.
fn read_limited(input: impl Read, max: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    input.take(max as u64 + 1).read_to_end(bytes)?;
    Ok(())
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}

/// Reads a time: `2027-01-31T08:00:00Z`, `2027-01-31` for its begin in UTC, or seconds since 1970.
///
/// # Errors
/// What is expected.
pub(super) fn parse_time(text: &str) -> Result<i64, &'static str> {
    const EXPECTED: &str = "expected a time such as 2027-01-31T08:00:00Z, 2027-01-31, or seconds \
                            since 1970";
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && text.len() <= 12 {
        return text.parse().map_err(|_| EXPECTED);
    }
    let time = match text.len() {
        10 => time::parse_rfc3339(&format!("{text}T00:00:00Z")),
        _ => time::parse_rfc3339(text),
    };
    time.ok_or(EXPECTED)
}

/// The value of the option `name`, a time as [`parse_time`] reads it; now without the option.
///
/// # Errors
/// What is wrong, with the name of the option.
pub(super) fn time_or_now(name: &str, value: Option<&OsStr>) -> Result<i64, String> {
    let Some(value) = value else {
        return Ok(now());
    };
    let time = parse_time(value.to_str().unwrap_or_default());
    time.map_err(|why| format!("{name}: '{}', {why}", escaped(value)))
}
