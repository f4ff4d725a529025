use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Type};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::{X509Extension, X509NameBuilder, X509};

use super::*;
use crate::certificate::normal_form;
use crate::testing::{self, Issued};

const DNS: u8 = 0x82;
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

fn leaf() -> Certificate {
    let pki = testing::pki();
    let leaf = testing::issue(
        "leaf",
        Some(&pki.ca),
        false,
        60,
        &["Ann.Example.com", "*.wild.example"],
    );
    Certificate::new(leaf.x509, testing::stack(&[])).unwrap()
}

fn ca() -> Issued {
    testing::issue("CA", None, true, 60, &[])
}

/// A certificate with these subject alternative names, of tags and contents.
fn with_sans(ca: &Issued, names: &[(u8, &[u8])]) -> Certificate {
    with_extension(ca, &testing::sans(names))
}

fn with_extension(ca: &Issued, der: &[u8]) -> Certificate {
    let subject = X509NameBuilder::new().unwrap().build();
    let x509 = testing::named(ca, &subject, Some(der));
    Certificate::new(x509, testing::stack(&[])).unwrap()
}

/// A certificate with these OUs.
fn with_units(ca: &Issued, units: &[(&str, Asn1Type)]) -> Certificate {
    let mut name = X509NameBuilder::new().unwrap();
    for (unit, kind) in units {
        name.append_entry_by_nid_with_type(Nid::ORGANIZATIONALUNITNAME, unit, *kind)
            .unwrap();
    }
    let x509 = testing::named(ca, &name.build(), None);
    Certificate::new(x509, testing::stack(&[])).unwrap()
}

fn text(text: &str) -> Box<str> {
    text.into()
}

fn subject(kind: &str, value: &str) -> Condition {
    Condition::Subject(text(kind), normal_form::text(value).unwrap())
}

fn uri(name: &str) -> Condition {
    Condition::San(match name.strip_suffix('*') {
        Some(prefix) => {
            SanCondition::UriPrefix(normal_form::uri_prefix(prefix.as_bytes()).unwrap())
        }
        None => SanCondition::Uri(normal_form::uri(name.as_bytes()).unwrap()),
    })
}

fn dns(name: &str) -> Condition {
    let normal = |name: &str| normal_form::dns(name.as_bytes()).unwrap();
    Condition::San(match name.strip_prefix("*.") {
        Some(parent) => SanCondition::DnsBelow(normal(parent)),
        None => SanCondition::Dns(normal(name)),
    })
}

