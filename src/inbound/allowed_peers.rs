//! Which peers may send a certificate in a header.

/// Kong's `secure_source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllowedPeers {
    /// Peers whose address is in `trusted_ips` (`secure_source: true`).
    Trusted,
    /// Every peer (`secure_source: false`): only safe where only the proxy can reach the gateway.
    Anyone,
}

impl AllowedPeers {
    /// Whether the header of a peer is used. The peer is that of the TCP connection: an address
    /// that was itself read from a header proves nothing.
    pub fn admits(self, peer_is_trusted: bool) -> bool {
        match self {
            AllowedPeers::Trusted => peer_is_trusted,
            AllowedPeers::Anyone => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_with_secure_source_only_trusted_peers() {
        assert!(AllowedPeers::Trusted.admits(true));
        assert!(!AllowedPeers::Trusted.admits(false));
        assert!(AllowedPeers::Anyone.admits(true) && AllowedPeers::Anyone.admits(false));
    }
}
