//! X.509 calls that the openssl crate lacks.

use std::ffi::{c_char, c_int, c_long, c_ulong, c_void, CStr};
use std::ptr;
use std::slice;

use foreign_types::{ForeignType, ForeignTypeRef};
use libc::time_t;
use openssl::asn1::{Asn1IntegerRef, Asn1Object, Asn1ObjectRef, Asn1StringRef};
use openssl::nid::Nid;
use openssl::stack::Stack;
use openssl::x509::{GeneralNameRef, X509NameEntryRef, X509NameRef, X509Ref, X509StoreContextRef};
use openssl_sys as sys;

/// `X509_V_ERR_UNSPECIFIED`: the code of a refusal for which OpenSSL has no other code.
pub const UNSPECIFIED: i32 = sys::X509_V_ERR_UNSPECIFIED;

/// `XN_FLAG_RFC2253`, the format of nginx's `$ssl_client_s_dn`.
const XN_FLAG_RFC2253: c_ulong =
    0x1 | 0x2 | 0x4 | 0x10 | 0x100 | 0x200 | (1 << 16) | (1 << 20) | (1 << 24);

/// Types of strings with more than one byte a character (asn1.h).
const V_ASN1_UTF8STRING: c_int = 12;
const V_ASN1_UNIVERSALSTRING: c_int = 28;
const V_ASN1_BMPSTRING: c_int = 30;

/// Type of a negative INTEGER (asn1.h).
const V_ASN1_NEG_INTEGER: c_int = 0x102;

extern "C" {
    fn GENERAL_NAME_get0_otherName(
        name: *const sys::GENERAL_NAME,
        oid: *mut *mut sys::ASN1_OBJECT,
        value: *mut *mut sys::ASN1_TYPE,
    ) -> c_int;
    fn X509_get_key_usage(x: *mut sys::X509) -> u32;
    fn X509_get_extension_flags(x: *mut sys::X509) -> u32;
    fn X509_NAME_ENTRY_set(entry: *const sys::X509_NAME_ENTRY) -> c_int;
    fn X509_check_ca(x: *mut sys::X509) -> c_int;
    fn X509_get_signature_info(
        x: *mut sys::X509,
        digest: *mut c_int,
        key: *mut c_int,
        security_bits: *mut c_int,
        flags: *mut u32,
    ) -> c_int;
    fn X509_NAME_print_ex(
        out: *mut sys::BIO,
        name: *const sys::X509_NAME,
        indent: c_int,
        flags: c_ulong,
    ) -> c_int;
    fn X509_get_ext_by_NID(x: *const sys::X509, nid: c_int, lastpos: c_int) -> c_int;
    fn X509_get_ext_d2i(
        x: *const sys::X509,
        nid: c_int,
        critical: *mut c_int,
        index: *mut c_int,
    ) -> *mut c_void;
    fn X509_STORE_CTX_set_time(ctx: *mut sys::X509_STORE_CTX, flags: c_ulong, t: time_t);
}

/// Whether the certificate may issue others: `CA:TRUE`, and `keyCertSign` if it has a key usage
/// (`X509_check_ca` == 1; its other results, such as for a version 1 root, are not accepted).
pub fn is_ca(certificate: &X509Ref) -> bool {
    // SAFETY: a live certificate; the call fills its extension cache, under OpenSSL's own lock.
    unsafe { X509_check_ca(certificate.as_ptr()) == 1 }
}

/// Whether the basicConstraints of the certificate are `CA:TRUE`, or its keyUsage has keyCertSign or
/// cRLSign, or an extension cannot be read.
pub fn may_sign_for_others(certificate: &X509Ref) -> bool {
    const EXFLAG_INVALID_OR_CA: u32 = sys::EXFLAG_INVALID | sys::EXFLAG_CA;
    // SAFETY: a live certificate; the calls fill its extension cache, under OpenSSL's own lock.
    unsafe {
        let flags = X509_get_extension_flags(certificate.as_ptr());
        // All bits are set without the extension.
        let usage = match flags & sys::EXFLAG_KUSAGE {
            0 => 0,
            _ => X509_get_key_usage(certificate.as_ptr()),
        };
        flags & EXFLAG_INVALID_OR_CA != 0
            || usage & (sys::X509v3_KU_KEY_CERT_SIGN | sys::X509v3_KU_CRL_SIGN) != 0
    }
}

