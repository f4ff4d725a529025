//! Certificate -> header lines. One file per dialect.

pub mod apache;
pub mod aws_alb;
pub mod azure;
pub mod caddy;
pub mod cloudflare;
pub mod cloudflare_forwarding;
pub mod cloudflare_worker;
pub mod cloudfront;
mod common;
mod dialect;
mod facts;
pub mod gcp;
pub mod haproxy;
mod header;
pub mod kong;
mod left_out;
pub mod names;
pub mod nginx;
mod options;
pub mod rfc9440;
#[cfg(test)]
mod tests;
pub mod traefik;
pub mod xfcc;

pub use dialect::{Dialect, Lines, Selection, TOO_LARGE};
pub use facts::{Facts, Verified};
pub use header::{Header, MAX_NUMBERED};
pub use left_out::LeftOut;
pub use names::OwnedNames;
pub use options::{Mode, Options, When};

/// Longest header value that is written, in bytes. A longer one is left out, never truncated:
/// upstreams commonly take 8 to 64 KB of headers in all.
pub const MAX_VALUE: usize = 16 * 1024;
