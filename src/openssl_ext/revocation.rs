//! OCSP and CRL calls that the openssl crate lacks.

use std::cmp::Ordering;
use std::ffi::{c_int, c_long, c_uchar, c_void};
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::asn1::{Asn1GeneralizedTimeRef, Asn1ObjectRef, Asn1StringRef, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ocsp::{OcspBasicResponseRef, OcspCertIdRef, OcspCertStatus, OcspRequestRef};
use openssl::pkey::{PKeyRef, Public};
use openssl::stack::{Stack, StackRef};
use openssl::x509::{DistPointRef, GeneralName, X509Crl, X509CrlRef, X509NameRef, X509Ref, X509};
use openssl_sys as sys;

/// `V_ASN1_SEQUENCE`.
const SEQUENCE: c_int = 16;

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
    fn ASN1_SEQUENCE_it() -> *const c_void;
    fn X509_CRL_get0_signature(
        crl: *const sys::X509_CRL,
        signature: *mut *const sys::ASN1_BIT_STRING,
        algorithm: *mut *const sys::X509_ALGOR,
    );
    fn X509_CRL_get_signature_nid(crl: *const sys::X509_CRL) -> c_int;
    fn d2i_GENERAL_NAMES(
        names: *mut *mut sys::stack_st_GENERAL_NAME,
        der: *mut *const c_uchar,
        len: c_long,
    ) -> *mut sys::stack_st_GENERAL_NAME;
    fn GENERAL_NAME_cmp(one: *mut sys::GENERAL_NAME, other: *mut sys::GENERAL_NAME) -> c_int;
    fn DIST_POINT_set_dpname(
        point: *mut sys::DIST_POINT_NAME,
        issuer: *const sys::X509_NAME,
    ) -> c_int;
    fn ISSUING_DIST_POINT_free(point: *mut ISSUING_DIST_POINT);
}

