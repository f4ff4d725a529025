//! OCSP and CRL calls beyond the openssl crate.

use std::ffi::{c_int, c_long, c_uchar, c_ulong, c_void};
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::asn1::{Asn1GeneralizedTimeRef, Asn1ObjectRef, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::ocsp::{OcspBasicResponseRef, OcspCertIdRef, OcspRequestRef};
use openssl::x509::{
    DistPointRef, X509Crl, X509CrlRef, X509Ref, X509RevokedRef, X509StoreContextRef,
};
use openssl_sys as sys;

/// `X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL`: what nginx's `ssl_crl` sets.
const CRL_CHECK_ALL: c_ulong = 0x4 | 0x8;

/// What `OCSP_check_nonce` answers when only the request carries a nonce, which is what a
/// responder with precomputed answers does (RFC 6960 section 4.4.1).
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
    // Since OpenSSL 3.0; X509_V_OK when there is no key identifier.
    fn X509_check_akid(issuer: *const sys::X509, key_id: *const sys::AUTHORITY_KEYID) -> c_int;
    fn X509_STORE_CTX_set0_crls(ctx: *mut sys::X509_STORE_CTX, crls: *mut c_void);
    fn X509_STORE_CTX_set_flags(ctx: *mut sys::X509_STORE_CTX, flags: c_ulong);
}

/// Adds a random nonce (`OCSP_request_add1_nonce`).
pub fn add_nonce(request: &mut OcspRequestRef) -> Result<(), ErrorStack> {
    // SAFETY: without a value OpenSSL draws one, of its default length for a negative one.
    match unsafe { OCSP_request_add1_nonce(request.as_ptr(), ptr::null_mut(), -1) } {
        1 => Ok(()),
        _ => Err(ErrorStack::get()),
    }
}

/// Whether the nonces agree, or the response carries none (`OCSP_check_nonce`).
pub fn nonce_matches(request: &OcspRequestRef, response: &OcspBasicResponseRef) -> bool {
    // SAFETY: two live objects, only read.
    let answer = unsafe { OCSP_check_nonce(request.as_ptr(), response.as_ptr()) };
    answer > 0 || answer == NONCE_ABSENT_FROM_RESPONSE
}

/// How many single responses are about `id`, and whether an extension of one of these or of the
/// whole response is critical.
pub fn single_responses(response: &OcspBasicResponseRef, id: &OcspCertIdRef) -> (usize, bool) {
    // SAFETY: live objects, only read; OCSP_resp_find answers an index or -1, and -1 starts over.
    unsafe {
        let response = response.as_ptr();
        let mut critical = OCSP_BASICRESP_get_ext_by_critical(response, 1, -1) >= 0;
        let (mut count, mut index) = (0, -1);
        loop {
            index = OCSP_resp_find(response, id.as_ptr(), index);
            if index < 0 {
                return (count, critical);
            }
            count += 1;
            let single = OCSP_resp_get0(response, index);
            critical |= OCSP_SINGLERESP_get_ext_by_critical(single, 1, -1) >= 0;
        }
    }
}

/// A GeneralizedTime is one of the two forms of an ASN1_TIME.
pub fn as_time(time: &Asn1GeneralizedTimeRef) -> &Asn1TimeRef {
    // SAFETY: both are names of ASN1_STRING, and its type says which form it is.
    unsafe { Asn1TimeRef::from_ptr(time.as_ptr().cast()) }
}

/// Whether the distribution point is for all reasons and the certificate's issuer signs its CRL.
pub fn is_direct(point: &DistPointRef) -> bool {
    // SAFETY: a live DIST_POINT, whose members are NULL when absent.
    unsafe {
        let point = point.as_ptr();
        (*point).reasons.is_null() && (*point).CRLissuer.is_null()
    }
}

/// Reads one DER-encoded CRL and says how many bytes it took (`d2i_X509_CRL`).
pub fn crl_from_der(der: &[u8]) -> Result<(X509Crl, usize), ErrorStack> {
    let mut end = der.as_ptr();
    // SAFETY: OpenSSL reads no more than the length given and moves `end` inside or right behind
    // it; the CRL it answers is ours.
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

/// Type and criticality of each extension of the CRL.
pub fn crl_extensions(crl: &X509CrlRef) -> impl Iterator<Item = (&Asn1ObjectRef, bool)> {
    // SAFETY: a live CRL.
    let count = unsafe { sys::X509_CRL_get_ext_count(crl.as_ptr()) };
    (0..count).map(move |index| {
        // SAFETY: the index is in range; extension and type live as long as the CRL.
        unsafe {
            let extension = sys::X509_CRL_get_ext(crl.as_ptr(), index);
            let object = Asn1ObjectRef::from_ptr(sys::X509_EXTENSION_get_object(extension));
            (object, sys::X509_EXTENSION_get_critical(extension) != 0)
        }
    })
}

/// Whether the CRL's authorityKeyIdentifier, if it has one, is that of `issuer`
/// (`X509_check_akid`).
pub fn key_id_matches(crl: &X509CrlRef, issuer: &X509Ref) -> bool {
    // SAFETY: live objects, only read; the decoded extension is ours and may be NULL.
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

/// Whether the entry has a critical extension, or one that names another issuer.
pub fn is_odd_entry(entry: &X509RevokedRef) -> bool {
    // SAFETY: a live entry, only read.
    unsafe {
        let entry = entry.as_ptr();
        sys::X509_REVOKED_get_ext_by_critical(entry, 1, -1) >= 0
            || sys::X509_REVOKED_get_ext_by_NID(entry, sys::NID_certificate_issuer, -1) >= 0
    }
}

/// Verifies with revocation checked for the whole chain against `crls`, as nginx's `ssl_crl`
/// (`X509_STORE_CTX_set0_crls`). The CRLs serve this one call; store and context keep none.
pub fn verify_with_crls<'a>(
    context: &mut X509StoreContextRef,
    crls: impl Iterator<Item = &'a X509CrlRef>,
) -> Result<bool, ErrorStack> {
    /// A stack that borrows its members.
    struct Borrowed(*mut sys::OPENSSL_STACK);
    impl Drop for Borrowed {
        fn drop(&mut self) {
            // SAFETY: frees the stack only.
            unsafe { sys::OPENSSL_sk_free(self.0) }
        }
    }
    // SAFETY: the CRLs outlive this function, and the context forgets them before it returns.
    unsafe {
        let stack = Borrowed(sys::OPENSSL_sk_new_null());
        for crl in crls {
            // Answers the number of members; 0 when there is no memory or no stack.
            if sys::OPENSSL_sk_push(stack.0, crl.as_ptr() as *const c_void) <= 0 {
                return Err(ErrorStack::get());
            }
        }
        X509_STORE_CTX_set0_crls(context.as_ptr(), stack.0.cast());
        X509_STORE_CTX_set_flags(context.as_ptr(), CRL_CHECK_ALL);
        let verified = context.verify_cert();
        X509_STORE_CTX_set0_crls(context.as_ptr(), ptr::null_mut());
        verified
    }
}
