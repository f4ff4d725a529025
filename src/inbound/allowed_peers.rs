//! Who may send a certificate in a header.

/// Kong's `secure_source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllowedPeers {
    /// Peers that `trusted_ips` names (`secure_source: true`).
    Trusted,
    /// Anybody: only where nobody but the proxy can reach the gateway (`secure_source: false`).
    Anyone,
}

impl AllowedPeers {
    /// Whether the header of a peer counts. The peer is the one of the TCP connection: an address
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
    fn admits_only_trusted_peers_of_a_secure_source() {
        assert!(AllowedPeers::Trusted.admits(true));
        assert!(!AllowedPeers::Trusted.admits(false));
        assert!(AllowedPeers::Anyone.admits(true) && AllowedPeers::Anyone.admits(false));
    }
}
