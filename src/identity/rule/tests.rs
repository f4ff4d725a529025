use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Type};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::{X509Extension, X509NameBuilder, X509};

use super::*;
use crate::certificate::der::element;
use crate::certificate::normal_form;
use crate::testing::{self, Issued, Random};

const DNS: u8 = 0x82;
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

/// A certificate that was verified with no CA that a rule names.
fn of(certificate: &Certificate) -> RuleSubject<'_> {
    RuleSubject {
        certificate,
        cas: &[],
        spiffe_id: None,
    }
}

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

/// A certificate with these subject alternative names, given as tags and contents.
fn with_sans(ca: &Issued, names: &[(u8, &[u8])]) -> Certificate {
    with_extension(ca, &testing::san_extension(names))
}

fn with_extension(ca: &Issued, der: &[u8]) -> Certificate {
    let subject = X509NameBuilder::new().unwrap().build();
    let x509 = testing::issue_with_subject(ca, &subject, Some(der));
    Certificate::new(x509, testing::stack(&[])).unwrap()
}

/// A certificate with these OUs.
fn with_units(ca: &Issued, units: &[(&str, Asn1Type)]) -> Certificate {
    let mut name = X509NameBuilder::new().unwrap();
    for (unit, kind) in units {
        name.append_entry_by_nid_with_type(Nid::ORGANIZATIONALUNITNAME, unit, *kind)
            .unwrap();
    }
    let x509 = testing::issue_with_subject(ca, &name.build(), None);
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

/// Whether an allow rule with this condition allows the certificate, and whether a deny rule does.
fn allowed_by(condition: &Condition, certificate: &Certificate) -> [bool; 2] {
    let rules = || vec![rule("rule", condition.clone())];
    let allow = Rules {
        allow: rules(),
        deny: Vec::new(),
    };
    let deny = Rules {
        allow: Vec::new(),
        deny: rules(),
    };
    [allow, deny].map(|rules| rules.check(of(certificate)).is_ok())
}

#[test]
fn holds_accepts_all_names_of_an_attribute_type() {
    let leaf = leaf();
    for name in ["O", "organizationName", "2.5.4.10"] {
        assert_eq!(
            subject(name, "Example").holds(of(&leaf)),
            Some(true),
            "{name}"
        );
    }
    assert_eq!(subject("o", "Example").holds(of(&leaf)), Some(false));
    assert_eq!(subject("CN", "Test CA").holds(of(&leaf)), Some(false));
    let issuer = Condition::Issuer(text("CN"), normal_form::text("Test CA").unwrap());
    assert_eq!(issuer.holds(of(&leaf)), Some(true));
}

#[test]
fn holds_lookalike_attribute_values_are_not_certain() {
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
        // A value that is not text, and values that readers decode differently
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
        assert_eq!(sales.holds(of(&certificate)), expected, "{units:?}");
        // A condition on another attribute type does not hold.
        assert_eq!(subject("O", "x").holds(of(&certificate)), Some(false));
    }
}

#[test]
fn holds_dns_exact_and_one_label_below() {
    let leaf = leaf();
    assert_eq!(dns("ann.example.com").holds(of(&leaf)), Some(true));
    assert_eq!(dns("*.example.com").holds(of(&leaf)), Some(true));
    // A wildcard is not the name of a host.
    assert_eq!(dns("example.com").holds(of(&leaf)), None);
    assert_eq!(dns("*.wild.example").holds(of(&leaf)), None);
    let ca = ca();
    let one = with_sans(&ca, &[(DNS, b"ann.example.com")]);
    assert_eq!(dns("example.com").holds(of(&one)), Some(false));
    assert_eq!(dns("*.com").holds(of(&one)), Some(false));
}

#[test]
fn holds_irregular_name_of_another_type_is_certain() {
    let ca = ca();
    let irregular: &[(u8, &[u8])] = &[(DNS, b"*"), (EMAIL, b"x"), (URI, b"x"), (IP, b"x")];
    let conditions = [
        dns("a.example"),
        email("a@example.com"),
        uri("spiffe://a/b"),
        Condition::San(SanCondition::Ip(normal_form::ip(&[192, 0, 2, 7]).unwrap())),
    ];
    for (i, san) in irregular.iter().enumerate() {
        let certificate = with_sans(&ca, &[*san]);
        for (j, condition) in conditions.iter().enumerate() {
            let expected = (i != j).then_some(false);
            assert_eq!(
                condition.holds(of(&certificate)),
                expected,
                "{san:?} {condition:?}"
            );
        }
    }
}

