//! Verifies a JWT. If the first byte is even, the rest is a header and a payload, separated by a
//! zero byte, which the issuer signs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::token::{Algorithm, ClaimRequirements, Jwks, Jws, RequiredValues, TokenError};
use resty_mtls_fuzz::{Issuer, NOW};

thread_local! {
    static ISSUER: (Issuer, Jwks) = {
        let issuer = Issuer::default();
        let keys = Jwks::parse(&issuer.jwks()).unwrap();
        (issuer, keys)
    };
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    ISSUER.with(|(issuer, keys)| match kind % 2 {
        0 => {
            let mut parts = data.splitn(2, |byte| *byte == 0);
            let (header, payload) = (parts.next().unwrap_or_default(), parts.next());
            let token = issuer.sign(header, payload.unwrap_or_default());
            let _ = verify(&token, keys);
        }
        // Only the issuer can sign a token.
        _ => {
            if let Ok(token) = std::str::from_utf8(data) {
                assert!(verify(token, keys).is_err());
            }
        }
    });
});

fn verify(token: &str, keys: &Jwks) -> Result<(), TokenError> {
    let claims = Jws::parse(token)?.verify(keys, &Algorithm::ALL)?;
    let requirements = ClaimRequirements {
        audience: RequiredValues::new(["api"].into_iter()),
        scopes: RequiredValues::new(["read write", "admin"].into_iter()),
        ..ClaimRequirements::default()
    };
    let _ = claims.check_requirements(&requirements);
    let _ = claims.check_times(60, NOW);
    let _ = claims.expires_at();
    let _ = claims
        .certificate_thumbprint()
        .map(|thumbprint| thumbprint.is_some_and(|thumbprint| thumbprint.matches(&[7; 32])));
    for name in ["sub", "aud", "scope", "cnf"] {
        if let Ok(Some(text)) = claims.header_value(&[name.into()], 100) {
            assert!(text.len() <= 100 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
    claims.check_issuer("https://idp.example")
}
