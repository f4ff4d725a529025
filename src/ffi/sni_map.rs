//! `rmtls_sni_map`: server names without a policy document.

use std::ffi::c_void;
use std::sync::Arc;

use super::trust_store::rmtls_trust_store;
use super::{
    bytes, connection, free_handle, guard, guard_with, handle, new_handle, output, rmtls_buf,
};
use crate::connection::Connection;
use crate::handshake::{CertificateRequest, SniMap, SniMapBuilder, CA_NAMES_BUDGET};
use crate::Error;

enum Names {
    Open(SniMapBuilder),
    Built(SniMap),
}

struct Content {
    value: u32,
    request: Option<Arc<CertificateRequest>>,
}

/// Server names and their certificate requests; immutable once built.
pub struct rmtls_sni_map {
    names: Names,
    contents: Vec<Content>,
}

impl rmtls_sni_map {
    fn content(&self, name: Option<&[u8]>) -> Result<Option<&Content>, Error> {
        match &self.names {
            Names::Open(_) => Err(Error::Misuse("the map is not built yet".to_owned())),
            Names::Built(map) => Ok(map
                .get(name)
                .and_then(|index| self.contents.get(index as usize))),
        }
    }

    fn certificate_request(
        &self,
        name: Option<&[u8]>,
    ) -> Result<Option<Arc<CertificateRequest>>, Error> {
        Ok(self
            .content(name)?
            .and_then(|content| content.request.clone()))
    }
}

/// # Safety
/// `name` is NULL or readable for `name_len` bytes for `'a`.
unsafe fn server_name<'a>(name: *const u8, name_len: usize) -> Result<Option<&'a [u8]>, Error> {
    match name.is_null() {
        true => Ok(None),
        // SAFETY: the caller's promise.
        false => unsafe { bytes(name, name_len) }.map(Some),
    }
}

/// Makes an empty map, open for `rmtls_sni_map_add`.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_sni_map_new(out: *mut *mut rmtls_sni_map) -> i32 {
    guard(|| {
        let make = || {
            Ok(rmtls_sni_map {
                names: Names::Open(SniMapBuilder::new()),
                contents: Vec::new(),
            })
        };
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { new_handle(out, make) }
    })
}

/// Frees a map.
///
/// # Safety
/// `map` is NULL or came from `rmtls_sni_map_new` and is not used again.
#[no_mangle]
pub unsafe extern "C" fn rmtls_sni_map_free(map: *mut rmtls_sni_map) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { free_handle(map) }
}

/// Adds a server name: exact, `*.example.com` (one label) or `*`. `value` is any number of the
/// caller. With `request` not 0, handshakes under this name request a client certificate, to be
/// verified with one of `stores`; with `send_ca_names` not 0 the request names the CAs of those
/// stores. The stores may be freed afterwards.
///
/// # Safety
/// `map` is NULL or live and not used by anybody else; `pattern` is readable for `pattern_len`
/// bytes; `stores` is readable for `stores_len` live stores; `err` is NULL or valid, with its
/// data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_sni_map_add(
    map: *mut rmtls_sni_map,
    pattern: *const u8,
    pattern_len: usize,
    value: u32,
    request: i32,
    stores: *const *const rmtls_trust_store,
    stores_len: usize,
    send_ca_names: i32,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let map = output(map)?;
            let pattern = bytes(pattern, pattern_len)?;
            let mut trusted = Vec::with_capacity(stores_len.min(64));
            if stores_len > 0 && stores.is_null() {
                return Err(Error::NullArgument);
            }
            for index in 0..stores_len {
                trusted.push(handle(*stores.add(index))?.0.clone());
            }
            let Names::Open(builder) = &mut map.names else {
                return Err(Error::Misuse(
                    "the map is built and does not change any more".into(),
                ));
            };
            let index = u32::try_from(map.contents.len())
                .map_err(|_| Error::Misuse("too many names".to_owned()))?;
            let request = match request {
                0 => None,
                _ => {
                    let cas: Vec<_> = match send_ca_names {
                        0 => Vec::new(),
                        _ => trusted
                            .iter()
                            .flat_map(|store| store.cas())
                            .cloned()
                            .collect(),
                    };
                    Some(Arc::new(CertificateRequest::new(
                        &trusted,
                        Some(&cas),
                        CA_NAMES_BUDGET,
                    )?))
                }
            };
            builder.add(pattern, index)?;
            map.contents.push(Content { value, request });
            Ok(())
        })
    }
}

/// Completes a map. No names can be added afterwards.
///
/// # Safety
/// `map` is NULL or live and not used by anybody else.
#[no_mangle]
pub unsafe extern "C" fn rmtls_sni_map_build(map: *mut rmtls_sni_map) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let map = unsafe { output(map) }?;
        if let Names::Open(builder) = &mut map.names {
            map.names = Names::Built(std::mem::take(builder).build());
        }
        Ok(())
    })
}

/// Looks up a raw server name (NULL: none): exact, then wildcard, then `*`. `RMTLS_NOT_FOUND` if
/// none matches.
///
/// # Safety
/// `map` is NULL or live; `name` is NULL or readable for `name_len` bytes; `value` is NULL or
/// valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_sni_map_get(
    map: *const rmtls_sni_map,
    name: *const u8,
    name_len: usize,
    value: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (map, name, value) =
            unsafe { (handle(map)?, server_name(name, name_len)?, output(value)?) };
        *value = map.content(name)?.ok_or(Error::NotFound)?.value;
        Ok(())
    })
}

/// ClientHello phase: binds the TLS session of `ssl` to the certificate request of the raw server
/// name.
///
/// # Safety
/// `map` is NULL or live; `ssl` is NULL or a live `SSL` inside its ClientHello callback; `name` is
/// NULL or readable for `name_len` bytes; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_sni_map_client_hello(
    map: *const rmtls_sni_map,
    ssl: *mut c_void,
    name: *const u8,
    name_len: usize,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let name = server_name(name, name_len)?;
            let request = handle(map)?.certificate_request(name)?;
            let ssl = connection(ssl).ok_or(Error::NullArgument)?;
            Connection::on_client_hello(ssl, name, request, false)
        })
    }
}

/// Certificate phase: requests a client certificate if the ClientHello phase decided so, else
/// returns `RMTLS_NOT_FOUND`.
///
/// # Safety
/// `ssl` is NULL or a live `SSL` inside its certificate callback; `err` is NULL or valid, with its
/// data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_sni_map_request_certificate(
    ssl: *mut c_void,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let ssl = connection(ssl).ok_or(Error::NullArgument)?;
            match Connection::of(ssl)
                .map(|connection| connection.request_certificate(ssl))
                .transpose()?
            {
                Some(true) => Ok(()),
                _ => Err(Error::NotFound),
            }
        })
    }
}

/// Checks whether the TLS session of `ssl` was made with the certificate request of `name` (the
/// Host of the request): `bound` becomes 1 or 0. With 0, respond with 421.
///
/// # Safety
/// `map` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `name` is NULL or
/// readable for `name_len` bytes; `bound` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_sni_map_check_binding(
    map: *const rmtls_sni_map,
    ssl: *mut c_void,
    name: *const u8,
    name_len: usize,
    bound: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (map, name, bound) =
            unsafe { (handle(map)?, server_name(name, name_len)?, output(bound)?) };
        *bound = 0;
        // SAFETY: as above.
        let ssl = unsafe { connection(ssl) }.ok_or(Error::NullArgument)?;
        let request = map.certificate_request(name)?;
        *bound = Connection::of_or_new(ssl)?
            .is_bound(ssl, request.as_deref())
            .into();
        Ok(())
    })
}
