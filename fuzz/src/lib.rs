//! Code that several targets share: a CA with the same key in every run, so that stored inputs stay
//! valid, and signatures over the input, so that the code behind a signature check is reached.

pub mod dialects;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509Builder, X509NameBuilder, X509};
use resty_mtls::inbound::{decode, Format, XfccElement};
use resty_mtls::{certificate, openssl_ext};

/// 2027-01-15 08:00:00. The certificates are valid at this time.
pub const NOW: i64 = 1_800_000_000;

/// ecdsa-with-SHA256
const ALGORITHM: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";

/// A CA and a certificate that it issued.
pub struct Pki {
    pub ca: X509,
    pub leaf: X509,
    key: PKey<Private>,
}

impl Default for Pki {
    fn default() -> Pki {
        let key = key(7);
        Pki {
            ca: certificate("CA", 1, &key, &key),
            leaf: certificate("leaf", 2, &self::key(11), &key),
            key,
        }
    }
}

impl Pki {
    /// `SEQUENCE { tbs, signatureAlgorithm, signature }`: a CRL, or a BasicOCSPResponse.
    pub fn sign(&self, tbs: &[u8]) -> Vec<u8> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(tbs).unwrap();
        der(0x30, &[tbs, ALGORITHM, &der(0x03, &[b"\x00", &signature])])
    }

    /// A successful OCSPResponse with this ResponseData.
    pub fn ocsp_response(&self, data: &[u8]) -> Vec<u8> {
        // id-pkix-ocsp-basic
        let oid = b"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01";
        let bytes = der(0x30, &[oid, &der(0x04, &[&self.sign(data)])]);
        der(0x30, &[b"\x0a\x01\x00", &der(0xa0, &[&bytes])])
    }
}

/// An issuer that signs JWTs with ES256.
pub struct Issuer {
    key: PKey<Private>,
}

impl Default for Issuer {
    fn default() -> Issuer {
        Issuer { key: key(13) }
    }
}

impl Issuer {
    /// The JWK Set with the public key.
    pub fn jwks(&self) -> Vec<u8> {
        let ec = self.key.ec_key().unwrap();
        let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        let mut context = BigNumContext::new().unwrap();
        ec.public_key()
            .affine_coordinates(ec.group(), &mut x, &mut y, &mut context)
            .unwrap();
        let [x, y] = [x, y].map(|number| base64url(&number.to_vec_padded(32).unwrap()));
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"1","x":"{x}","y":"{y}"}}]}}"#)
            .into_bytes()
    }

    /// A JWT of this header and payload. It is signed with ES256 even if the header has another
    /// algorithm.
    pub fn sign(&self, header: &[u8], payload: &[u8]) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(payload));
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        let der = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
        let signature = EcdsaSig::from_der(&der).unwrap();
        let half = |number: &BigNumRef| number.to_vec_padded(32).unwrap();
        let raw = [half(signature.r()), half(signature.s())].concat();
        format!("{signed}.{}", base64url(&raw))
    }
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes the lines of a certificate header, which line feeds separate. A zero byte begins the
/// lines of the chain header.
pub fn decode_header(format: Format, data: &[u8]) {
    for element in [XfccElement::Only, XfccElement::Last, XfccElement::First] {
        decode_element(format, element, data);
    }
}

fn decode_element(format: Format, element: XfccElement, data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let lines = |part: Option<&'_ [u8]>| -> Vec<Vec<u8>> {
        part.map_or(Vec::new(), |part| {
            part.split(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect()
        })
    };
    let (leaf, chain) = (lines(parts.next()), lines(parts.next()));
    let leaf: Vec<&[u8]> = leaf.iter().map(Vec::as_slice).collect();
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let Ok(Some(decoded)) = decode(format, element, &leaf, &chain) else {
        return;
    };
    assert_eq!(leaf.len(), 1);
    if let Ok(certificate) = decoded.certificate() {
        assert_eq!(decoded.digests().unwrap(), *certificate.digests());
        let der = certificate.der().unwrap();
        assert_eq!(openssl::sha::sha256(&der), certificate.digests().leaf);
    }
}

fn key(scalar: u32) -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let mut context = BigNumContext::new().unwrap();
    let scalar = BigNum::from_u32(scalar).unwrap();
    let mut point = EcPoint::new(&group).unwrap();
    point.mul_generator2(&group, &scalar, &mut context).unwrap();
    let key = EcKey::from_private_components(&group, &scalar, &point).unwrap();
    PKey::from_ec_key(key).unwrap()
}

fn certificate(cn: &str, serial: u32, key: &PKey<Private>, signer: &PKey<Private>) -> X509 {
    let name = |cn| {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", cn).unwrap();
        name.build()
    };
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name(cn)).unwrap();
    builder.set_issuer_name(&name("CA")).unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(NOW - 86_400).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::from_unix(NOW + 86_400).unwrap())
        .unwrap();
    builder.set_pubkey(key).unwrap();
    if cn == "CA" {
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
    }
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    builder.build()
}

/// A DER element.
pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let octets = (content.len() as u32).to_be_bytes();
    let length = &octets[octets.iter().position(|&octet| octet != 0).unwrap_or(3)..];
    let mut element = vec![tag];
    if content.len() >= 0x80 {
        element.push(0x80 | length.len() as u8);
    }
    element.extend_from_slice(length);
    element.extend_from_slice(&content);
    element
}
