//! Text that several rooms share: foreign text in messages, and hexadecimal digits.

/// Foreign text as part of a one-line message: control characters and quotes are escaped, and what
/// follows the 64th character is replaced by `...`.
pub(crate) fn quoted(text: &[u8]) -> String {
    const MAX_CHARS: usize = 64;
    let text = String::from_utf8_lossy(text);
    let mut out = String::with_capacity(text.len().min(MAX_CHARS));
    for (i, c) in text.chars().enumerate() {
        if i == MAX_CHARS {
            out.push_str("...");
            break;
        }
        match c {
            '"' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

/// Lower-case hexadecimal digits, two a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_control_characters_are_escaped_and_length_is_bounded() {
        assert_eq!(quoted(b"a\r\n\x1b[31m'\"\\"), "a\\r\\n\\u{1b}[31m\\'\"\\\\");
        assert_eq!(quoted("é\u{2028}".as_bytes()), "é\\u{2028}");
        assert_eq!(quoted(&[b'x'; 65]), format!("{}...", "x".repeat(64)));
    }

    #[test]
    fn hex_is_two_lower_case_digits_a_byte() {
        assert_eq!(hex(&[]), "");
        assert_eq!(hex(&[0, 0x0f, 0xa9, 0xff]), "000fa9ff");
    }
}