fn email(address: &str) -> Condition {
    Condition::San(SanCondition::Email(
        normal_form::email(address.as_bytes()).unwrap(),
    ))
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

fn rule(name: &str, condition: Condition) -> Rule {
    Rule {
        name: text(name),
        condition,
    }
}

/// Whether an allow rule with this condition lets the certificate in, and whether a deny rule does.
fn let_in(condition: &Condition, certificate: &Certificate) -> [bool; 2] {
    let rules = || vec![rule("rule", condition.clone())];
    let allow = Rules {
        allow: rules(),
        deny: Vec::new(),
    };
    let deny = Rules {
        allow: Vec::new(),
        deny: rules(),
    };
    [allow, deny].map(|rules| rules.check(certificate).is_ok())
}

#[test]
fn holds_attributes_by_any_spelling_of_their_type() {
    let leaf = leaf();
    for name in ["O", "organizationName", "2.5.4.10"] {
        assert_eq!(subject(name, "Example").holds(&leaf), Some(true), "{name}");
    }
    assert_eq!(subject("o", "Example").holds(&leaf), Some(false));
    assert_eq!(subject("CN", "Test CA").holds(&leaf), Some(false));
    let issuer = Condition::Issuer(text("CN"), normal_form::text("Test CA").unwrap());
    assert_eq!(issuer.holds(&leaf), Some(true));
}

#[test]
fn holds_attributes_exactly_and_doubts_what_looks_the_same() {
    let ca = ca();
    let sales = subject("OU", "Sales East");
    let utf8 = Asn1Type::UTF8STRING;
    for (units, expected) in [
        (&[("Sales East", utf8)][..], Some(true)),
        (&[("Sales East", Asn1Type::PRINTABLESTRING)], Some(true)),
        (&[("Sales East", Asn1Type::TELETEXSTRING)], Some(true)),
        (
            &[("\0S\0a\0l\0e\0s\0 \0E\0a\0s\0t", Asn1Type::BMPSTRING)],
            Some(true),
        ),
        (&[("sales EAST", utf8)], None),
        (&[(" Sales  East ", utf8)], None),
        (&[("Sales\u{a0}East", utf8)], None),
        (&[("Ｓales East", utf8)], None),
        (&[("Sales\u{200b} East", utf8)], None),
        (&[("Sales East\0", utf8)], None),
        (&[("Sales\nEast", utf8)], None),
        // No text, another reading for each reader, an odd number of bytes
        (&[("Sales East", Asn1Type::BIT_STRING)], None),
        (&[("Sales\u{e4}", Asn1Type::TELETEXSTRING)], None),
        (&[("Sales\u{e4}", Asn1Type::PRINTABLESTRING)], None),
        (&[("Sales", utf8)], Some(false)),
        (&[("Vertrieb", utf8), ("Sales East", utf8)], Some(true)),
        (&[("Vertrieb\0", utf8), ("Sales East", utf8)], Some(true)),
        (&[("Vertrieb\0", utf8), ("Sales", utf8)], None),
        (&[], Some(false)),
    ] {
        let certificate = with_units(&ca, units);
        assert_eq!(sales.holds(&certificate), expected, "{units:?}");
        // An attribute of another type says nothing about this one.
        assert_eq!(subject("O", "x").holds(&certificate), Some(false));
    }
}

#[test]
fn holds_dns_exact_and_one_label_below() {
    let leaf = leaf();
    assert_eq!(dns("ann.example.com").holds(&leaf), Some(true));
    assert_eq!(dns("*.example.com").holds(&leaf), Some(true));
    // The wildcard is the name of no host.
    assert_eq!(dns("example.com").holds(&leaf), None);
    assert_eq!(dns("*.wild.example").holds(&leaf), None);
    let ca = ca();
    let one = with_sans(&ca, &[(DNS, b"ann.example.com")]);
    assert_eq!(dns("example.com").holds(&one), Some(false));
    assert_eq!(dns("*.com").holds(&one), Some(false));
}

#[test]
fn holds_names_of_its_own_type_only() {
    let ca = ca();
    let odd: &[(u8, &[u8])] = &[(DNS, b"*"), (EMAIL, b"x"), (URI, b"x"), (IP, b"x")];
    let conditions = [
        dns("a.example"),
        email("a@example.com"),
        uri("spiffe://a/b"),
        Condition::San(SanCondition::Ip(normal_form::ip(&[192, 0, 2, 7]).unwrap())),
    ];
    for (i, san) in odd.iter().enumerate() {
        let certificate = with_sans(&ca, &[*san]);
        for (j, condition) in conditions.iter().enumerate() {
            let expected = (i != j).then_some(false);
            assert_eq!(
                condition.holds(&certificate),
                expected,
                "{san:?} {condition:?}"
            );
        }
    }
}

#[test]
fn holds_a_good_name_beside_one_without_normal_form() {
    let ca = ca();
    let certificate = with_sans(
        &ca,
        &[(URI, b"spiffe://a/good"), (URI, b"spiffe://a/bad/../good")],
    );
    assert_eq!(let_in(&uri("spiffe://a/good"), &certificate), [true, false]);
    assert_eq!(
        let_in(&uri("spiffe://a/other"), &certificate),
        [false, false]
    );
}

#[test]
fn holds_names_that_cannot_be_read_are_not_certain() {
    let ca = ca();
    let uri_name: &[(u8, &[u8])] = &[(URI, b"spiffe://a/b")];
    let followed = [&testing::sans(uri_name)[..], b"\x05\0"].concat();
    let long: &[u8] = &[b'x'; 300];
    let long_followed = [
        &testing::sans(&[(URI, b"spiffe://a/b"), (DNS, long)])[..],
        b"\0",
    ]
    .concat();
    // A list of names that is none, one that ends too early, and two with something behind them
    for der in [
        &b"\x05\0"[..],
        b"\x30\x05\x86\x10abc",
        &followed,
        &long_followed,
    ] {
        let certificate = with_extension(&ca, der);
        assert_eq!(let_in(&uri("spiffe://a/b"), &certificate), [false, false]);
        assert_eq!(let_in(&not(dns("a.b")), &certificate), [false, false]);
        let rules = Rules {
            allow: Vec::new(),
            deny: vec![rule("r", dns("a.b"))],
        };
        assert_eq!(
            rules.check(&certificate),
            Err("deny rule 'r' may hold: the subject alternative names cannot be read".to_owned())
        );
    }
    let none = with_sans(&ca, &[]);
    assert_eq!(let_in(&uri("spiffe://a/b"), &none), [false, true]);
}

#[test]
fn holds_purposes_that_cannot_be_read_are_not_certain() {
    let ca = ca();
    let purposes = b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
    let followed = [&purposes[..], b"\x05\0"].concat();
    for (content, expected) in [
        (&purposes[..], [true, false]),
        (&followed, [false, false]),
        (b"\x05\0", [false, false]),
    ] {
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_issuer_name(ca.x509.subject_name()).unwrap();
        builder.set_not_before(ca.x509.not_before()).unwrap();
        builder.set_not_after(ca.x509.not_after()).unwrap();
        builder.set_pubkey(&ca.key).unwrap();
        let oid = Asn1Object::from_str("extendedKeyUsage").unwrap();
        let content = Asn1OctetString::new_from_bytes(content).unwrap();
        let extension = X509Extension::new_from_der(&oid, false, &content).unwrap();
        builder.append_extension(extension).unwrap();
        builder.sign(&ca.key, MessageDigest::sha256()).unwrap();
        let certificate = Certificate::new(builder.build(), testing::stack(&[])).unwrap();
        let purpose = Condition::ExtendedKeyUsage(text("1.3.6.1.5.5.7.3.2"));
        assert_eq!(let_in(&purpose, &certificate), expected);
    }
}

/// The inputs of the report that made this, each under the rule that it slipped through.
#[test]
fn check_denied_names_in_other_spellings() {
    let ca = ca();
    let workloads = uri("spiffe://example.org/ns/banned/*");
    let hosts = dns("*.contractor.example.com");
    for (kind, name, condition) in [
        (
            URI,
            "spiffe://example.org/ns/banned/../banned/x",
            &workloads,
        ),
        (URI, "spiffe://example.org/ns/banned/x?a/../b", &workloads),
        (URI, "SPIFFE://EXAMPLE.org/ns/banned/x", &workloads),
        (DNS, "*.contractor.example.com", &hosts),
        (DNS, "a.contractor.example.com.", &hosts),
    ] {
        let certificate = with_sans(&ca, &[(kind, name.as_bytes())]);
        let [_, denied] = let_in(condition, &certificate);
        assert!(!denied, "deny {name}");
        let [allowed, _] = let_in(&not(condition.clone()), &certificate);
        assert!(!allowed, "allow not {name}");
    }
}

#[test]
fn check_says_what_is_not_certain() {
    let ca = ca();
    let certificate = with_sans(
        &ca,
        &[(URI, b"spiffe://a/b?c"), (EMAIL, b"ANN@example.com")],
    );
    let doubts = Condition::All(vec![
        not(dns("a.example")),
        Condition::Any(vec![dns("b.example"), not(uri("spiffe://a/b"))]),
    ]);
    let rules = Rules {
        allow: vec![
            rule("mail", email("ann@example.com")),
            rule("host", dns("a.example")),
        ],
        deny: Vec::new(),
    };
    assert_eq!(
        rules.check(&certificate),
        Err(
            "no allow rule holds (mail: san.email 'ANN@example.com' may be read as the name of \
             the rule, host)"
                .to_owned()
        )
    );
    let rules = Rules {
        allow: Vec::new(),
        deny: vec![rule("workloads", doubts)],
    };
    assert_eq!(
        rules.check(&certificate),
        Err("deny rule 'workloads' may hold: san.uri has a '?' or '#'".to_owned())
    );
    let certificate = with_units(&ca, &[("sales", Asn1Type::UTF8STRING)]);
    let rules = Rules {
        allow: Vec::new(),
        deny: vec![rule("sales", subject("OU", "Sales"))],
    };
    assert_eq!(
        rules.check(&certificate),
        Err(
            "deny rule 'sales' may hold: subject.OU 'sales' may be read as the name of the rule"
                .to_owned()
        )
    );
}

#[test]
fn holds_digests_and_purposes() {
    let leaf = leaf();
    let holds = |condition: Condition| condition.holds(&leaf);
    assert_eq!(holds(Condition::Sha256(leaf.digests().leaf)), Some(true));
    assert_eq!(holds(Condition::Sha256([0; 32])), Some(false));
    let key = leaf.leaf().public_key().unwrap();
    let spki = openssl::sha::sha256(&key.public_key_to_der().unwrap());
    assert_eq!(holds(Condition::SpkiSha256(spki)), Some(true));
    assert_eq!(holds(Condition::SpkiSha256([0; 32])), Some(false));
    let purpose = |oid| Condition::ExtendedKeyUsage(text(oid));
    assert_eq!(holds(purpose("1.3.6.1.5.5.7.3.2")), Some(true));
    assert_eq!(holds(purpose("1.3.6.1.5.5.7.3.1")), Some(false));
    assert_eq!(holds(Condition::IssuerKeyId([1].into())), Some(false));
}

#[test]
fn check_deny_wins_and_names_its_rule() {
    let leaf = leaf();
    let yes = || Condition::All(Vec::new());
    let rules = Rules {
        allow: vec![rule("all", yes())],
        deny: vec![rule("bad", yes())],
    };
    assert_eq!(rules.check(&leaf), Err("deny rule 'bad' holds".to_owned()));
    let rules = Rules {
        allow: vec![rule("a", not(yes())), rule("b", not(yes()))],
        deny: Vec::new(),
    };
    assert_eq!(
        rules.check(&leaf),
        Err("no allow rule holds (a, b)".to_owned())
    );
    assert_eq!(Rules::default().check(&leaf), Ok(()));
}

#[test]
fn looks_at_names_and_is_pinned() {
    let pin = || Condition::Sha256([0; 32]);
    for (condition, names, pinned) in [
        (uri("spiffe://a/*"), true, false),
        (not(subject("OU", "x")), true, false),
        (Condition::Any(vec![pin(), dns("a.b")]), true, false),
        (Condition::All(vec![pin(), dns("a.b")]), true, true),
        (Condition::Any(vec![pin(), pin()]), false, true),
        (not(pin()), false, false),
        (Condition::IssuerKeyId([1].into()), false, false),
    ] {
        assert_eq!(
            (condition.looks_at_names(), condition.is_pinned()),
            (names, pinned),
            "{condition:?}"
        );
    }
}

/// A small generator (xorshift64*): the same cases in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Some letters in the other case.
    fn case(&mut self, text: &str) -> String {
        text.chars()
            .map(|c| match self.below(2) {
                0 => c.to_ascii_uppercase(),
                _ => c,
            })
            .collect()
    }

    /// Some unreserved characters escaped.
    fn escapes(&mut self, text: &str) -> String {
        let escape = |c: char| match self.below(4) {
            0 if c.is_ascii_alphanumeric() || c == '-' => format!("%{:02x}", c as u32),
            1 if c.is_ascii_alphanumeric() || c == '-' => format!("%{:02X}", c as u32),
            _ => c.to_string(),
        };
        text.chars().map(escape).collect()
    }
}

