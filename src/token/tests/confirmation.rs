//! The thumbprint of a certificate in the claim `cnf`.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::{json, Value};

use super::*;

#[test]
fn certificate_thumbprint_is_32_bytes_of_base64url() {
    let digest = [7; 32];
    let bound = |cnf: Value| claims(json!({ "cnf": cnf }));
    let matches = |cnf: Value| {
        bound(cnf)
            .certificate_thumbprint()
            .unwrap()
            .unwrap()
            .matches(&digest)
    };
    let good = thumbprint(&digest);
    assert!(matches(json!({ "x5t#S256": good })));
    assert!(!matches(json!({ "x5t#S256": thumbprint(&[8; 32]) })));
    for text in [
        String::new(),
        format!("{good}="),
        format!(" {good}"),
        good[1..].to_owned(),
        thumbprint(&digest)[..42].to_owned(),
        good.clone() + "AAAA",
        "+".repeat(43),
        crate::text::hex(&digest),
    ] {
        let claims = bound(json!({ "x5t#S256": text }));
        assert_eq!(
            claims.certificate_thumbprint(),
            Err(TokenError::MalformedConfirmation),
            "{text}"
        );
    }
    for cnf in [
        json!({"x5t#S256": null}),
        json!({"x5t#S256": null, "jkt": null}),
        json!({"a\nb": null}),
        json!({"x5t#S256": [good]}),
        json!(good),
        json!([]),
        json!({}),
        json!(""),
        json!(false),
    ] {
        assert_eq!(
            bound(cnf).certificate_thumbprint(),
            Err(TokenError::MalformedConfirmation)
        );
    }
    assert_eq!(bound(json!(null)).certificate_thumbprint(), Ok(None));
    assert_eq!(claims(json!({})).certificate_thumbprint(), Ok(None));
    assert!(matches(json!({"kid": "1", "x5t#S256": good})));
    // Some issuers write null for every member that does not apply.
    assert!(matches(json!({"jkt": null, "x5t#S256": good})));
    for (cnf, member) in [
        (json!({"jkt": good}), "jkt"),
        (json!({"jkt": good, "x5t#S256": good}), "jkt"),
        (json!({"jkt": good, "x5t#S256": null}), "jkt"),
        (json!({"jwk": {"kty": "EC"}}), "jwk"),
        (json!({"x5t#s256": good}), "x5t#s256"),
        (json!({"a\nb": 1, "x5t#S256": null}), "a\\nb"),
    ] {
        let refusal = TokenError::UnsupportedConfirmation(member.to_owned());
        assert_eq!(bound(cnf).certificate_thumbprint(), Err(refusal.clone()));
        let text = format!("token bound by cnf.{member}, which is not checked here");
        assert_eq!(refusal.to_string(), text);
    }
    // Only the nested claim counts.
    let flat = claims(json!({"x5t#S256": good, "cnf.x5t#S256": good}));
    assert_eq!(flat.certificate_thumbprint(), Ok(None));
}

#[test]
fn thumbprint_of_rfc8705_appendix_a() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/rfc8705-appendix-a.json");
    let example: Value = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
        Err(error) => {
            // The test harness captures eprintln!, so this writes to stderr itself.
            writeln!(
                std::io::stderr(),
                "SKIPPED: rfc8705-appendix-a.json: {error}"
            )
            .unwrap();
            return;
        }
    };
    let pem = example["pem"].as_str().unwrap();
    let certificate = crate::certificate::Certificate::from_pem(pem.as_bytes()).unwrap();
    let expected = example["x5t#S256"].as_str().unwrap();
    assert_eq!(thumbprint(&certificate.digests().leaf), expected);
    let claims = claims(json!({"cnf": {"x5t#S256": expected}}));
    assert!(claims
        .certificate_thumbprint()
        .unwrap()
        .unwrap()
        .matches(&certificate.digests().leaf));
}
