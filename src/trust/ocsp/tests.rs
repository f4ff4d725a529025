use super::*;
use crate::certificate::der::element as der;
use crate::testing::{issue, Issued, NOW};
use crate::trust::test_ca::{self, now, TestCa};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ocsp::OcspBasicResponse;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use openssl::x509::extension::ExtendedKeyUsage;
use openssl::x509::X509Name;

const DAY: i64 = 86_400;
/// The default of a policy.
const LEVEL: u32 = 2;
const RESPONDER: &str = "extendedKeyUsage=OCSPSigning";
const NOT_SIGNED: &str = "is not signed by the issuer or a responder of the issuer";

fn unknown(why: &str) -> RevocationStatus {
    RevocationStatus::Unknown(format!("OCSP response {why}"))
}

#[test]
fn request_names_the_certificate_by_sha1() {
    let ca = issue("CA", None, true, DAY, &[]);
    let leaf = issue("leaf", Some(&ca), false, DAY, &[]);
    let plain = request(&leaf.x509, &ca.x509, false).unwrap();
    let id = cert_id(&plain);
    // SEQUENCE { SEQUENCE { OID sha1, NULL }, OCTET STRING (20), OCTET STRING (20), serial }
    assert_eq!(&id[2..13], b"\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00");
    assert_eq!(plain, request(&leaf.x509, &ca.x509, false).unwrap());
    let first = request(&leaf.x509, &ca.x509, true).unwrap();
    assert_ne!(first, request(&leaf.x509, &ca.x509, true).unwrap());
    assert_eq!(first.len(), plain.len() + 37);
}

#[test]
fn get_url_encodes_up_to_255_bytes() {
    assert_eq!(
        get_url("http://ocsp.example.com", &[0xfb, 0xff, 0xfe, 0x01]).unwrap(),
        "http://ocsp.example.com/%2B%2F%2F%2BAQ%3D%3D"
    );
    assert_eq!(
        get_url("http://a.example/ocsp/", b"0").unwrap(),
        "http://a.example/ocsp/MA%3D%3D"
    );
    assert_eq!(get_url("http://a.example/?ca=1", b"0"), None);
    let host = |len| format!("http://{}", "h".repeat(len));
    assert_eq!(get_url(&host(239), b"0").unwrap().len(), MAX_GET);
    assert_eq!(get_url(&host(240), b"0"), None);
}

/// A CA that uses the openssl command, and a certificate of it with an OCSP request for it.
struct CaWithLeaf {
    ca: TestCa,
    leaf: test_ca::IssuedFiles,
    request: Vec<u8>,
}

impl CaWithLeaf {
    fn new(ca: TestCa, nonce: bool) -> CaWithLeaf {
        let leaf = ca.issue("leaf", "extendedKeyUsage=clientAuth");
        let request = request(&leaf.x509, &ca.x509, nonce).unwrap();
        CaWithLeaf { ca, leaf, request }
    }

    fn good(ca: TestCa) -> CaWithLeaf {
        let real = CaWithLeaf::new(ca, true);
        real.ca.add_to_database(&real.leaf.x509, 'V', "");
        real
    }

    fn respond(&self, signer: &str) -> Vec<u8> {
        self.ca.ocsp(&self.request, signer, &["-ndays", "3"])
    }

    fn evaluate(&self, response: &[u8], now: i64) -> RevocationStatus {
        let (certificate, issuer) = (&self.leaf.x509, &self.ca.x509);
        let status = evaluate(response, &self.request, certificate, issuer, LEVEL, now);
        assert!(ErrorStack::get().errors().is_empty());
        status
    }

    /// Good, for about `after` seconds from now.
    fn assert_good(&self, response: &[u8], after: i64) {
        match self.evaluate(response, now()) {
            RevocationStatus::Good { until } if (until - now() - after).abs() < 60 => {}
            status => panic!("{status:?}"),
        }
    }
}