const SEGMENTS: &[&str] = &["ns", "banned", "payments", "a-b", "x"];
const HOSTS: &[&str] = &["example.org", "a.contractor.example.com", "b.example.com"];

/// A kind of name: how names of it are made, spelled in another way, and spoiled.
struct Family {
    tag: u8,
    name: fn(&mut Random) -> String,
    respell: fn(&mut Random, &str) -> String,
    spoil: fn(&mut Random, &str) -> String,
    condition: fn(&mut Random) -> Condition,
}

fn path(random: &mut Random) -> String {
    (0..1 + random.below(3))
        .map(|_| format!("/{}", random.one(SEGMENTS)))
        .collect()
}

const FAMILIES: [Family; 3] = [
    Family {
        tag: URI,
        name: |random| format!("spiffe://{}{}", random.one(HOSTS), path(random)),
        respell: |random, name| {
            let (host, path) = name["spiffe://".len()..].split_once('/').unwrap();
            let dot = random.one(&["", "."]);
            let host = random.case(host);
            format!(
                "{}://{}{dot}/{}",
                random.case("spiffe"),
                random.escapes(&host),
                random.escapes(path)
            )
        },
        spoil: |random, name| {
            let (host, path) = name["spiffe://".len()..].split_once('/').unwrap();
            match random.below(12) {
                0 => format!("{name}/../x"),
                1 => format!("spiffe://{host}/%2e%2E/{path}"),
                2 => format!("spiffe://{host}/./{path}"),
                3 => format!("{name}?{path}"),
                4 => format!("{name}#"),
                5 => format!("spiffe://ann@{host}/{path}"),
                6 => format!("spiffe://{host}//{path}"),
                7 => format!("{name}%2f{path}"),
                8 => format!("{name}\0"),
                9 => format!("spiffe://*.{host}/{path}"),
                10 => format!("{name}%"),
                _ => format!("spiffe://{host}../{path}"),
            }
        },
        condition: |random| {
            let name = (FAMILIES[0].name)(random);
            match random.below(2) {
                0 => uri(&name),
                _ => uri(&format!("{}/*", &name[..name.rfind('/').unwrap()])),
            }
        },
    },
    Family {
        tag: DNS,
        name: |random| random.one(HOSTS).to_owned(),
        respell: |random, name| format!("{}{}", random.case(name), random.one(&["", "."])),
        spoil: |random, name| match random.below(6) {
            0 => format!("*.{name}"),
            1 => format!("{name}.."),
            2 => format!(".{name}"),
            3 => format!(" {name}"),
            4 => format!("{name}\0.evil.example"),
            _ => format!("xn--a.{name}"),
        },
        condition: |random| {
            let name = random.one(HOSTS);
            match (random.below(2), name.split_once('.')) {
                (0, Some((_, parent))) => dns(&format!("*.{parent}")),
                _ => dns(name),
            }
        },
    },
    Family {
        tag: EMAIL,
        name: |random| format!("{}@{}", random.one(SEGMENTS), random.one(HOSTS)),
        respell: |random, name| {
            let (local, host) = name.split_once('@').unwrap();
            format!("{local}@{}", random.case(host))
        },
        spoil: |random, name| match random.below(4) {
            0 => format!("\"{name}"),
            1 => format!("{name}@x.example"),
            2 => format!("(x){name}"),
            _ => format!("{name}\0"),
        },
        condition: |random| email(&(FAMILIES[2].name)(random)),
    },
];

