//! Names beyond the openssl crate.

use std::ffi::c_int;

use foreign_types::ForeignTypeRef;
use openssl::x509::X509NameEntryRef;
use openssl_sys as sys;

extern "C" {
    fn X509_NAME_ENTRY_set(entry: *const sys::X509_NAME_ENTRY) -> c_int;
}

/// Which RDN of its name the attribute belongs to; several in one RDN make it multi-valued.
pub fn rdn(entry: &X509NameEntryRef) -> i32 {
    // SAFETY: a live entry; the call reads a number from it.
    unsafe { X509_NAME_ENTRY_set(entry.as_ptr()) }
}