#[test]
fn holds_with_a_matching_and_an_irregular_name() {
    let ca = ca();
    let certificate = with_sans(
        &ca,
        &[(URI, b"spiffe://a/good"), (URI, b"spiffe://a/bad/../good")],
    );
    assert_eq!(
        allowed_by(&uri("spiffe://a/good"), &certificate),
        [true, false]
    );
    assert_eq!(
        allowed_by(&uri("spiffe://a/other"), &certificate),
        [false, false]
    );
}

#[test]
fn holds_names_that_cannot_be_read_are_not_certain() {
    let ca = ca();
    let uri_name: &[(u8, &[u8])] = &[(URI, b"spiffe://a/b")];
    let followed = [&testing::san_extension(uri_name)[..], b"\x05\0"].concat();
    let long: &[u8] = &[b'x'; 300];
    let long_followed = [
        &testing::san_extension(&[(URI, b"spiffe://a/b"), (DNS, long)])[..],
        b"\0",
    ]
    .concat();
    // Not a list of names, a truncated list, and two lists with trailing bytes
    for der in [
        &b"\x05\0"[..],
        b"\x30\x05\x86\x10abc",
        &followed,
        &long_followed,
    ] {
        let certificate = with_extension(&ca, der);
        assert_eq!(
            allowed_by(&uri("spiffe://a/b"), &certificate),
            [false, false]
        );
        assert_eq!(allowed_by(&not(dns("a.b")), &certificate), [false, false]);
        let rules = Rules {
            allow: Vec::new(),
            deny: vec![rule("r", dns("a.b"))],
        };
        assert_eq!(
            rules.check(of(&certificate)),
            Err("deny rule 'r' may hold: the subject alternative names cannot be read".to_owned())
        );
    }
    let none = with_sans(&ca, &[]);
    assert_eq!(allowed_by(&uri("spiffe://a/b"), &none), [false, true]);
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
        assert_eq!(allowed_by(&purpose, &certificate), expected);
    }
}

/// Names that an exact comparison would not find equal to the denied names.
#[test]
fn check_denies_other_spellings_of_denied_names() {
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
        let [_, denied] = allowed_by(condition, &certificate);
        assert!(!denied, "deny {name}");
        let [allowed, _] = allowed_by(&not(condition.clone()), &certificate);
        assert!(!allowed, "allow not {name}");
    }
}

#[test]
fn check_error_has_the_reason_for_uncertainty() {
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
        rules.check(of(&certificate)),
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
        rules.check(of(&certificate)),
        Err("deny rule 'workloads' may hold: san.uri has a '?' or '#'".to_owned())
    );
    let certificate = with_units(&ca, &[("sales", Asn1Type::UTF8STRING)]);
    let rules = Rules {
        allow: Vec::new(),
        deny: vec![rule("sales", subject("OU", "Sales"))],
    };
    assert_eq!(
        rules.check(of(&certificate)),
        Err(
            "deny rule 'sales' may hold: subject.OU 'sales' may be read as the name of the rule"
                .to_owned()
        )
    );
}

#[test]
fn holds_digests_and_purposes() {
    let leaf = leaf();
    let holds = |condition: Condition| condition.holds(of(&leaf));
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
fn check_deny_takes_precedence_and_the_error_has_the_rule() {
    let leaf = leaf();
    let yes = || Condition::All(Vec::new());
    let rules = Rules {
        allow: vec![rule("all", yes())],
        deny: vec![rule("bad", yes())],
    };
    assert_eq!(
        rules.check(of(&leaf)),
        Err("deny rule 'bad' holds".to_owned())
    );
    let rules = Rules {
        allow: vec![rule("a", not(yes())), rule("b", not(yes()))],
        deny: Vec::new(),
    };
    assert_eq!(
        rules.check(of(&leaf)),
        Err("no allow rule holds (a, b)".to_owned())
    );
    assert_eq!(Rules::default().check(of(&leaf)), Ok(()));
}

#[test]
fn depends_on_names_and_is_tied() {
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
            (condition.depends_on_names(), condition.is_tied()),
            (names, pinned),
            "{condition:?}"
        );
    }
}

/// The text with random letter case.
fn random_case(random: &mut Random, text: &str) -> String {
    text.chars()
        .map(|c| match random.below(2) {
            0 => c.to_ascii_uppercase(),
            _ => c,
        })
        .collect()
}

