//! OCSP (RFC 6960) as functions on bytes: the request for one certificate, and the evaluation of a
//! response.
//!
//! A response is accepted if it is signed by the issuer of the certificate, or by a responder whose
//! certificate this issuer signed for the purpose. No other responder is accepted. The revocation
//! of a delegated responder's certificate is not checked: such certificates are short-lived and
//! usually have id-pkix-ocsp-nocheck.
//!
//! "good" is accepted while the response is in force. "revoked" is accepted from every response
//! with an authentic signature, even if it is expired, malformed in another part, or has a
//! responderID that does not fit the signer. With the reason `certificateHold`, "revoked" is
//! accepted only while the response is in force.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::asn1::Asn1GeneralizedTimeRef;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::ocsp::{
    OcspBasicResponseRef, OcspCertId, OcspCertStatus, OcspFlag, OcspRequest, OcspResponse,
    OcspResponseStatus,
};
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509Ref, X509StoreContext, X509};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

use super::revocation_status::{
    self, in_force, reason_name, revoked_until, RevocationStatus, CLOCK_SKEW,
};
use crate::certificate::unix_seconds;
use crate::openssl_ext::revocation as ext;
use crate::openssl_ext::x509::extended_key_usage;
use crate::Error;

/// Longest response that is read, in bytes.
pub const MAX_RESPONSE: usize = 64 * 1024;

/// Longest URL of a GET request, in bytes. A longer request is sent with POST (RFC 5019 section 5).
pub const MAX_GET: usize = 255;

/// Seconds for which a response without nextUpdate is cached: such a responder has newer information
/// at any time (RFC 6960 section 4.2.2.1).
const CACHE_WITHOUT_END: i64 = 3600;

/// Default of `ocsp_max_age`.
pub const MAX_AGE: i64 = 86_400;

/// certificateHold (RFC 5280 section 5.3.1).
const HOLD: i32 = 6;

/// id-kp-OCSPSigning (RFC 6960 section 4.2.2.2).
const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";

/// Maximum number of certificates of a response that are tried as its signer.
const MAX_RESPONDERS: usize = 8;

const NO_TIME: &str = "has an invalid time";

/// Characters that are escaped in a path segment: all but the unreserved ones (RFC 3986).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The DER of a request for one certificate: the body of a POST with the content type
/// `application/ocsp-request`. The CertID uses SHA-1, which every responder supports. With a nonce
/// the responder cannot use a cached response.
pub fn request(certificate: &X509Ref, issuer: &X509Ref, nonce: bool) -> Result<Vec<u8>, Error> {
    let mut request = OcspRequest::new()?;
    request.add_id(id(certificate, issuer)?)?;
    if nonce {
        ext::add_nonce(&mut request)?;
    }
    Ok(request.to_der()?)
}

/// The DER of the same request with a nonce, for a responder that answers no other (RFC 9654).
///
/// # Errors
/// When `request` is not an OCSPRequest.
pub fn with_nonce(request: &[u8]) -> Result<Vec<u8>, Error> {
    let mut request = OcspRequest::from_der(request)?;
    ext::add_nonce(&mut request)?;
    Ok(request.to_der()?)
}

/// The URL for sending the request to `responder` with GET; `None` when POST must be used.
pub fn get_url(responder: &str, request: &[u8]) -> Option<String> {
    if responder.contains('?') {
        return None;
    }
    let encoded = STANDARD.encode(request);
    let encoded = utf8_percent_encode(&encoded, SEGMENT);
    let url = format!(
        "{}/{encoded}",
        responder.strip_suffix('/').unwrap_or(responder)
    );
    (url.len() <= MAX_GET).then_some(url)
}

/// A status, with the thisUpdate of the answer that it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatedStatus {
    /// The status.
    pub status: RevocationStatus,
    /// thisUpdate in seconds since the epoch; 0 where it is unreadable.
    pub this_update: i64,
}

/// [`evaluate_dated`] with the default of `max_age`.
pub fn evaluate(
    response: &[u8],
    request: &[u8],
    certificate: &X509Ref,
    issuer: &X509Ref,
    auth_level: u32,
    now: i64,
) -> RevocationStatus {
    let dated = evaluate_dated(
        response,
        request,
        certificate,
        issuer,
        auth_level,
        MAX_AGE,
        now,
    );
    dated.status
}

