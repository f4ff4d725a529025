//! Server names, as clients send them in SNI or Host, and patterns that match them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::certificate::normal_form::MAX_LABEL;
use crate::text::quoted;
use crate::Error;

/// Longest server name, in bytes. A longer one is treated as absent.
pub const MAX_LEN: usize = 255;

/// Bytes that are folded at a time, so that the compiler uses vector registers without a remainder
/// loop. This runs on every request.
const CHUNK: usize = 32;

/// Buffer for a normalised name.
pub type Buffer = [u8; MAX_LEN + 1];

/// Converts a server name from a client to lower case and removes one trailing dot.
///
/// `None` means that there is no server name: the text is empty, longer than [`MAX_LEN`] bytes, or
/// has a NUL, at which C code may truncate it.
#[inline]
pub fn normalise<'a>(raw: &[u8], buffer: &'a mut Buffer) -> Option<&'a [u8]> {
    if raw.len() > MAX_LEN {
        return None;
    }
    *buffer = [0; MAX_LEN + 1];
    buffer.get_mut(..raw.len())?.copy_from_slice(raw);
    let chunks = raw.len() / CHUNK + 1;
    let mut zeros = 0;
    for chunk in buffer.chunks_exact_mut(CHUNK).take(chunks) {
        zeros += chunk.iter().filter(|&&byte| byte == 0).count();
        chunk.make_ascii_lowercase();
    }
    if zeros > chunks * CHUNK - raw.len() {
        return None;
    }
    let name = buffer.get(..raw.len() - usize::from(raw.ends_with(b".")))?;
    (!name.is_empty()).then_some(name)
}

/// The name from its first dot on: the text that a `*.` pattern that matches the name has after its
/// star. `None` when no label precedes the dot, so that no such pattern matches.
#[inline]
pub fn parent(name: &[u8]) -> Option<&[u8]> {
    match name.iter().position(|&byte| byte == b'.') {
        None | Some(0) => None,
        Some(dot) => name.get(dot..),
    }
}

/// A pattern for server names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// One name: `api.example.com`.
    Exact(String),
    /// `*.example.com`: exactly one label before `.example.com`. Holds `.example.com`.
    Wildcard(String),
    /// `*`: every name, and the absence of a name.
    Any,
    /// The absence of a name alone: a client without SNI.
    Absent,
}

impl Pattern {
    /// Reads an entry of `snis`: a pattern, or `""` for clients without SNI.
    ///
    /// # Errors
    /// As [`Pattern::parse`], and for an IP address, which no client sends as SNI.
    pub fn parse_sni(text: &[u8]) -> Result<Pattern, Error> {
        if text.is_empty() {
            return Ok(Pattern::Absent);
        }
        let name = text.strip_suffix(b".").unwrap_or(text);
        if is_address(name) {
            return Err(Error::ServerName(format!(
                "server name '{}': is an IP address, under which clients send no server name \
                 (RFC 6066 section 3), expected a DNS name, or \"\" for clients without SNI",
                quoted(text)
            )));
        }
        Pattern::parse(text)
    }

    /// Reads a pattern. It is converted to lower case, one trailing dot is removed, and U-labels
    /// are converted to A-labels.
    ///
    /// # Errors
    /// [`Error::ServerName`] for text that cannot match a server name.
    pub fn parse(text: &[u8]) -> Result<Pattern, Error> {
        let error = |why: &str| Error::ServerName(format!("server name '{}': {why}", quoted(text)));
        let name = std::str::from_utf8(text).map_err(|_| error("is not UTF-8"))?;
        if name == "*" {
            return Ok(Pattern::Any);
        }
        let (wildcard, base) = match name.strip_prefix("*.") {
            Some(base) => (true, base),
            None => (false, name),
        };
        if base.contains('*') {
            return Err(error(if base.ends_with(".*") {
                "a wildcard at the right end is not supported, \
                 expected '*' as the left-most label or a full name"
            } else {
                "'*' stands for one whole label at the left end, expected for example \
                 '*.example.com'"
            }));
        }
        if !wildcard {
            if let Some(address) = address(base) {
                return Ok(Pattern::Exact(address));
            }
        }
        let base = if base.is_ascii() {
            base.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(base)
                .map_err(|_| error("is not a valid internationalised name (UTS 46)"))?
        };
        let base = base.strip_suffix('.').unwrap_or(&base);
        check_labels(base).map_err(|why| error(&why))?;
        if base.len() + if wildcard { 2 } else { 0 } > MAX_LEN {
            return Err(error(&format!("is over {MAX_LEN} bytes")));
        }
        Ok(if wildcard {
            Pattern::Wildcard(format!(".{base}"))
        } else {
            Pattern::Exact(base.to_owned())
        })
    }
}