#[test]
fn evaluate_response_of_the_issuer_is_good() {
    let real = CaWithLeaf::good(TestCa::new());
    real.assert_good(&real.respond(&real.ca.file()), 3 * DAY);
    let options = ["-ndays", "3", "-resp_no_certs", "-resp_key_id"];
    real.assert_good(
        &real.ca.ocsp(&real.request, &real.ca.file(), &options),
        3 * DAY,
    );
}

#[test]
fn evaluate_response_of_an_intermediate_or_its_responder_is_good() {
    let root = TestCa::new();
    let real = CaWithLeaf::good(root.sub_ca("Sub CA"));
    real.assert_good(&real.respond(&real.ca.file()), 3 * DAY);
    let responder = real.ca.issue("responder", RESPONDER);
    real.assert_good(&real.respond(&responder.file), 3 * DAY);
    let options = ["-ndays", "3", "-resp_key_id"];
    real.assert_good(
        &real.ca.ocsp(&real.request, &responder.file, &options),
        3 * DAY,
    );
}

#[test]
fn evaluate_revoked_has_time_and_reason() {
    let real = CaWithLeaf::new(TestCa::new(), false);
    real.ca
        .add_to_database(&real.leaf.x509, 'R', "260102030405Z,keyCompromise");
    match real.evaluate(&real.respond(&real.ca.file()), now()) {
        RevocationStatus::Revoked {
            until,
            since: Some(1_767_323_045),
            reason: "keyCompromise",
        } => {
            assert!((until - now() - 3 * DAY).abs() < 60);
        }
        status => panic!("{status:?}"),
    }
}

#[test]
fn evaluate_status_unknown_is_unknown() {
    let real = CaWithLeaf::new(TestCa::new(), true);
    assert_eq!(
        real.evaluate(&real.respond(&real.ca.file()), now()),
        unknown("has the certificate status unknown")
    );
}

#[test]
fn evaluate_response_to_another_request_is_unknown() {
    let real = CaWithLeaf::good(TestCa::new());
    let response = real.respond(&real.ca.file());
    let evaluate = |request: &[u8]| {
        evaluate(
            &response,
            request,
            &real.leaf.x509,
            &real.ca.x509,
            LEVEL,
            now(),
        )
    };
    let other = request(&real.leaf.x509, &real.ca.x509, true).unwrap();
    assert_eq!(
        evaluate(&other),
        unknown("is for another request: its nonce differs")
    );
    // A nonce that the request does not have is ignored.
    let without = request(&real.leaf.x509, &real.ca.x509, false).unwrap();
    assert!(matches!(evaluate(&without), RevocationStatus::Good { .. }));
}

#[test]
fn evaluate_precomputed_response_without_nonce_is_good() {
    let mut real = CaWithLeaf::new(TestCa::new(), false);
    real.ca.add_to_database(&real.leaf.x509, 'V', "");
    let response = real.respond(&real.ca.file());
    real.request = request(&real.leaf.x509, &real.ca.x509, true).unwrap();
    real.assert_good(&response, 3 * DAY);
}

#[test]
fn evaluate_response_for_another_certificate_is_unknown() {
    let real = CaWithLeaf::good(TestCa::new());
    let other = real.ca.issue("other", "extendedKeyUsage=clientAuth");
    let response = real.respond(&real.ca.file());
    assert_eq!(
        evaluate(
            &response,
            &real.request,
            &other.x509,
            &real.ca.x509,
            LEVEL,
            now()
        ),
        unknown("has no status of this certificate")
    );
}

#[test]
fn evaluate_signer_without_ocsp_signing_is_unknown() {
    let real = CaWithLeaf::good(TestCa::new());
    for extensions in [
        "extendedKeyUsage=clientAuth",
        "extendedKeyUsage=anyExtendedKeyUsage",
        "keyUsage=digitalSignature",
    ] {
        let sibling = real.ca.issue("sibling", extensions);
        assert_eq!(
            real.evaluate(&real.respond(&sibling.file), now()),
            unknown(&format!("{NOT_SIGNED}: missing ocspsigning usage"))
        );
    }
}

