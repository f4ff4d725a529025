//! Normal form of URIs (RFC 3986 section 6.2.2, RFC 8141 section 3.1 for `urn:`).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{dns, labels, Irregular, NormalForm, NormalName};
use icu_normalizer::ComposingNormalizerBorrowed;

/// Longest URI in bytes. SPIFFE IDs end at 2048.
const MAX: usize = 8192;
/// Longest host in bytes. A SPIFFE trust domain has up to 255 bytes, in labels of any length.
const MAX_HOST: usize = 255;

/// Schemes with an authority, and their default ports. With 0, the authority has no port.
const SCHEMES: &[(&str, u16)] = &[
    ("spiffe", 0),
    ("http", 80),
    ("https", 443),
    ("ws", 80),
    ("wss", 443),
    ("ftp", 21),
    ("ldap", 389),
    ("ldaps", 636),
];

/// The normal form of a uniformResourceIdentifier: scheme and host in lower case, the host without
/// trailing dot, no default port, escapes of unreserved characters decoded and others in upper
/// case, and `/` for an empty path (except for `spiffe`).
///
/// Parts that readers resolve, truncate or split differently are irregular: dot segments, empty
/// segments, query, fragment, user information, escaped slashes and control characters, and escapes
/// of escapes. Everything that RFC 3986 does not allow is irregular too.
///
/// The comparison of URIs that differ only in the escaping of reserved characters is not certain,
/// nor that of URIs without authority that differ only in letter case.
pub fn uri(raw: &[u8]) -> NormalForm {
    if raw.len() > MAX {
        return Err(Irregular::new(
            "is longer than 8192 bytes",
            "at most 8192 bytes",
        ));
    }
    let query = |byte: &u8| matches!(byte, b'?' | b'#');
    if raw.iter().any(query) {
        return Err(Irregular::new(
            "has a '?' or '#'",
            "a URI without query and fragment",
        ));
    }
    let (scheme, rest) = split_scheme(raw)?;
    let mut exact = scheme.clone();
    exact.push(b':');
    let port = SCHEMES.iter().find(|(name, _)| name.as_bytes() == scheme);
    let spiffe = port.is_some_and(|(_, port)| *port == 0);
    let Some(rest) = rest.strip_prefix(b"//") else {
        if port.is_some() {
            return Err(Irregular::new(
                "has no '//' and host after its scheme",
                "for example 'spiffe://example.org/ns/payments'",
            ));
        }
        let rest = path(rest)?;
        if rest.is_empty() {
            return Err(Irregular::new(
                "has nothing after its scheme",
                "for example 'urn:example:payments'",
            ));
        }
        exact.extend(opaque(&scheme, rest));
        let broad = without_escapes(&exact).to_ascii_lowercase();
        return Ok(NormalName::new(exact, broad));
    };
    let slash = rest.iter().position(|byte| *byte == b'/');
    let (authority, rest) = rest.split_at(slash.unwrap_or(rest.len()));
    exact.extend(b"//");
    exact.extend(self::authority(authority, port.map(|(_, port)| *port))?);
    let rest = path(rest)?;
    if spiffe && rest.ends_with(b"/") {
        return Err(Irregular::new(
            "ends in a '/'",
            "a SPIFFE ID without a slash at its end",
        ));
    }
    exact.extend(&rest);
    if rest.is_empty() && !spiffe {
        exact.push(b'/');
    }
    let broad = without_escapes(&exact);
    Ok(NormalName::new(exact, broad))
}

/// The normal form of a prefix of URIs that ends with `/` or `:`. `spiffe://` is the prefix of all
/// URIs of the scheme.
pub fn uri_prefix(raw: &[u8]) -> NormalForm {
    if let Some(scheme) = raw.strip_suffix(b"://") {
        let (scheme, _) = split_scheme(&[scheme, b":"].concat())?;
        return Ok(NormalName::with_one_form([&scheme[..], b"://"].concat()));
    }
    // A prefix with a character appended is a URI.
    let NormalName { exact, broad } = uri(&[raw, b"x"].concat())?;
    let cut = |text: Box<[u8]>| text.strip_suffix(b"x").map(Box::from).unwrap_or(text);
    Ok(NormalName {
        exact: cut(exact),
        broad: broad.map(cut),
    })
}