/// Writes the pattern in canonical form.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Exact(name) => f.write_str(name),
            Pattern::Wildcard(parent) => write!(f, "*{parent}"),
            Pattern::Any => f.write_str("*"),
            Pattern::Absent => f.write_str("\"\""),
        }
    }
}

/// Whether a name is an IP address, with or without brackets. A client that connects to an address
/// sends no SNI.
pub fn is_address(name: &[u8]) -> bool {
    // Most names have a letter that no address has, or a last label that is no number.
    let may_be = matches!(
        name.last(),
        Some(b']' | b':' | b'.' | b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
    );
    may_be && std::str::from_utf8(name).is_ok_and(|name| address(name).is_some())
}

/// An IP address in the spelling of nginx's `$host`. Host may be an address, SNI may not.
fn address(text: &str) -> Option<String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Some(Ok(_)) = bare.map(str::parse::<Ipv6Addr>) {
        return Some(text.to_ascii_lowercase());
    }
    match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(_) => Some(text.to_owned()),
        IpAddr::V6(_) => Some(format!("[{}]", text.to_ascii_lowercase())),
    }
}

fn check_labels(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty, expected a name such as 'api.example.com'".to_owned());
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("has an empty label".to_owned());
        }
        if label.len() > MAX_LABEL {
            return Err(format!("has a label of over {MAX_LABEL} bytes"));
        }
        let is_invalid = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if let Some(invalid) = label.chars().find(is_invalid) {
            return Err(format!(
                "has '{}', expected letters, digits, '-', '_' and '.' only",
                quoted(invalid.encode_utf8(&mut [0; 4]).as_bytes())
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(raw: &[u8]) -> Option<Vec<u8>> {
        normalise(raw, &mut [0; 256]).map(<[u8]>::to_vec)
    }

    fn refusal(text: &[u8]) -> String {
        Pattern::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn normalise_folds_case_and_removes_one_trailing_dot() {
        assert_eq!(name(b"API.Example.COM."), Some("api.example.com".into()));
        assert_eq!(name(b"a.."), Some("a.".into()));
        assert_eq!(name(b"x"), Some("x".into()));
    }

    #[test]
    fn normalise_empty_long_or_with_nul_is_none() {
        let long = [b'a'; 256];
        for raw in [&b""[..], b".", b"a\0.test", b"\0", &long] {
            assert_eq!(name(raw), None, "{raw:?}");
        }
        assert_eq!(name(&long[1..]).map(|name| name.len()), Some(255));
        let mut dotted = long;
        dotted[255] = b'.';
        assert_eq!(name(&dotted), None, "256 bytes, dot included");
    }

    #[test]
    fn normalise_keeps_bytes_that_are_not_utf8() {
        assert_eq!(name(b"\xff\xc3A.test"), Some(b"\xff\xc3a.test".into()));
    }

    #[test]
    fn parent_without_a_label_before_the_dot_is_none() {
        assert_eq!(parent(b"a.example.com"), Some(&b".example.com"[..]));
        assert_eq!(parent(b"a.b.example.com"), Some(&b".b.example.com"[..]));
        assert_eq!(parent(b".example.com"), None);
        assert_eq!(parent(b"localhost"), None);
    }

    #[test]
    fn parse_normalises_names() {
        for (text, canonical) in [
            ("API.Example.com.", "api.example.com"),
            ("localhost", "localhost"),
            ("_dns.example.com", "_dns.example.com"),
            ("*.Example.com", "*.example.com"),
            ("*.test", "*.test"),
            ("*", "*"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.BÜCHER.example.", "*.xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("2001:DB8::1", "[2001:db8::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(
                Pattern::parse(text.as_bytes()).unwrap().to_string(),
                canonical
            );
        }
    }

    #[test]
    fn parse_sni_refuses_addresses_and_takes_the_empty_text() {
        assert_eq!(Pattern::parse_sni(b""), Ok(Pattern::Absent));
        assert_eq!(Pattern::Absent.to_string(), "\"\"");
        for text in [
            "10.0.0.1",
            "127.0.0.1.",
            "::1",
            "[2001:db8::1]",
            "::ffff:192.0.2.1",
        ] {
            assert_eq!(
                Pattern::parse_sni(text.as_bytes()).unwrap_err().to_string(),
                format!(
                    "server name '{text}': is an IP address, under which clients send no server \
                     name (RFC 6066 section 3), expected a DNS name, or \"\" for clients without SNI"
                )
            );
        }
        for text in [
            "10.0.0.1.example.com",
            "1.2.3",
            "cafe",
            "*.10.in-addr.arpa",
            "*",
        ] {
            assert_eq!(
                Pattern::parse_sni(text.as_bytes()),
                Pattern::parse(text.as_bytes())
            );
        }
    }

    #[test]
    fn parse_refuses_a_wildcard_that_is_not_the_first_label() {
        assert_eq!(
            refusal(b"example.*"),
            "server name 'example.*': a wildcard at the right end is not supported, \
             expected '*' as the left-most label or a full name"
        );
        for text in [
            "a*.example.com",
            "a.*.example.com",
            "**.example.com",
            "*.*.com",
            "**",
        ] {
            assert_eq!(
                refusal(text.as_bytes()),
                format!(
                    "server name '{text}': '*' stands for one whole label at the left end, \
                     expected for example '*.example.com'"
                )
            );
        }
    }

    #[test]
    fn parse_refuses_text_that_is_not_a_name() {
        for (text, why) in [
            (
                &b""[..],
                "'': is empty, expected a name such as 'api.example.com'",
            ),
            (
                b".",
                "'.': is empty, expected a name such as 'api.example.com'",
            ),
            (
                b"*.",
                "'*.': is empty, expected a name such as 'api.example.com'",
            ),
            (b"a..b", "'a..b': has an empty label"),
            (b".a", "'.a': has an empty label"),
            (
                b"a.test:8443",
                "'a.test:8443': has ':', expected letters, digits, '-', '_' and '.' only",
            ),
            (
                b"a\0b\n",
                "'a\\0b\\n': has '\\0', expected letters, digits, '-', '_' and '.' only",
            ),
            (b"\xff", "'\u{fffd}': is not UTF-8"),
            (
                "a\u{202e}b.test".as_bytes(),
                "'a\\u{202e}b.test': is not a valid internationalised name (UTS 46)",
            ),
        ] {
            assert_eq!(refusal(text), format!("server name {why}"));
        }
    }

    #[test]
    fn parse_refuses_lengths_over_the_limits() {
        let label = "a".repeat(63);
        let long = [&*label; 4].join(".");
        assert_eq!(
            Pattern::parse(long.as_bytes()),
            Ok(Pattern::Exact(long.clone()))
        );
        assert_eq!(
            refusal(format!("b.{long}").as_bytes()),
            format!("server name 'b.{}...': is over 255 bytes", &long[..62])
        );
        assert_eq!(
            refusal(format!("*.{long}").as_bytes()),
            format!("server name '*.{}...': is over 255 bytes", &long[..62])
        );
        assert_eq!(
            refusal(format!("{label}a").as_bytes()),
            format!("server name '{label}a': has a label of over 63 bytes")
        );
    }
}
