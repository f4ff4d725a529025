//! Where a certificate says that its revocation status is to be had.
//!
//! The URLs come from a certificate: whoever issued it chose them. They are taken only in forms
//! that no two URL parsers read differently, and any other is passed over, so that a certificate
//! with odd URLs only is one without: no answer.

use openssl::nid::Nid;
use openssl::x509::{GeneralNameRef, X509Ref};

use crate::openssl_ext::revocation::is_direct;
use crate::openssl_ext::x509::{general_name, GeneralName};

/// Most URLs taken of one kind.
pub const MAX_URLS: usize = 8;

/// Longest URL taken, in bytes.
pub const MAX_URL: usize = 2048;

/// The OCSP responders of the authorityInfoAccess extension, in its order.
pub fn ocsp(certificate: &X509Ref) -> Vec<String> {
    let mut urls = Vec::new();
    for access in certificate.authority_info().iter().flatten() {
        if access.method().nid() == Nid::AD_OCSP {
            take(&mut urls, access.location());
        }
    }
    openssl::error::ErrorStack::get();
    urls
}

/// The full CRLs of the cRLDistributionPoints extension, in its order: distribution points for
/// some reasons only, or whose CRL another authority signs, are passed over.
pub fn crl(certificate: &X509Ref) -> Vec<String> {
    let mut urls = Vec::new();
    for point in certificate.crl_distribution_points().iter().flatten() {
        if !is_direct(point) {
            continue;
        }
        // Several names of one point are several places of the same CRL.
        for name in point
            .distpoint()
            .and_then(|name| name.fullname())
            .into_iter()
            .flatten()
        {
            take(&mut urls, name);
        }
    }
    openssl::error::ErrorStack::get();
    urls
}

fn take(urls: &mut Vec<String>, name: &GeneralNameRef) {
    let GeneralName::Uri(url) = general_name(name) else {
        return;
    };
    match usable(url) {
        Some(url) if urls.len() < MAX_URLS && !urls.iter().any(|known| known == url) => {
            urls.push(url.to_owned());
        }
        _ => {}
    }
}

/// `http` or `https`, the characters of RFC 3986 only, no user info, no fragment.
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
            // An escape in a host would be one name to a check and another to a resolver.
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
    fn usable_takes_plain_urls() {
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
    fn usable_refuses_everything_else() {
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
    fn ocsp_several_responders_keep_their_order() {
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
    fn ocsp_takes_eight_responders() {
        let urls: Vec<_> = (0..10)
            .map(|n| format!("http://{n}.example.com/"))
            .collect();
        let access: Vec<_> = urls.iter().map(|url| format!("OCSP;URI:{url}")).collect();
        let extension = format!("authorityInfoAccess = {}", access.join(","));
        let leaf = TestCa::new().issue("leaf", &extension);
        assert_eq!(ocsp(&leaf.x509), &urls[..8]);
    }

    #[test]
    fn unreadable_extensions_are_no_sources() {
        let leaf = TestCa::new().issue(
            "leaf",
            "1.3.6.1.5.5.7.1.1 = DER:3003307f00\n2.5.29.31 = DER:3003307f00\n",
        );
        assert_eq!(ocsp(&leaf.x509), [""; 0]);
        assert_eq!(crl(&leaf.x509), [""; 0]);
        assert!(openssl::error::ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn crl_takes_direct_points_for_all_reasons() {
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
