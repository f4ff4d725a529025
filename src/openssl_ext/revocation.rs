//! OCSP and CRL calls that the openssl crate lacks.

use std::cmp::Ordering;
use std::ffi::{c_int, c_long, c_uchar, c_ulong, c_void};
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::asn1::{Asn1GeneralizedTimeRef, Asn1ObjectRef, Asn1StringRef, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::ocsp::{OcspBasicResponseRef, OcspCertIdRef, OcspCertStatus, OcspRequestRef};
use openssl::pkey::{PKeyRef, Public};
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{
    DistPointRef, GeneralName, X509Crl, X509CrlRef, X509NameRef, X509Ref, X509RevokedRef,
    X509StoreContext, X509StoreContextRef, X509,
};
use openssl_sys as sys;

use super::x509::set_verify_time;

/// `X509_V_FLAG_CRL_CHECK`.
const CRL_CHECK: c_ulong = 0x4;

/// Result of `OCSP_check_nonce` when only the request has a nonce. A responder with precomputed
/// responses sends none (RFC 6960 section 4.4.1).
const NONCE_ABSENT_FROM_RESPONSE: c_int = -1;

extern "C" {
    fn OCSP_request_add1_nonce(
        request: *mut sys::OCSP_REQUEST,
        value: *mut c_uchar,
        len: c_int,
    ) -> c_int;
    fn OCSP_check_nonce(request: *mut sys::OCSP_REQUEST, basic: *mut sys::OCSP_BASICRESP) -> c_int;
    fn OCSP_resp_find(
        basic: *mut sys::OCSP_BASICRESP,
        id: *mut sys::OCSP_CERTID,
        last: c_int,
    ) -> c_int;
    fn OCSP_resp_get0(basic: *mut sys::OCSP_BASICRESP, index: c_int) -> *mut c_void;
    fn OCSP_single_get0_status(
        single: *mut c_void,
        reason: *mut c_int,
        revoked_at: *mut *mut sys::ASN1_GENERALIZEDTIME,
        this_update: *mut *mut sys::ASN1_GENERALIZEDTIME,
        next_update: *mut *mut sys::ASN1_GENERALIZEDTIME,
    ) -> c_int;
    fn OCSP_BASICRESP_get_ext_by_critical(
        basic: *mut sys::OCSP_BASICRESP,
        critical: c_int,
        last: c_int,
    ) -> c_int;
    fn OCSP_SINGLERESP_get_ext_by_critical(
        single: *mut c_void,
        critical: c_int,
        last: c_int,
    ) -> c_int;
    fn OCSP_resp_get0_signature(basic: *const sys::OCSP_BASICRESP) -> *const sys::ASN1_BIT_STRING;
    fn OCSP_resp_get0_tbs_sigalg(basic: *const sys::OCSP_BASICRESP) -> *const sys::X509_ALGOR;
    fn OCSP_resp_get0_respdata(basic: *const sys::OCSP_BASICRESP) -> *const c_void;
    fn OCSP_resp_get0_certs(basic: *const sys::OCSP_BASICRESP) -> *const sys::stack_st_X509;
    fn OCSP_RESPDATA_it() -> *const c_void;
    fn ASN1_item_verify(
        item: *const c_void,
        algorithm: *const sys::X509_ALGOR,
        signature: *const sys::ASN1_BIT_STRING,
        content: *const c_void,
        key: *mut sys::EVP_PKEY,
    ) -> c_int;
    // Since OpenSSL 3.0; X509_V_OK when there is no key identifier.
    fn X509_check_akid(issuer: *const sys::X509, key_id: *const sys::AUTHORITY_KEYID) -> c_int;
    fn X509_STORE_CTX_set0_crls(ctx: *mut sys::X509_STORE_CTX, crls: *mut c_void);
    fn X509_STORE_CTX_set_flags(ctx: *mut sys::X509_STORE_CTX, flags: c_ulong);
}

/// Adds a random nonce (`OCSP_request_add1_nonce`).
pub fn add_nonce(request: &mut OcspRequestRef) -> Result<(), ErrorStack> {
    // SAFETY: without a value OpenSSL generates one, with its default length for a negative length.
    match unsafe { OCSP_request_add1_nonce(request.as_ptr(), ptr::null_mut(), -1) } {
        1 => Ok(()),
        _ => Err(ErrorStack::get()),
    }
}

/// Whether the nonces are equal, or the response has none (`OCSP_check_nonce`).
pub fn nonce_matches(request: &OcspRequestRef, response: &OcspBasicResponseRef) -> bool {
    // SAFETY: two live objects, only read.
    let result = unsafe { OCSP_check_nonce(request.as_ptr(), response.as_ptr()) };
    result > 0 || result == NONCE_ABSENT_FROM_RESPONSE
}

/// The status of one certificate in a response (SingleResponse, RFC 6960 section 4.2.1).
pub struct SingleResponse<'a> {
    /// good, revoked or unknown.
    pub status: OcspCertStatus,
    /// CRLReason of a revocation; -1 without one.
    pub reason: c_int,
    /// revocationTime.
    pub revoked_at: Option<&'a Asn1GeneralizedTimeRef>,
    /// thisUpdate.
    pub this_update: Option<&'a Asn1GeneralizedTimeRef>,
    /// nextUpdate.
    pub next_update: Option<&'a Asn1GeneralizedTimeRef>,
    /// Whether it has a critical extension.
    pub critical: bool,
}

