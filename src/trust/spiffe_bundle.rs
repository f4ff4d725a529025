//! The bundle of a SPIFFE trust domain in JSON (SPIFFE Trust Domain and Bundle section 4): a JWKS
//! whose keys with the use `x509-svid` hold the CAs.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::x509::X509;
use serde_json::Value;

use crate::certificate;
use crate::text::quoted;

/// Longest bundle in bytes.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most keys of a bundle.
const MAX_KEYS: usize = 1000;
/// Most seconds between two fetches: a day.
const MAX_REFRESH: u64 = 86_400;

/// A bundle.
#[derive(Debug)]
pub struct SpiffeBundle {
    /// The CAs, in order.
    pub cas: Vec<X509>,
    /// `spiffe_sequence`, which is higher for a newer bundle.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint` in seconds.
    pub refresh_hint: Option<u64>,
}

/// Reads a bundle. Keys with another use are not read.
///
/// # Errors
/// What is wrong, and what is expected.
pub fn read(bytes: &[u8]) -> Result<SpiffeBundle, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!(
            "{} bytes are over the limit of {MAX_BYTES}",
            bytes.len()
        ));
    }
    // The error texts of serde_json contain positions, not the content.
    let document: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let keys = document
        .get("keys")
        .and_then(Value::as_array)
        .ok_or("no list 'keys', expected a SPIFFE bundle: a JWKS")?;
    if keys.len() > MAX_KEYS {
        return Err(format!(
            "{} keys are over the limit of {MAX_KEYS}",
            keys.len()
        ));
    }
    let number = |name| match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| format!("'{name}' is not a number, expected one from 0 on")),
    };
    let mut cas = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        match key.get("use").and_then(Value::as_str) {
            Some("x509-svid") => {}
            // Keys of JWT-SVIDs, and those of later versions (section 4.2.2).
            Some(_) => continue,
            None => return Err(format!("keys[{index}] has no 'use', expected 'x509-svid'")),
        }
        cas.push(certificate_of(key).map_err(|why| format!("keys[{index}]{why}"))?);
    }
    Ok(SpiffeBundle {
        cas,
        sequence: number("spiffe_sequence")?,
        refresh_hint: number("spiffe_refresh_hint")?.map(|hint| hint.min(MAX_REFRESH)),
    })
}

/// The certificate of a key, whose own members are not used (section 4.2.2: `x5c` has exactly one).
fn certificate_of(key: &Value) -> Result<X509, String> {
    let x5c = key.get("x5c").and_then(Value::as_array);
    let certificates = x5c.map(Vec::as_slice).unwrap_or_default();
    let [Value::String(text)] = certificates else {
        return Err(format!(
            ".x5c has {} certificates, expected one in base64",
            certificates.len()
        ));
    };
    let der = STANDARD
        .decode(text)
        .map_err(|_| format!(".x5c[0] is not base64: '{}'", quoted(short(text))))?;
    certificate::from_der(&der).map_err(|error| format!(".x5c[0] is {error}"))
}

/// The beginning of a text, for an error.
fn short(text: &str) -> &[u8] {
    text.as_bytes().get(..32).unwrap_or(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// A bundle as SPIRE writes it: the CA, and a key for JWT-SVIDs.
    fn bundle(x5c: &str, rest: &str) -> String {
        format!(
            r#"{{"keys": [
                {{"use": "x509-svid", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "x5c": {x5c}}},
                {{"use": "jwt-svid", "kty": "EC", "kid": "C6vs", "crv": "P-256", "x": "AA", "y": "AA"}}
            ], {rest} "spiffe_refresh_hint": 300}}"#
        )
    }

    #[test]
    fn read_takes_the_x509_svid_keys() {
        let ca = testing::pki().ca.x509;
        let der = STANDARD.encode(ca.to_der().unwrap());
        let text = bundle(&format!("[\"{der}\"]"), "\"spiffe_sequence\": 12035488,");
        let bundle = read(text.as_bytes()).unwrap();
        assert_eq!(bundle.cas.len(), 1);
        assert_eq!(bundle.cas[0].to_der().unwrap(), ca.to_der().unwrap());
        assert_eq!(bundle.sequence, Some(12_035_488));
        assert_eq!(bundle.refresh_hint, Some(300));
        let empty = read(b"{\"keys\": []}").unwrap();
        assert!(empty.cas.is_empty() && empty.sequence.is_none());
    }

    #[test]
    fn read_refuses_what_is_no_bundle() {
        for (text, why) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("[]", "no list 'keys', expected a SPIFFE bundle: a JWKS"),
            (
                "{\"keys\": {}}",
                "no list 'keys', expected a SPIFFE bundle: a JWKS",
            ),
            (
                "{\"keys\": [{}]}",
                "keys[0] has no 'use', expected 'x509-svid'",
            ),
            (
                &bundle("[]", ""),
                "keys[0].x5c has 0 certificates, expected one in base64",
            ),
            (
                &bundle("null", ""),
                "keys[0].x5c has 0 certificates, expected one in base64",
            ),
            (
                &bundle("[\"AA==\", \"AA==\"]", ""),
                "keys[0].x5c has 2 certificates, expected one in base64",
            ),
            (&bundle("[\"*\"]", ""), "keys[0].x5c[0] is not base64: '*'"),
            (
                "{\"keys\": [], \"spiffe_sequence\": -1}",
                "'spiffe_sequence' is not a number, expected one from 0 on",
            ),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err(), why, "{text}");
        }
        let error = read(bundle("[\"AA==\"]", "").as_bytes()).unwrap_err();
        let start = "keys[0].x5c[0] is not a readable X.509 certificate";
        assert!(error.starts_with(start), "{error}");
        let many = format!("{{\"keys\": [{}]}}", ["1"; MAX_KEYS + 1].join(","));
        assert_eq!(
            read(many.as_bytes()).unwrap_err(),
            "1001 keys are over the limit of 1000"
        );
    }
}
