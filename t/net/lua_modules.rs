//! The Lua modules that need no nginx, in the system's LuaJIT: many random inputs against std::net as
//! a model, where t/net/*.t has chosen ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mlua::{Function, Lua, Table, Value};

const ROUNDS: u32 = 20_000;

/// Xorshift with a fixed seed: every run has the same inputs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Few distinct values in each octet, so that networks and addresses meet.
    fn octet(&mut self) -> u8 {
        [0, 1, 10, 127, 128, 169, 254, 255][self.below(8) as usize]
    }

    fn address(&mut self) -> IpAddr {
        if self.below(2) == 0 {
            Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|_| self.octet())).into()
        } else {
            let mut octets = std::array::from_fn::<u8, 16, _>(|_| self.octet());
            // Mapped and well-known prefixes would hardly come up.
            let prefix: &[u8] = match self.below(6) {
                0 => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
                1 => &[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0],
                2 => &[0x20, 0x02],
                3 => &[0xfe, 0x80],
                4 => &[0; 12],
                _ => &[],
            };
            octets[..prefix.len()].copy_from_slice(prefix);
            Ipv6Addr::from(octets).into()
        }
    }
}

fn lua() -> Lua {
    // SAFETY: the LuaJIT libraries are loaded for `ffi`; only modules of this repository run.
    let lua = unsafe { Lua::unsafe_new() };
    let root = env!("CARGO_MANIFEST_DIR");
    // Not the machine the test was built on, in a userland that has only a copy.
    let root = if std::path::Path::new(root).join("lua").is_dir() {
        root
    } else {
        "."
    };
    let path = format!("{root}/lua/?.lua");
    lua.globals()
        .get::<Table>("package")
        .unwrap()
        .set("path", path)
        .unwrap();
    lua
}

fn module(lua: &Lua, name: &str) -> Table {
    let require: Function = lua.globals().get("require").unwrap();
    require.call(format!("resty.mtls.internal.{name}")).unwrap()
}

/// An IPv4-mapped address is an IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn leading_bits_equal(a: &[u8], b: &[u8], bits: u32) -> bool {
    (0..bits as usize).all(|bit| (a[bit / 8] ^ b[bit / 8]) & (0x80 >> (bit % 8)) == 0)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// `address` with all bits after the first `bits` cleared.
fn network(address: IpAddr, bits: u32) -> IpAddr {
    let mut octets = octets(address);
    for bit in bits as usize..octets.len() * 8 {
        octets[bit / 8] &= !(0x80 >> (bit % 8));
    }
    match octets.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(octets).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(octets).unwrap()),
    }
}

#[test]
fn cidr_match_agrees_with_std() {
    let lua = lua();
    let cidr = module(&lua, "net.cidr");
    let parse: Function = cidr.get("parse").unwrap();
    let matches: Function = parse
        .call::<Table>(lua.create_table().unwrap())
        .unwrap()
        .get("match")
        .unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut matched = 0;

    for _ in 0..ROUNDS {
        let address = canonical(random.address());
        let bits = random.below(octets(address).len() as u64 * 8 + 1) as u32;
        let network = network(address, bits);
        // A shorter prefix of ::ffff:0:0/96 would be written in IPv6 and read as IPv6.
        if canonical(network) != network {
            continue;
        }
        let set: Table = parse.call(vec![format!("{network}/{bits}")]).unwrap();
        let peer = random.address();
        let expected = match (canonical(peer), network) {
            (IpAddr::V4(a), IpAddr::V4(b)) => leading_bits_equal(&a.octets(), &b.octets(), bits),
            (IpAddr::V6(a), IpAddr::V6(b)) => leading_bits_equal(&a.octets(), &b.octets(), bits),
            _ => false,
        };
        let found: bool = matches.call((set, peer.to_string())).unwrap();
        assert_eq!(found, expected, "{peer} in {network}/{bits}");
        matched += u32::from(found);
    }
    assert!(matched > ROUNDS / 50, "{matched}");
}