#[test]
fn evaluate_other_ca_is_unknown() {
    let real = CaWithLeaf::good(TestCa::new());
    let other = TestCa::root("Other CA", "keyCertSign");
    assert_eq!(
        real.evaluate(&real.respond(&other.file()), now()),
        unknown(&format!(
            "{NOT_SIGNED}: certificate verify error: Verify error: self-signed certificate"
        ))
    );
    // A CA with the same name has another key.
    assert_eq!(
        real.evaluate(&real.respond(&TestCa::new().file()), now()),
        unknown(&format!("{NOT_SIGNED}: signature failure"))
    );
}

#[test]
fn evaluate_responder_of_a_ca_above_or_below_is_unknown() {
    let root = TestCa::new();
    let real = CaWithLeaf::good(root.sub_ca("Sub CA"));
    let below = real.ca.sub_ca("Below");
    for ca in [&root, &below] {
        let responder = ca.issue("responder", RESPONDER);
        // The response has the certificate of the other CA.
        let ca_file = format!("{}.pem", ca.file());
        let options = ["-ndays", "3", "-rother", &ca_file];
        let response = real.ca.ocsp(&real.request, &responder.file, &options);
        assert_eq!(
            real.evaluate(&response, now()),
            unknown(&format!(
                "{NOT_SIGNED}: certificate verify error: Verify error: unable to get local \
                 issuer certificate"
            ))
        );
    }
    // The root issued the issuer, but not the certificate.
    assert_eq!(
        real.evaluate(&real.respond(&root.file()), now()),
        unknown(&format!(
            "{NOT_SIGNED}: certificate verify error: Verify error: self-signed certificate"
        ))
    );
}

#[test]
fn evaluate_expired_or_weak_responder_is_unknown() {
    let real = CaWithLeaf::good(TestCa::new());
    let responder = real.ca.issue("responder", RESPONDER);
    assert_eq!(
        real.evaluate(&real.respond(&responder.file), now() + 2 * DAY),
        unknown(&format!(
            "{NOT_SIGNED}: certificate verify error: Verify error: certificate has expired"
        ))
    );
    let response = real.respond(&responder.file);
    assert_eq!(
        evaluate(
            &response,
            &real.request,
            &real.leaf.x509,
            &real.ca.x509,
            5,
            now()
        ),
        unknown(&format!(
            "{NOT_SIGNED}: certificate verify error: Verify error: EE certificate key too weak"
        ))
    );
}

#[test]
fn evaluate_changed_bit_never_changes_the_status() {
    let real = CaWithLeaf::good(TestCa::new());
    let responder = real.ca.issue("responder", RESPONDER);
    let response = real.respond(&responder.file);
    let now = now();
    let good = real.evaluate(&response, now);
    assert!(matches!(good, RevocationStatus::Good { .. }));
    let mut without_effect = 0;
    for index in 0..response.len() * 8 {
        let mut changed = response.clone();
        changed[index / 8] ^= 1 << (index % 8);
        match real.evaluate(&changed, now) {
            RevocationStatus::Unknown(_) => {}
            status => {
                assert_eq!(status, good, "bit {index}");
                without_effect += 1;
            }
        }
    }
    // Bits outside the signed data, such as the unused bits of a BIT STRING.
    assert!(without_effect < 100, "{without_effect} bits without effect");
    for len in 0..response.len() {
        let status = real.evaluate(&response[..len], now);
        assert!(
            matches!(status, RevocationStatus::Unknown(_)),
            "{len}: {status:?}"
        );
    }
}

