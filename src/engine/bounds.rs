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
/// What is kept for clients by plan: header lines, and what the caller keeps in Lua. Its garbage
/// collector may need as much again before it frees dropped entries.
pub(super) const CLIENT_RECORDS: usize = 15 << 20;
/// The same for connections whose client is not trusted.
pub(super) const CONNECTION_RECORDS: usize = 3 << 20;
/// Header lines for the claims of tokens by plan.
pub(super) const TOKEN_RECORDS: usize = 6 << 20;
/// Small entries that are bounded in number: verdicts, statuses, evidence of revocations, digests of
/// header values and of inactive tokens.
const SMALL: usize = 10 << 20;

const RECORDS: usize = CLIENT_RECORDS + CONNECTION_RECORDS + TOKEN_RECORDS;
const _: () = assert!(CLIENTS + UNVERIFIED + CHAINS + TOKENS + RECORDS + SMALL == MAX_KEPT);
const _: () = assert!(
    super::MAX_VERDICTS * 640
        + super::MAX_VERDICTS * (144 + 160)
        + super::MAX_HEADER_VALUES * 192
        + super::MAX_INACTIVE * 128
        <= SMALL
);