/// The scheme in lower case, and the rest after the colon.
fn split_scheme(raw: &[u8]) -> Result<(Vec<u8>, &[u8]), Irregular> {
    const NONE: Irregular = Irregular::new(
        "has no scheme",
        "a URI such as 'spiffe://example.org/ns/payments'",
    );
    let colon = raw.iter().position(|byte| *byte == b':').ok_or(NONE)?;
    let (scheme, rest) = raw.split_at(colon);
    let rest = rest.get(1..).unwrap_or_default();
    let other = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    match scheme.first() {
        Some(first) if first.is_ascii_alphabetic() && scheme.iter().all(other) => {
            Ok((scheme.to_ascii_lowercase(), rest))
        }
        _ => Err(NONE),
    }
}

/// The normal form of host and port. `default_port` is that of the scheme; with 0, no port is
/// allowed.
fn authority(raw: &[u8], default_port: Option<u16>) -> Result<Vec<u8>, Irregular> {
    const PORT: Irregular =
        Irregular::new("has an invalid port", "a port from 0 to 65535, or no port");
    if raw.contains(&b'@') {
        return Err(Irregular::new(
            "has user information",
            "a host without anything before it",
        ));
    }
    let (mut host, port) = match raw.first() {
        Some(b'[') => {
            const WRONG: Irregular = Irregular::new(
                "has a host in brackets that is not an IPv6 address",
                "for example '[2001:db8::7]'",
            );
            let end = raw.iter().position(|byte| *byte == b']').ok_or(WRONG)?;
            let (address, port) = raw.split_at(end);
            let address = std::str::from_utf8(address.get(1..).unwrap_or_default())
                .ok()
                .and_then(|text| text.parse::<Ipv6Addr>().ok())
                .ok_or(WRONG)?;
            let port = match port.get(1..).unwrap_or_default() {
                [] => None,
                [b':', port @ ..] => Some(port),
                _ => return Err(PORT),
            };
            (format!("[{address}]").into_bytes(), port)
        }
        _ => {
            let colon = raw.iter().position(|byte| *byte == b':');
            let (name, port) = raw.split_at(colon.unwrap_or(raw.len()));
            (host(name, default_port == Some(0))?, port.get(1..))
        }
    };
    if default_port == Some(0) && port.is_some() {
        return Err(Irregular::new(
            "has a port",
            "a trust domain without a port",
        ));
    }
    let Some(digits) = port.filter(|digits| !digits.is_empty()) else {
        return Ok(host);
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(PORT);
    }
    let port: u16 = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(PORT)?;
    if default_port != Some(port) {
        host.extend(format!(":{port}").bytes());
    }
    Ok(host)
}

/// The normal form of a host.
fn host(raw: &[u8], trust_domain: bool) -> Result<Vec<u8>, Irregular> {
    let host = unescaped(raw)?;
    let host = host.strip_suffix(b".").unwrap_or(&host);
    if host.len() > MAX_HOST {
        return Err(Irregular::new(
            "has a host longer than 255 bytes",
            "at most 255 bytes",
        ));
    }
    let name = labels(host)?;
    if trust_domain {
        return Ok(name);
    }
    // Some readers parse '127.1', '0x7f.1' and '2130706433' as addresses.
    let last = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let number = last.iter().all(u8::is_ascii_digit) || last.starts_with(b"0x");
    let address = || std::str::from_utf8(&name).is_ok_and(|name| name.parse::<Ipv4Addr>().is_ok());
    if number && !address() {
        return Err(Irregular::new(
            "has a host that some readers take for another IPv4 address",
            "four decimal numbers without leading zeros, such as '192.0.2.7'",
        ));
    }
    dns(&name).map(|_| name)
}

/// The normal form of a path.
fn path(raw: &[u8]) -> Result<Vec<u8>, Irregular> {
    let path = unescaped(raw)?;
    let segments = path.split(|byte| *byte == b'/');
    let count = segments.clone().count();
    for (index, segment) in segments.enumerate() {
        if segment.is_empty() && index > 0 && index + 1 < count {
            return Err(Irregular::new(
                "has an empty path segment ('//')",
                "one '/' between two segments",
            ));
        }
        // Servers that support path parameters read '..;x' as '..'.
        let name = segment.split(|byte| *byte == b';').next();
        if matches!(name, Some(b"." | b"..")) {
            return Err(Irregular::new(
                "has a '.' or '..' segment",
                "a path without them",
            ));
        }
    }
    Ok(path)
}