/// A tree of conditions on names of a family; with `others`, of two more conditions too, one that
/// holds and one that does not.
fn tree(random: &mut Random, family: &Family, others: &[Condition], depth: usize) -> Condition {
    let several = |random: &mut Random| {
        (0..1 + random.below(3))
            .map(|_| tree(random, family, others, depth - 1))
            .collect()
    };
    match random.below(if depth == 0 { 2 } else { 6 }) {
        0 if !others.is_empty() => others[random.below(others.len())].clone(),
        0 | 1 => (family.condition)(random),
        2 => Condition::All(several(random)),
        3 => Condition::Any(several(random)),
        _ => not(tree(random, family, others, depth - 1)),
    }
}

#[test]
fn check_two_spellings_of_a_name_get_one_verdict() {
    let ca = ca();
    let mut random = Random(0x5eed);
    let mut seen = [0; 2];
    for round in 0..900 {
        let family = &FAMILIES[round % FAMILIES.len()];
        let name = (family.name)(&mut random);
        let other = (family.respell)(&mut random, &name);
        let [a, b] = [&name, &other].map(|name| with_sans(&ca, &[(family.tag, name.as_bytes())]));
        for _ in 0..8 {
            let condition = tree(&mut random, family, &[], 4);
            let verdicts = [&a, &b].map(|certificate| let_in(&condition, certificate));
            assert_eq!(verdicts[0], verdicts[1], "{name} {other} {condition:?}");
            // It is certain, so one of the two lets it in.
            assert_ne!(verdicts[0][0], verdicts[0][1], "{name} {condition:?}");
            seen[usize::from(verdicts[0][0])] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 1000), "{seen:?}");
}