/// The text with random escapes of unreserved characters.
fn random_escapes(random: &mut Random, text: &str) -> String {
    let escape = |c: char| match random.below(4) {
        0 if c.is_ascii_alphanumeric() || c == '-' => format!("%{:02x}", c as u32),
        1 if c.is_ascii_alphanumeric() || c == '-' => format!("%{:02X}", c as u32),
        _ => c.to_string(),
    };
    text.chars().map(escape).collect()
}

const SEGMENTS: &[&str] = &["ns", "banned", "payments", "a-b", "x"];
const HOSTS: &[&str] = &["example.org", "a.contractor.example.com", "b.example.com"];

/// Functions for a type of names: a random name, another spelling of it, an irregular form of it,
/// and a random condition.
struct NameType {
    tag: u8,
    name: fn(&mut Random) -> String,
    respell: fn(&mut Random, &str) -> String,
    make_irregular: fn(&mut Random, &str) -> String,
    condition: fn(&mut Random) -> Condition,
}

fn path(random: &mut Random) -> String {
    (0..1 + random.below(3))
        .map(|_| format!("/{}", random.pick(SEGMENTS)))
        .collect()
}

const NAME_TYPES: [NameType; 3] = [
    NameType {
        tag: URI,
        name: |random| format!("spiffe://{}{}", random.pick(HOSTS), path(random)),
        respell: |random, name| {
            let (host, path) = name["spiffe://".len()..].split_once('/').unwrap();
            let dot = random.pick(&["", "."]);
            let host = random_case(random, host);
            format!(
                "{}://{}{dot}/{}",
                random_case(random, "spiffe"),
                random_escapes(random, &host),
                random_escapes(random, path)
            )
        },
        make_irregular: |random, name| {
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
            let name = (NAME_TYPES[0].name)(random);
            match random.below(2) {
                0 => uri(&name),
                _ => uri(&format!("{}/*", &name[..name.rfind('/').unwrap()])),
            }
        },
    },
    NameType {
        tag: DNS,
        name: |random| random.pick(HOSTS).to_owned(),
        respell: |random, name| format!("{}{}", random_case(random, name), random.pick(&["", "."])),
        make_irregular: |random, name| match random.below(6) {
            0 => format!("*.{name}"),
            1 => format!("{name}.."),
            2 => format!(".{name}"),
            3 => format!(" {name}"),
            4 => format!("{name}\0.evil.example"),
            _ => format!("xn--a.{name}"),
        },
        condition: |random| {
            let name = random.pick(HOSTS);
            match (random.below(2), name.split_once('.')) {
                (0, Some((_, parent))) => dns(&format!("*.{parent}")),
                _ => dns(name),
            }
        },
    },
    NameType {
        tag: EMAIL,
        name: |random| format!("{}@{}", random.pick(SEGMENTS), random.pick(HOSTS)),
        respell: |random, name| {
            let (local, host) = name.split_once('@').unwrap();
            format!("{local}@{}", random_case(random, host))
        },
        make_irregular: |random, name| match random.below(4) {
            0 => format!("\"{name}"),
            1 => format!("{name}@x.example"),
            2 => format!("(x){name}"),
            _ => format!("{name}\0"),
        },
        condition: |random| email(&(NAME_TYPES[2].name)(random)),
    },
];

/// A random tree of conditions on names of a type and of `others`.
fn tree(
    random: &mut Random,
    name_type: &NameType,
    others: &[Condition],
    depth: usize,
) -> Condition {
    let several = |random: &mut Random| {
        (0..1 + random.below(3))
            .map(|_| tree(random, name_type, others, depth - 1))
            .collect()
    };
    match random.below(if depth == 0 { 2 } else { 6 }) {
        0 if !others.is_empty() => others[random.below(others.len())].clone(),
        0 | 1 => (name_type.condition)(random),
        2 => Condition::All(several(random)),
        3 => Condition::Any(several(random)),
        _ => not(tree(random, name_type, others, depth - 1)),
    }
}

#[test]
fn check_result_is_equal_for_all_spellings_of_a_name() {
    let ca = ca();
    let mut random = Random(0x5eed);
    let mut seen = [0; 2];
    for round in 0..900 {
        let name_type = &NAME_TYPES[round % NAME_TYPES.len()];
        let name = (name_type.name)(&mut random);
        let other = (name_type.respell)(&mut random, &name);
        let [a, b] =
            [&name, &other].map(|name| with_sans(&ca, &[(name_type.tag, name.as_bytes())]));
        for _ in 0..8 {
            let condition = tree(&mut random, name_type, &[], 4);
            let verdicts = [&a, &b].map(|certificate| allowed_by(&condition, certificate));
            assert_eq!(verdicts[0], verdicts[1], "{name} {other} {condition:?}");
            // The condition is certain, so exactly one of the two allows the certificate.
            assert_ne!(verdicts[0][0], verdicts[0][1], "{name} {condition:?}");
            seen[usize::from(verdicts[0][0])] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 1000), "{seen:?}");
}

