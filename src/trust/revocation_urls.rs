//! URLs of the OCSP responders and CRLs of a certificate.
//!
//! The issuer of the certificate chose the URLs. A URL that two parsers might read differently is
//! ignored. A certificate whose URLs are all ignored is treated as one without URLs.

use openssl::nid::Nid;
use openssl::x509::{GeneralNameRef, X509Ref};

use crate::openssl_ext::revocation::is_direct;
use crate::openssl_ext::x509::{general_name, GeneralName};

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

fn push_usable(urls: &mut Vec<String>, name: &GeneralNameRef) {
    let GeneralName::Uri(url) = general_name(name) else {
        return;
    };
    match usable(url) {
        Some(url) if urls.len() < MAX_URLS && !urls.iter().any(|other| other == url) => {
            urls.push(url.to_owned());
        }
        _ => {}
    }
}

/// The URL if it has the scheme `http` or `https`, only characters of RFC 3986, a plain host, and
/// neither user information nor a fragment.
fn usable(url: &[u8]) -> Option<&str> {
    if url.len() > MAX_URL {
        return None;
    }
    let url = std::str::from_utf8(url).ok()?;
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
    if !url.bytes().all(allowed) {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let authority = rest.split(['/', '?']).next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (address, port) = literal.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            // Code that checks a host with an escape may read another name than the resolver.
            if !host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            {
                return None;
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
    (!host.is_empty() && port_is_usable).then_some(url)
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
            assert_eq!(usable(url.as_bytes()), Some(url));
        }
        let longest = format!("http://a.example/{}", "x".repeat(MAX_URL - 17));
        assert_eq!(usable(longest.as_bytes()), Some(&*longest));
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
            " http://ca.example.com/",
            "http://ca.example.com/a b",
            "http://ca.example.com/\r\nHost: x",
            "http://ca.example.com/\0",
            "http://ca.example.com/\u{e9}",
            "http://ca.example.com/#fragment",
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
