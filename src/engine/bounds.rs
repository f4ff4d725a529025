//! Bounds of the caches of a worker, in estimated bytes. The shares add up to one bound; within
//! each share the least recently used entry is evicted first.

/// The sum of the shares.
pub const MAX_KEPT: usize = 96 << 20;

/// The client cache.
pub(super) const CLIENTS: usize = 22 << 20;
/// Certificates in the client cache that are not verified.
pub(super) const UNVERIFIED: usize = 4 << 20;
/// Chains that clients share.
pub(super) const CHAINS: usize = 4 << 20;
/// Valid tokens.
pub(super) const TOKENS: usize = 32 << 20;
/// What Lua caches for clients, connections and tokens by plan: header lines and the results of
/// client(). The garbage collector may need as much again before it frees dropped entries.
pub const LUA: usize = 24 << 20;
/// Small entries that are bounded in number: verdicts, statuses, evidence of revocations, digests of
/// header values and of inactive tokens.
const SMALL: usize = 10 << 20;

const _: () = assert!(CLIENTS + UNVERIFIED + CHAINS + TOKENS + LUA + SMALL == MAX_KEPT);
const _: () = assert!(
    super::MAX_VERDICTS * 640
        + super::MAX_VERDICTS * (144 + 160)
        + super::MAX_HEADER_VALUES * 192
        + super::MAX_INACTIVE * 128
        <= SMALL
);
