//! What the access token of a request costs in the library: a token that was never seen, against the
//! verification of its signature by OpenSSL alone, and the same token again. Certificate from a
//! header, chain verified, `cnf.x5t#S256` compared, as behind a WAF. Needs t/pki/out (t/pki/make).

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

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
/// Microseconds beyond the signature, and for a token seen before.
const NEW_GOAL: f64 = 20.0;
const AGAIN_GOAL: f64 = 5.0;

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

struct Issuer {
    algorithm: &'static str,
    key: PKey<Private>,
    jwks: String,
}

fn issuers() -> [Issuer; 2] {
    let rsa = Rsa::generate(2048).unwrap();
    let (n, e) = (text(&rsa.n().to_vec()), text(&rsa.e().to_vec()));
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let ec = EcKey::generate(&group).unwrap();
    let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    let mut context = BigNumContext::new().unwrap();
    ec.public_key()
        .affine_coordinates(&group, &mut x, &mut y, &mut context)
        .unwrap();
    let [x, y] = [x, y].map(|number| text(&number.to_vec_padded(32).unwrap()));
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

/// `(token, what is signed, signature as OpenSSL wants it)`
fn token(issuer: &Issuer, number: usize, x5t: &str, now: i64) -> (String, String, Vec<u8>) {
    let header = format!(
        r#"{{"alg":"{}","kid":"k","typ":"at+jwt"}}"#,
        issuer.algorithm
    );
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":["https://api.test"],"sub":"client-{number}","client_id":"client-{number}","jti":"{number:032x}","scope":"read write","iat":{now},"nbf":{now},"exp":{},"cnf":{{"x5t#S256":"{x5t}"}}}}"#,
        now + 3600
    );
    let signed = format!("{}.{}", text(header.as_bytes()), text(claims.as_bytes()));
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
    (format!("Bearer {signed}.{}", text(&raw)), signed, signature)
}

/// Microseconds for each of `count` calls.
fn each(count: usize, mut call: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    (0..count).for_each(&mut call);
    per(start.elapsed(), count)
}

fn per(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
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
    let came: [(&[u8], &[u8]); 1] = [(b"x-client-cert", header.as_bytes())];

    for issuer in issuers() {
        let engine = Engine::default();
        let load = || {
            let origin = PolicySource::Text {
                text: policy.as_bytes().into(),
                label: "policy".to_owned(),
            };
            engine.load(origin).unwrap();
        };
        load();
        engine
            .set_issuer_documents(0, discovery.as_bytes(), Some(issuer.jwks.as_bytes()))
            .unwrap();
        let tokens: Vec<_> = (0..TOKENS)
            .map(|number| token(&issuer, number, &x5t, now))
            .collect();
        let pass = |authorization: &str| {
            let request = TokenRequest {
                authorization: &[authorization.as_bytes()],
                headers: RequestHeaders {
                    headers: &came,
                    trusted: true,
                },
                ssl: None,
                latest: false,
            };
            let answer = engine.check_token(0, &request, now).unwrap();
            assert_eq!(answer.outcome, TokenOutcome::Pass, "{answer:?}");
            black_box(answer);
        };
        let (mut alone, mut new, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            alone.push(each(TOKENS, |i| {
                let (_, signed, signature) = &tokens[i];
                let mut verifier = Verifier::new(MessageDigest::sha256(), &issuer.key).unwrap();
                assert!(verifier
                    .verify_oneshot(signature, signed.as_bytes())
                    .unwrap());
            }));
            // Tokens are forgotten with the policy; the certificate is known again after one request.
            load();
            pass(&token(&issuer, TOKENS, &x5t, now).0);
            new.push(each(TOKENS, |i| pass(&tokens[i].0)));
            again.push(each(TOKENS, |i| pass(&tokens[i].0)));
        }
        let (alone, new, again) = (median(alone), median(new), median(again));
        let beyond = new - alone;
        let verdict = |met: bool| if met { "met" } else { "MISSED" };
        println!(
            "{}: signature alone {alone:.1} us; new token {new:.1} us, {beyond:+.1} (goal <= {NEW_GOAL}: {}); the same token again {again:.2} us (goal <= {AGAIN_GOAL}: {})",
            issuer.algorithm,
            verdict(beyond <= NEW_GOAL),
            verdict(again <= AGAIN_GOAL),
        );
    }
}
