//! `rmtls_certificate`: a client certificate with the chain that was sent with it.

use std::ffi::c_void;
use std::rc::Rc;

use super::{
    bytes, connection, free_handle, guard, guard_with, handle, new_handle, output, put, rmtls_buf,
};
use crate::certificate::Certificate;
use crate::connection::Connection;
use crate::Error;

/// A certificate; immutable.
pub struct rmtls_certificate(pub(super) Rc<Certificate>);

/// Subject as RFC 2253 text.
pub const RMTLS_FIELD_SUBJECT_DN: u32 = 1;
/// Issuer as RFC 2253 text.
pub const RMTLS_FIELD_ISSUER_DN: u32 = 2;
/// Serial number, upper-case hexadecimal.
pub const RMTLS_FIELD_SERIAL: u32 = 3;
/// SHA-1 of the DER, lower-case hexadecimal.
pub const RMTLS_FIELD_SHA1: u32 = 4;
/// SHA-256 of the DER, lower-case hexadecimal.
pub const RMTLS_FIELD_SHA256: u32 = 5;
/// The leaf in PEM.
pub const RMTLS_FIELD_PEM: u32 = 6;
/// Leaf and intermediates in PEM, leaf first.
pub const RMTLS_FIELD_CHAIN_PEM: u32 = 7;
/// SHA-256 of the DER as in `cnf.x5t#S256` of a token: base64url without padding.
pub const RMTLS_FIELD_X5T_S256: u32 = 8;

/// Most names that are listed one by one: a caller keeps them all.
const MAX_LISTED: usize = 1000;

fn bounded<T>(list: &[T]) -> Result<&[T], Error> {
    if list.len() > MAX_LISTED {
        return Err(Error::Misuse(format!("over {MAX_LISTED} names")));
    }
    Ok(list)
}

/// Reads PEM text, leaf first.
///
/// # Safety
/// `pem` is readable for `pem_len` bytes; `out` is NULL or valid for writing; `err` is NULL or
/// valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_certificate_from_pem(
    pem: *const u8,
    pem_len: usize,
    out: *mut *mut rmtls_certificate,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let pem = bytes(pem, pem_len)?;
            new_handle(out, || {
                Ok(rmtls_certificate(Rc::new(Certificate::from_pem(pem)?)))
            })
        })
    }
}

/// Returns the certificate that the client presented on `ssl`, also on a resumed session;
/// `RMTLS_NOT_FOUND` if it presented none.
///
/// # Safety
/// `ssl` is NULL or a live `SSL` after its handshake; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_certificate_from_ssl(
    ssl: *mut c_void,
    out: *mut *mut rmtls_certificate,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let ssl = connection(ssl).ok_or(Error::NotFound)?;
            new_handle(out, || {
                let connection_data = Connection::of_or_new(ssl)?;
                let key = connection_data.digests(ssl)?.ok_or(Error::NotFound)?;
                Ok(rmtls_certificate(Rc::new(
                    connection_data.certificate(ssl, key, None)?,
                )))
            })
        }
    })
}

/// Frees a certificate.
///
/// # Safety
/// `certificate` is NULL or from this library, and is not used again.
#[no_mangle]
pub unsafe extern "C" fn rmtls_certificate_free(certificate: *mut rmtls_certificate) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { free_handle(certificate) }
}

/// Writes one of the `RMTLS_FIELD_*` of a certificate.
///
/// # Safety
/// `certificate` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_certificate_get(
    certificate: *const rmtls_certificate,
    field: u32,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let certificate = &unsafe { handle(certificate) }?.0;
        let value = match field {
            RMTLS_FIELD_SUBJECT_DN => certificate.subject_dn()?.into_bytes(),
            RMTLS_FIELD_ISSUER_DN => certificate.issuer_dn()?.into_bytes(),
            RMTLS_FIELD_SERIAL => certificate.serial().into_bytes(),
            RMTLS_FIELD_SHA1 => certificate.fingerprint_sha1()?.into_bytes(),
            RMTLS_FIELD_SHA256 => certificate.fingerprint_sha256().into_bytes(),
            RMTLS_FIELD_PEM => certificate.pem()?,
            RMTLS_FIELD_CHAIN_PEM => certificate.chain_pem()?,
            RMTLS_FIELD_X5T_S256 => {
                crate::token::thumbprint(&certificate.digests().leaf).into_bytes()
            }
            _ => return Err(Error::NotFound),
        };
        // SAFETY: as above.
        unsafe { put(out, &value) }
    })
}

/// Writes notBefore and notAfter, in seconds since 1970.
///
/// # Safety
/// `certificate` is NULL or live; `not_before` and `not_after` are NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_certificate_validity(
    certificate: *const rmtls_certificate,
    not_before: *mut i64,
    not_after: *mut i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (certificate, not_before, not_after) = unsafe {
            (
                &handle(certificate)?.0,
                output(not_before)?,
                output(not_after)?,
            )
        };
        *not_before = certificate.not_before()?;
        *not_after = certificate.not_after()?;
        Ok(())
    })
}

/// Writes attribute number `index` of the subject: its short name or OID, and its value in UTF-8
/// with NULs kept. `RMTLS_NOT_FOUND` after the last; `RMTLS_INVALID` if there are over 1,000.
///
/// # Safety
/// `certificate` is NULL or live; `name` and `value` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_certificate_subject(
    certificate: *const rmtls_certificate,
    index: usize,
    name: *mut rmtls_buf,
    value: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let attributes = bounded(handle(certificate)?.0.subject())?;
            let attribute = attributes.get(index).ok_or(Error::NotFound)?;
            put(name, attribute.name.as_bytes())?;
            put(value, &attribute.value)
        }
    })
}

/// Writes subject alternative name number `index`: its type (`DNS`, `email`, `URI`, `IP`,
/// `dirName`) and its value. `RMTLS_NOT_FOUND` after the last; `RMTLS_INVALID` if there are over
/// 1,000.
///
/// # Safety
/// `certificate` is NULL or live; `kind` and `value` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_certificate_san(
    certificate: *const rmtls_certificate,
    index: usize,
    kind: *mut rmtls_buf,
    value: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let names = bounded(handle(certificate)?.0.san())?;
            let san = names.get(index).ok_or(Error::NotFound)?;
            put(kind, san.kind().as_bytes())?;
            put(value, &san.value())
        }
    })
}
