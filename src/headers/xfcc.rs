//! Envoy's `x-forwarded-client-cert` (XFCC).
//!
//! Source: Envoy docs, "HTTP header manipulation", `mutateXfccRequestHeader` for the order.
//! Readers differ in how they treat quotes and backslashes: Istio's (Go, xfccparser) returns a
//! quoted value unchanged, Envoy's own (`%XFCC_VALUE()%`) removes the backslash before `"` and `\`,
//! the crate xfcc-parser before any character, and Keycloak splits at every `;` and `=`. So an
//! element has no escape and no delimiter inside a value. `Subject` equals Envoy's where the name
//! needs no escape; `URI` and `DNS` are bare, or quoted if they contain a `=`. A key with a value
//! that cannot be written like this (`O=DigiCert\, Inc.`, non-ASCII characters, two CNs, a `;` in a
//! URI) is left out with all its values; the other keys remain. The whole element is left out if an
//! alternative name is not printable ASCII, or if the element is too large.
//! Readers: Istio and other meshes, Envoy, Keycloak (`envoy`: needs `Chain` in one element and no
//! duplicate key, so `detail: [chain]`), OpenBao.
//! No certificate, or one that is not verified, unless `when: presented`: no header, except in mode
//! `ALWAYS_FORWARD_ONLY`. With `when: presented` a reader cannot see whether it was verified.

use super::common::{ascii, escape, san};
use super::header::{Header, RenderResult};
use super::{ClientInfo, LeftOutReason, MAX_VALUE};
use crate::certificate::{name, Certificate, San};

/// The header.
pub const HEADERS: &[Header] =
    &[Header::new("xfcc", NAME, element).with_left_out_parts(left_out_keys)];

/// Default name of the header, and of the inbound header in the modes that forward it.
pub const NAME: &str = "x-forwarded-client-cert";

/// Envoy's `forward_client_cert_details`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XfccMode {
    /// Removes the header.
    Sanitize,
    /// Forwards the inbound header if the client has a certificate.
    ForwardOnly,
    /// Appends an element to the inbound header if the client has a certificate.
    AppendForward,
    /// Replaces the header by an element if the client has a certificate. This is the default here;
    /// Envoy's is `SANITIZE`, which needs no plugin.
    SanitizeSet,
    /// Forwards the inbound header of every client.
    AlwaysForwardOnly,
}

impl XfccMode {
    /// All modes with Envoy's names.
    pub const ALL: [(&'static str, XfccMode); 5] = [
        ("SANITIZE", XfccMode::Sanitize),
        ("FORWARD_ONLY", XfccMode::ForwardOnly),
        ("APPEND_FORWARD", XfccMode::AppendForward),
        ("SANITIZE_SET", XfccMode::SanitizeSet),
        ("ALWAYS_FORWARD_ONLY", XfccMode::AlwaysForwardOnly),
    ];

    /// The mode that Envoy calls `name`.
    pub fn from_name(name: &str) -> Option<XfccMode> {
        XfccMode::ALL
            .into_iter()
            .find_map(|(known, mode)| (known == name).then_some(mode))
    }

    /// Whether the mode uses the inbound header. Otherwise it is removed without being read.
    pub fn forwards(self) -> bool {
        !matches!(self, XfccMode::Sanitize | XfccMode::SanitizeSet)
    }
}

/// Envoy's `set_current_client_cert_details`; `By` and `Hash` are always written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XfccDetails {
    /// `Cert`: the leaf.
    pub cert: bool,
    /// `Chain`: the leaf and the certificates sent with it.
    pub chain: bool,
    /// `Subject`.
    pub subject: bool,
    /// `URI`.
    pub uri: bool,
    /// `DNS`.
    pub dns: bool,
}

/// The options `mode` and `detail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XfccOptions {
    /// What happens to the header.
    pub mode: XfccMode,
    /// The keys of an element.
    pub detail: XfccDetails,
}

impl XfccDetails {
    /// Nothing but `By` and `Hash`.
    pub const NONE: XfccDetails = XfccDetails {
        cert: false,
        chain: false,
        subject: false,
        uri: false,
        dns: false,
    };
}