/// The single responses for `id`.
pub fn single_responses<'a>(
    response: &'a OcspBasicResponseRef,
    id: &OcspCertIdRef,
) -> Vec<SingleResponse<'a>> {
    let mut found = Vec::new();
    // SAFETY: live objects, only read; OCSP_resp_find returns an index or -1, and starts at the
    // beginning for -1. The response owns the times, which are NULL when absent.
    unsafe {
        let response = response.as_ptr();
        let mut index = -1;
        loop {
            index = OCSP_resp_find(response, id.as_ptr(), index);
            if index < 0 {
                return found;
            }
            let single = OCSP_resp_get0(response, index);
            let mut reason = -1;
            let mut times = [ptr::null_mut::<sys::ASN1_GENERALIZEDTIME>(); 3];
            let [revoked_at, this_update, next_update] = &mut times;
            let status =
                OCSP_single_get0_status(single, &mut reason, revoked_at, this_update, next_update);
            let [revoked_at, this_update, next_update] =
                times.map(|time| (!time.is_null()).then(|| Asn1GeneralizedTimeRef::from_ptr(time)));
            found.push(SingleResponse {
                status: OcspCertStatus::from_raw(status),
                reason,
                revoked_at,
                this_update,
                next_update,
                critical: OCSP_SINGLERESP_get_ext_by_critical(single, 1, -1) >= 0,
            });
        }
    }
}

/// Whether the response as a whole has a critical extension.
pub fn has_critical_extension(response: &OcspBasicResponseRef) -> bool {
    // SAFETY: a live response, only read.
    unsafe { OCSP_BASICRESP_get_ext_by_critical(response.as_ptr(), 1, -1) >= 0 }
}

/// Whether `key` made the signature of the response. The responderID is not compared (RFC 6960
/// section 4.2.1, `ASN1_item_verify` over tbsResponseData).
pub fn is_signed_with(response: &OcspBasicResponseRef, key: &PKeyRef<Public>) -> bool {
    // SAFETY: live objects, only read; algorithm, signature and data are parts of the response, and
    // the item describes its data.
    unsafe {
        let response = response.as_ptr();
        ASN1_item_verify(
            OCSP_RESPDATA_it(),
            OCSP_resp_get0_tbs_sigalg(response),
            OCSP_resp_get0_signature(response),
            OCSP_resp_get0_respdata(response),
            key.as_ptr(),
        ) == 1
    }
}

/// The certificates in the response (`OCSP_resp_get0_certs`).
pub fn certificates(response: &OcspBasicResponseRef) -> impl Iterator<Item = &X509Ref> {
    // SAFETY: a live response, which owns the stack; that is NULL when there are no certificates.
    let stack: Option<&StackRef<X509>> = unsafe {
        let stack = OCSP_resp_get0_certs(response.as_ptr());
        (!stack.is_null()).then(|| StackRef::from_ptr(stack.cast_mut()))
    };
    stack.into_iter().flatten()
}

