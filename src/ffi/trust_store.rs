//! `rmtls_trust_store`: CAs and verify options.

use std::sync::Arc;

use super::certificate::rmtls_certificate;
use super::header_lines::verify_result;
use super::{
    bytes, free_handle, guard, guard_with, handle, new_handle, output, put, put_truncated,
    rmtls_buf,
};
use crate::trust::{CaCertificate, ClientAuthEku, TrustStore, VerifyOptions};
use crate::Error;

/// A trust store; immutable.
pub struct rmtls_trust_store(pub(super) Arc<TrustStore>);

fn within(name: &str, value: i32, most: u32, default: u32) -> Result<u32, Error> {
    match u32::try_from(value) {
        _ if value == -1 => Ok(default),
        Ok(value) if value <= most => Ok(value),
        _ => Err(Error::Misuse(format!(
            "{name} is {value}, expected 0 to {most}"
        ))),
    }
}

/// Makes a store from a PEM bundle of CA certificates. `allow_partial_chain` is 0 or 1;
/// `verify_depth` is the most intermediates allowed, `auth_level` the security level of OpenSSL;
/// -1 for either selects the default (10 and 2).
///
/// # Safety
/// `pem` is readable for `pem_len` bytes; `out` is NULL or valid for writing; `err` is NULL or
/// valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_trust_store_new(
    pem: *const u8,
    pem_len: usize,
    allow_partial_chain: i32,
    verify_depth: i32,
    auth_level: i32,
    out: *mut *mut rmtls_trust_store,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let pem = bytes(pem, pem_len)?;
            new_handle(out, || {
                let default = VerifyOptions::default();
                let options = VerifyOptions {
                    client_auth_eku: ClientAuthEku::Required,
                    allow_partial_chain: allow_partial_chain != 0,
                    depth: within("verify_depth", verify_depth, 100, default.depth)?,
                    auth_level: within("auth_level", auth_level, 5, default.auth_level)?,
                };
                let store = TrustStore::new(&CaCertificate::from_pem_bundle(pem)?, options)?;
                Ok(rmtls_trust_store(Arc::new(store)))
            })
        })
    }
}

/// Frees a store.
///
/// # Safety
/// `store` is NULL or came from `rmtls_trust_store_new` and is not used again.
#[no_mangle]
pub unsafe extern "C" fn rmtls_trust_store_free(store: *mut rmtls_trust_store) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { free_handle(store) }
}

/// Verifies a certificate as that of a TLS client at `now`, in seconds since 1970. `code` becomes
/// `X509_V_OK` (0) or an `X509_V_ERR_*` number, `verdict` `SUCCESS` or `FAILED:<reason>`,
/// truncated to fit. `RMTLS_OK` only means that there is a verdict.
///
/// # Safety
/// `store` and `certificate` are NULL or live; `code` is NULL or valid for writing; `verdict` is
/// NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_trust_store_verify(
    store: *const rmtls_trust_store,
    certificate: *const rmtls_certificate,
    now: i64,
    code: *mut i32,
    verdict: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (store, certificate, code) =
                (&handle(store)?.0, &handle(certificate)?.0, output(code)?);
            // Fail closed, should the caller look at the code alone.
            *code = -1;
            let result = store.verify(certificate.leaf(), certificate.intermediates(), now)?;
            *code = result.code();
            put_truncated(verdict, &result.text());
            Ok(())
        }
    })
}

/// Writes `SUCCESS` or `FAILED:<reason>` for an `X509_V_*` number, `RMTLS_VERDICT_NOT_VERIFIED` or
/// `RMTLS_VERDICT_NO_CONSUMER`.
///
/// # Safety
/// `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_verdict_text(code: i32, out: *mut rmtls_buf) -> i32 {
    guard(|| {
        let text = verify_result(code)?.text();
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { put(out, text.as_bytes()) }
    })
}
