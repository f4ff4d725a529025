//! SPIFFE IDs (SPIFFE-ID section 2), and the certificates that carry one (X.509-SVID sections 2, 4
//! and 5).

use std::fmt;

use super::{Certificate, San};
use crate::openssl_ext::x509::may_sign_for_others;

/// Longest SPIFFE ID in bytes (SPIFFE-ID section 2.3).
const MAX_ID: usize = 2048;
/// Longest name of a trust domain in bytes (SPIFFE-ID section 2.3).
const MAX_TRUST_DOMAIN: usize = 255;
/// The scheme, and what follows it.
const SCHEME: &str = "spiffe://";

/// The SPIFFE ID of a workload: a trust domain and a path. Both are compared byte by byte, because
/// there is one spelling of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeId {
    text: Box<str>,
    /// Where the path begins.
    path: usize,
}

impl SpiffeId {
    /// Reads a SPIFFE ID.
    ///
    /// # Errors
    /// What is wrong, after "the SPIFFE ID".
    pub fn parse(raw: &[u8]) -> Result<SpiffeId, &'static str> {
        if raw.len() > MAX_ID {
            return Err("is longer than 2048 bytes");
        }
        let text = std::str::from_utf8(raw).map_err(|_| "is not UTF-8")?;
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or("does not begin with 'spiffe://' in lower case")?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        check_trust_domain(trust_domain)?;
        if path.is_empty() {
            return Err("has no path, so it is that of a trust domain and not of a workload");
        }
        check_path(path)?;
        Ok(SpiffeId {
            text: text.into(),
            path: SCHEME.len() + trust_domain.len(),
        })
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the trust domain.
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.path).unwrap_or_default()
    }
}

/// A condition on SPIFFE IDs: one of them, or all below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeIdPattern {
    /// A SPIFFE ID; for a prefix, one that ends with `/`.
    text: Box<str>,
    trust_domain: Box<str>,
    is_prefix: bool,
}

impl SpiffeIdPattern {
    /// Reads a SPIFFE ID, or a prefix that ends with `/*`.
    ///
    /// # Errors
    /// What is wrong, after the text.
    pub fn parse(text: &str) -> Result<SpiffeIdPattern, String> {
        let prefix = text.strip_suffix('*');
        // A prefix with a character appended is a SPIFFE ID.
        let id = match prefix {
            Some(prefix) if prefix.ends_with('/') && prefix.len() > SCHEME.len() => {
                SpiffeId::parse([prefix, "x"].concat().as_bytes())
            }
            Some(_) => {
                return Err(
                    "would also match longer names, expected '/' before the '*', for example \
                     'spiffe://example.org/ns/*'"
                        .to_owned(),
                )
            }
            None => SpiffeId::parse(text.as_bytes()),
        };
        let id = id.map_err(|why| {
            format!(
                "is not a SPIFFE ID: it {why}, expected for example 'spiffe://example.org/ns/a'"
            )
        })?;
        Ok(SpiffeIdPattern {
            text: prefix.unwrap_or(text).into(),
            trust_domain: id.trust_domain().into(),
            is_prefix: prefix.is_some(),
        })
    }

    /// Whether the SPIFFE ID matches.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self.is_prefix {
            true => id.text.starts_with(&*self.text),
            false => id.text == self.text,
        }
    }

    /// Whether all SPIFFE IDs of the trust domain match.
    pub fn is_whole_domain(&self) -> bool {
        self.is_prefix && self.text.len() == SCHEME.len() + self.trust_domain.len() + 1
    }

    /// The name of the trust domain of all SPIFFE IDs that match.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }
}

/// Writes the pattern as in a policy.
impl fmt::Display for SpiffeIdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_prefix { "*" } else { "" };
        write!(f, "{}{end}", self.text)
    }
}

/// What a certificate is to SPIFFE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Svid {
    /// It has no URI with the scheme `spiffe`.
    None,
    /// It is an X.509-SVID of a workload.
    Workload(SpiffeId),
    /// It has such a URI and is no X.509-SVID of a workload: why not.
    Invalid(Box<str>),
}