/// The text with escapes of unreserved characters decoded, and others in upper case.
fn unescaped(raw: &[u8]) -> Result<Vec<u8>, Irregular> {
    let mut out = Vec::with_capacity(raw.len());
    let mut decoded = Vec::new();
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            let pchar = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
            if !pchar {
                return Err(Irregular::new(
                    "has a character that is not allowed in a URI",
                    "other characters than those of RFC 3986 escaped, such as '%20'",
                ));
            }
            out.push(byte);
            decoded.push(byte);
            continue;
        }
        let octet = after
            .get(..2)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or(Irregular::new(
                "has a '%' without two hexadecimal digits",
                "an escape such as '%20'",
            ))?;
        rest = after.get(2..).unwrap_or_default();
        match octet {
            b'/' | b'\\' => {
                return Err(Irregular::new(
                    "has an escaped slash",
                    "'/' between segments, and none within one",
                ))
            }
            0..=0x1f | 0x7f => {
                return Err(Irregular::new(
                    "has an escaped control character",
                    "visible characters",
                ))
            }
            _ if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) => out.push(octet),
            _ => out.extend(format!("%{octet:02X}").bytes()),
        }
        decoded.push(octet);
    }
    // This also finds '%25%34%31', whose digits are decoded in `out`.
    let is_double_escape = |bytes: &[u8]| {
        let digits = bytes.strip_prefix(b"%25");
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if out.windows(5).any(is_double_escape) {
        return Err(Irregular::new(
            "has an escape of an escape",
            "characters that are escaped once",
        ));
    }
    if !decoded.is_ascii() {
        let text = std::str::from_utf8(&decoded).ok();
        let nfkc = ComposingNormalizerBorrowed::new_nfkc();
        let plain = |text: &str| {
            nfkc.is_normalized(text)
                && !text
                    .chars()
                    .any(|c| c.is_control() || super::is_invisible(c))
        };
        if !text.is_some_and(plain) {
            return Err(Irregular::new(
                "has escapes that are not plain characters in UTF-8",
                "escaped UTF-8 in the normal form NFKC",
            ));
        }
    }
    Ok(out)
}

/// The normal form of the part after a scheme without authority. The namespace of a URN is
/// converted to lower case, and so is a UUID.
fn opaque(scheme: &[u8], mut rest: Vec<u8>) -> Vec<u8> {
    if scheme == b"urn" {
        let colon = rest.iter().position(|byte| *byte == b':');
        let end = colon.unwrap_or(rest.len());
        let (namespace, specific) = rest.split_at_mut(end);
        namespace.make_ascii_lowercase();
        if namespace == b"uuid" {
            specific.make_ascii_lowercase();
        }
    }
    rest
}

