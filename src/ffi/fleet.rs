//! What the nodes of a fleet need to share blocks: a normal form of selectors, and HMAC-SHA-256.

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::{bytes, guard_with, output, put, rmtls_buf, text};
use crate::text::hex;
use crate::trust::selector::Selector;
use crate::Error;

/// Writes the normal form of a selector (`sha256 HEX`, `spki_sha256 HEX` or `serial HEX ISSUER`): its kind, a
/// space, and 64 hexadecimal digits. It is equal for selectors of the same certificates.
///
/// # Safety
/// `selector` is readable for its length; `out` and `err` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_selector_normal_form(
    selector: *const u8,
    selector_len: usize,
    out: *mut rmtls_buf,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            output(out)?;
            let selector = Selector::parse(text(selector, selector_len)?).map_err(Error::Misuse)?;
            let form = format!("{} {}", selector.kind.name(), hex(&selector.key));
            put(out, form.as_bytes())
        })
    }
}

/// Writes the 64 hexadecimal digits of the HMAC-SHA-256 of `data` under `key`, which is not empty.
///
/// # Safety
/// `key` and `data` are readable for their lengths; `out` and `err` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_hmac_sha256(
    key: *const u8,
    key_len: usize,
    data: *const u8,
    data_len: usize,
    out: *mut rmtls_buf,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            output(out)?;
            let key = bytes(key, key_len)?;
            if key.is_empty() {
                return Err(Error::Misuse("an empty key".to_owned()));
            }
            let key = PKey::hmac(key)?;
            let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
            let digest = signer.sign_oneshot_to_vec(bytes(data, data_len)?)?;
            put(out, hex(&digest).as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(call: impl FnOnce(*mut rmtls_buf, *mut rmtls_buf) -> i32) -> (i32, String) {
        let (mut memory, mut message) = ([0_u8; 200], [0_u8; 200]);
        let [mut out, mut err] = [&mut memory, &mut message].map(|memory| rmtls_buf {
            data: memory.as_mut_ptr(),
            cap: memory.len(),
            len: 0,
        });
        let status = call(&mut out, &mut err);
        let text = match status {
            super::super::RMTLS_OK => &memory[..out.len],
            _ => &message[..err.len],
        };
        (status, String::from_utf8(text.to_vec()).unwrap())
    }

    fn hmac(key: &[u8], data: &[u8]) -> (i32, String) {
        // SAFETY: the slices and buffers are live.
        written(|out, err| unsafe {
            rmtls_hmac_sha256(key.as_ptr(), key.len(), data.as_ptr(), data.len(), out, err)
        })
    }

    fn normal_form(selector: &str) -> (i32, String) {
        // SAFETY: the slice and the buffers are live.
        written(|out, err| unsafe {
            rmtls_selector_normal_form(selector.as_ptr(), selector.len(), out, err)
        })
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        assert_eq!(
            hmac(b"Jefe", b"what do ya want for nothing?").1,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hmac(b"", b"x"),
            (super::super::RMTLS_INVALID, "an empty key".to_owned())
        );
    }

    #[test]
    fn normal_form_is_equal_for_spellings_of_a_selector() {
        let (status, form) = normal_form("serial 0A CN=Clients CA,O=Example");
        assert_eq!(status, 0);
        assert!(form.starts_with("serial ") && form.len() == 71);
        assert_eq!(normal_form("serial 0a CN=clients  ca,O=Example").1, form);
        assert_ne!(normal_form("serial 0b CN=clients  ca,O=Example").1, form);
        let digest = "AB".repeat(32);
        assert_eq!(
            normal_form(&format!("sha256 {digest}")).1,
            format!("sha256 {}", digest.to_lowercase())
        );
        assert_eq!(normal_form("sha256 AB").0, super::super::RMTLS_INVALID);
    }
}
