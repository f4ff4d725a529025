//! URLs of the OCSP responders and CRLs of a certificate.
//!
//! The issuer of the certificate chose the URLs. A URL that two parsers might read differently is
//! ignored. A certificate whose URLs are all ignored is treated as one without URLs, and reported.

use openssl::nid::Nid;
use openssl::x509::{DistPointRef, GeneralNameRef, X509Ref};

use crate::openssl_ext::revocation::is_direct;
use crate::openssl_ext::x509::{general_name, GeneralName};
use crate::text::quoted;

/// Most URLs that are used of each kind.
pub const MAX_URLS: usize = 8;

/// Longest URL that is used, in bytes.
pub const MAX_URL: usize = 2048;

/// The OCSP responders of the authorityInfoAccess extension in encoded order.
pub fn ocsp(certificate: &X509Ref) -> Vec<String> {
    let mut urls = Vec::new();
    for access in certificate.authority_info().iter().flatten() {
        if access.method().nid() == Nid::AD_OCSP {
            push_usable(&mut urls, access.location());
        }
    }
    openssl::error::ErrorStack::get();
    urls
}

/// The CRLs of the cRLDistributionPoints extension in encoded order. Distribution points with
/// reasons or a cRLIssuer are ignored, since their CRLs are partial or indirect.
pub fn crl(certificate: &X509Ref) -> Vec<String> {
    let mut urls = Vec::new();
    for point in certificate.crl_distribution_points().iter().flatten() {
        if !is_direct(point) {
            continue;
        }
        // Several names of one distribution point are locations of the same CRL.
        for name in point
            .distpoint()
            .and_then(|name| name.fullname())
            .into_iter()
            .flatten()
        {
            push_usable(&mut urls, name);
        }
    }
    openssl::error::ErrorStack::get();
    urls
}

/// Whether the distribution point has this URL, as [`crl`] returns it.
pub fn names(point: &DistPointRef, url: &str) -> bool {
    let names = point.distpoint().and_then(|name| name.fullname());
    names.into_iter().flatten().any(|name| {
        let GeneralName::Uri(name) = general_name(name) else {
            return false;
        };
        usable(name).is_some_and(|name| name == url)
    })
}

/// The first location of a revocation status that the certificate names and that is not usable;
/// `None` if it names none, or a usable one.
pub fn unusable(certificate: &X509Ref) -> Option<String> {
    if !ocsp(certificate).is_empty() || !crl(certificate).is_empty() {
        return None;
    }
    let (access, points) = (
        certificate.authority_info(),
        certificate.crl_distribution_points(),
    );
    let responders = access.iter().flatten();
    let responders = responders
        .filter(|access| access.method().nid() == Nid::AD_OCSP)
        .map(|access| access.location());
    let lists = points.iter().flatten();
    let lists = lists
        .filter_map(|point| point.distpoint()?.fullname())
        .flatten();
    let mut uris = responders
        .chain(lists)
        .filter_map(|name| match general_name(name) {
            GeneralName::Uri(url) => Some(quoted(url)),
            _ => None,
        });
    let first = uris.next();
    openssl::error::ErrorStack::get();
    first
}

fn push_usable(urls: &mut Vec<String>, name: &GeneralNameRef) {
    let GeneralName::Uri(url) = general_name(name) else {
        return;
    };
    match usable(url) {
        Some(url) if urls.len() < MAX_URLS && !urls.contains(&url) => urls.push(url),
        _ => {}
    }
}

/// Whether the text is a URL of this kind as it must be requested.
pub fn is_usable(url: &str) -> bool {
    usable(url.as_bytes()).is_some_and(|usable| usable == url)
}

