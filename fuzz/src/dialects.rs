//! The code of every dialect target: it renders the headers of the dialect for a certificate from
//! the input, and checks that readers find the values of the certificate in them.
//!
//! If the first byte is even, the rest is a certificate in DER. If it is odd, the rest is chunks of
//! a field, a type, a length and as many bytes, from which a certificate is built, because few
//! mutations of DER are valid DER.

use openssl::bn::BigNum;
use openssl::nid::Nid;
use openssl::stack::Stack;
use openssl::x509::X509;
use resty_mtls::certificate::Certificate;
use resty_mtls::headers::{
    xfcc, ClientInfo, Dialect, DialectConfig, DialectOptions, ForwardWhen, MtlsMode, VerifyResult,
    MAX_VALUE,
};

#[path = "../../src/headers/tests/readers.rs"]
mod readers;

use crate::{der, Pki, NOW};

const BIT_STRING: u8 = 0x03;
/// CN, C, O, OU, L, ST, street, serialNumber, emailAddress, DC, UID, an unknown type.
const ATTRIBUTE_OIDS: [&[u8]; 12] = [
    b"\x55\x04\x03",
    b"\x55\x04\x06",
    b"\x55\x04\x0a",
    b"\x55\x04\x0b",
    b"\x55\x04\x07",
    b"\x55\x04\x08",
    b"\x55\x04\x09",
    b"\x55\x04\x05",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01",
    b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19",
    b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01",
    b"\x2a\x03\x04\x05",
];
/// UTF8String, PrintableString, T61String, IA5String, UniversalString, BMPString, SEQUENCE,
/// BIT STRING.
const STRING_TAGS: [u8; 8] = [0x0c, 0x13, 0x14, 0x16, 0x1c, 0x1e, 0x30, 0x03];
/// otherName, rfc822Name, dNSName, x400Address, directoryName, ediPartyName, URI, iPAddress,
/// registeredID.
const GENERAL_NAME_TAGS: [u8; 9] = [0xa0, 0x81, 0x82, 0xa3, 0xa4, 0xa5, 0x86, 0x87, 0x88];

thread_local! {
    static PKI: Pki = Pki::default();
}

/// Renders every header of the dialect, and parses it again.
pub fn check(dialect: Dialect, data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    PKI.with(|pki| {
        let bytes = match kind % 2 {
            0 => data.to_vec(),
            _ => certificate_from_chunks(pki, data),
        };
        let Ok(leaf) = X509::from_der(&bytes) else {
            return;
        };
        let mut intermediates = Stack::new().unwrap();
        if kind & 2 != 0 {
            intermediates.push(pki.ca.clone()).unwrap();
        }
        let Ok(certificate) = Certificate::new(leaf, intermediates) else {
            return;
        };
        let client = ClientInfo {
            certificate: Some(&certificate),
            verify_result: match (kind >> 2) & 3 {
                0 => VerifyResult::NotVerified,
                1 => VerifyResult::from_code(i32::from(*kind)),
                _ => VerifyResult::Success,
            },
            issuer: Some(&pki.ca),
            now: NOW,
            server_uris: &[],
        };
        let detail = xfcc::XfccDetails {
            cert: true,
            chain: true,
            subject: true,
            uri: true,
            dns: true,
        };
        let modes = match dialect {
            Dialect::AwsAlb | Dialect::CloudFront => &[MtlsMode::Verify, MtlsMode::Passthrough][..],
            _ => &[MtlsMode::Verify],
        };
        for &mode in modes {
            let options = DialectOptions {
                when: Some(ForwardWhen::Presented),
                mode,
                xfcc: xfcc::XfccOptions {
                    mode: xfcc::XfccMode::SanitizeSet,
                    detail,
                },
                ..DialectOptions::default()
            };
            readers::check_dialect(dialect, &options, &client);
        }
    });
}

/// Builds a certificate from these chunks. Its signature is invalid; nothing verifies it.
fn certificate_from_chunks(pki: &Pki, mut data: &[u8]) -> Vec<u8> {
    let (mut subject, mut issuer) = (Vec::new(), Vec::new());
    let mut names = Vec::new();
    let mut serial = vec![1];
    let mut times = [&b"270114080000Z"[..], b"270116080000Z"];
    while let [field, kind, len, rest @ ..] = data {
        let (content, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        match field % 8 {
            0..=2 => add_attribute(&mut subject, *kind, content),
            3 => add_attribute(&mut issuer, *kind, content),
            4 | 5 => names.extend(der(
                GENERAL_NAME_TAGS[usize::from(*kind) % GENERAL_NAME_TAGS.len()],
                &[content],
            )),
            6 => serial = content.to_vec(),
            _ => times[usize::from(*kind) % 2] = content,
        }
    }
    let times = times.map(|time| der(if time.len() > 13 { 0x18 } else { 0x17 }, &[time]));
    let algorithm = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    let spki = pki.leaf.public_key().unwrap().public_key_to_der().unwrap();
    let names = der(0x04, &[&der(0x30, &[&names])]);
    let extension = der(0x30, &[b"\x06\x03\x55\x1d\x11", &names]);
    let tbs = der(
        0x30,
        &[
            b"\xa0\x03\x02\x01\x02",
            &der(0x02, &[&serial]),
            algorithm,
            &name(&issuer),
            &der(0x30, &[&times[0], &times[1]]),
            &name(&subject),
            &spki,
            &der(0xa3, &[&der(0x30, &[&extension])]),
        ],
    );
    der(0x30, &[&tbs, algorithm, b"\x03\x02\x00\x00"])
}

fn name(rdns: &[Vec<u8>]) -> Vec<u8> {
    let sets: Vec<_> = rdns.iter().map(|rdn| der(0x31, &[rdn])).collect();
    der(0x30, &[&sets.concat()])
}

/// Adds an attribute in a new RDN, or to the last RDN if the type is odd.
fn add_attribute(rdns: &mut Vec<Vec<u8>>, kind: u8, content: &[u8]) {
    let oid = ATTRIBUTE_OIDS[usize::from(kind >> 4) % ATTRIBUTE_OIDS.len()];
    let string = STRING_TAGS[usize::from(kind >> 1) % STRING_TAGS.len()];
    let pair = der(0x30, &[&der(0x06, &[oid]), &der(string, &[content])]);
    match rdns.last_mut() {
        Some(rdn) if kind % 2 == 1 => rdn.extend(pair),
        _ => rdns.push(pair),
    }
}