impl Svid {
    /// Reads the SPIFFE ID of a certificate and checks the rules for leaf certificates.
    pub(super) fn of(certificate: &Certificate) -> Svid {
        let mut uris = certificate.san().iter().filter_map(|name| match name {
            San::Uri(uri) => Some(&uri[..]),
            _ => None,
        });
        if !uris.clone().any(has_scheme) {
            return Svid::None;
        }
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Svid::Invalid("it has several URI names, expected one".into());
        };
        if may_sign_for_others(certificate.leaf()) {
            return Svid::Invalid("it may sign certificates or CRLs".into());
        }
        match SpiffeId::parse(uri) {
            Ok(id) => Svid::Workload(id),
            Err(why) => Svid::Invalid(format!("the SPIFFE ID {why}").into()),
        }
    }
}

/// Whether a reader may take the URI for a SPIFFE ID.
fn has_scheme(uri: &[u8]) -> bool {
    uri.get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"spiffe:"))
}

/// Checks the name of a trust domain (SPIFFE-ID section 2.1).
///
/// # Errors
/// What is wrong, after "the SPIFFE ID" or "the name".
pub fn check_trust_domain(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
    };
    if name.is_empty() {
        Err("has an empty trust domain")
    } else if name.len() > MAX_TRUST_DOMAIN {
        Err("has a trust domain longer than 255 bytes")
    } else if !name.bytes().all(allowed) {
        Err("has a trust domain with a character other than a-z, 0-9, '-', '.' and '_'")
    } else {
        Ok(())
    }
}

