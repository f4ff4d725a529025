//! The nine `X-CERT-*` headers of Cloudflare's sample Worker.
//!
//! Source: Cloudflare docs, "Mutual TLS client headers" (Access). The sample keeps a client's own
//! header of the same name next to the trusted one; here it is removed.
//! Readers: origins behind such a Worker.
//! No certificate: `X-CERT-VERIFY: NONE`, no other header; the sample then sets no header. Not
//! verified: as [`super::cloudflare`].

use super::cloudflare::verified;
use super::common::{issuer_dn, not_after, not_before, serial_hex, sha1, subject_dn};
use super::header::Header;
use super::nginx::{issuer_dn_legacy, subject_dn_legacy};

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("certIssuerDN", "X-CERT-ISSUER-DN", issuer_dn),
    Header::new("certSubjectDN", "X-CERT-SUBJECT-DN", subject_dn),
    Header::new("certIssuerDNLegacy", "X-CERT-ISSUER-DN-L", issuer_dn_legacy),
    Header::new(
        "certSubjectDNLegacy",
        "X-CERT-SUBJECT-DN-L",
        subject_dn_legacy,
    ),
    Header::new("certSerial", "X-CERT-SERIAL", serial_hex),
    Header::new("certFingerprintSHA1", "X-CERT-FINGER", sha1),
    Header::new("certVerified", "X-CERT-VERIFY", verified),
    Header::new("certNotBefore", "X-CERT-NOTBE", not_before),
    Header::new("certNotAfter", "X-CERT-NOTAF", not_after),
];