impl Default for XfccOptions {
    /// Istio's details without `Cert`.
    fn default() -> XfccOptions {
        XfccOptions {
            mode: XfccMode::SanitizeSet,
            detail: XfccDetails {
                cert: false,
                chain: false,
                subject: true,
                uri: true,
                dns: true,
            },
        }
    }
}

/// The value to send upstream. `inbound` are the values of all request headers with the name of
/// this header, `element` is the value from [`super::DialectConfig::render`], `included` is the
/// result of [`super::DialectOptions::includes_certificate`].
///
/// # Errors
/// When the inbound value cannot be forwarded, or an element cannot be appended to it safely.
pub fn forward(
    options: &super::DialectOptions,
    included: bool,
    inbound: &[&[u8]],
    element: Option<&str>,
) -> Result<Option<String>, LeftOutReason> {
    let inbound = || {
        let values: Result<Vec<_>, _> = inbound
            .iter()
            .map(|value| match std::str::from_utf8(value) {
                Ok(text) if !text.chars().any(|c| c != '\t' && c.is_control()) => Ok(text),
                _ => Err(LeftOutReason::NotText("the inbound value is not text")),
            })
            .collect();
        Ok::<_, LeftOutReason>(Some(values?.join(",")).filter(|value| !value.is_empty()))
    };
    let value = match (options.xfcc.mode, element) {
        (XfccMode::AlwaysForwardOnly, _) => inbound()?,
        (XfccMode::ForwardOnly, _) if included => inbound()?,
        (XfccMode::SanitizeSet, Some(element)) if included => Some(element.to_owned()),
        (XfccMode::AppendForward, Some(element)) if included => match inbound()? {
            None => Some(element.to_owned()),
            Some(inbound) if is_well_formed(inbound.as_bytes()) => {
                Some(format!("{inbound},{element}"))
            }
            Some(_) => {
                let why = "an element appended to the inbound value would be misread";
                return Err(LeftOutReason::Ambiguous(why.to_owned()));
            }
        },
        // Without an element nothing is forwarded: readers would read the last inbound element as
        // the one of this client.
        _ => None,
    };
    let limit = options.max_bytes.unwrap_or(MAX_VALUE);
    match value {
        Some(value) if value.len() > limit => Err(LeftOutReason::TooLarge {
            bytes: value.len(),
            limit,
        }),
        value => Ok(value),
    }
}

/// The element for this client.
fn element(client: &ClientInfo, options: &super::DialectOptions) -> RenderResult {
    Ok(client
        .certificate
        .filter(|_| sets(options))
        .map(|certificate| pairs(certificate, client.server_uris, options.xfcc.detail))
        .transpose()?
        .map(|pairs| {
            let written: Vec<_> = pairs.into_iter().filter_map(Result::ok).collect();
            written.join(";")
        }))
}

/// The keys that [`element`] is written without, and the reasons.
fn left_out_keys(
    client: &ClientInfo,
    options: &super::DialectOptions,
) -> Vec<(&'static str, LeftOutReason)> {
    let pairs = client
        .certificate
        .filter(|_| sets(options))
        .and_then(|certificate| pairs(certificate, client.server_uris, options.xfcc.detail).ok());
    pairs
        .into_iter()
        .flatten()
        .filter_map(Result::err)
        .collect()
}

fn sets(options: &super::DialectOptions) -> bool {
    matches!(
        options.xfcc.mode,
        XfccMode::AppendForward | XfccMode::SanitizeSet
    )
}

