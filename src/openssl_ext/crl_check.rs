//! OpenSSL's own check of a certificate against CRLs, with which the tests compare ours.

use std::ffi::{c_int, c_ulong, c_void};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509CrlRef, X509Ref, X509StoreContext, X509StoreContextRef, X509};
use openssl_sys as sys;

use super::x509::set_verify_time;

/// `X509_V_FLAG_CRL_CHECK`.
const CRL_CHECK: c_ulong = 0x4;

extern "C" {
    fn X509_STORE_CTX_set0_crls(ctx: *mut sys::X509_STORE_CTX, crls: *mut c_void);
    fn X509_STORE_CTX_set_flags(ctx: *mut sys::X509_STORE_CTX, flags: c_ulong);
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
