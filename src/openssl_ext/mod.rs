//! The OpenSSL calls that the openssl crate lacks, as small safe wrappers.
//!
//! Every function declared here exists since OpenSSL 1.1.1 unless its declaration says otherwise.
//! The library must use the libssl that nginx loads; [`host_openssl`] checks this. [`thread`],
//! [`shared_memory`], [`file_lock`] and [`user`] wrap calls of libc.

#[cfg(test)]
pub mod crl_check;
pub mod file_lock;
pub mod host_openssl;
pub mod revocation;
pub mod session_cache;
pub mod shared_memory;
pub mod ssl;
pub mod thread;
pub mod user;
pub mod x509;