/// Pairs of key and value, joined where a key has several, or the key and why it is left out.
type Pairs = Vec<Result<String, (&'static str, LeftOutReason)>>;

fn pairs(
    certificate: &Certificate,
    by: &[Vec<u8>],
    detail: XfccDetails,
) -> Result<Pairs, LeftOutReason> {
    let mut pairs = Pairs::new();
    let by: Result<Vec<_>, _> = by.iter().map(|uri| ascii(uri)).collect();
    pairs.extend(list("By", &by?));
    pairs.push(Ok(format!("Hash={}", certificate.fingerprint_sha256())));
    if detail.cert {
        pairs.push(Ok(quoted("Cert", &escape(&certificate.pem()?))));
    }
    if detail.chain {
        pairs.push(Ok(quoted("Chain", &escape(&certificate.chain_pem()?))));
    }
    if detail.subject {
        let subject = name::rfc2253_without_escapes(certificate.leaf().subject_name());
        pairs.push(match subject {
            Ok(subject) => Ok(quoted("Subject", &subject)),
            Err(why) => Err(("Subject", why.into())),
        });
    }
    if detail.uri || detail.dns {
        let names = san(certificate.leaf())?;
        let mut uris = Vec::new();
        let mut dns = Vec::new();
        for name in &names {
            match name {
                San::Uri(uri) => uris.push(ascii(uri)?),
                San::Dns(name) => dns.push(ascii(name)?),
                San::Email(_) | San::Ip(_) | San::Directory { .. } => {}
            }
        }
        if detail.uri {
            // As Envoy: the key without a value where there is no URI.
            if uris.is_empty() {
                uris.push("");
            }
            pairs.extend(list("URI", &uris));
        }
        if detail.dns {
            pairs.extend(list("DNS", &dns));
        }
    }
    Ok(pairs)
}

/// All the pairs of a key, or none.
fn list(
    key: &'static str,
    values: &[&str],
) -> Option<Result<String, (&'static str, LeftOutReason)>> {
    let pairs: Option<Vec<_>> = values.iter().map(|value| pair(key, value)).collect();
    let Some(pairs) = pairs else {
        let why = "a name would be read as something else";
        return Some(Err((key, LeftOutReason::Ambiguous(why.to_owned()))));
    };
    (!pairs.is_empty()).then(|| Ok(pairs.join(";")))
}

/// A pair, bare as in Envoy, or quoted where a parser of the documented grammar would end the value
/// at a `=`. `None` if some reader would end the value early or find a key inside it.
fn pair(key: &str, value: &str) -> Option<String> {
    const KEYS: &[&str] = &[
        "By", "Hash", "Cert", "Chain", "Subject", "Issuer", "URI", "DNS",
    ];
    if value.contains([',', ';', '"', '\\', ' ']) || name::contains_key(value.as_bytes(), '=', KEYS)
    {
        return None;
    }
    Some(match value.contains('=') {
        true => quoted(key, value),
        false => format!("{key}={value}"),
    })
}

/// A quoted pair, for a value without `"` and `\`.
fn quoted(key: &str, value: &str) -> String {
    format!("{key}=\"{value}\"")
}

/// Whether every reader finds the same elements in this value, and none of them can extend into
/// text appended to it: all pairs are a key and a value that is quoted, or bare without a quote or
/// an escape.
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

/// The index of the quote that closes a value. `None` also where readers differ: after two or more
/// backslashes a quote closes the value for readers that unescape them in pairs, and does not for
/// readers that check only the last one.
fn closing_quote(inside: &[u8]) -> Option<usize> {
    let mut backslashes = 0;
    for (place, &byte) in inside.iter().enumerate() {
        match byte {
            b'"' if backslashes > 1 => return None,
            b'"' if backslashes == 0 => return Some(place),
            b'\\' => backslashes += 1,
            _ => backslashes = 0,
        }
        if byte == b'"' {
            backslashes = 0;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Option<&str> = Some("Hash=00");

    fn options(mode: XfccMode) -> super::super::DialectOptions {
        super::super::DialectOptions {
            xfcc: XfccOptions {
                mode,
                ..XfccOptions::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn from_name_accepts_the_names_of_envoy() {
        assert_eq!(
            XfccMode::from_name("APPEND_FORWARD"),
            Some(XfccMode::AppendForward)
        );
        assert_eq!(XfccMode::from_name("append_forward"), None);
        for (_, mode) in XfccMode::ALL {
            let forwarded = forward(&options(mode), true, &[b"By=a"], OWN).unwrap();
            let kept = forwarded.is_some_and(|value| value.contains("By=a"));
            assert_eq!(mode.forwards(), kept, "{mode:?}");
        }
    }

    #[test]
    fn forward_follows_the_table_of_envoy() {
        let forward = |mode, mtls| {
            forward(
                &options(mode),
                mtls,
                &[b"By=a;Hash=1", b"By=b"],
                OWN.filter(|_| mtls),
            )
            .unwrap()
        };
        let forwarded = Some("By=a;Hash=1,By=b".to_owned());
        for (mode, without, with) in [
            (XfccMode::Sanitize, None, None),
            (XfccMode::ForwardOnly, None, forwarded.clone()),
            (
                XfccMode::AppendForward,
                None,
                Some("By=a;Hash=1,By=b,Hash=00".to_owned()),
            ),
            (XfccMode::SanitizeSet, None, Some("Hash=00".to_owned())),
            (XfccMode::AlwaysForwardOnly, forwarded.clone(), forwarded),
        ] {
            assert_eq!(forward(mode, false), without, "{mode:?}");
            assert_eq!(forward(mode, true), with, "{mode:?}");
        }
    }

    #[test]
    fn forward_without_an_inbound_header_is_the_element_alone() {
        for inbound in [&[][..], &[&b""[..]]] {
            let value = forward(&options(XfccMode::AppendForward), true, inbound, OWN);
            assert_eq!(value, Ok(OWN.map(str::to_owned)));
            let value = forward(&options(XfccMode::AlwaysForwardOnly), false, inbound, None);
            assert_eq!(value, Ok(None));
        }
    }

    #[test]
    fn forward_without_an_element_appends_nothing() {
        // A reader would read the last inbound element as the one of this client.
        let value = forward(&options(XfccMode::AppendForward), true, &[b"Hash=ff"], None);
        assert_eq!(value, Ok(None));
    }

    #[test]
    fn forward_does_not_append_to_an_unterminated_value() {
        for inbound in [
            &b"Subject=\"a"[..],
            b"Subject=\"a\\\"",
            b"Subject=\"a\"x",
            // The value ends here for one reader and not for another.
            b"Subject=\"a\\\\\"",
            b"Subject=\"a\\\\\\\"\"",
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
            let value = forward(&options(XfccMode::AppendForward), true, &[inbound], OWN);
            assert_eq!(
                value.unwrap_err().kind(),
                "ambiguous",
                "{}",
                inbound.escape_ascii()
            );
        }
        for inbound in [
            &b"By=a;Subject=\"a\\\\,\\\"b\\\"\";URI=;DNS=x"[..],
            b"By=http://x/?a=b",
            b"By=a, By=b",
            b"By=a; Hash=1",
            b"Subject=\"\"",
        ] {
            let value = forward(&options(XfccMode::AppendForward), true, &[inbound], OWN).unwrap();
            let inbound = std::str::from_utf8(inbound).unwrap();
            assert_eq!(value.unwrap(), format!("{inbound},Hash=00"));
        }
    }

    #[test]
    fn forward_refuses_values_that_are_not_text_or_too_long() {
        let value = forward(
            &options(XfccMode::AlwaysForwardOnly),
            true,
            &[b"By=\xff"],
            None,
        );
        assert_eq!(value.unwrap_err().kind(), "not_text");
        let long = [b'a'; MAX_VALUE + 1];
        let value = forward(&options(XfccMode::ForwardOnly), true, &[&long], None);
        assert_eq!(value.unwrap_err().kind(), "too_large");
    }

    #[test]
    fn pair_is_one_value_for_every_reader() {
        for (value, expected) in [
            ("spiffe://a/b", Some("URI=spiffe://a/b")),
            ("", Some("URI=")),
            ("https://a/?id=5", Some("URI=\"https://a/?id=5\"")),
            ("urn:x:a;b", None),
            ("urn:x:a,By=b", None),
            ("a\\", None),
            ("a\"", None),
            ("a b", None),
            // Readers that search for a key would find one.
            ("https://a/?dns=admin", None),
            ("https://a/?Subject =CN", None),
        ] {
            assert_eq!(pair("URI", value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn list_is_all_or_nothing() {
        assert_eq!(list("DNS", &[]), None);
        assert_eq!(list("DNS", &["a", "b"]), Some(Ok("DNS=a;DNS=b".to_owned())));
        let (key, why) = list("DNS", &["a", "b;c"]).unwrap().unwrap_err();
        assert_eq!((key, why.kind()), ("DNS", "ambiguous"));
    }
}
