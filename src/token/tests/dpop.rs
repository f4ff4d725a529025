//! DPoP proofs.

use openssl::pkey::PKey;
use openssl::sha::sha256;
use serde_json::{json, Value};

use super::*;

const URI: &str = "https://api.test/pay";

/// A proof of `pair` with these changes to header and claims.
fn proof(pair: &SigningKeyPair, header: Value, claims: Value) -> String {
    let mut jwk = pair.jwk.clone();
    jwk.as_object_mut().unwrap().remove("kid");
    let mut all = [
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}),
        json!({
            "jti": "1", "htm": "POST", "htu": URI, "iat": NOW,
            "ath": encode_base64url(&sha256(b"token")),
        }),
    ];
    for (part, changes) in all.iter_mut().zip([header, claims]) {
        let part = part.as_object_mut().unwrap();
        for (name, value) in changes.as_object().unwrap() {
            part.insert(name.clone(), value.clone());
        }
    }
    let [header, claims] = all;
    let name = header["alg"].as_str().unwrap_or_default();
    let algorithm = Algorithm::from_name(name).unwrap_or(Algorithm::ES256);
    token_with(header, &claims, pair, algorithm)
}

fn thumbprint_of(jwk: &Value) -> KeyThumbprint {
    let text = |name: &str| jwk[name].as_str().unwrap();
    let text = match text("kty") {
        "RSA" => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text("e"), text("n")),
        "EC" => format!(
            r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
            text("crv"),
            text("x"),
            text("y")
        ),
        _ => format!(
            r#"{{"crv":"{}","kty":"OKP","x":"{}"}}"#,
            text("crv"),
            text("x")
        ),
    };
    KeyThumbprint::from_base64url(&encode_base64url(&sha256(text.as_bytes()))).unwrap()
}

fn request(key: &KeyThumbprint) -> ProofRequest<'_> {
    ProofRequest {
        method: "POST",
        uri: URI,
        token: "token",
        key,
        lifetime: 300,
        leeway: 0,
        nonce_key: None,
    }
}

