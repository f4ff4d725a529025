//! Envoy's `x-forwarded-client-cert` (XFCC).
//!
//! Source: Envoy docs, "HTTP header manipulation", `mutateXfccRequestHeader` for the order. Unlike
//! Envoy's, every value with a delimiter is quoted, and `"` and `\` in it are escaped: no
//! alternative name can end its value and begin a key or an element of its own. An element with a
//! value that is not printable ASCII, or that is too large, is left out whole.
//! Readers: Istio and other meshes, Keycloak (`envoy`: wants `Chain` in one element and no key
//! twice, so `detail: [chain]`), OpenBao.
//! No certificate, or one that is not told because it is not verified: no header, except in mode
//! `ALWAYS_FORWARD_ONLY`. With `when: presented` nothing tells a verified certificate from another.

use super::common::{ascii, escape, san};
use super::header::{Header, Rendered};
use super::{Facts, LeftOut, MAX_VALUE};
use crate::certificate::{Certificate, San};

/// The header.
pub const HEADERS: &[Header] = &[Header::new("xfcc", NAME, element)];

/// Default name of the header; the modes that forward read it under this name too.
pub const NAME: &str = "x-forwarded-client-cert";

/// Envoy's `forward_client_cert_details`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Neither forward nor set.
    Sanitize,
    /// Forward what came, if the client has a certificate.
    ForwardOnly,
    /// Append an element to what came, if the client has a certificate.
    AppendForward,
    /// Set an element, if the client has a certificate. The default here; Envoy's is `SANITIZE`,
    /// which needs no plugin.
    SanitizeSet,
    /// Forward what came, from anyone.
    AlwaysForwardOnly,
}

impl Mode {
    /// All with Envoy's names.
    pub const ALL: [(&'static str, Mode); 5] = [
        ("SANITIZE", Mode::Sanitize),
        ("FORWARD_ONLY", Mode::ForwardOnly),
        ("APPEND_FORWARD", Mode::AppendForward),
        ("SANITIZE_SET", Mode::SanitizeSet),
        ("ALWAYS_FORWARD_ONLY", Mode::AlwaysForwardOnly),
    ];

    /// The mode of Envoy's name.
    pub fn from_name(name: &str) -> Option<Mode> {
        Mode::ALL
            .into_iter()
            .find_map(|(known, mode)| (known == name).then_some(mode))
    }

    /// Whether what came is of any use: without it the header can be removed unread.
    pub fn forwards(self) -> bool {
        !matches!(self, Mode::Sanitize | Mode::SanitizeSet)
    }
}

/// Envoy's `set_current_client_cert_details`; `By` and `Hash` are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// `Cert`: the leaf.
    pub cert: bool,
    /// `Chain`: leaf and what came with it.
    pub chain: bool,
    /// `Subject`.
    pub subject: bool,
    /// `URI`.
    pub uri: bool,
    /// `DNS`.
    pub dns: bool,
}

/// `mode` and `detail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What happens to the header.
    pub mode: Mode,
    /// What an element says.
    pub detail: Detail,
}

impl Detail {
    /// Nothing but `By` and `Hash`.
    pub const NONE: Detail = Detail {
        cert: false,
        chain: false,
        subject: false,
        uri: false,
        dns: false,
    };
}

impl Default for Options {
    /// Istio's details, but not `Cert`.
    fn default() -> Options {
        Options {
            mode: Mode::SanitizeSet,
            detail: Detail {
                cert: false,
                chain: false,
                subject: true,
                uri: true,
                dns: true,
            },
        }
    }
}