/// `ISSUING_DIST_POINT` of x509v3.h, of which only the first member is read.
#[repr(C)]
#[allow(non_camel_case_types)]
struct ISSUING_DIST_POINT {
    distpoint: *mut sys::DIST_POINT_NAME,
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

/// Whether `key` made the signature of the CRL over `content`, the DER of its TBSCertList
/// (`ASN1_item_verify`, as `X509_CRL_verify` calls it). `crl` itself may have no entries.
pub fn is_crl_signed_with(crl: &X509CrlRef, content: &[u8], key: &PKeyRef<Public>) -> bool {
    let Ok(len) = c_int::try_from(content.len()) else {
        return false;
    };
    // SAFETY: algorithm and signature are parts of the CRL. The string has a copy of `content` and
    // is freed here. For a SEQUENCE the item encodes a string as it is.
    unsafe {
        let (mut signature, mut algorithm) = (ptr::null(), ptr::null());
        X509_CRL_get0_signature(crl.as_ptr(), &mut signature, &mut algorithm);
        let string = sys::ASN1_STRING_type_new(SEQUENCE);
        if string.is_null() {
            return false;
        }
        let verified = sys::ASN1_STRING_set(string, content.as_ptr().cast(), len) == 1
            && ASN1_item_verify(
                ASN1_SEQUENCE_it(),
                algorithm,
                signature,
                string as *const c_void,
                key.as_ptr(),
            ) == 1;
        sys::ASN1_STRING_free(string);
        verified
    }
}

/// The algorithm of the CRL's signature.
pub fn crl_signature_nid(crl: &X509CrlRef) -> Nid {
    // SAFETY: a live CRL.
    Nid::from_raw(unsafe { X509_CRL_get_signature_nid(crl.as_ptr()) })
}

/// The GeneralNames in these bytes, which other bytes may follow.
pub fn general_names(der: &[u8]) -> Option<Stack<GeneralName>> {
    let mut end = der.as_ptr();
    // SAFETY: OpenSSL reads no more than the given length; the caller owns the returned stack.
    unsafe {
        let names = d2i_GENERAL_NAMES(ptr::null_mut(), &mut end, der.len() as c_long);
        (!names.is_null()).then(|| Stack::from_ptr(names))
    }
}

/// Whether the extensions of the certificate say that it is a CA's (`EXFLAG_CA`), as
/// onlyContainsUserCerts and onlyContainsCACerts mean it.
pub fn is_ca_certificate(certificate: &X509Ref) -> bool {
    // SAFETY: a live certificate; the call fills its extension cache, under OpenSSL's own lock.
    let flags = unsafe { sys::X509_get_extension_flags(certificate.as_ptr()) };
    flags & sys::EXFLAG_CA != 0
}

/// Whether the distributionPoint of the CRL's issuingDistributionPoint has a name in common with a
/// distribution point of the certificate that is direct and for which `is_accepted` is true (RFC
/// 5280 section 6.3.3 (b)(2)(i)).
pub fn shares_distribution_point(
    crl: &X509CrlRef,
    certificate: &X509Ref,
    is_accepted: impl Fn(&DistPointRef) -> bool,
) -> bool {
    let points = certificate.crl_distribution_points();
    // SAFETY: the decoded extension is freed here; both issuer names outlive the calls. The names
    // are members of objects that are live and owned here.
    let shares = unsafe {
        let issuing: *mut ISSUING_DIST_POINT = sys::X509_CRL_get_ext_d2i(
            crl.as_ptr(),
            sys::NID_issuing_distribution_point,
            ptr::null_mut(),
            ptr::null_mut(),
        )
        .cast();
        if issuing.is_null() {
            ErrorStack::get();
            return false;
        }
        let name = (*issuing).distpoint;
        let has_name =
            !name.is_null() && DIST_POINT_set_dpname(name, crl.issuer_name().as_ptr()) == 1;
        let shares = has_name
            && points
                .iter()
                .flatten()
                .filter(|point| is_direct(point))
                .filter(|point| is_accepted(point))
                .any(|point| {
                    let other = (*point.as_ptr()).distpoint;
                    !other.is_null()
                        && DIST_POINT_set_dpname(other, certificate.issuer_name().as_ptr()) == 1
                        && shares_name(name, other)
                });
        ISSUING_DIST_POINT_free(issuing);
        shares
    };
    ErrorStack::get();
    shares
}

/// Whether two distribution points have a name in common.
///
/// # Safety
/// Both are live, and `DIST_POINT_set_dpname` was called for them.
unsafe fn shares_name(one: *mut sys::DIST_POINT_NAME, other: *mut sys::DIST_POINT_NAME) -> bool {
    // SAFETY: the type of each tells which member of the union it has; a name relative to the
    // issuer (type 1) has its full name in `dpname`, or NULL.
    unsafe {
        let full = |point: *mut sys::DIST_POINT_NAME| -> &StackRef<GeneralName> {
            StackRef::from_ptr((*point).name.fullname)
        };
        let relative = |point: *mut sys::DIST_POINT_NAME| -> Option<&X509NameRef> {
            let name = (*point).dpname;
            (!name.is_null()).then(|| X509NameRef::from_ptr(name))
        };
        let is_same =
            |one: &X509NameRef, other: &X509NameRef| one.try_cmp(other).is_ok_and(Ordering::is_eq);
        let has = |names: &StackRef<GeneralName>, name: Option<&X509NameRef>| {
            name.is_some_and(|name| {
                let mut directories = names.iter().filter_map(|other| other.directory_name());
                directories.any(|other| is_same(other, name))
            })
        };
        match ((*one).type_, (*other).type_) {
            (1, 1) => match (relative(one), relative(other)) {
                (Some(one), Some(other)) => is_same(one, other),
                _ => false,
            },
            (1, _) => has(full(other), relative(one)),
            (_, 1) => has(full(one), relative(other)),
            _ => full(one).iter().any(|one| {
                let mut others = full(other).iter();
                others.any(|other| GENERAL_NAME_cmp(one.as_ptr(), other.as_ptr()) == 0)
            }),
        }
    }
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