/// The status of `certificate` at `now` according to `response`.
///
/// `request` is the request that was sent; when it and the response have nonces, these must be
/// equal. `issuer` is the next certificate of the verified chain. `auth_level` is the OpenSSL
/// security level that the certificate of a delegated responder must meet. `max_age` is the greatest
/// age in seconds of thisUpdate in a response without nextUpdate that makes a certificate good.
pub fn evaluate_dated(
    response: &[u8],
    request: &[u8],
    certificate: &X509Ref,
    issuer: &X509Ref,
    auth_level: u32,
    max_age: i64,
    now: i64,
) -> DatedStatus {
    let status = status(
        response,
        request,
        certificate,
        issuer,
        auth_level,
        max_age,
        now,
    );
    // Errors must not remain in OpenSSL's queue, because nginx would report them.
    ErrorStack::get();
    status.unwrap_or_else(|why| DatedStatus {
        status: RevocationStatus::Unknown(format!("OCSP response {why}")),
        this_update: 0,
    })
}

fn status(
    response: &[u8],
    request: &[u8],
    certificate: &X509Ref,
    issuer: &X509Ref,
    auth_level: u32,
    max_age: i64,
    now: i64,
) -> Result<DatedStatus, String> {
    if response.len() > MAX_RESPONSE {
        return Err(format!(
            "of {} bytes is over the limit of {MAX_RESPONSE}",
            response.len()
        ));
    }
    let unreadable = |stack| {
        format!(
            "is unreadable: {}",
            revocation_status::decoding_error(&stack)
        )
    };
    let internal = |stack| {
        format!(
            "cannot be checked: {}",
            revocation_status::verification_error(&stack)
        )
    };

    let response = OcspResponse::from_der(response).map_err(unreadable)?;
    if response.status() != OcspResponseStatus::SUCCESSFUL {
        return Err(format!("is an error: {}", error_name(response.status())));
    }
    let basic = response.basic().map_err(unreadable)?;

    let id = id(certificate, issuer).map_err(internal)?;
    let singles = ext::single_responses(&basic, &id);
    let signed = verify(&basic, issuer, auth_level, Some(now));
    for single in &singles {
        if single.status != OcspCertStatus::REVOKED {
            continue;
        }
        let (this_update, until, in_force) = match times(single, max_age) {
            Ok((this_update, until)) => {
                let in_force = in_force(this_update, until, now, CLOCK_SKEW).is_ok();
                (this_update, until, in_force)
            }
            Err(_) => (0, now, false),
        };
        let accepted = match single.reason {
            HOLD => {
                in_force && (signed.is_ok() || is_authentic(&basic, issuer, auth_level, Some(now)))
            }
            // The responder's certificate may have expired.
            _ => {
                signed.is_ok()
                    || verify(&basic, issuer, auth_level, None).is_ok()
                    || is_authentic(&basic, issuer, auth_level, None)
            }
        };
        if accepted {
            let until = match single.next_update {
                Some(_) => until,
                None => until.min(now.saturating_add(CACHE_WITHOUT_END)),
            };
            let status = RevocationStatus::Revoked {
                until: revoked_until(until, now),
                // An unreadable date does not invalidate the revocation.
                since: single.revoked_at.and_then(|since| time(since).ok()),
                reason: reason_name(single.reason.into()),
            };
            return Ok(DatedStatus {
                status,
                this_update,
            });
        }
    }
    signed.map_err(|stack| {
        let why = revocation_status::verification_error(&stack);
        format!("is not signed by the issuer or a responder of the issuer: {why}")
    })?;

    let request = OcspRequest::from_der(request).map_err(internal)?;
    if !ext::nonce_matches(&request, &basic) {
        return Err("is for another request: its nonce differs".to_owned());
    }
    if ext::has_critical_extension(&basic) || singles.iter().any(|single| single.critical) {
        return Err("has a critical extension, none is supported".to_owned());
    }
    let single = match &singles[..] {
        [single] => single,
        [] => return Err("has no status of this certificate".to_owned()),
        several => {
            return Err(format!(
                "has {} statuses of this certificate, expected one",
                several.len()
            ))
        }
    };
    let (this_update, until) = times(single, max_age)?;
    if single.next_update.is_none() && until <= now.saturating_sub(CLOCK_SKEW) {
        return Err(format!(
            "has no nextUpdate, and a thisUpdate of {} s ago, over the ocsp_max_age of {max_age} s",
            now.saturating_sub(this_update)
        ));
    }
    in_force(this_update, until, now, CLOCK_SKEW)?;
    let until = match single.next_update {
        Some(_) => until,
        None => until.min(now.saturating_add(CACHE_WITHOUT_END)),
    };
    match single.status {
        OcspCertStatus::GOOD => Ok(DatedStatus {
            status: RevocationStatus::Good { until },
            this_update,
        }),
        _ => Err("has the certificate status unknown".to_owned()),
    }
}

