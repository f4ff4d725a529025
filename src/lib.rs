//! Client certificates (mTLS) for nginx with lua-nginx-module and for OpenResty.
//!
//! The engine behind the Lua modules `resty.mtls.*`: it decides per server name whether a TLS
//! handshake requests a client certificate, ties the TLS session to that decision, verifies the
//! presented chain against the trust store of the route, and renders the header lines that describe
//! the client to the upstream. It does not depend on nginx or Lua; [`ffi`] is its C ABI.
//!
//! An engine is used by one thread, since an nginx worker has one, so it is built from `Rc` and
//! `Cell`. A [`policy::Policy`] is `Send` and `Sync`, because another thread compiles it.

#[forbid(unsafe_code)]
pub(crate) mod background;
#[forbid(unsafe_code)]
pub mod cache;
#[forbid(unsafe_code)]
pub mod certificate;
#[forbid(unsafe_code)]
pub mod command;
#[forbid(unsafe_code)]
pub mod connection;
#[forbid(unsafe_code)]
pub mod decision;
#[forbid(unsafe_code)]
pub mod engine;
#[forbid(unsafe_code)]
pub mod error;
pub mod ffi;
#[forbid(unsafe_code)]
pub mod gzip;
#[forbid(unsafe_code)]
pub mod handshake;
#[forbid(unsafe_code)]
pub mod headers;
#[forbid(unsafe_code)]
pub mod identity;
#[forbid(unsafe_code)]
pub mod inbound;
pub mod metrics;
pub mod openssl_ext;
#[forbid(unsafe_code)]
pub mod policy;
#[forbid(unsafe_code)]
pub mod text;
#[forbid(unsafe_code)]
pub mod token;
#[forbid(unsafe_code)]
pub mod trust;

#[cfg(test)]
pub(crate) mod testing;

pub use error::Error;