/// The value to send upstream: `came` are the values of all header lines of the inbound request
/// that are named as the header is, `own` is what [`super::Selection::lines`] set, `admitted` is
/// [`super::Options::admits`].
///
/// # Errors
/// When what came cannot be forwarded, or not with an element behind it.
pub fn forward(
    options: &super::Options,
    admitted: bool,
    came: &[&[u8]],
    own: Option<&str>,
) -> Result<Option<String>, LeftOut> {
    let came = || {
        let values: Result<Vec<_>, _> = came
            .iter()
            .map(|value| match std::str::from_utf8(value) {
                Ok(text) if !text.chars().any(|c| c != '\t' && c.is_control()) => Ok(text),
                _ => Err(LeftOut::NotText("the value that came is not text")),
            })
            .collect();
        Ok::<_, LeftOut>(Some(values?.join(",")).filter(|value| !value.is_empty()))
    };
    let value = match (options.xfcc.mode, own) {
        (Mode::AlwaysForwardOnly, _) => came()?,
        (Mode::ForwardOnly, _) if admitted => came()?,
        (Mode::SanitizeSet, Some(own)) if admitted => Some(own.to_owned()),
        (Mode::AppendForward, Some(own)) if admitted => match came()? {
            None => Some(own.to_owned()),
            Some(came) if is_well_formed(came.as_bytes()) => Some(format!("{came},{own}")),
            Some(_) => {
                let why = "the value that came would swallow or change what is appended";
                return Err(LeftOut::Ambiguous(why.to_owned()));
            }
        },
        // Without an element of its own, readers would take the last one that came for ours.
        _ => None,
    };
    let limit = options.max_bytes.unwrap_or(MAX_VALUE);
    match value {
        Some(value) if value.len() > limit => Err(LeftOut::TooLarge {
            bytes: value.len(),
            limit,
        }),
        value => Ok(value),
    }
}

/// The element for this client.
fn element(facts: &Facts, options: &super::Options) -> Rendered {
    match options.xfcc.mode {
        Mode::AppendForward | Mode::SanitizeSet => {
            facts.read(|certificate| pairs(certificate, facts.own_uris, options.xfcc.detail))
        }
        Mode::Sanitize | Mode::ForwardOnly | Mode::AlwaysForwardOnly => Ok(None),
    }
}

fn pairs(certificate: &Certificate, by: &[Vec<u8>], detail: Detail) -> Result<String, LeftOut> {
    let mut pairs = Vec::new();
    for uri in by {
        pairs.push(pair("By", ascii(uri)?));
    }
    pairs.push(pair("Hash", &certificate.fingerprint_sha256()));
    if detail.cert {
        pairs.push(quoted("Cert", &escape(&certificate.pem()?)));
    }
    if detail.chain {
        pairs.push(quoted("Chain", &escape(&certificate.chain_pem()?)));
    }
    if detail.subject {
        pairs.push(quoted("Subject", &certificate.subject_dn()?));
    }
    if detail.uri || detail.dns {
        let names = san(certificate.leaf())?;
        let mut uris = Vec::new();
        let mut dns = Vec::new();
        for name in &names {
            match name {
                San::Uri(uri) => uris.push(pair("URI", ascii(uri)?)),
                San::Dns(name) => dns.push(pair("DNS", ascii(name)?)),
                San::Email(_) | San::Ip(_) | San::Directory { .. } => {}
            }
        }
        if detail.uri {
            // As Envoy: the key without a value where there is no URI.
            if uris.is_empty() {
                uris.push("URI=".to_owned());
            }
            pairs.append(&mut uris);
        }
        if detail.dns {
            pairs.append(&mut dns);
        }
    }
    Ok(pairs.join(";"))
}

/// Bare as Envoy writes it, unless that could be read as anything but one value.
fn pair(key: &str, value: &str) -> String {
    if value.contains([',', ';', '=', '"', '\\', ' ']) {
        quoted(key, value)
    } else {
        format!("{key}={value}")
    }
}

fn quoted(key: &str, value: &str) -> String {
    let mut text = format!("{key}=\"");
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    text
}

/// Whether every reader finds the same elements here and none can reach beyond the end: pairs of a
/// key and a value, quoted, or bare without a quote or an escape.
fn is_well_formed(value: &[u8]) -> bool {
    let mut rest = value.trim_ascii();
    loop {
        let key = rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric())
            .count();
        let Some(after) = rest.get(key..).and_then(|rest| rest.strip_prefix(b"=")) else {
            return false;
        };
        let end = match after.strip_prefix(b"\"") {
            Some(inside) => match closing_quote(inside) {
                Some(closing) => closing + 2,
                None => return false,
            },
            None => after
                .iter()
                .take_while(|byte| !b",;\"\\".contains(byte))
                .count(),
        };
        let Some((separator, next)) = after.get(end..).and_then(<[u8]>::split_first) else {
            return key > 0;
        };
        if key == 0 || !b",;".contains(separator) {
            return false;
        }
        rest = next.trim_ascii_start();
    }
}