/// The GeneralizedTime as ASN1_TIME, of which it is one of two forms.
pub fn as_time(time: &Asn1GeneralizedTimeRef) -> &Asn1TimeRef {
    // SAFETY: both types are ASN1_STRING, whose type field distinguishes the two forms.
    unsafe { Asn1TimeRef::from_ptr(time.as_ptr().cast()) }
}

/// Whether the distribution point has neither reasons nor cRLIssuer: its CRL covers all reasons and
/// is signed by the issuer of the certificate.
pub fn is_direct(point: &DistPointRef) -> bool {
    // SAFETY: a live DIST_POINT, whose members are NULL when absent.
    unsafe {
        let point = point.as_ptr();
        (*point).reasons.is_null() && (*point).CRLissuer.is_null()
    }
}

/// Reads one CRL in DER and returns it with its length in bytes (`d2i_X509_CRL`).
pub fn crl_from_der(der: &[u8]) -> Result<(X509Crl, usize), ErrorStack> {
    let mut end = der.as_ptr();
    // SAFETY: OpenSSL reads no more than the given length and sets `end` to the end of what it
    // read; the caller owns the returned CRL.
    unsafe {
        let crl = sys::d2i_X509_CRL(ptr::null_mut(), &mut end, der.len() as c_long);
        if crl.is_null() {
            return Err(ErrorStack::get());
        }
        Ok((
            X509Crl::from_ptr(crl),
            end.offset_from(der.as_ptr()) as usize,
        ))
    }
}

/// An extension of a CRL.
pub struct CrlExtension<'a> {
    /// OID.
    pub object: &'a Asn1ObjectRef,
    /// Whether it is critical.
    pub critical: bool,
    /// Content of extnValue: DER, unless it is malformed.
    pub value: &'a [u8],
}

/// The extensions of the CRL in encoded order.
pub fn crl_extensions(crl: &X509CrlRef) -> impl Iterator<Item = CrlExtension<'_>> {
    // SAFETY: a live CRL.
    let count = unsafe { sys::X509_CRL_get_ext_count(crl.as_ptr()) };
    (0..count).map(move |index| {
        // SAFETY: the index is in range; the CRL owns the extension with its OID and content.
        unsafe {
            let extension = sys::X509_CRL_get_ext(crl.as_ptr(), index);
            let value = sys::X509_EXTENSION_get_data(extension).cast::<sys::ASN1_STRING>();
            CrlExtension {
                object: Asn1ObjectRef::from_ptr(sys::X509_EXTENSION_get_object(extension)),
                critical: sys::X509_EXTENSION_get_critical(extension) != 0,
                value: Asn1StringRef::from_ptr(value).as_slice(),
            }
        }
    })
}

/// Whether the CRL has no authorityKeyIdentifier, or one that identifies `issuer`
/// (`X509_check_akid`).
pub fn key_id_matches(crl: &X509CrlRef, issuer: &X509Ref) -> bool {
    // SAFETY: live objects, only read; the decoded extension may be NULL and is freed here.
    unsafe {
        let key_id = sys::X509_CRL_get_ext_d2i(
            crl.as_ptr(),
            sys::NID_authority_key_identifier,
            ptr::null_mut(),
            ptr::null_mut(),
        )
        .cast();
        let matches = X509_check_akid(issuer.as_ptr(), key_id) == sys::X509_V_OK;
        sys::AUTHORITY_KEYID_free(key_id);
        matches
    }
}

/// Which kinds of extensions an entry of a CRL has.
#[derive(Clone, Copy, Debug, Default)]
pub struct EntryExtensions {
    /// Any critical extension.
    pub critical: bool,
    /// A critical extension other than certificateIssuer.
    pub unsupported: bool,
    /// certificateIssuer.
    pub issuer: bool,
}