/// Whether an extension cannot be read, or is there twice (`EXFLAG_INVALID`). OpenSSL verifies no
/// chain with such a certificate.
pub fn has_invalid_extension(certificate: &X509Ref) -> bool {
    // SAFETY: a live certificate; the call fills its extension cache, under OpenSSL's own lock.
    unsafe { X509_get_extension_flags(certificate.as_ptr()) & sys::EXFLAG_INVALID != 0 }
}

/// Whether a critical extension is unknown to OpenSSL, which then verifies no chain with the
/// certificate (`EXFLAG_CRITICAL`).
pub fn has_unknown_critical_extension(certificate: &X509Ref) -> bool {
    // SAFETY: as above.
    unsafe { X509_get_extension_flags(certificate.as_ptr()) & sys::EXFLAG_CRITICAL != 0 }
}

/// The security of the signature in bits, by which `auth_level` refuses it; `None` for an unknown
/// algorithm (`X509_get_signature_info`).
pub fn signature_security_bits(certificate: &X509Ref) -> Option<u32> {
    let mut bits = -1;
    // SAFETY: a live certificate; NULL is allowed for outputs that are not wanted.
    let known = unsafe {
        X509_get_signature_info(
            certificate.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            &mut bits,
            ptr::null_mut(),
        )
    };
    (known == 1).then(|| u32::try_from(bits).unwrap_or(0))
}

/// Whether the certificate has the extension, readable or not (`X509_get_ext_by_NID`).
pub fn has_extension(certificate: &X509Ref, extension: Nid) -> bool {
    // SAFETY: a live certificate; -1 starts at the first extension.
    unsafe { X509_get_ext_by_NID(certificate.as_ptr(), extension.as_raw(), -1) >= 0 }
}

/// Whether the content of an extension is one element of definite length without trailing bytes.
/// OpenSSL itself ignores trailing bytes.
pub fn is_one_element(certificate: &X509Ref, extension: Nid) -> bool {
    // SAFETY: a live certificate; the found index is in range, and the certificate owns the
    // content.
    let value = unsafe {
        let index = X509_get_ext_by_NID(certificate.as_ptr(), extension.as_raw(), -1);
        if index < 0 {
            return false;
        }
        let extension = sys::X509_get_ext(certificate.as_ptr(), index);
        string_bytes(sys::X509_EXTENSION_get_data(extension).cast())
    };
    let Some((&[_, first], rest)) = value.split_first_chunk() else {
        return false;
    };
    if first < 0x80 {
        return rest.len() == usize::from(first);
    }
    // 0x80 is the indefinite length, which DER does not allow.
    let octets = usize::from(first & 0x7f);
    let Some((length, content)) = rest.split_at_checked(octets) else {
        return false;
    };
    let length = length.iter().try_fold(0_usize, |length, octet| {
        length.checked_mul(256)?.checked_add(usize::from(*octet))
    });
    octets > 0 && length == Some(content.len())
}

/// Purposes of the extendedKeyUsage extension as dotted OIDs; empty when it cannot be read.
pub fn extended_key_usage(certificate: &X509Ref) -> Vec<String> {
    if !is_one_element(certificate, Nid::EXT_KEY_USAGE) {
        return Vec::new();
    }
    // SAFETY: without `index` a repeated extension gives NULL; otherwise the caller owns the stack.
    let purposes = unsafe {
        let stack = X509_get_ext_d2i(
            certificate.as_ptr(),
            Nid::EXT_KEY_USAGE.as_raw(),
            ptr::null_mut(),
            ptr::null_mut(),
        );
        if stack.is_null() {
            return Vec::new();
        }
        Stack::<Asn1Object>::from_ptr(stack.cast())
    };
    purposes.iter().map(oid).collect()
}