/// Checks that the response is signed by `issuer` or by a responder that it certified, with
/// certificates that are valid at `now`, or at any time for `None`.
fn verify(
    basic: &OcspBasicResponseRef,
    issuer: &X509Ref,
    auth_level: u32,
    now: Option<i64>,
) -> Result<(), ErrorStack> {
    let store = issuer_store(issuer, auth_level, now)?;
    let mut signers = Stack::<X509>::new()?;
    signers.push(issuer.to_owned())?;
    // NO_CHAIN: certificates of the response are not used as intermediates between issuer and
    // responder. NO_EXPLICIT: a root that is marked as trusted for OCSP does not replace the
    // issuer.
    basic.verify(&signers, &store, OcspFlag::NO_CHAIN | OcspFlag::NO_EXPLICIT)
}

/// The same check without the responderID, by which OpenSSL selects the signer: whether the
/// signature was made with the key of `issuer`, or with that of a responder which it certified and
/// whose certificate is in the response.
fn is_authentic(
    basic: &OcspBasicResponseRef,
    issuer: &X509Ref,
    auth_level: u32,
    now: Option<i64>,
) -> bool {
    let signed_by = |signer: &X509Ref| {
        let key = signer.public_key();
        key.is_ok_and(|key| ext::is_signed_with(basic, &key))
    };
    let certified = |responder: &X509Ref| {
        let purposes = extended_key_usage(responder);
        purposes.iter().any(|purpose| purpose == OCSP_SIGNING)
            && is_issued_by(responder, issuer, auth_level, now).unwrap_or(false)
    };
    let mut responders = ext::certificates(basic).take(MAX_RESPONDERS);
    signed_by(issuer) || responders.any(|responder| signed_by(responder) && certified(responder))
}

/// Whether `issuer` issued the certificate directly, and it is valid at `now`, or at any time for
/// `None`.
fn is_issued_by(
    certificate: &X509Ref,
    issuer: &X509Ref,
    auth_level: u32,
    now: Option<i64>,
) -> Result<bool, ErrorStack> {
    let store = issuer_store(issuer, auth_level, now)?;
    // Without untrusted certificates the chain has no intermediate.
    let untrusted = Stack::<X509>::new()?;
    X509StoreContext::new()?.init(&store, certificate, &untrusted, |context| {
        context.verify_cert()
    })
}

/// thisUpdate, and the second at which the single response ends.
fn times(single: &ext::SingleResponse<'_>, max_age: i64) -> Result<(i64, i64), String> {
    let this_update = single.this_update.ok_or_else(|| NO_TIME.to_owned());
    let this_update = time(this_update?)?;
    let until = match single.next_update {
        Some(next_update) => time(next_update)?,
        None => this_update.saturating_add(max_age),
    };
    Ok((this_update, until))
}

fn time(time: &Asn1GeneralizedTimeRef) -> Result<i64, String> {
    unix_seconds(ext::as_time(time)).map_err(|_| NO_TIME.to_owned())
}

fn id(certificate: &X509Ref, issuer: &X509Ref) -> Result<OcspCertId, ErrorStack> {
    OcspCertId::from_cert(MessageDigest::sha1(), certificate, issuer)
}

/// A store whose only anchor is the issuer, even if that is an intermediate.
fn issuer_store(
    issuer: &X509Ref,
    auth_level: u32,
    now: Option<i64>,
) -> Result<X509Store, ErrorStack> {
    let mut param = X509VerifyParam::new()?;
    param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    param.set_auth_level(auth_level.min(5) as i32);
    match now {
        Some(now) => param.set_time(now),
        None => param.set_flags(X509VerifyFlags::NO_CHECK_TIME)?,
    }
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(issuer.to_owned())?;
    store.set_param(&param)?;
    Ok(store.build())
}

fn error_name(status: OcspResponseStatus) -> String {
    let name = match status {
        OcspResponseStatus::MALFORMED_REQUEST => "malformedRequest",
        OcspResponseStatus::INTERNAL_ERROR => "internalError",
        OcspResponseStatus::TRY_LATER => "tryLater",
        OcspResponseStatus::SIG_REQUIRED => "sigRequired",
        OcspResponseStatus::UNAUTHORIZED => "unauthorized",
        other => return format!("status {}", other.as_raw()),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;
