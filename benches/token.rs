//! Time to check an access token in the library: a new token, compared with the verification of its
//! signature by OpenSSL alone, and a cached token. The certificate is in a header, as behind a WAF;
//! its chain is verified and `cnf.x5t#S256` is compared. Needs t/pki/out (t/pki/make).

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::Engine as _;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::{Signer, Verifier};
use openssl::x509::X509;
use resty_mtls::engine::{Engine, PolicySource, RequestHeaders, TokenOutcome, TokenRequest};
use resty_mtls::token::thumbprint;

const TOKENS: usize = 1000;
const ROUNDS: usize = 9;
const ISSUER: &str = "https://idp.test";
/// Budget in microseconds of a new token, above the verification of its signature.
const MAX_ABOVE_SIGNATURE: f64 = 20.0;
/// Budget in microseconds of a cached token.
const MAX_CACHED: f64 = 5.0;

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

struct Issuer {
    algorithm: &'static str,
    key: PKey<Private>,
    jwks: String,
}

fn issuers() -> [Issuer; 2] {
    let rsa = Rsa::generate(2048).unwrap();
    let (n, e) = (base64url(&rsa.n().to_vec()), base64url(&rsa.e().to_vec()));
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let ec = EcKey::generate(&group).unwrap();
    let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    let mut context = BigNumContext::new().unwrap();
    ec.public_key()
        .affine_coordinates(&group, &mut x, &mut y, &mut context)
        .unwrap();
    let [x, y] = [x, y].map(|number| base64url(&number.to_vec_padded(32).unwrap()));
    [
        Issuer {
            algorithm: "RS256",
            key: PKey::from_rsa(rsa).unwrap(),
            jwks: format!(r#"{{"keys":[{{"kty":"RSA","kid":"k","n":"{n}","e":"{e}"}}]}}"#),
        },
        Issuer {
            algorithm: "ES256",
            key: PKey::from_ec_key(ec).unwrap(),
            jwks: format!(
                r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#
            ),
        },
    ]
}

/// The header `Authorization`, the signed part of its token, and the signature in the encoding of
/// OpenSSL.
fn authorization(issuer: &Issuer, number: usize, x5t: &str, now: i64) -> (String, String, Vec<u8>) {
    let header = format!(
        r#"{{"alg":"{}","kid":"k","typ":"at+jwt"}}"#,
        issuer.algorithm
    );
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":["https://api.test"],"sub":"client-{number}","client_id":"client-{number}","jti":"{number:032x}","scope":"read write","iat":{now},"nbf":{now},"exp":{},"cnf":{{"x5t#S256":"{x5t}"}}}}"#,
        now + 3600
    );
    let signed = format!(
        "{}.{}",
        base64url(header.as_bytes()),
        base64url(claims.as_bytes())
    );
    let mut signer = Signer::new(MessageDigest::sha256(), &issuer.key).unwrap();
    let signature = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
    let raw = match issuer.algorithm {
        "ES256" => {
            let pair = EcdsaSig::from_der(&signature).unwrap();
            [pair.r(), pair.s()]
                .map(|number| number.to_vec_padded(32).unwrap())
                .concat()
        }
        _ => signature.clone(),
    };
    (
        format!("Bearer {signed}.{}", base64url(&raw)),
        signed,
        signature,
    )
}

/// Mean time of `count` calls in microseconds.
fn mean_microseconds(count: usize, mut call: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    (0..count).for_each(&mut call);
    start.elapsed().as_secs_f64() * 1e6 / count as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let pki = |file: &str| {
        let path = format!("{}/t/pki/out/{file}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(path).expect("t/pki/make was run")
    };
    let ca = pki("ca-a.crt").replace('\n', "\n    ");
    let leaf = X509::from_pem(pki("client-a.crt").as_bytes()).unwrap();
    let der = leaf.to_der().unwrap();
    let x5t = thumbprint(&openssl::sha::sha256(&der));
    let header = STANDARD.encode(&der);
    let id = "11111111-1111-4111-8111-111111111111";
    let policy = format!(
        "_format_version: '3.0'\nca_certificates:\n- id: {id}\n  cert: |\n    {ca}\nplugins:\n\
         - name: openid-connect\n  config:\n    issuer: {ISSUER}\n    auth_methods: [bearer]\n    \
         audience_required: ['https://api.test']\n    proof_of_possession_mtls: strict\n    \
         proof_of_possession_mtls_from_header: {{certificate_header_name: x-client-cert, \
         certificate_header_format: base64_encoded, ca_certificates: [{id}]}}\n"
    );
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let discovery = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{ISSUER}/jwks"}}"#);
    let headers: [(&[u8], &[u8]); 1] = [(b"x-client-cert", header.as_bytes())];

    for issuer in issuers() {
        let engine = Engine::default();
        let load_policy = || {
            let origin = PolicySource::Text {
                text: policy.as_bytes().into(),
                label: "policy".to_owned(),
            };
            engine.load(origin).unwrap();
        };
        load_policy();
        engine
            .set_issuer_documents(0, Some(discovery.as_bytes()), &[issuer.jwks.as_bytes()])
            .unwrap();
        let tokens: Vec<_> = (0..TOKENS)
            .map(|number| authorization(&issuer, number, &x5t, now))
            .collect();
        let check = |authorization: &str| {
            let request = TokenRequest {
                dpop: None,
                authorization: &[authorization.as_bytes()],
                headers: RequestHeaders {
                    headers: &headers,
                    trusted: true,
                },
                ssl: None,
                latest: false,
            };
            let check = engine.check_token(0, &request, now).unwrap();
            assert_eq!(check.outcome, TokenOutcome::Pass, "{check:?}");
            black_box(check);
        };
        let (mut signature_alone, mut new, mut cached) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            signature_alone.push(mean_microseconds(TOKENS, |i| {
                let (_, signed, signature) = &tokens[i];
                let mut verifier = Verifier::new(MessageDigest::sha256(), &issuer.key).unwrap();
                assert!(verifier
                    .verify_oneshot(signature, signed.as_bytes())
                    .unwrap());
            }));
            // A new policy discards cached tokens. One request puts the certificate into the cache
            // again.
            load_policy();
            check(&authorization(&issuer, TOKENS, &x5t, now).0);
            new.push(mean_microseconds(TOKENS, |i| check(&tokens[i].0)));
            cached.push(mean_microseconds(TOKENS, |i| check(&tokens[i].0)));
        }
        let (alone, new, cached) = (median(signature_alone), median(new), median(cached));
        let above = new - alone;
        let verdict = |met: bool| if met { "met" } else { "MISSED" };
        println!(
            "{}: signature alone {alone:.1} us; new token {new:.1} us, {above:+.1} (budget <= {MAX_ABOVE_SIGNATURE}: {}); cached token {cached:.2} us (budget <= {MAX_CACHED}: {})",
            issuer.algorithm,
            verdict(above <= MAX_ABOVE_SIGNATURE),
            verdict(cached <= MAX_CACHED),
        );
    }
}