/// Checks a path that begins with `/` (SPIFFE-ID section 2.2).
fn check_path(path: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    for segment in path.split('/').skip(1) {
        match segment {
            "" => return Err("has an empty path segment"),
            "." | ".." => return Err("has a '.' or '..' segment"),
            _ if !segment.bytes().all(allowed) => {
                return Err(
                    "has a path with a character other than letters, digits, '-', '.' and '_'",
                )
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn parse_reads_trust_domain_and_path() {
        for (text, trust_domain) in [
            ("spiffe://a.example/ns/payments/sa/api", "a.example"),
            ("spiffe://1-2_3.x/A-z.0_9", "1-2_3.x"),
            ("spiffe://a/...", "a"),
        ] {
            let id = SpiffeId::parse(text.as_bytes()).unwrap();
            assert_eq!((id.as_str(), id.trust_domain()), (text, trust_domain));
        }
        let longest = format!("spiffe://{}/{}", "a".repeat(255), "b".repeat(2048 - 265));
        assert_eq!(longest.len(), 2048);
        SpiffeId::parse(longest.as_bytes()).unwrap();
    }

    #[test]
    fn parse_refuses_what_is_no_spiffe_id_of_a_workload() {
        let long = format!("spiffe://a/{}", "b".repeat(2038));
        let domain = format!("spiffe://{}/b", "a".repeat(256));
        for (text, why) in [
            (&long[..], "is longer than 2048 bytes"),
            (&domain, "has a trust domain longer than 255 bytes"),
            (
                "SPIFFE://a/b",
                "does not begin with 'spiffe://' in lower case",
            ),
            (
                "spiffe:a/b",
                "does not begin with 'spiffe://' in lower case",
            ),
            (
                "spiffe://a",
                "has no path, so it is that of a trust domain and not of a workload",
            ),
            ("spiffe:///b", "has an empty trust domain"),
            ("spiffe://a/", "has an empty path segment"),
            ("spiffe://a//b", "has an empty path segment"),
            ("spiffe://a/b/", "has an empty path segment"),
            ("spiffe://a/./b", "has a '.' or '..' segment"),
            ("spiffe://a/b/..", "has a '.' or '..' segment"),
        ] {
            assert_eq!(SpiffeId::parse(text.as_bytes()), Err(why), "{text}");
        }
        for host in ["A", "a:1", "u@a", "a%62", "\u{e4}", "a?b", "a#b"] {
            let text = format!("spiffe://{host}/b");
            let why = "has a trust domain with a character other than a-z, 0-9, '-', '.' and '_'";
            assert_eq!(SpiffeId::parse(text.as_bytes()), Err(why), "{text}");
        }
        for path in ["b?c", "b#c", "%62", "b c", "b\0", "\u{e4}", "b:c"] {
            let text = format!("spiffe://a/{path}");
            let why = "has a path with a character other than letters, digits, '-', '.' and '_'";
            assert_eq!(SpiffeId::parse(text.as_bytes()), Err(why), "{text}");
        }
        assert_eq!(SpiffeId::parse(b"spiffe://a/\xff"), Err("is not UTF-8"));
    }

    #[test]
    fn pattern_matches_one_id_or_those_below_a_path() {
        let id = |text: &str| SpiffeId::parse(text.as_bytes()).unwrap();
        for (pattern, text, expected) in [
            ("spiffe://a/b", "spiffe://a/b", true),
            ("spiffe://a/b", "spiffe://a/b/c", false),
            ("spiffe://a/b/*", "spiffe://a/b/c", true),
            ("spiffe://a/b/*", "spiffe://a/b", false),
            ("spiffe://a/b/*", "spiffe://a/bc/d", false),
            ("spiffe://a/*", "spiffe://a/b", true),
            ("spiffe://a/*", "spiffe://ab/b", false),
        ] {
            let pattern = SpiffeIdPattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(&id(text)), expected, "{pattern:?} {text}");
            assert_eq!(pattern.trust_domain(), "a");
            assert_eq!(pattern.is_whole_domain(), pattern.text.len() == 11);
        }
        for (text, why) in [
            ("spiffe://*", "would also match longer names"),
            ("spiffe://a*", "would also match longer names"),
            ("spiffe://a/b*", "would also match longer names"),
            ("*", "would also match longer names"),
            ("spiffe://a/*/b", "is not a SPIFFE ID: it has a path with a"),
            ("spiffe://a", "is not a SPIFFE ID: it has no path"),
            ("https://a/b", "is not a SPIFFE ID: it does not begin"),
        ] {
            let error = SpiffeIdPattern::parse(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn svid_has_one_uri_and_may_not_sign() {
        let ca = testing::issue("CA", None, true, 60, &[]);
        let svid = |names: &[(u8, &[u8])]| {
            let extension = testing::san_extension(names);
            let subject = openssl::x509::X509NameBuilder::new().unwrap().build();
            let x509 = testing::issue_with_subject(&ca, &subject, Some(&extension));
            let certificate = Certificate::new(x509, testing::stack(&[])).unwrap();
            Svid::of(&certificate)
        };
        const DNS: u8 = 0x82;
        const URI: u8 = 0x86;
        let id = SpiffeId::parse(b"spiffe://a/b").unwrap();
        let several = Svid::Invalid("it has several URI names, expected one".into());
        for (names, expected) in [
            (
                &[(URI, &b"spiffe://a/b"[..])][..],
                Svid::Workload(id.clone()),
            ),
            (
                &[(DNS, b"x.example"), (URI, b"spiffe://a/b")],
                Svid::Workload(id),
            ),
            (&[(DNS, b"x.example")], Svid::None),
            (&[(URI, b"https://a/b")], Svid::None),
            (&[(URI, b"spiff")], Svid::None),
            (
                &[(URI, b"SPIFFE://a/b")],
                Svid::Invalid("the SPIFFE ID does not begin with 'spiffe://' in lower case".into()),
            ),
            (
                &[(URI, b"https://a/b"), (URI, b"spiffe://a/b")],
                several.clone(),
            ),
            (&[(URI, b"spiffe://a/b"), (URI, b"spiffe://a/b")], several),
        ] {
            assert_eq!(svid(names), expected, "{names:?}");
        }
    }
}