/// The text with escapes of visible ASCII characters decoded.
fn without_escapes(normal: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(normal.len());
    let mut rest = normal;
    while let Some((&byte, after)) = rest.split_first() {
        let octet = after
            .get(..2)
            .filter(|_| byte == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(u8::is_ascii_graphic);
        match octet {
            Some(octet) => {
                out.push(octet);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(a: &str, b: &str) -> Option<bool> {
        let [a, b] = [a, b].map(|text| uri(text.as_bytes()).expect(text));
        assert_eq!(a.is(&b), b.is(&a), "{a:?} {b:?}");
        a.is(&b)
    }

    #[test]
    fn uri_spellings_of_one_uri_are_equal() {
        for (a, b) in [
            (
                "spiffe://example.org/ns/banned/x",
                "SPIFFE://EXAMPLE.org/ns/banned/x",
            ),
            ("spiffe://example.org/a", "spiffe://example.org./a"),
            ("spiffe://example.org/a", "spiffe://ex%61mple.org/%61"),
            (
                "spiffe://example.org/a-._~",
                "spiffe://example.org/a%2D%2e%5f%7E",
            ),
            ("https://example.org/a%3ab", "https://example.org/a%3Ab"),
            ("https://example.org", "https://example.org:443/"),
            ("https://example.org/a", "https://example.org:/a"),
            ("https://example.org:8443/a", "https://example.org:08443/a"),
            ("https://[2001:DB8::7]/", "https://[2001:db8:0::7]"),
            (
                "https://xn--bcher-kva.example/",
                "https://XN--Bcher-KVA.example",
            ),
            ("urn:Example:a", "URN:example:a"),
            (
                "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
                "urn:UUID:F81D4FAE-7dec-11d0-a765-00a0c91e6bf6",
            ),
        ] {
            assert_eq!(is(a, b), Some(true), "{a} {b}");
        }
    }

    #[test]
    fn uri_other_uris_differ() {
        for (a, b) in [
            (
                "spiffe://example.org/ns/banned",
                "spiffe://example.org/ns/Banned",
            ),
            ("spiffe://example.org/a", "spiffe://example.com/a"),
            ("spiffe://example.org/a", "https://example.org/a"),
            ("https://example.org/a", "https://example.org/a/"),
            ("https://example.org:443/", "http://example.org:443/"),
            ("urn:example:a", "urn:example:b"),
            ("spiffe://example.org", "spiffe://example.org/a"),
        ] {
            assert_eq!(is(a, b), Some(false), "{a} {b}");
        }
    }

    #[test]
    fn uri_reserved_escapes_and_case_without_authority_are_not_certain() {
        for (a, b) in [
            ("https://example.org/a,b", "https://example.org/a%2cb"),
            ("urn:example:a", "urn:example:A"),
            ("sip:ann@example.org", "sip:ann@EXAMPLE.org"),
            ("urn:example:a:b", "urn:example:a%3Ab"),
        ] {
            assert_eq!(is(a, b), None, "{a} {b}");
        }
    }

    #[test]
    fn uri_irregular_uris() {
        for (text, what) in [
            ("spiffe://x/banned/../banned/x", "has a '.' or '..' segment"),
            ("spiffe://x/a/%2e%2E/b", "has a '.' or '..' segment"),
            ("spiffe://x/a/./b", "has a '.' or '..' segment"),
            ("spiffe://x/a/..", "has a '.' or '..' segment"),
            ("spiffe://x/a/..;b/c", "has a '.' or '..' segment"),
            ("urn:../x", "has a '.' or '..' segment"),
            ("spiffe://x/a?b", "has a '?' or '#'"),
            ("spiffe://x/a#", "has a '?' or '#'"),
            ("spiffe://x?/a", "has a '?' or '#'"),
            ("spiffe://ann@x/a", "has user information"),
            ("spiffe://@x/a", "has user information"),
            ("spiffe://x//a", "has an empty path segment ('//')"),
            ("spiffe://x/a//", "has an empty path segment ('//')"),
            ("spiffe://x/a/", "ends in a '/'"),
            ("spiffe://x/", "ends in a '/'"),
            ("spiffe:///a", "has an empty label"),
            ("spiffe://x../a", "has an empty label"),
            ("spiffe://.x/a", "has an empty label"),
            ("spiffe://*.x/a", "has a wildcard"),
            ("spiffe://x%2fy/a", "has an escaped slash"),
            ("spiffe://x/a%2Fb", "has an escaped slash"),
            ("spiffe://x/a%5cb", "has an escaped slash"),
            ("spiffe://x/a%00", "has an escaped control character"),
            ("spiffe://x/a%7f", "has an escaped control character"),
            ("spiffe://x/%252e%252e/a", "has an escape of an escape"),
            ("spiffe://x/%25%32e%252%45/a", "has an escape of an escape"),
            ("spiffe://x/a%25%34%31", "has an escape of an escape"),
            ("spiffe://x/a%", "has a '%' without two hexadecimal digits"),
            ("spiffe://x/a%2", "has a '%' without two hexadecimal digits"),
            (
                "spiffe://x/a%+1",
                "has a '%' without two hexadecimal digits",
            ),
            (
                "spiffe://x/a%zz",
                "has a '%' without two hexadecimal digits",
            ),
            (
                "spiffe://x/a b",
                "has a character that is not allowed in a URI",
            ),
            (
                "spiffe://x/a\\b",
                "has a character that is not allowed in a URI",
            ),
            (
                "spiffe://x/a\0b",
                "has a character that is not allowed in a URI",
            ),
            (
                "spiffe://x/a\n",
                "has a character that is not allowed in a URI",
            ),
            (
                "spiffe://x/ä",
                "has a character that is not allowed in a URI",
            ),
            (
                "spiffe://x/[a]",
                "has a character that is not allowed in a URI",
            ),
            (
                "spiffe://ä.example/a",
                "has a character that is not allowed in a URI",
            ),
            // An overlong '.', a full-width '.', a lone byte, U+0085, 'a' and a combining ring
            (
                "spiffe://x/%c0%ae/a",
                "has escapes that are not plain characters in UTF-8",
            ),
            (
                "spiffe://x/%EF%BC%8E/a",
                "has escapes that are not plain characters in UTF-8",
            ),
            (
                "spiffe://x/%ff",
                "has escapes that are not plain characters in UTF-8",
            ),
            (
                "spiffe://x/%C2%85",
                "has escapes that are not plain characters in UTF-8",
            ),
            (
                "spiffe://x/a%CC%8A",
                "has escapes that are not plain characters in UTF-8",
            ),
            (
                "spiffe://b%C3%BCcher/a",
                "has a character that is not allowed in a host name",
            ),
            (
                "spiffe://x,y/a",
                "has a character that is not allowed in a host name",
            ),
            ("spiffe://x:443/a", "has a port"),
            ("spiffe://x:/a", "has a port"),
            ("https://x:99999/", "has an invalid port"),
            ("https://x:4a/", "has an invalid port"),
            ("https://x:1:2/", "has an invalid port"),
            ("https://[::1]x/", "has an invalid port"),
            (
                "https://[::1%25eth0]/",
                "has a host in brackets that is not an IPv6 address",
            ),
            (
                "https://[::1/",
                "has a host in brackets that is not an IPv6 address",
            ),
            (
                "https://127.1/",
                "has a host that some readers take for another IPv4 address",
            ),
            (
                "https://0x7f.0x1/",
                "has a host that some readers take for another IPv4 address",
            ),
            (
                "https://2130706433/",
                "has a host that some readers take for another IPv4 address",
            ),
            (
                "https://127.0.0.01/",
                "has a host that some readers take for another IPv4 address",
            ),
            ("https:/x/a", "has no '//' and host after its scheme"),
            ("spiffe:x", "has no '//' and host after its scheme"),
            ("urn:", "has nothing after its scheme"),
            ("", "has no scheme"),
            ("a/b", "has no scheme"),
            ("//x/a", "has no scheme"),
            (" spiffe://x/a", "has no scheme"),
            ("1a:b", "has no scheme"),
            (":a", "has no scheme"),
        ] {
            let error = uri(text.as_bytes()).map_err(|why| why.what());
            assert_eq!(error.unwrap_err(), what, "{text}");
        }
        assert!(uri(format!("urn:x:{}", "a".repeat(MAX)).as_bytes()).is_err());
    }

    #[test]
    fn uri_trust_domain_may_have_255_bytes() {
        for host in ["a".repeat(64), "a".repeat(255), "127.1".to_owned()] {
            assert!(
                uri(format!("spiffe://{host}/a").as_bytes()).is_ok(),
                "{host}"
            );
        }
        assert!(uri(format!("spiffe://{}/a", "a".repeat(256)).as_bytes()).is_err());
    }

    #[test]
    fn uri_prefix_compares_whole_segments() {
        let prefix = uri_prefix(b"SPIFFE://Example.org./n%73/").unwrap();
        assert_eq!(prefix.as_bytes(), b"spiffe://example.org/ns/");
        for (text, begins) in [
            ("spiffe://EXAMPLE.org/ns/a", true),
            ("spiffe://example.org/nsa", false),
            ("spiffe://example.org.evil/ns/a", false),
            ("spiffe://example.org/ns", false),
            ("spiffe://example.org/ns/a..b", true),
        ] {
            let name = uri(text.as_bytes()).unwrap();
            assert_eq!(name.begins_with(&prefix), Some(begins), "{text}");
        }
        let all = uri_prefix(b"Spiffe://").unwrap();
        let name = uri(b"spiffe://example.org").unwrap();
        assert_eq!(name.begins_with(&all), Some(true));
        let comma = uri_prefix(b"https://x/a,b/").unwrap();
        let name = uri(b"https://x/a%2cb/c").unwrap();
        assert_eq!(name.begins_with(&comma), None);
        for bad in ["://", "a b://", "spiffe://x/../", "https:", "spiffe://x?/"] {
            assert!(uri_prefix(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