fn closing_quote(inside: &[u8]) -> Option<usize> {
    let mut escaped = false;
    inside.iter().position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Option<&str> = Some("Hash=00");

    fn options(mode: Mode) -> super::super::Options {
        super::super::Options {
            xfcc: Options {
                mode,
                ..Options::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn from_name_knows_envoys_names() {
        assert_eq!(Mode::from_name("APPEND_FORWARD"), Some(Mode::AppendForward));
        assert_eq!(Mode::from_name("append_forward"), None);
        for (_, mode) in Mode::ALL {
            let came = forward(&options(mode), true, &[b"By=a"], OWN).unwrap();
            let kept = came.is_some_and(|value| value.contains("By=a"));
            assert_eq!(mode.forwards(), kept, "{mode:?}");
        }
    }

    #[test]
    fn forward_as_envoys_table() {
        let forward = |mode, mtls| {
            forward(
                &options(mode),
                mtls,
                &[b"By=a;Hash=1", b"By=b"],
                OWN.filter(|_| mtls),
            )
            .unwrap()
        };
        let came = Some("By=a;Hash=1,By=b".to_owned());
        for (mode, without, with) in [
            (Mode::Sanitize, None, None),
            (Mode::ForwardOnly, None, came.clone()),
            (
                Mode::AppendForward,
                None,
                Some("By=a;Hash=1,By=b,Hash=00".to_owned()),
            ),
            (Mode::SanitizeSet, None, Some("Hash=00".to_owned())),
            (Mode::AlwaysForwardOnly, came.clone(), came),
        ] {
            assert_eq!(forward(mode, false), without, "{mode:?}");
            assert_eq!(forward(mode, true), with, "{mode:?}");
        }
    }

    #[test]
    fn forward_nothing_came_is_the_own_element_alone() {
        for came in [&[][..], &[&b""[..]]] {
            let value = forward(&options(Mode::AppendForward), true, came, OWN);
            assert_eq!(value, Ok(OWN.map(str::to_owned)));
            let value = forward(&options(Mode::AlwaysForwardOnly), false, came, None);
            assert_eq!(value, Ok(None));
        }
    }

    #[test]
    fn forward_without_an_own_element_appends_nothing() {
        // The element that came last would pass for this client's.
        let value = forward(&options(Mode::AppendForward), true, &[b"Hash=ff"], None);
        assert_eq!(value, Ok(None));
    }

    #[test]
    fn forward_appends_to_no_text_that_reaches_beyond_its_end() {
        for came in [
            &b"Subject=\"a"[..],
            b"Subject=\"a\\\"",
            b"Subject=\"a\"x",
            b"Subject=a\"b",
            b"URI=a\\",
            b"By=a;",
            b"By=a,",
            b"By",
            b"=a",
            b";By=a",
            b"By=a,,By=b",
            b"By=a;junk,By=b",
        ] {
            let value = forward(&options(Mode::AppendForward), true, &[came], OWN);
            assert_eq!(
                value.unwrap_err().kind(),
                "ambiguous",
                "{}",
                came.escape_ascii()
            );
        }
        for came in [
            &b"By=a;Subject=\"a\\\\,\\\"b\\\"\";URI=;DNS=x"[..],
            b"By=http://x/?a=b",
            b"By=a, By=b",
            b"By=a; Hash=1",
            b"Subject=\"\"",
        ] {
            let value = forward(&options(Mode::AppendForward), true, &[came], OWN).unwrap();
            let came = std::str::from_utf8(came).unwrap();
            assert_eq!(value.unwrap(), format!("{came},Hash=00"));
        }
    }

    #[test]
    fn forward_is_text_within_the_limit() {
        let value = forward(&options(Mode::AlwaysForwardOnly), true, &[b"By=\xff"], None);
        assert_eq!(value.unwrap_err().kind(), "not_text");
        let long = [b'a'; MAX_VALUE + 1];
        let value = forward(&options(Mode::ForwardOnly), true, &[&long], None);
        assert_eq!(value.unwrap_err().kind(), "too_large");
    }

    #[test]
    fn pair_quotes_whatever_is_not_one_bare_value() {
        assert_eq!(pair("URI", "spiffe://a/b"), "URI=spiffe://a/b");
        assert_eq!(pair("URI", "urn:x:a;b,c=d"), "URI=\"urn:x:a;b,c=d\"");
        assert_eq!(pair("DNS", "\\\""), "DNS=\"\\\\\\\"\"");
        assert_eq!(pair("URI", "a b"), "URI=\"a b\"");
    }
}