#[test]
fn evaluate_other_bytes_is_unknown() {
    let ca = issue("CA", None, true, DAY, &[]);
    let leaf = issue("leaf", Some(&ca), false, DAY, &[]);
    let request = request(&leaf.x509, &ca.x509, false).unwrap();
    let evaluate = |response: &[u8]| evaluate(response, &request, &leaf.x509, &ca.x509, LEVEL, NOW);
    assert_eq!(
        evaluate(&vec![0x30; MAX_RESPONSE + 1]),
        unknown("of 65537 bytes is over the limit of 65536")
    );
    assert_eq!(evaluate(b""), unknown("is unreadable: too small"));
    assert_eq!(evaluate(b"<html>"), unknown("is unreadable: too long"));
    for (status, name) in [
        (OcspResponseStatus::MALFORMED_REQUEST, "malformedRequest"),
        (OcspResponseStatus::INTERNAL_ERROR, "internalError"),
        (OcspResponseStatus::TRY_LATER, "tryLater"),
        (OcspResponseStatus::SIG_REQUIRED, "sigRequired"),
        (OcspResponseStatus::UNAUTHORIZED, "unauthorized"),
        (OcspResponseStatus::from_raw(4), "status 4"),
    ] {
        let response = OcspResponse::create(status, None::<&OcspBasicResponse>.map(|x| &**x));
        let response = response.unwrap().to_der().unwrap();
        assert_eq!(
            evaluate(&response),
            unknown(&format!("is an error: {name}"))
        );
    }
    // Successful without responseBytes, and with responseBytes of an unknown type.
    let successful = der(0x30, &[b"\x0a\x01\x00"]);
    assert_eq!(
        evaluate(&successful),
        unknown("is unreadable: no response data")
    );
    let other = der(0x30, &[b"\x06\x01\x2a", b"\x04\x00"]);
    let other = der(0x30, &[b"\x0a\x01\x00", &der(0xa0, &[&other])]);
    assert_eq!(
        evaluate(&other),
        unknown("is unreadable: not basic response")
    );
}

/// certID of a request for one certificate: its headers are two bytes each.
fn cert_id(request: &[u8]) -> &[u8] {
    &request[8..]
}

/// Encodes responses that the openssl command does not make.
struct ResponseBuilder {
    ca: Issued,
    leaf: Issued,
    request: Vec<u8>,
}

impl ResponseBuilder {
    fn new() -> ResponseBuilder {
        let ca = issue("CA", None, true, DAY, &[]);
        let leaf = issue("leaf", Some(&ca), false, DAY, &[]);
        let request = request(&leaf.x509, &ca.x509, false).unwrap();
        ResponseBuilder { ca, leaf, request }
    }

    /// SingleResponse "good" with these times and singleExtensions.
    fn single(&self, this: &str, next: Option<&str>, extensions: &[u8]) -> Vec<u8> {
        self.single_with(b"\x80\x00", this, next, extensions)
    }

    fn single_with(
        &self,
        status: &[u8],
        this: &str,
        next: Option<&str>,
        extensions: &[u8],
    ) -> Vec<u8> {
        let this = der(0x18, &[this.as_bytes()]);
        let next = next.map(|next| der(0xa0, &[&der(0x18, &[next.as_bytes()])]));
        let next = next.unwrap_or_default();
        der(
            0x30,
            &[cert_id(&self.request), status, &this, &next, extensions],
        )
    }

    fn evaluate(&self, singles: &[&[u8]], extensions: &[u8]) -> RevocationStatus {
        let name = self.ca.x509.subject_name().to_der().unwrap();
        let id = der(0xa1, &[&name]);
        self.evaluate_by(&id, &self.ca.key, &[], singles, extensions)
    }

    /// With this responderID and these certificates, signed with this key.
    fn evaluate_by(
        &self,
        id: &[u8],
        key: &PKey<Private>,
        certificates: &[&X509],
        singles: &[&[u8]],
        extensions: &[u8],
    ) -> RevocationStatus {
        let data = der(
            0x30,
            &[
                id,
                &der(0x18, &[b"20270115080000Z"]),
                &der(0x30, singles),
                extensions,
            ],
        );
        let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
        let signature = signer.sign_oneshot_to_vec(&data).unwrap();
        // ecdsa-with-SHA256
        let algorithm = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
        let ders: Vec<_> = certificates.iter().map(|x| x.to_der().unwrap()).collect();
        let certificates = match certificates {
            [] => Vec::new(),
            _ => der(0xa0, &[&der(0x30, &[&ders.concat()])]),
        };
        let signature = der(0x03, &[b"\x00", &signature]);
        let basic = der(0x30, &[&data, algorithm, &signature, &certificates]);
        // id-pkix-ocsp-basic
        let oid = b"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01";
        let bytes = der(0x30, &[oid, &der(0x04, &[&basic])]);
        let response = der(0x30, &[b"\x0a\x01\x00", &der(0xa0, &[&bytes])]);
        let (leaf, ca) = (&self.leaf.x509, &self.ca.x509);
        let status = evaluate(&response, &self.request, leaf, ca, LEVEL, NOW);
        assert!(ErrorStack::get().errors().is_empty());
        status
    }
}

