//! How much a worker keeps of clients, connections, tokens and plans, in bytes, by estimate. The
//! shares add up to one bound; within each the least recently used goes first.

/// All of the shares.
pub const MAX_KEPT: usize = 96 << 20;

/// Clients.
pub(super) const CLIENTS: usize = 23 << 20;
/// Certificates that are remembered before anybody judged them.
pub(super) const UNVERIFIED: usize = 4 << 20;
/// Chains that clients share.
pub(super) const CHAINS: usize = 4 << 20;
/// Tokens that were found good.
pub(super) const TOKENS: usize = 32 << 20;
/// What Lua keeps for clients, connections and tokens by plan: header lines, and what client() gives.
/// The collector may need as much again before it frees what was dropped.
pub const LUA: usize = 24 << 20;
/// What is small and bounded in number: verdicts, statuses, revocations, digests of header values and of tokens
/// that were refused.
const SMALL: usize = 9 << 20;

const _: () = assert!(CLIENTS + UNVERIFIED + CHAINS + TOKENS + LUA + SMALL == MAX_KEPT);
const _: () = assert!(
    super::MAX_VERDICTS * 640
        + super::MAX_VERDICTS * (128 + 128)
        + super::MAX_HEADER_VALUES * 192
        + super::MAX_INACTIVE * 128
        <= SMALL
);