#[test]
fn check_refuses_an_irregular_name() {
    let ca = ca();
    let mut random = Random(0xbad5eed);
    for round in 0..900 {
        let name_type = &NAME_TYPES[round % NAME_TYPES.len()];
        let name = (name_type.name)(&mut random);
        let irregular = (name_type.make_irregular)(&mut random, &name);
        let certificate = with_sans(&ca, &[(name_type.tag, irregular.as_bytes())]);
        for _ in 0..8 {
            let condition = tree(&mut random, name_type, &[], 4);
            assert_eq!(
                allowed_by(&condition, &certificate),
                [false, false],
                "{irregular:?} {condition:?}"
            );
        }
    }
}

/// With conditions that are certain: a certificate with an irregular name is allowed only if it is
/// allowed with every other name in its place.
#[test]
fn check_allows_an_irregular_name_only_if_every_name_is_allowed() {
    let ca = ca();
    let mut random = Random(0x0dd5eed);
    let mut allowed_count = [0; 2];
    for round in 0..600 {
        let name_type = &NAME_TYPES[round % NAME_TYPES.len()];
        let name = (name_type.name)(&mut random);
        let irregular = (name_type.make_irregular)(&mut random, &name);
        let sans = |name: &str| {
            with_sans(
                &ca,
                &[(name_type.tag, name.as_bytes()), (IP, &[1, 2, 3, 4])],
            )
        };
        let ip = |octets| Condition::San(SanCondition::Ip(normal_form::ip(octets).unwrap()));
        let others = [ip(&[1, 2, 3, 4]), ip(&[5, 6, 7, 8])];
        let certificate = sans(&irregular);
        let readings: Vec<Certificate> = (0..4)
            .map(|_| (name_type.name)(&mut random))
            .chain([name])
            .map(|name| sans(&name))
            .collect();
        for _ in 0..8 {
            let condition = tree(&mut random, name_type, &others, 3);
            let verdicts = allowed_by(&condition, &certificate);
            for reading in &readings {
                let read = allowed_by(&condition, reading);
                for i in 0..2 {
                    assert!(read[i] || !verdicts[i], "{irregular:?} {condition:?}");
                }
            }
            for i in 0..2 {
                allowed_count[i] += usize::from(verdicts[i]);
            }
        }
    }
    assert!(
        allowed_count.iter().all(|count| *count > 100),
        "{allowed_count:?}"
    );
}

/// The content of an otherName with a userPrincipalName, as a string of this type.
fn upn(tag: u8, name: &str) -> Vec<u8> {
    const OID: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x03";
    let value = element(0xa0, &[&element(tag, &[name.as_bytes()])]);
    [OID, &value].concat()
}

#[test]
fn upn_matches_without_ascii_case() {
    const OTHER_NAME: u8 = 0xa0;
    const UTF8: u8 = 0x0c;
    const IA5: u8 = 0x16;
    let ca = ca();
    let condition = Condition::San(SanCondition::Upn(
        normal_form::user_principal_name(Some(b"Ann@corp.example.com")).unwrap(),
    ));
    for (tag, name, expected) in [
        (UTF8, "ann@corp.example.com", [true, false]),
        (UTF8, "ANN@CORP.EXAMPLE.COM", [true, false]),
        (UTF8, "ann@corp.example.com.", [true, false]),
        (UTF8, "bob@corp.example.com", [false, true]),
        (UTF8, "\u{ff41}nn@corp.example.com", [false, false]),
        (UTF8, "ann@x@corp.example.com", [false, false]),
        (UTF8, "ann", [false, false]),
        (IA5, "ann@corp.example.com", [false, false]),
    ] {
        let certificate = with_sans(&ca, &[(OTHER_NAME, &upn(tag, name))]);
        assert_eq!(allowed_by(&condition, &certificate), expected, "{name}");
    }
    let mail = with_sans(&ca, &[(EMAIL, b"ann@corp.example.com")]);
    assert_eq!(allowed_by(&condition, &mail), [false, true]);
    let other = element(0xa0, &[&element(UTF8, &[b"ann@corp.example.com"])]);
    let other = [b"\x06\x03\x2a\x03\x04", &other[..]].concat();
    let other = with_sans(&ca, &[(OTHER_NAME, &other)]);
    assert_eq!(allowed_by(&condition, &other), [false, true]);
}