#[test]
fn evaluate_tolerates_a_clock_skew_of_five_minutes() {
    // NOW is 2027-01-15 08:00:00.
    let made = ResponseBuilder::new();
    let at = |this, next| made.evaluate(&[&made.single(this, next, b"")], b"");
    assert_eq!(
        at("20270115080500Z", Some("20270115090000Z")),
        RevocationStatus::Good { until: NOW + 3600 }
    );
    assert_eq!(
        at("20270115080501Z", Some("20270115090000Z")),
        unknown("thisUpdate is 301 s in the future")
    );
    assert_eq!(
        at("20270115070000Z", Some("20270115075501Z")),
        RevocationStatus::Good { until: NOW - 299 }
    );
    assert_eq!(
        at("20270115070000Z", Some("20270115075500Z")),
        unknown("nextUpdate was 300 s ago")
    );
    assert_eq!(
        at("20270115080002Z", Some("20270115080001Z")),
        unknown("nextUpdate is before thisUpdate")
    );
    assert_eq!(
        at("99991231235959Z", None),
        unknown("thisUpdate is 251602300799 s in the future")
    );
}

#[test]
fn evaluate_without_next_update_is_valid_up_to_ocsp_max_age_and_cached_for_an_hour() {
    let made = ResponseBuilder::new();
    let at = |this| made.evaluate(&[&made.single(this, None, b"")], b"");
    for this in ["20270115080000Z", "20270115065500Z", "20270114090000Z"] {
        assert_eq!(at(this), RevocationStatus::Good { until: NOW + 3600 });
    }
    assert_eq!(
        at("20270114083000Z"),
        RevocationStatus::Good { until: NOW + 1800 }
    );
    assert_eq!(
        at("20270114075501Z"),
        RevocationStatus::Good { until: NOW - 299 }
    );
    let too_old = "has no nextUpdate, and a thisUpdate of 86700 s ago, over the ocsp_max_age of \
                   86400 s";
    assert_eq!(at("20270114075500Z"), unknown(too_old));
}

#[test]
fn with_nonce_adds_a_nonce_to_a_request() {
    let made = ResponseBuilder::new();
    let with = with_nonce(&made.request).unwrap();
    let id_pkix_ocsp_nonce = b"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x02";
    let has = |bytes: &[u8]| bytes.windows(11).any(|part| part == id_pkix_ocsp_nonce);
    assert!(has(&with) && !has(&made.request));
    assert!(with_nonce(b"garbage").is_err());
    assert!(ErrorStack::get().errors().is_empty());
}

#[test]
fn evaluate_two_single_responses_is_unknown() {
    let made = ResponseBuilder::new();
    let single = made.single("20270115080000Z", None, b"");
    assert_eq!(
        made.evaluate(&[&single, &single], b""),
        unknown("has 2 statuses of this certificate, expected one")
    );
    assert_eq!(
        made.evaluate(&[], b""),
        unknown(&format!(
            "{NOT_SIGNED}: response contains no revocation data"
        ))
    );
}

#[test]
fn evaluate_critical_extension_is_unknown() {
    let made = ResponseBuilder::new();
    let extension = |critical: &[u8]| {
        der(
            0xa1,
            &[&der(
                0x30,
                &[&der(0x30, &[b"\x06\x01\x2a", critical, b"\x04\x00"])],
            )],
        )
    };
    let (critical, other) = (extension(b"\x01\x01\xff"), extension(b""));
    let this = "20270115080000Z";
    let refused = unknown("has a critical extension, none is supported");
    assert_eq!(
        made.evaluate(&[&made.single(this, None, &critical)], b""),
        refused
    );
    assert_eq!(
        made.evaluate(&[&made.single(this, None, b"")], &critical),
        refused
    );
    assert_eq!(
        made.evaluate(&[&made.single(this, None, &other)], &other),
        RevocationStatus::Good { until: NOW + 3600 }
    );
}