/// The OID in dotted form.
pub fn oid(object: &Asn1ObjectRef) -> String {
    let mut text = [0; 256];
    // SAFETY: OpenSSL writes at most `text.len()` bytes, NUL included; the last argument requests
    // the dotted form.
    let len = unsafe {
        sys::OBJ_obj2txt(
            text.as_mut_ptr().cast(),
            text.len() as c_int,
            object.as_ptr(),
            1,
        )
    };
    let len = usize::try_from(len).unwrap_or(0).min(text.len() - 1);
    String::from_utf8_lossy(text.get(..len).unwrap_or_default()).into_owned()
}

/// Sets the time of verification, in seconds since the epoch (`X509_STORE_CTX_set_time`).
pub fn set_verify_time(context: &mut X509StoreContextRef, now: i64) {
    // SAFETY: an initialised context; OpenSSL does not use the flags argument.
    unsafe { X509_STORE_CTX_set_time(context.as_ptr(), 0, now as time_t) }
}

/// Text of an `X509_V_*` code (`X509_verify_cert_error_string`).
pub fn verify_error_string(code: i32) -> &'static str {
    // SAFETY: for every code OpenSSL returns a NUL-terminated string in static storage.
    let text = unsafe { CStr::from_ptr(sys::X509_verify_cert_error_string(code as c_long)) };
    text.to_str().unwrap_or("unknown error")
}

/// The name as RFC 2253 text, every byte printable ASCII (`X509_NAME_print_ex`). `None` where
/// OpenSSL cannot print it, such as a BMPString of odd length.
pub fn print_rfc2253(name: &X509NameRef) -> Option<Vec<u8>> {
    // SAFETY: the BIO is freed on every path, after `data` was read.
    unsafe {
        let bio = sys::BIO_new(sys::BIO_s_mem());
        if bio.is_null() {
            return None;
        }
        let mut text = None;
        if X509_NAME_print_ex(bio, name.as_ptr(), 0, XN_FLAG_RFC2253) >= 0 {
            let mut data: *mut c_char = ptr::null_mut();
            let len = sys::BIO_get_mem_data(bio, &mut data);
            text = Some(copied(data.cast(), len as usize));
        }
        sys::BIO_free_all(bio);
        text
    }
}

/// Index of the RDN that the attribute belongs to (`X509_NAME_ENTRY_set`). Attributes with the same
/// index form a multi-valued RDN.
pub fn rdn_index(entry: &X509NameEntryRef) -> i32 {
    // SAFETY: a live entry; the call reads a number from it.
    unsafe { X509_NAME_ENTRY_set(entry.as_ptr()) }
}

/// The string as UTF-8 with embedded NULs kept (`ASN1_STRING_to_UTF8`).
pub fn to_utf8(string: &Asn1StringRef) -> Option<Vec<u8>> {
    // SAFETY: on success OpenSSL allocates a buffer of `len` bytes, which is freed after the copy.
    unsafe {
        let mut data: *mut u8 = ptr::null_mut();
        let len = sys::ASN1_STRING_to_UTF8(&mut data, string.as_ptr());
        if len < 0 {
            openssl::error::ErrorStack::get();
            return None;
        }
        let text = copied(data, len as usize);
        sys::OPENSSL_free(data.cast());
        Some(text)
    }
}

/// Whether the string has a type with one byte a character (`ASN1_STRING_type`).
pub fn is_one_byte_string(string: &Asn1StringRef) -> bool {
    // SAFETY: a live string; the call reads a number from it.
    let kind = unsafe { sys::ASN1_STRING_type(string.as_ptr()) };
    ![V_ASN1_UTF8STRING, V_ASN1_UNIVERSALSTRING, V_ASN1_BMPSTRING].contains(&kind)
}

