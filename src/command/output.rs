//! What the commands write: JSON, and foreign text made harmless for a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::Value;

/// Writes the value of `--json`: one JSON value, indented, with a line feed. Characters that a
/// terminal could interpret are escaped, which JSON demands only below U+0020.
pub(super) fn write_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    let text = format!("{value:#}");
    let mut safe = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c == '\n' || is_harmless(c) {
            safe.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    safe.push('\n');
    out.write_all(safe.as_bytes())
}

/// Foreign text for a line of output: control characters, line separators, characters without a
/// glyph and those that change the direction of writing become `\u{...}`, and bytes that are not
/// UTF-8 `\xHH`. Backslashes stay, as names have escapes of their own: `--json` is unambiguous.
pub(super) fn printable(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_harmless(c) {
                out.push(c);
            } else {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Whether a terminal shows the character as a glyph of its own and does nothing else.
fn is_harmless(c: char) -> bool {
    // `escape_debug` leaves what is printable, and escapes these three for another reason.
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_escapes_what_a_terminal_interprets() {
        for (text, expected) in [
            (&b"plain 'text'"[..], "plain 'text'"),
            ("Zürich 東京".as_bytes(), "Zürich 東京"),
            (b"a\x1b[31mb\x07\r\n", "a\\u{1b}[31mb\\u{7}\\u{d}\\u{a}"),
            ("\u{9b}2J\u{7f}".as_bytes(), "\\u{9b}2J\\u{7f}"),
            (
                "\u{202e}\u{2028}\u{200b}\u{feff}".as_bytes(),
                "\\u{202e}\\u{2028}\\u{200b}\\u{feff}",
            ),
            (b"CN=a\\,b", "CN=a\\,b"),
            (b"\xff\xc3", "\\xff\\xc3"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn write_json_escapes_what_a_terminal_interprets() {
        let text = "a\u{1b}\u{9b}\u{7f}\u{202e}\u{e0001}\"\\é";
        let value = serde_json::json!({ "name": text });
        let mut out = Vec::new();
        write_json(&mut out, &value).unwrap();
        let written = String::from_utf8(out).unwrap();
        assert_eq!(
            written,
            "{\n  \"name\": \"a\\u001b\\u009b\\u007f\\u202e\\udb40\\udc01\\\"\\\\é\"\n}\n"
        );
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
    }
}