#[test]
fn cidr_parse_refuses_bits_beyond_the_prefix() {
    let lua = lua();
    let parse: Function = module(&lua, "net.cidr").get("parse").unwrap();
    let mut random = Random(7);
    for _ in 0..ROUNDS {
        let address = canonical(random.address());
        let bits = random.below(octets(address).len() as u64 * 8 + 1) as u32;
        let (set, _): (Value, Value) = parse.call(vec![format!("{address}/{bits}")]).unwrap();
        assert_eq!(
            set.is_table(),
            network(address, bits) == address,
            "{address}/{bits}"
        );
    }
}

#[test]
fn address_guard_permits_no_address_of_this_machine() {
    let lua = lua();
    let filter: Function = module(&lua, "net.address_guard").get("filter").unwrap();
    let mut random = Random(42);
    let (mut permitted, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let address = random.address();
        let forbidden = match canonical(address) {
            IpAddr::V4(v4) => forbidden(v4),
            IpAddr::V6(v6) => {
                let segments = v6.segments();
                let embedded = match segments {
                    [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x2002, a, b, ..] => {
                        Some(Ipv4Addr::from(u32::from(a) << 16 | u32::from(b)))
                    }
                    _ => None,
                };
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unicast_link_local()
                    || embedded.is_some_and(forbidden)
            }
        };
        let (list, _): (Option<Table>, Value) = filter
            .call((vec![address.to_string()], "host.example"))
            .unwrap();
        if forbidden {
            assert!(list.is_none(), "{address}");
            refused += 1;
        } else if list.is_some() {
            permitted += 1;
        }
    }
    assert!(
        permitted > ROUNDS / 10 && refused > ROUNDS / 10,
        "{permitted} {refused}"
    );
}

fn forbidden(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
}

/// Pieces of URLs, good and bad, so that whole ones come about.
const PIECES: [&str; 30] = [
    "http",
    "https",
    "HTTP",
    "ftp",
    "://",
    ":",
    "/",
    "//",
    "?",
    "#",
    "@",
    "[",
    "]",
    "::1",
    "127.0.0.1",
    "0x7f.1",
    "host",
    "host.example",
    "..",
    ".",
    "80",
    "0",
    "65536",
    "%2e",
    "%",
    "\u{7f}",
    " ",
    "é",
    "\0",
    "a/../b",
];

#[test]
fn url_parse_never_raises_and_reads_what_it_writes() {
    let lua = lua();
    let url = module(&lua, "net.url");
    let parse: Function = url.get("parse").unwrap();
    let resolve: Function = url.get("resolve").unwrap();
    let mut random = Random(3);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..ROUNDS {
        let mut text = if random.below(2) == 0 {
            "http://".to_owned()
        } else {
            String::new()
        };
        for _ in 0..random.below(6) {
            text.push_str(PIECES[random.below(PIECES.len() as u64) as usize]);
        }
        let (parsed, error): (Option<Table>, Option<String>) = parse.call(text.as_str()).unwrap();
        let Some(parsed) = parsed else {
            let error = error.unwrap();
            assert!(error.starts_with("URL "), "{text:?}: {error}");
            assert!(
                error.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{text:?}: {error}"
            );
            bad += 1;
            continue;
        };
        let read = |name: &str| parsed.get::<String>(name).unwrap();
        let (origin, path) = (read("origin"), read("path"));
        assert!(
            path.starts_with('/') && !path.contains('#'),
            "{text:?}: {path}"
        );
        let again: Table = parse.call(format!("{origin}{path}")).unwrap();
        for name in ["scheme", "host", "authority", "origin", "path"] {
            assert_eq!(again.get::<String>(name).unwrap(), read(name), "{text:?}");
        }
        // What a redirect leads to has no dot segments, and it stays where it is.
        let reference = PIECES[random.below(PIECES.len() as u64) as usize];
        let (target, _): (Option<Table>, Value) =
            resolve.call((&parsed, format!("/x/{reference}"))).unwrap();
        if let Some(target) = target {
            assert_eq!(
                target.get::<String>("origin").unwrap(),
                origin,
                "{text:?} {reference:?}"
            );
            let path = target.get::<String>("path").unwrap();
            let segments = path.split('?').next().unwrap().split('/');
            assert!(
                segments
                    .into_iter()
                    .all(|segment| segment != "." && segment != ".."),
                "{path}"
            );
        }
        good += 1;
    }
    assert!(good > ROUNDS / 20 && bad > ROUNDS / 20, "{good} {bad}");
}
