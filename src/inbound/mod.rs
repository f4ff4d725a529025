//! Decoding of header certificates: client certificates that a proxy which terminates TLS puts into
//! request headers. One file per format. Decoding does not prove that the client has the private
//! key; the header is as trustworthy as the peer that sent it, see [`AllowedPeers`].

mod allowed_peers;
mod aws_alb;
mod base64_encoded;
mod pem;
mod rfc9440;
#[cfg(test)]
mod tests;
mod traefik;
mod url_encoded;
mod xfcc;

use std::rc::Rc;

use openssl::stack::Stack;
use openssl::x509::X509;

use crate::certificate::{from_der, Certificate, CertificateDigests};
use crate::Error;

pub use allowed_peers::AllowedPeers;
pub use xfcc::Element as XfccElement;

/// Longest header in bytes, including all lines of the chain header.
pub const MAX_BYTES: usize = 64 * 1024;

/// Most certificates in one request, including the leaf.
pub const MAX_CERTIFICATES: usize = 16;

/// Header values for "no certificate": HAProxy leaves the value empty, Apache writes `(null)`.
const NO_CERTIFICATE: [&[u8]; 2] = [b"", b"(null)"];

/// How a header carries a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Base64 of the DER, no PEM armour (Kong `base64_encoded`; HAProxy `ssl_c_der,base64`).
    Base64Encoded,
    /// PEM, percent-encoded, leaf first (Kong `url_encoded`; nginx `$ssl_client_escaped_cert`).
    UrlEncoded,
    /// A Byte Sequence; the chain is in a second header (RFC 9440 section 2).
    Rfc9440,
    /// One element of Envoy's `x-forwarded-client-cert` with `Hash` and `Cert` or `Chain`. Which of
    /// several, [`XfccElement`] says.
    Xfcc,
    /// Base64 of the DERs, leaf first, joined by `,` (Traefik 2.9.4 and newer).
    Traefik,
    /// AWS ALB: percent-encoded PEM in which `+`, `=` and `/` are not encoded.
    AwsAlb,
    /// [`Format::Rfc9440`] if the value begins with `:`, else [`Format::UrlEncoded`] (NanoMDM).
    Auto,
}

impl Format {
    /// The formats with their names in a policy.
    pub const ALL: [(&'static str, Format); 7] = [
        ("base64_encoded", Format::Base64Encoded),
        ("url_encoded", Format::UrlEncoded),
        ("rfc9440", Format::Rfc9440),
        ("xfcc", Format::Xfcc),
        ("traefik", Format::Traefik),
        ("aws_alb", Format::AwsAlb),
        ("auto", Format::Auto),
    ];

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL
            .into_iter()
            .find_map(|(known, format)| (known == name).then_some(format))
    }

    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        Format::ALL
            .into_iter()
            .find_map(|(name, format)| (format == self).then_some(name))
            .unwrap_or_default()
    }

    /// Whether the chain is in a second header, whose name is that of the first with the suffix
    /// `-Chain`.
    pub fn has_chain_header(self) -> bool {
        matches!(self, Format::Rfc9440 | Format::Auto)
    }
}

/// The DER encodings of the certificates of a header, leaf first.
type Ders = Vec<Vec<u8>>;

/// The certificates of a header, leaf first, as DER that is not parsed yet. Caches compare
/// [`DerChain::digests`], so that known certificates are not parsed again.
#[derive(Debug)]
pub struct DerChain {
    ders: Ders,
}