/// Which kinds of extensions the entry has.
pub fn entry_extensions(entry: &X509RevokedRef) -> EntryExtensions {
    let mut found = EntryExtensions::default();
    // SAFETY: a live entry, only read; the indices are in range.
    unsafe {
        let entry = entry.as_ptr();
        for index in 0..sys::X509_REVOKED_get_ext_count(entry) {
            let extension = sys::X509_REVOKED_get_ext(entry, index);
            let critical = sys::X509_EXTENSION_get_critical(extension) != 0;
            let object = sys::X509_EXTENSION_get_object(extension);
            let issuer = sys::OBJ_obj2nid(object) == sys::NID_certificate_issuer;
            found.critical |= critical;
            found.unsupported |= critical && !issuer;
            found.issuer |= issuer;
        }
    }
    found
}

/// Whether a distribution point of the certificate names `issuer` as its cRLIssuer (RFC 5280
/// section 4.2.1.13).
pub fn names_crl_issuer(certificate: &X509Ref, issuer: &X509NameRef) -> bool {
    let points = certificate.crl_distribution_points();
    let named = points.iter().flatten().any(|point| {
        // SAFETY: a live DIST_POINT, which owns the names; they are NULL when absent.
        let names: Option<&StackRef<GeneralName>> = unsafe {
            let names = (*point.as_ptr()).CRLissuer;
            (!names.is_null()).then(|| StackRef::from_ptr(names))
        };
        let mut names = names.into_iter().flatten();
        names.any(|name| {
            let directory = name.directory_name();
            directory.is_some_and(|name| name.try_cmp(issuer).is_ok_and(Ordering::is_eq))
        })
    });
    ErrorStack::get();
    named
}

/// Checks one certificate of a verified chain against `crls` (`X509_V_FLAG_CRL_CHECK`). Returns an
/// `X509_V_*` code. `above` is the rest of the chain, up to the anchor.
pub fn crl_status<'a>(
    certificate: &X509Ref,
    above: &[X509],
    crls: impl Iterator<Item = &'a X509CrlRef>,
    now: i64,
) -> Result<c_int, ErrorStack> {
    let Some((anchor, between)) = above.split_last() else {
        return Ok(sys::X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER);
    };
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(anchor.clone())?;
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    let mut untrusted = Stack::new()?;
    for certificate in between {
        untrusted.push(certificate.clone())?;
    }
    X509StoreContext::new()?.init(&store.build(), certificate, &untrusted, |context| {
        set_verify_time(context, now);
        let verified = verify_with_crls(context, crls)?;
        let code = context.error().as_raw();
        Ok(match (verified, code) {
            (true, code) => code,
            (false, sys::X509_V_OK) => sys::X509_V_ERR_UNSPECIFIED,
            (false, code) => code,
        })
    })
}

/// Verifies the chain and checks the revocation of its first certificate against `crls`
/// (`X509_STORE_CTX_set0_crls`). The context does not keep the CRLs.
fn verify_with_crls<'a>(
    context: &mut X509StoreContextRef,
    crls: impl Iterator<Item = &'a X509CrlRef>,
) -> Result<bool, ErrorStack> {
    /// A stack that does not own its members.
    struct BorrowingStack(*mut sys::OPENSSL_STACK);
    impl Drop for BorrowingStack {
        fn drop(&mut self) {
            // SAFETY: frees the stack, not its members.
            unsafe { sys::OPENSSL_sk_free(self.0) }
        }
    }
    // SAFETY: the CRLs outlive this function, and the context drops its pointer before it returns.
    unsafe {
        let stack = BorrowingStack(sys::OPENSSL_sk_new_null());
        for crl in crls {
            // Returns the number of members, or 0 or -1 on failure.
            if sys::OPENSSL_sk_push(stack.0, crl.as_ptr() as *const c_void) <= 0 {
                return Err(ErrorStack::get());
            }
        }
        X509_STORE_CTX_set0_crls(context.as_ptr(), stack.0.cast());
        X509_STORE_CTX_set_flags(context.as_ptr(), CRL_CHECK);
        let verified = context.verify_cert();
        X509_STORE_CTX_set0_crls(context.as_ptr(), ptr::null_mut());
        verified
    }
}