/// The URL in the form in which it is requested, if it has the scheme `http` or `https`, a plain
/// host, and no user information. As Active Directory Certificate Services writes them, URLs may
/// have blanks around them and, in path and query, characters that must be percent-encoded, such as
/// blanks and braces; a fragment is removed.
fn usable(url: &[u8]) -> Option<String> {
    if url.len() > MAX_URL {
        return None;
    }
    let url = std::str::from_utf8(url).ok()?.trim_matches(' ');
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !has_plain_host(authority) {
        return None;
    }
    let mut usable = format!("{scheme}://{authority}");
    for byte in path.bytes() {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                usable.push_str(&format!("%{byte:02X}"));
            }
            // A backslash is a slash to some parsers.
            b'!'..=b'~' if byte != b'\\' => usable.push(char::from(byte)),
            _ => return None,
        }
    }
    (usable.len() <= MAX_URL).then_some(usable)
}

fn has_plain_host(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let Some((address, port)) = literal.split_once(']') else {
                return false;
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (address, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            // Code that checks a host with an escape may read another name than the resolver.
            if !host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            {
                return false;
            }
            (host, port)
        }
    };
    let port_is_usable = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port != 0)
        }
        None => port.is_empty(),
    };
    !host.is_empty() && port_is_usable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::test_ca::TestCa;

    #[test]
    fn usable_accepts_plain_urls() {
        for url in [
            "http://ocsp.example.com",
            "HTTP://ocsp.example.com/",
            "https://ca.example.com:8443/ocsp/a%20b?x=y&z=(1)",
            "http://192.0.2.7:80/crl",
            "http://[2001:db8::7]/crl",
            "http://[2001:db8::7]:8080/crl",
            "http://a_b.example.com?q",
        ] {
            assert_eq!(usable(url.as_bytes()).as_deref(), Some(url));
        }
        let longest = format!("http://a.example/{}", "x".repeat(MAX_URL - 17));
        assert_eq!(usable(longest.as_bytes()).as_ref(), Some(&longest));
    }

    #[test]
    fn usable_escapes_and_cuts_what_ad_cs_writes() {
        for (url, expected) in [
            (
                "http://ca01/CertEnroll/Example Issuing CA(1).crl",
                "http://ca01/CertEnroll/Example%20Issuing%20CA(1).crl",
            ),
            (
                " http://ca.example.com/a.crl ",
                "http://ca.example.com/a.crl",
            ),
            (
                "http://ca.example.com/{A}|\"<^`>.crl?q={}",
                "http://ca.example.com/%7BA%7D%7C%22%3C%5E%60%3E.crl?q=%7B%7D",
            ),
            (
                "http://ca.example.com/a.crl#1",
                "http://ca.example.com/a.crl",
            ),
            ("http://ca.example.com#@127.0.0.1/", "http://ca.example.com"),
            (
                "http://ca.example.com/a%20b c",
                "http://ca.example.com/a%20b%20c",
            ),
        ] {
            assert_eq!(usable(url.as_bytes()).as_deref(), Some(expected));
        }
        let long = format!("http://a.example/{}", " ".repeat(MAX_URL - 18) + "x");
        assert_eq!(usable(long.as_bytes()), None);
    }

    #[test]
    fn usable_refuses_other_urls() {
        for url in [
            "",
            "http:",
            "http://",
            "http:///path",
            "http://?q",
            "http://:80/",
            "//ca.example.com/",
            "ftp://ca.example.com/",
            "ldap://ca.example.com/cn=ca?certificateRevocationList",
            "file:///etc/passwd",
            "http://ca.example.com/\r\nHost: x",
            "http://ca.example.com/\0",
            "http://ca.example.com /",
            "http ://ca.example.com/",
            "http://{}.example.com/",
            "\thttp://ca.example.com/",
            "http://ca.example.com/\\a",
            "http://#ca.example.com/",
            "http://ca.example.com/\u{e9}",
            "http://ca.example.com\\@127.0.0.1/",
            "http://user@ca.example.com/",
            "http://user:pass@ca.example.com/",
            "http://ca.example.com:80@127.0.0.1/",
            "http://127.0.0.1%2f@ca.example.com/",
            "http://ca%2eexample.com/",
            "http://ca.example.com:/",
            "http://ca.example.com:0/",
            "http://ca.example.com:+80/",
            "http://ca.example.com:65536/",
            "http://ca.example.com:80:80/",
            "http://[::1",
            "http://[::1]x/",
            "http://[::1%25lo]/",
            "http://[ca.example.com]/",
            "http://2001:db8::7/",
        ] {
            assert_eq!(usable(url.as_bytes()), None, "{url:?}");
        }
        assert_eq!(usable(b"http://ca.example.com/\xff"), None);
        let long = format!("http://a.example/{}", "x".repeat(MAX_URL - 16));
        assert_eq!(usable(long.as_bytes()), None);
        assert_eq!(usable(&vec![b'h'; 64 * 1024]), None);
    }

    #[test]
    fn ocsp_returns_responders_in_order_without_duplicates() {
        let leaf = TestCa::new().issue(
            "leaf",
            "authorityInfoAccess = @aia\n[aia]\n\
             caIssuers;URI.0 = http://ca.example.com/ca.cer\n\
             OCSP;URI.1 = http://two.example.com/\n\
             OCSP;URI.2 = ldap://x.example.com/\n\
             OCSP;DNS.3 = x.example.com\n\
             OCSP;URI.4 = http://one.example.com/\n\
             OCSP;URI.5 = http://two.example.com/\n",
        );
        assert_eq!(
            ocsp(&leaf.x509),
            ["http://two.example.com/", "http://one.example.com/"]
        );
        assert_eq!(crl(&leaf.x509), [""; 0]);
    }

    #[test]
    fn ocsp_returns_at_most_eight_responders() {
        let urls: Vec<_> = (0..10)
            .map(|n| format!("http://{n}.example.com/"))
            .collect();
        let access: Vec<_> = urls.iter().map(|url| format!("OCSP;URI:{url}")).collect();
        let extension = format!("authorityInfoAccess = {}", access.join(","));
        let leaf = TestCa::new().issue("leaf", &extension);
        assert_eq!(ocsp(&leaf.x509), &urls[..8]);
    }

    #[test]
    fn unreadable_extensions_give_no_urls() {
        let leaf = TestCa::new().issue(
            "leaf",
            "1.3.6.1.5.5.7.1.1 = DER:3003307f00\n2.5.29.31 = DER:3003307f00\n",
        );
        assert_eq!(ocsp(&leaf.x509), [""; 0]);
        assert_eq!(crl(&leaf.x509), [""; 0]);
        assert!(openssl::error::ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn unusable_is_the_first_location_of_a_certificate_without_a_usable_one() {
        let ca = TestCa::new();
        let of = |name: &str, extensions: &str| unusable(&ca.issue(name, extensions).x509);
        let ldap = "crlDistributionPoints = URI:ldap:///CN=CA?certificateRevocationList";
        let shown = Some("ldap:///CN=CA?certificateRevocationList".to_owned());
        assert_eq!(of("a", ldap), shown);
        let http = "authorityInfoAccess = OCSP;URI:http://a.example/";
        assert_eq!(of("b", &format!("{ldap}\n{http}\n")), None);
        assert_eq!(of("c", ""), None);
    }

    #[test]
    fn crl_ignores_points_with_reasons_or_crl_issuer() {
        let leaf = TestCa::new().issue(
            "leaf",
            "crlDistributionPoints = a, b, c, d, e\n\
             [a]\nfullname = @names\n\
             [names]\n\
             URI.1 = http://a.example.com/1.crl\n\
             URI.2 = ldap://a.example.com/\n\
             URI.3 = https://a.example.com/2.crl\n\
             [b]\nfullname = URI:http://b.example.com/\nreasons = keyCompromise\n\
             [c]\nfullname = URI:http://c.example.com/\nCRLissuer = dirName:other\n\
             [other]\nCN = Other\n\
             [d]\nrelativename = other\n\
             [e]\nfullname = URI:http://e.example.com/\n",
        );
        assert_eq!(
            crl(&leaf.x509),
            [
                "http://a.example.com/1.crl",
                "https://a.example.com/2.crl",
                "http://e.example.com/"
            ]
        );
        assert_eq!(ocsp(&leaf.x509), [""; 0]);
    }
}