/// Decodes the lines of a request's certificate header and of its chain header, if the format has
/// one. `element` is for the format `xfcc`. `None` if the header states that there is no
/// certificate.
///
/// # Errors
/// Why the header is refused, for the log: it is repeated, too long, or not exactly in the format.
pub fn decode(
    format: Format,
    element: XfccElement,
    lines: &[&[u8]],
    chain: &[&[u8]],
) -> Result<Option<DerChain>, Error> {
    let bytes: usize = lines.iter().chain(chain).map(|line| line.len()).sum();
    if bytes > MAX_BYTES {
        return Err(refused(format!(
            "{bytes} bytes are over the limit of {MAX_BYTES}"
        )));
    }
    let value = match lines {
        [] => None,
        [line] => Some(line.trim_ascii()).filter(|value| !NO_CERTIFICATE.contains(value)),
        // Nothing shows which of them the proxy wrote.
        lines => {
            return Err(refused(format!(
                "{} header lines, expected one",
                lines.len()
            )));
        }
    };
    let chain: Vec<&[u8]> = chain
        .iter()
        .map(|line| line.trim_ascii())
        .filter(|line| !NO_CERTIFICATE.contains(line) && *line != rfc9440::EMPTY)
        .collect();
    // HAProxy writes a byte sequence around the empty value of a connection without a certificate.
    let value = value.filter(|value| !format.has_chain_header() || *value != rfc9440::EMPTY);
    let Some(value) = value else {
        if !chain.is_empty() {
            return Err(refused("a chain without a certificate".to_owned()));
        }
        return Ok(None);
    };
    let format = match format {
        Format::Auto if value.first() == Some(&b':') => Format::Rfc9440,
        Format::Auto => Format::UrlEncoded,
        format => format,
    };
    let ders = match format {
        Format::Base64Encoded => base64_encoded::decode(value)?,
        Format::UrlEncoded => url_encoded::decode(value)?,
        Format::Rfc9440 => rfc9440::decode(value, &chain)?,
        Format::Xfcc => xfcc::decode(value, element)?,
        Format::Traefik => traefik::decode(value)?,
        Format::AwsAlb => aws_alb::decode(value)?,
        Format::Auto => return Err(Error::Panic),
    };
    if format != Format::Rfc9440 && !chain.is_empty() {
        return Err(refused(
            "a chain header together with a percent-encoded PEM".to_owned(),
        ));
    }
    if ders.is_empty() {
        return Err(refused("no certificate in it".to_owned()));
    }
    if ders.len() > MAX_CERTIFICATES {
        return Err(refused(format!(
            "{} certificates are over the limit of {MAX_CERTIFICATES}",
            ders.len()
        )));
    }
    for der in &ders {
        check_length(der)?;
    }
    Ok(Some(DerChain { ders }))
}

impl DerChain {
    /// The digests of the leaf and of the chain.
    pub fn digests(&self) -> Result<CertificateDigests, Error> {
        let (leaf, chain) = self.ders.split_first().ok_or(Error::NoCertificate)?;
        Ok(CertificateDigests {
            leaf: openssl::sha::sha256(leaf),
            chain: crate::certificate::encoded_chain::digest_of_ders(chain)?,
        })
    }

    /// Parses the certificates.
    ///
    /// # Errors
    /// When one of them is not an X.509 certificate.
    pub fn certificate(&self) -> Result<Certificate, Error> {
        let (leaf, chain) = self.ders.split_first().ok_or(Error::NoCertificate)?;
        let mut intermediates = Stack::new()?;
        for der in chain {
            intermediates.push(parse(der)?)?;
        }
        Ok(Certificate::with_digests(
            parse(leaf)?,
            Rc::new(intermediates),
            self.digests()?,
        ))
    }
}

/// Parses a certificate and checks that it is in DER, so that the digest of the bytes is the digest
/// of the certificate.
fn parse(der: &[u8]) -> Result<X509, Error> {
    let certificate = from_der(der)?;
    if certificate.to_der()? != der {
        return Err(refused("a certificate that is not in DER".to_owned()));
    }
    Ok(certificate)
}

fn refused(why: String) -> Error {
    Error::CertificateHeader(why)
}

/// Decodes standard base64. Only the padding may be missing (RFC 8941 section 4.2.7).
fn base64(text: &[u8]) -> Result<Vec<u8>, Error> {
    use ::base64::alphabet::STANDARD;
    use ::base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};

    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    ENGINE
        .decode(text)
        .map_err(|error| refused(format!("not base64: {error}")))
}

/// Bytes of the DER SEQUENCE at the beginning of `der`, with its header.
fn sequence_len(der: &[u8]) -> Option<usize> {
    // The short form, or one to three octets of length.
    let (header, content) = match der {
        [0x30, len @ 0..=0x7f, ..] => (2, usize::from(*len)),
        [0x30, 0x81, a, ..] => (3, usize::from(*a)),
        [0x30, 0x82, a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        [0x30, 0x83, a, b, c, ..] => (5, u32::from_be_bytes([0, *a, *b, *c]) as usize),
        _ => return None,
    };
    Some(header + content)
}

/// Checks that the bytes are exactly one DER element: OpenSSL ignores bytes after its end.
fn check_length(der: &[u8]) -> Result<(), Error> {
    match sequence_len(der) == Some(der.len()) {
        true => Ok(()),
        false => Err(refused("not exactly one DER certificate".to_owned())),
    }
}

/// The DER elements of which `ders` consists.
fn split(mut ders: &[u8]) -> Result<Ders, Error> {
    let mut found = Ders::new();
    while !ders.is_empty() {
        if found.len() == MAX_CERTIFICATES {
            return Err(refused(format!("over {MAX_CERTIFICATES} certificates")));
        }
        let (der, rest) = sequence_len(ders)
            .and_then(|len| ders.split_at_checked(len))
            .ok_or_else(|| refused("not DER certificates one after the other".to_owned()))?;
        found.push(der.to_vec());
        ders = rest;
    }
    Ok(found)
}