#[test]
fn proof_of_rfc9449_has_the_thumbprint_of_its_token() {
    // RFC 9449 section 7.1: proof and token of the request, whose cnf.jkt is that of section 6.1.
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZy\
                 aHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpi\
                 VFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9\
                 iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9\
                 wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05\
                 yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plem\
                 AgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    let key = KeyThumbprint::from_base64url("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap();
    let request = ProofRequest {
        method: "GET",
        uri: "https://resource.example.org/protectedresource",
        token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
        ..request(&key)
    };
    let found = check_proof(proof, &request, 1_562_262_618).unwrap();
    assert_eq!(found.expires, 1_562_262_918);
    assert!(check_proof(proof, &request, found.expires).is_err());
}

#[test]
fn proofs_of_every_key_type_are_accepted() {
    for (pair, alg) in [
        (p256("k"), "ES256"),
        (rsa(2048, "k"), "RS256"),
        (rsa(2048, "k"), "PS512"),
        (
            okp(PKey::generate_ed25519().unwrap(), "Ed25519", "k"),
            "EdDSA",
        ),
        (
            okp(PKey::generate_ed25519().unwrap(), "Ed25519", "k"),
            "Ed25519",
        ),
        (okp(PKey::generate_ed448().unwrap(), "Ed448", "k"), "Ed448"),
    ] {
        let text = proof(&pair, json!({ "alg": alg }), json!({}));
        let key = thumbprint_of(&pair.jwk);
        let found = check_proof(&text, &request(&key), NOW).unwrap();
        assert_eq!(found.expires, NOW + 300);
        let other = proof(&pair, json!({ "alg": alg }), json!({"jti": "2"}));
        assert_ne!(
            check_proof(&other, &request(&key), NOW).unwrap().id,
            found.id
        );
        // A byte of the signature or of the claims is another.
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let mut bytes = base64url(signature).unwrap();
        bytes[5] ^= 1;
        for tampered in [
            format!("{signed}.{}", encode_base64url(&bytes)),
            format!("{}.{signature}", other.rsplit_once('.').unwrap().0),
        ] {
            let refusal = check_proof(&tampered, &request(&key), NOW).unwrap_err();
            assert_eq!(
                refusal.to_string(),
                "DPoP proof refused: its signature is wrong"
            );
        }
    }
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
}

#[test]
fn proofs_that_do_not_fit_are_refused() {
    let (pair, other) = (p256("k"), p256("k"));
    let key = thumbprint_of(&pair.jwk);
    let none = json!({});
    let mut private = pair.jwk.clone();
    private["d"] = json!("AAAA");
    let ath = encode_base64url(&sha256(b"token2"));
    for (header, claims, why) in [
        (
            json!({"typ": "JWT"}),
            none.clone(),
            "of type 'JWT', expected dpop+jwt",
        ),
        (
            json!({"typ": null}),
            none.clone(),
            "of type '', expected dpop+jwt",
        ),
        (
            json!({"alg": "none"}),
            none.clone(),
            "algorithm 'none' is never accepted",
        ),
        (
            json!({"alg": "HS256"}),
            none.clone(),
            "algorithm 'HS256' is never accepted",
        ),
        (
            json!({"alg": 1}),
            none.clone(),
            "algorithm '' is never accepted",
        ),
        (
            json!({"alg": "ES384"}),
            none.clone(),
            "'jwk' is no key for the algorithm ES384",
        ),
        (json!({"jwk": null}), none.clone(), "no 'jwk' in its header"),
        (
            json!({"jwk": private}),
            none.clone(),
            "'jwk' has the private member 'd'",
        ),
        (
            json!({"jwk": {"kty": "oct", "k": "AAAA"}}),
            none.clone(),
            "'jwk' has the private member 'k'",
        ),
        (
            json!({"jwk": {"kty": "oct"}}),
            none.clone(),
            "'jwk': symmetric",
        ),
        (
            json!({"jwk": other.jwk}),
            none.clone(),
            "its key is not the one that the token is bound to",
        ),
        (
            json!({"crit": ["exp"]}),
            none.clone(),
            "a header with 'crit', 'enc', 'zip' or 'b64'",
        ),
        (
            none.clone(),
            json!({"htm": "post"}),
            "'htm' is 'post', expected 'POST'",
        ),
        (none.clone(), json!({"htm": null}), "no text 'htm' in it"),
        (
            none.clone(),
            json!({"htu": "https://api.test/pa"}),
            "'htu' is 'https://api.test/pa', expected 'https://api.test/pay'",
        ),
        (none.clone(), json!({"htu": 1}), "no text 'htu' in it"),
        (
            none.clone(),
            json!({"ath": ath}),
            "'ath' is that of another token",
        ),
        (none.clone(), json!({"ath": null}), "no text 'ath' in it"),
        (none.clone(), json!({"jti": ""}), "no text 'jti' in it"),
        (none.clone(), json!({"iat": "1"}), "no number 'iat' in it"),
        (
            none.clone(),
            json!({"iat": NOW - 300}),
            "its 'iat' is 1799999700, which is too long ago",
        ),
        (
            none.clone(),
            json!({"iat": NOW + 61}),
            "its 'iat' is 1800000061, which is in the future",
        ),
        (
            none.clone(),
            json!({"iat": 1e300}),
            "its 'iat' is 9223372036854775807, which is in the future",
        ),
    ] {
        let text = proof(&pair, header, claims);
        assert_eq!(
            check_proof(&text, &request(&key), NOW).unwrap_err(),
            TokenError::DpopProof(why.to_owned())
        );
    }
    let foreign = thumbprint_of(&other.jwk);
    let text = proof(&pair, none.clone(), none.clone());
    assert_eq!(
        check_proof(&text, &request(&foreign), NOW)
            .unwrap_err()
            .to_string(),
        "DPoP proof refused: its key is not the one that the token is bound to"
    );
    // The key is compared before the signature is verified.
    let unsigned = format!("{}.AAAA", text.rsplit_once('.').unwrap().0);
    for (key, why) in [
        (
            &foreign,
            "its key is not the one that the token is bound to",
        ),
        (&key, "its signature is wrong"),
    ] {
        assert_eq!(
            check_proof(&unsigned, &request(key), NOW).unwrap_err(),
            TokenError::DpopProof(why.to_owned())
        );
    }
    for text in ["", "a.b", "a.b.c.d", "=.=.=", "e30.e30.", &"a".repeat(9000)] {
        assert!(
            check_proof(text, &request(&key), NOW).is_err(),
            "{text:.20}"
        );
    }
    for iat in [NOW - 299, NOW + 60] {
        let text = proof(&pair, none.clone(), json!({ "iat": iat }));
        assert!(check_proof(&text, &request(&key), NOW).is_ok());
    }
}

#[test]
fn uris_are_compared_in_normal_form_without_query() {
    let pair = p256("k");
    let key = thumbprint_of(&pair.jwk);
    let fits = |htu: &str, uri: &str| {
        let text = proof(&pair, json!({}), json!({ "htu": htu }));
        let request = ProofRequest {
            uri,
            ..request(&key)
        };
        check_proof(&text, &request, NOW).is_ok()
    };
    for (htu, uri) in [
        ("https://api.test/pay?a=b#c", "https://api.test/pay"),
        ("HTTPS://API.test:443/pay", "https://api.test/pay"),
        ("http://api.test:80", "http://api.test/"),
        (
            "https://api.test:/%7epay/%2Fa%c3",
            "https://api.test/~pay/%2fa%C3",
        ),
        (
            "https://api.test/a/../pay/.",
            "https://api.test/b/%2E%2e/pay/",
        ),
        ("https://[2001:db8::1]:443/", "https://[2001:DB8::1]/"),
        ("https://api.test:8443/pay", "https://api.test:8443/pay?x"),
    ] {
        assert!(fits(htu, uri) && fits(uri, htu), "{htu} {uri}");
    }
    for htu in [
        "http://api.test/pay",
        "https://api.test:444/pay",
        "https://api.test:80/pay",
        "https://api.test/pay/",
        "https://api.test/Pay",
        "https://api.test/%2Fpay",
        "https://api.test/pay%",
        "https://evil@api.test/pay",
        "https://api.test.evil/pay",
        "//api.test/pay",
        "/pay",
        "ftp://api.test/pay",
        "https:///pay",
        "https://api.test/p\u{e4}y",
        "https://api.test:x/pay",
    ] {
        assert!(!fits(htu, URI), "{htu}");
    }
    // What is no URI fits nothing, not even itself.
    assert!(!fits("/pay", "/pay") && !fits("https://:1/", "https://:1/"));
}

#[test]
fn nonces_are_from_here_and_end() {
    let pair = p256("k");
    let key = thumbprint_of(&pair.jwk);
    let nonce_key = [7; 32];
    let request = ProofRequest {
        nonce_key: Some(&nonce_key),
        ..request(&key)
    };
    let check = |nonce: Value, now| {
        // The nonce counts, not the clock of the client.
        let text = proof(
            &pair,
            json!({}),
            json!({"nonce": nonce, "iat": NOW - 90_000}),
        );
        check_proof(&text, &request, now)
    };
    let nonce = super::super::nonce(&nonce_key, NOW).unwrap();
    assert_eq!(check(json!(nonce), NOW + 299).unwrap().expires, NOW + 300);
    let mut forged = base64url(&nonce).unwrap();
    forged[7] ^= 1;
    let foreign = super::super::nonce(&[8; 32], NOW).unwrap();
    for (nonce, now, why) in [
        (json!(null), NOW, "it has no nonce"),
        (json!(foreign), NOW, "its nonce is not from here"),
        (
            json!(encode_base64url(&forged)),
            NOW,
            "its nonce is not from here",
        ),
        (json!("AAAA"), NOW, "its nonce is not from here"),
        (json!(nonce[..20]), NOW, "its nonce is not from here"),
        (json!(nonce), NOW + 300, "its nonce is too old"),
        (json!(nonce), NOW - 61, "its nonce is from the future"),
    ] {
        assert_eq!(
            check(nonce, now),
            Err(TokenError::DpopNonce(why.to_owned()))
        );
    }
}