#[test]
fn evaluate_invalid_time_is_unknown() {
    let made = ResponseBuilder::new();
    let single = made.single("20271315080000Z", None, b"");
    assert_eq!(
        made.evaluate(&[&single], b""),
        unknown("has an invalid time")
    );
}

#[test]
fn evaluate_revoked_at_an_invalid_time_is_revoked() {
    let made = ResponseBuilder::new();
    for (time, since) in [
        ("20270115070000Z", Some(NOW - 3600)),
        ("20271315070000Z", None),
    ] {
        let status = der(0xa1, &[&der(0x18, &[time.as_bytes()])]);
        let single = made.single_with(&status, "20270115080000Z", None, b"");
        assert_eq!(
            made.evaluate(&[&single], b""),
            RevocationStatus::Revoked {
                until: NOW + 3600,
                since,
                reason: "unspecified"
            }
        );
    }
}

/// certStatus revoked with this reason.
fn revoked(reason: u8) -> Vec<u8> {
    let time = der(0x18, &[b"20270115070000Z"]);
    der(0xa1, &[&time, &der(0xa0, &[&[0x0a, 1, reason]])])
}

#[test]
fn evaluate_expired_response_is_revoked_but_not_good() {
    let made = ResponseBuilder::new();
    for (this, next) in [
        ("20260115080000Z", None),
        ("20260115080000Z", Some("20260116080000Z")),
        ("20270115080501Z", None),
        ("20270115080002Z", Some("20270115080001Z")),
        ("20271315080000Z", None),
    ] {
        let good = made.evaluate(&[&made.single(this, next, b"")], b"");
        assert!(
            matches!(good, RevocationStatus::Unknown(_)),
            "{this}: {good:?}"
        );
        let at = |reason| {
            let single = made.single_with(&revoked(reason), this, next, b"");
            made.evaluate(&[&single], b"")
        };
        let revoked = at(1);
        let lasting = matches!(revoked, RevocationStatus::Revoked { until, reason, .. }
            if until > NOW && reason == "keyCompromise");
        assert!(lasting, "{this}: {revoked:?}");
        let held = at(6);
        assert!(
            matches!(held, RevocationStatus::Unknown(_)),
            "{this}: {held:?}"
        );
    }
    let held = made.single_with(&revoked(6), "20270115080000Z", None, b"");
    let held = made.evaluate(&[&held], b"");
    assert!(matches!(held, RevocationStatus::Revoked { until, .. } if until == NOW + 3600));
}

#[test]
fn evaluate_unsupported_response_is_revoked() {
    let made = ResponseBuilder::new();
    let critical = der(0x30, &[b"\x06\x01\x2a", b"\x01\x01\xff", b"\x04\x00"]);
    let critical = der(0xa1, &[&der(0x30, &[&critical])]);
    let this = "20270115080000Z";
    let good = made.single(this, None, b"");
    let bad = |extensions| made.single_with(&revoked(1), this, None, extensions);
    for (singles, extensions) in [
        (vec![bad(&critical)], &b""[..]),
        (vec![bad(b"")], &critical),
        (vec![good.clone(), bad(b"")], b""),
        (vec![bad(b""), good], b""),
    ] {
        let singles: Vec<&[u8]> = singles.iter().map(|single| &single[..]).collect();
        let status = made.evaluate(&singles, extensions);
        assert!(
            matches!(status, RevocationStatus::Revoked { .. }),
            "{status:?}"
        );
    }
}

/// A certificate for OCSP signing, with a key of its own.
fn responder(issuer: &Issued, valid: i64) -> Issued {
    let key = crate::testing::key();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(9).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "responder").unwrap();
    builder.set_subject_name(&name.build()).unwrap();
    builder.set_issuer_name(issuer.x509.subject_name()).unwrap();
    let time = |seconds| Asn1Time::from_unix(seconds).unwrap();
    builder.set_not_before(&time(NOW - DAY)).unwrap();
    builder.set_not_after(&time(NOW + valid)).unwrap();
    builder.set_pubkey(&key).unwrap();
    let usage = ExtendedKeyUsage::new().other("OCSPSigning").build();
    builder.append_extension(usage.unwrap()).unwrap();
    builder.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    let x509 = builder.build();
    Issued { x509, key }
}