#[test]
fn check_a_name_without_normal_form_is_decided_against_the_client() {
    let ca = ca();
    let mut random = Random(0xbad5eed);
    for round in 0..900 {
        let family = &FAMILIES[round % FAMILIES.len()];
        let name = (family.name)(&mut random);
        let spoiled = (family.spoil)(&mut random, &name);
        let certificate = with_sans(&ca, &[(family.tag, spoiled.as_bytes())]);
        for _ in 0..8 {
            let condition = tree(&mut random, family, &[], 4);
            assert_eq!(
                let_in(&condition, &certificate),
                [false, false],
                "{spoiled:?} {condition:?}"
            );
        }
    }
}

/// Among conditions that are certain: who is let in would be let in whatever the name is.
#[test]
fn check_lets_in_whatever_a_name_without_normal_form_means() {
    let ca = ca();
    let mut random = Random(0x0dd5eed);
    let mut let_in_by = [0; 2];
    for round in 0..600 {
        let family = &FAMILIES[round % FAMILIES.len()];
        let name = (family.name)(&mut random);
        let spoiled = (family.spoil)(&mut random, &name);
        let sans =
            |name: &str| with_sans(&ca, &[(family.tag, name.as_bytes()), (IP, &[1, 2, 3, 4])]);
        let ip = |octets| Condition::San(SanCondition::Ip(normal_form::ip(octets).unwrap()));
        let others = [ip(&[1, 2, 3, 4]), ip(&[5, 6, 7, 8])];
        let certificate = sans(&spoiled);
        let readings: Vec<Certificate> = (0..4)
            .map(|_| (family.name)(&mut random))
            .chain([name])
            .map(|name| sans(&name))
            .collect();
        for _ in 0..8 {
            let condition = tree(&mut random, family, &others, 3);
            let verdicts = let_in(&condition, &certificate);
            for reading in &readings {
                let read = let_in(&condition, reading);
                for i in 0..2 {
                    assert!(read[i] || !verdicts[i], "{spoiled:?} {condition:?}");
                }
            }
            for i in 0..2 {
                let_in_by[i] += usize::from(verdicts[i]);
            }
        }
    }
    assert!(let_in_by.iter().all(|count| *count > 100), "{let_in_by:?}");
}
