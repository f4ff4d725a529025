//! The addresses that `--online` does not reach by a URL from a certificate: those that
//! `lua/resty/mtls/internal/net/address_guard.lua` refuses in the gateway.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

/// As in `address_guard.lua`, which says what they are. A test compares them.
const FORBIDDEN: &str = "\
    0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/4 255.255.255.255 \
    100.100.100.200 168.63.129.16 192.0.0.0/24 \
    ::/96 ::ffff:0:0:0/96 fe80::/10 ff00::/8 \
    fd00:ec2::/32 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42 \
    64:ff9b::/104 64:ff9b::7f00:0/104 64:ff9b::a9fe:0/112 64:ff9b::e000:0/100 64:ff9b::ffff:ffff \
    64:ff9b::6464:64c8 64:ff9b::a83f:8110 64:ff9b::c000:0/120 \
    64:ff9b:1::/48 \
    2002::/24 2002:7f00::/24 2002:a9fe::/32 2002:e000::/20 2002:ffff:ffff::/48 \
    2002:6464:64c8::/48 2002:a83f:8110::/48 2002:c000::/40";

static FORBIDDEN_NETWORKS: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    let networks = FORBIDDEN.split_whitespace();
    networks
        .filter_map(|text| parse_network(text).ok())
        .collect()
});

/// Reads an address, with or without a prefix length.
pub(super) fn parse_network(text: &str) -> Result<IpNet, &'static str> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| {
        "expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8"
    })
}

/// Which addresses may be reached.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressGuard {
    /// Those that may be reached although they are forbidden by default.
    pub allow: Vec<IpNet>,
}

impl AddressGuard {
    /// Whether the address may be reached. An IPv4-mapped address counts as IPv4.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        !is_in(&FORBIDDEN_NETWORKS) || is_in(&self.allow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_networks_are_those_of_the_gateway() {
        let lua = include_str!("../../lua/resty/mtls/internal/net/address_guard.lua");
        let list = lua.split_once("FORBIDDEN = assert(cidr.parse {").unwrap().1;
        let list = list.split_once("})").unwrap().0;
        let of_gateway: Vec<_> = list.split('"').skip(1).step_by(2).collect();
        let here: Vec<_> = FORBIDDEN.split_whitespace().collect();
        assert_eq!(here, of_gateway);
        assert_eq!(FORBIDDEN_NETWORKS.len(), here.len());
    }

    #[test]
    fn special_addresses_are_not_permitted_unless_allowed() {
        let guard = AddressGuard::default();
        let permits = |guard: &AddressGuard, text: &str| guard.permits(text.parse().unwrap());
        for text in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "fe80::1",
        ] {
            assert!(!permits(&guard, text), "{text}");
        }
        for text in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(permits(&guard, text), "{text}");
        }
        let allow = ["127.0.0.1", "fe80::/16"].map(|text| parse_network(text).unwrap());
        let guard = AddressGuard {
            allow: allow.to_vec(),
        };
        assert!(permits(&guard, "127.0.0.1") && permits(&guard, "fe80::1"));
        assert!(!permits(&guard, "127.0.0.2") && !permits(&guard, "::1"));
        assert!(parse_network("127.0.0.0/33").is_err() && parse_network("localhost").is_err());
    }
}
