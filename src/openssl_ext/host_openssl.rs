//! A check that the host process and this library use the same OpenSSL.
//!
//! An nginx that is linked statically to OpenSSL, or to LibreSSL or BoringSSL, passes objects whose
//! layout this library does not know. The check therefore runs before the library uses one.

use std::ffi::{c_char, c_int, c_void, CStr};
use std::mem::MaybeUninit;

use openssl_sys as sys;

use crate::Error;

/// Functions of libssl and libcrypto that are compared: some of each library.
const PROBES: [&CStr; 6] = [
    c"SSL_set_session_id_context",
    c"SSL_get_session",
    c"SSL_set_client_CA_list",
    c"X509_verify_cert",
    c"OpenSSL_version_num",
    c"CRYPTO_get_ex_new_index",
];

extern "C" {
    fn SSL_set_session_id_context(ssl: *mut sys::SSL, context: *const u8, len: u32) -> c_int;
}

/// Checks that the host program resolves OpenSSL's functions to the same code as this library, and
/// that this is OpenSSL 3 or newer.
///
/// # Errors
/// [`Error::Host`] with a line that names the function, the two files and the remedy.
pub fn check() -> Result<(), Error> {
    let bound: [*const c_void; 6] = [
        SSL_set_session_id_context as *const c_void,
        sys::SSL_get_session as *const c_void,
        sys::SSL_set_client_CA_list as *const c_void,
        sys::X509_verify_cert as *const c_void,
        sys::OpenSSL_version_num as *const c_void,
        sys::CRYPTO_get_ex_new_index as *const c_void,
    ];
    for (name, ours) in PROBES.iter().zip(bound) {
        let theirs = program_symbol(name);
        // Without -z now the address may be that of the host's PLT entry, so the files are compared
        // as well.
        let same = theirs == ours || (!theirs.is_null() && file_of(theirs) == file_of(ours));
        let name = name.to_string_lossy();
        // A program that exports its own copy exports only the functions that it uses itself. The
        // other functions that this library calls would then belong to another copy.
        let built_in = theirs.is_null() || base_of(theirs) == program_base();
        if same && !built_in {
            continue;
        }
        // An exported function replaces that of libssl.so for this library too.
        let exported = base_of(ours) == program_base();
        let ours = file_of(ours);
        return Err(Error::Host(if exported {
            format!(
                "this nginx has {name} linked in statically and exports it, so libresty_mtls.so \
                 would use nginx's copy of it and libssl.so.3 for what nginx does not export; use \
                 an nginx linked dynamically to OpenSSL 3"
            )
        } else if built_in {
            format!(
                "this nginx has {name} linked in statically, but libresty_mtls.so is bound to \
                 {ours}; use an nginx linked dynamically to OpenSSL 3"
            )
        } else {
            format!(
                "this nginx takes {name} from {} but libresty_mtls.so is bound to {ours}; use an \
                 nginx linked dynamically to OpenSSL 3, and one OpenSSL only",
                file_of(theirs)
            )
        }));
    }
    if !program_symbol(c"BORINGSSL_self_test").is_null() {
        return Err(Error::Host(
            "this nginx is built with BoringSSL or AWS-LC; use one built with OpenSSL 3".to_owned(),
        ));
    }
    // SAFETY: takes nothing, returns a number.
    let version = unsafe { sys::OpenSSL_version_num() };
    if version < 0x3000_0000 {
        return Err(Error::Host(format!(
            "this nginx runs on OpenSSL {version:#010x} (or LibreSSL); use one built with OpenSSL 3"
        )));
    }
    Ok(())
}

/// Address of `name` in the main program and the libraries that it is linked to. The libraries that
/// only this library is linked to are not searched.
fn program_symbol(name: &CStr) -> *const c_void {
    // SAFETY: dlopen(NULL) only counts a reference to the program itself.
    unsafe {
        let program = libc::dlopen(std::ptr::null::<c_char>(), libc::RTLD_LAZY);
        if program.is_null() {
            return std::ptr::null();
        }
        let symbol = libc::dlsym(program, name.as_ptr());
        libc::dlclose(program);
        symbol
    }
}

/// Address at which the main program is mapped.
fn program_base() -> *const c_void {
    // SAFETY: reads the auxiliary vector that the kernel gave to this process.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) };
    base_of(headers as *const c_void)
}

/// Address at which the file that holds `address` is mapped; NULL if no file holds it.
fn base_of(address: *const c_void) -> *const c_void {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr fills `info` when it returns non-zero.
    unsafe {
        if libc::dladdr(address, info.as_mut_ptr()) == 0 {
            return std::ptr::null();
        }
        info.assume_init().dli_fbase
    }
}

/// Path of the file that holds `address`.
fn file_of(address: *const c_void) -> String {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr fills `info` when it returns non-zero; dli_fname lives as long as the file
    // is mapped, and is copied at once.
    unsafe {
        if libc::dladdr(address, info.as_mut_ptr()) == 0 {
            return "an unknown file".to_owned();
        }
        let info = info.assume_init();
        if info.dli_fname.is_null() {
            return "an unknown file".to_owned();
        }
        CStr::from_ptr(info.dli_fname)
            .to_string_lossy()
            .into_owned()
    }
}