#[test]
fn ca_matches_a_ca_of_the_verified_chain() {
    let leaf = leaf();
    let condition = Condition::Ca(CaCondition {
        id: [0; 16],
        cas: vec![[1; 32], [2; 32]],
    });
    for (cas, expected) in [
        (&[[2; 32], [3; 32]][..], Some(true)),
        (&[[3; 32]], Some(false)),
        (&[], Some(false)),
    ] {
        let subject = RuleSubject {
            certificate: &leaf,
            cas,
            spiffe_id: None,
        };
        assert_eq!(condition.holds(subject), expected);
    }
}

#[test]
fn unmet_names_the_condition_and_what_the_certificate_has() {
    let leaf = leaf();
    let sha256 = leaf.fingerprint_sha256();
    let spki = crate::text::hex(&leaf.spki_sha256s().next().unwrap());
    let unmet = |condition: Condition| {
        let name = "r".into();
        Rule { name, condition }.unmet(of(&leaf))
    };
    let text = |value| normal_form::text(value).unwrap();
    let cn = |value| Condition::Subject("commonName".into(), text(value));
    let ca = Condition::Ca(CaCondition {
        id: [0x1f; 16],
        cas: Vec::new(),
    });
    let zeros = "0".repeat(64);
    let pattern = SpiffeIdPattern::parse("spiffe://a.test/ns/*").unwrap();
    let not = |condition| Condition::Not(Box::new(condition));
    for (condition, expected) in [
        (cn("a"), "subject.CN is 'leaf', expected 'a'".to_owned()),
        (
            cn("LEAF"),
            "subject.commonName 'leaf' may be read as the name of the rule".to_owned(),
        ),
        (
            Condition::All(vec![cn("leaf"), cn("a"), cn("b")]),
            "subject.CN is 'leaf', expected 'a'".to_owned(),
        ),
        (
            Condition::Any((0..10).map(|_| cn("a")).collect()),
            format!(
                "subject.CN is 'leaf', expected {} and 2 more",
                ["'a'"; 8].join(" or ")
            ),
        ),
        (
            Condition::Any(vec![cn("a"), ca.clone()]),
            "no condition of 'any' holds, the first because subject.CN is 'leaf', expected 'a'"
                .to_owned(),
        ),
        (
            not(cn("leaf")),
            "subject.CN is 'leaf', which 'not' excludes".to_owned(),
        ),
        (not(not(cn("a"))), "the condition of 'not' holds".to_owned()),
        (
            Condition::Issuer("OU".into(), text("a'")),
            "the certificate has no issuer.OU, expected 'a\\''".to_owned(),
        ),
        (
            Condition::San(SanCondition::Ip(normal_form::ip(&[10, 0, 0, 1]).unwrap())),
            "the certificate has no san.ip, expected '10.0.0.1'".to_owned(),
        ),
        (
            Condition::Sha256([0; 32]),
            format!("sha256 is '{sha256}', expected '{zeros}'"),
        ),
        (
            Condition::SpkiSha256([0; 32]),
            format!("spki_sha256 is '{spki}', expected '{zeros}'"),
        ),
        (
            ca,
            "no CA of the verified chain is of the ca, expected \
             '1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f'"
                .to_owned(),
        ),
        (
            Condition::SpiffeId(pattern),
            "no trust domain verified a SPIFFE ID, so there is no spiffe_id, expected \
             'spiffe://a.test/ns/*'"
                .to_owned(),
        ),
    ] {
        assert_eq!(unmet(condition), Some(expected));
    }
    assert_eq!(unmet(cn("leaf")), None);
    let named = with_sans(&self::ca(), &[(DNS, b"Ann.test"), (IP, &[10, 0, 0, 2])]);
    let dns = normal_form::dns(b"b.test").unwrap();
    let ip = normal_form::ip(&[10, 0, 0, 1]).unwrap();
    for (condition, expected) in [
        (
            SanCondition::DnsBelow(dns),
            "san.dns is 'Ann.test', expected '*.b.test'",
        ),
        (
            SanCondition::Ip(ip),
            "san.ip is '10.0.0.2', expected '10.0.0.1'",
        ),
    ] {
        let rule = Rule {
            name: "r".into(),
            condition: Condition::San(condition),
        };
        assert_eq!(rule.unmet(of(&named)).as_deref(), Some(expected));
    }
}
