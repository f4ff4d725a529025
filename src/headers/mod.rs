//! Header lines about a client certificate, in the dialects of known proxies. One file per dialect.

pub mod apache;
pub mod aws_alb;
pub mod azure;
pub mod caddy;
mod client_info;
pub mod cloudflare;
pub mod cloudflare_forwarding;
pub mod cloudflare_worker;
pub mod cloudfront;
mod common;
mod dialect;
mod dialect_config;
mod dialect_options;
pub mod gcp;
pub mod haproxy;
mod header;
pub mod kong;
mod left_out_reason;
pub mod list_entry;
pub mod nginx;
pub mod reserved_headers;
pub mod rfc9440;
#[cfg(test)]
mod tests;
pub mod traefik;
mod verify_result;
pub mod xfcc;

pub use client_info::ClientInfo;
pub use dialect::Dialect;
pub use dialect_config::{DialectConfig, RenderedHeaders, TOO_LARGE_SUFFIX};
pub use dialect_options::{DialectOptions, ForwardWhen, MtlsMode};
pub use header::{Header, MAX_NUMBERED};
pub use left_out_reason::LeftOutReason;
pub use reserved_headers::ReservedHeaders;
pub use verify_result::VerifyResult;

/// Longest header value that is written, in bytes. A longer one is left out, never truncated:
/// upstreams commonly take 8 to 64 KB of headers in all.
pub const MAX_VALUE: usize = 16 * 1024;