#[test]
fn evaluate_response_with_other_responder_id_is_revoked_but_not_good() {
    let made = ResponseBuilder::new();
    let other = issue("CA", None, true, DAY, &[]);
    let named = |x509: &X509| der(0xa1, &[&x509.subject_name().to_der().unwrap()]);
    let by_key = der(0xa2, &[&der(0x04, &[&[7; 20]])]);
    let ids = [named(&made.leaf.x509), by_key];
    let this = "20270115080000Z";
    let good = made.single(this, None, b"");
    let bad = made.single_with(&revoked(1), this, None, b"");
    let held = made.single_with(&revoked(6), this, None, b"");
    let old = made.single_with(&revoked(6), "20260115080000Z", None, b"");
    let by = |id: &[u8], signer: &Issued, certificates: &[&X509], single: &[u8]| {
        made.evaluate_by(id, &signer.key, certificates, &[single], b"")
    };
    let delegate = responder(&made.ca, DAY);
    let expired = responder(&made.ca, -60);
    let sibling = issue("sibling", Some(&made.ca), false, DAY, &[]);
    let foreign = responder(&other, DAY);
    // Signer, whether its response revokes, and whether its response puts on hold.
    for (what, signer, revokes, holds) in [
        ("the issuer", &made.ca, true, true),
        ("a responder", &delegate, true, true),
        ("an expired responder", &expired, true, false),
        ("a certificate for another purpose", &sibling, false, false),
        ("a responder of another CA", &foreign, false, false),
        ("another CA", &other, false, false),
    ] {
        for id in &ids {
            let certificates = [&made.leaf.x509, &signer.x509];
            let status = |single: &[u8]| by(id, signer, &certificates, single);
            let is_revoked = |single| matches!(status(single), RevocationStatus::Revoked { .. });
            assert_eq!(is_revoked(&bad), revokes, "{what}");
            assert_eq!(is_revoked(&held), holds, "{what}");
            assert!(!is_revoked(&old), "{what}");
            let RevocationStatus::Unknown(why) = status(&good) else {
                panic!("{what}")
            };
            assert!(why.contains(NOT_SIGNED), "{what}: {why}");
        }
    }
    // Without the certificate of the responder its signature cannot be checked.
    for (signer, revokes) in [(&made.ca, true), (&delegate, false)] {
        let status = by(&ids[1], signer, &[], &bad);
        assert_eq!(
            matches!(status, RevocationStatus::Revoked { .. }),
            revokes,
            "{status:?}"
        );
    }
}

#[test]
fn evaluate_old_or_replayed_response_is_revoked() {
    let real = CaWithLeaf::new(TestCa::new(), true);
    real.ca
        .add_to_database(&real.leaf.x509, 'R', "260102030405Z,keyCompromise");
    let responder = real.ca.issue("responder", RESPONDER);
    let response = real.respond(&responder.file);
    let later = real.evaluate(&response, now() + 300 * DAY);
    assert!(
        matches!(later, RevocationStatus::Revoked { .. }),
        "{later:?}"
    );
    // A response to another request is accepted like an old one.
    let other = request(&real.leaf.x509, &real.ca.x509, true).unwrap();
    let (leaf, ca) = (&real.leaf.x509, &real.ca.x509);
    let replayed = evaluate(&response, &other, leaf, ca, LEVEL, now());
    assert!(
        matches!(replayed, RevocationStatus::Revoked { .. }),
        "{replayed:?}"
    );
    // Another signer is not accepted, however old the response is.
    let sibling = real.ca.issue("sibling", "extendedKeyUsage=clientAuth");
    let forged = real.evaluate(&real.respond(&sibling.file), now() + 300 * DAY);
    assert!(matches!(forged, RevocationStatus::Unknown(_)), "{forged:?}");
}