/// Magnitude of an INTEGER, big-endian without leading zeros, and whether it is negative.
pub fn integer(integer: &Asn1IntegerRef) -> (&[u8], bool) {
    // SAFETY: ASN1_INTEGER is an ASN1_STRING; the integer owns the bytes.
    unsafe {
        let string = integer.as_ptr() as *const sys::ASN1_STRING;
        let negative = sys::ASN1_STRING_type(string) == V_ASN1_NEG_INTEGER;
        (string_bytes(string), negative)
    }
}

/// One subjectAltName entry (RFC 5280 section 4.2.1.6), its bytes as encoded.
#[derive(Clone, Copy)]
pub enum GeneralName<'a> {
    /// dNSName.
    Dns(&'a [u8]),
    /// rfc822Name.
    Email(&'a [u8]),
    /// uniformResourceIdentifier.
    Uri(&'a [u8]),
    /// iPAddress: 4 or 16 octets in a well-formed certificate.
    Ip(&'a [u8]),
    /// directoryName.
    Directory(&'a X509NameRef),
    /// otherName of the type userPrincipalName of Microsoft (1.3.6.1.4.1.311.20.2.3): its
    /// UTF8String, or `None` for a value of another type.
    UserPrincipalName(Option<&'a [u8]>),
    /// Any other type.
    Other,
}

/// Reads one entry.
pub fn general_name(name: &GeneralNameRef) -> GeneralName<'_> {
    if let Some(directory) = name.directory_name() {
        return GeneralName::Directory(directory);
    }
    // SAFETY: for these types the union holds an ASN1_STRING that `name` owns.
    unsafe {
        let raw = name.as_ptr();
        let string = || string_bytes((*raw).d as *const sys::ASN1_STRING);
        match (*raw).type_ {
            sys::GEN_DNS => GeneralName::Dns(string()),
            sys::GEN_EMAIL => GeneralName::Email(string()),
            sys::GEN_URI => GeneralName::Uri(string()),
            sys::GEN_IPADD => GeneralName::Ip(string()),
            sys::GEN_OTHERNAME => user_principal_name(raw),
            _ => GeneralName::Other,
        }
    }
}

/// Reads an otherName.
///
/// # Safety
/// `name` is live for `'a`.
unsafe fn user_principal_name<'a>(name: *const sys::GENERAL_NAME) -> GeneralName<'a> {
    let (mut oid, mut value) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the caller guarantees that the name is live. It owns both outputs, and a value of the
    // type V_ASN1_UTF8STRING is an ASN1_STRING.
    unsafe {
        if GENERAL_NAME_get0_otherName(name, &mut oid, &mut value) != 1
            || oid.is_null()
            || sys::OBJ_obj2nid(oid) != Nid::MS_UPN.as_raw()
        {
            return GeneralName::Other;
        }
        if value.is_null() || (*value).type_ != V_ASN1_UTF8STRING {
            return GeneralName::UserPrincipalName(None);
        }
        GeneralName::UserPrincipalName(Some(string_bytes((*value).value.asn1_string)))
    }
}

/// The bytes of a string.
///
/// # Safety
/// `string` is live for `'a`.
unsafe fn string_bytes<'a>(string: *const sys::ASN1_STRING) -> &'a [u8] {
    // SAFETY: the caller guarantees that the string is live; its data has the given length.
    unsafe {
        let data = sys::ASN1_STRING_get0_data(string);
        let len = sys::ASN1_STRING_length(string);
        if data.is_null() || len <= 0 {
            return &[];
        }
        slice::from_raw_parts(data, len as usize)
    }
}

/// A copy of these bytes.
///
/// # Safety
/// `data` is readable for `len` bytes, or `len` is 0.
unsafe fn copied(data: *const u8, len: usize) -> Vec<u8> {
    if data.is_null() || len == 0 {
        return Vec::new();
    }
    // SAFETY: the caller guarantees that `data` is readable.
    unsafe { slice::from_raw_parts(data, len).to_vec() }
}
