//! Random sets of CRLs against a model: a certificate that an authentic CRL names is never good,
//! and a client whose CRLs are in order is not locked out.

use super::tests::{ce, code, delta, number, only, path_with, serial, Made};
use super::*;
use crate::certificate::time::utc_time;
use crate::testing::{issue, Issued, NOW};

const DAY: i64 = 86_400;
const SETS: u64 = 3_000;

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    Root,
    Intermediate,
    /// A CA with the intermediate's name and a key of its own.
    Namesake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Full,
    Users,
    Authorities,
    Empty,
}

#[derive(Debug)]
struct Sketch {
    signer: Signer,
    extent: Extent,
    this: i64,
    next: Option<i64>,
    number: Option<u8>,
    delta: Option<u8>,
    critical: bool,
    critical_entry: bool,
    /// Reason for the certificate of the signer's in the chain.
    entry: Option<u8>,
}

impl Sketch {
    /// Mostly in order, so that both verdicts occur.
    fn random(random: &mut Random) -> Sketch {
        let delta = random.one_in(6).then(|| random.below(4) as u8 + 1);
        Sketch {
            signer: random.pick(&[
                Signer::Root,
                Signer::Root,
                Signer::Intermediate,
                Signer::Intermediate,
                Signer::Namesake,
            ]),
            extent: match random.below(10) {
                0 => Extent::Users,
                1 => Extent::Authorities,
                2 => Extent::Empty,
                _ => Extent::Full,
            },
            this: NOW + random.pick(&[-4, -3, -2, -1, -1, -1, 1]) * 3600,
            next: match random.below(10) {
                0 => None,
                1 | 2 => Some(NOW - 1800),
                _ => Some(NOW + DAY),
            },
            number: (delta.is_some() || random.one_in(2)).then(|| random.below(6) as u8 + 1),
            delta,
            critical: random.one_in(12),
            critical_entry: random.one_in(12),
            entry: random
                .one_in(3)
                .then(|| random.pick(&[0, 1, 4, 6, 6, 8, 8])),
        }
    }

    fn der(&self, pki: &[&Issued; 3], serials: &[Vec<u8>; 2]) -> Vec<u8> {
        let (issuer, serial) = match self.signer {
            Signer::Root => (pki[0], &serials[1]),
            Signer::Intermediate => (pki[1], &serials[0]),
            Signer::Namesake => (pki[2], &serials[0]),
        };
        let time = |time| utc_time(time).unwrap();
        let (this, next) = (time(self.this), self.next.map(time).unwrap_or_default());
        let mut made = Made {
            this: &this,
            next: &next,
            ..Made::by(issuer)
        };
        made = match self.extent {
            Extent::Full => made,
            Extent::Users => made.with(only(0x81)),
            Extent::Authorities => made.with(only(0x82)),
            Extent::Empty => made.with(ce(28, true, b"\x30\x00")),
        };
        if let Some(own) = self.number {
            made = made.with(number(own));
        }
        if let Some(base) = self.delta {
            made = made.with(delta(base));
        }
        if self.critical {
            made = made.with(ce(99, true, b""));
        }
        if self.critical_entry {
            made = made.revoke(b"\x05", &ce(99, true, b""));
        }
        if let Some(reason) = self.entry {
            made = made.revoke(serial, &code(reason));
        }
        made.der()
    }

    fn in_force(&self) -> bool {
        self.this <= NOW && self.next.is_none_or(|next| next > NOW)
    }

    fn is_understood(&self) -> bool {
        !self.critical && !self.critical_entry && self.extent != Extent::Empty
    }

    fn names(&self) -> bool {
        match self.entry {
            None | Some(8) => false,
            Some(6) => self.in_force(),
            Some(_) => true,
        }
    }

    fn is_taken_back_by(&self, newer: &Sketch) -> bool {
        let later = newer.this > self.this
            || (newer.this == self.this
                && newer.number.is_some()
                && self.number.is_some()
                && newer.number != self.number);
        let numbered = match (newer.number, self.number) {
            (Some(newer), Some(number)) => newer >= number,
            _ => true,
        };
        let gone = match (newer.delta, self.delta, newer.entry) {
            (None, _, None | Some(8)) => true,
            (Some(base), None, Some(8)) => self.number.is_some_and(|number| base <= number),
            (Some(_), Some(_), Some(8)) => true,
            _ => false,
        };
        newer.signer == self.signer
            && newer.extent == self.extent
            && newer.is_understood()
            && newer.this <= NOW
            && later
            && numbered
            && gone
    }
}

/// Whether the signer's certificate in the chain is revoked.
fn revoked(sketches: &[Sketch], signer: Signer) -> bool {
    let by = |sketch: &&Sketch| sketch.signer == signer;
    sketches.iter().filter(by).any(|sketch| {
        sketch.names() && !sketches.iter().any(|newer| sketch.is_taken_back_by(newer))
    })
}

/// Whether some CRL makes it good without any doubt, or none can.
fn covered(sketches: &[Sketch], signer: Signer, extent: Extent) -> (bool, bool) {
    let by = |sketch: &&Sketch| {
        sketch.signer == signer
            && sketch.delta.is_none()
            && sketch.is_understood()
            && sketch.in_force()
            && (sketch.extent == Extent::Full || sketch.extent == extent)
    };
    let mut fit = sketches.iter().filter(by).peekable();
    let possible = fit.peek().is_some();
    let certain = fit.any(|sketch| {
        let newest = !sketches
            .iter()
            .any(|other| other.signer == signer && other.this > sketch.this);
        newest && !matches!(sketch.entry, Some(0..=7)) && sketch.next.is_some()
    });
    (certain, possible)
}

#[test]
fn check_random_sets_never_pass_what_an_authentic_crl_names() {
    let root = issue("Root", None, true, DAY, &[]);
    let middle = issue("Intermediate", Some(&root), true, DAY, &[]);
    let namesake = issue("Intermediate", Some(&root), true, DAY, &[]);
    let leaf = issue("leaf", Some(&middle), false, DAY, &[]);
    let pki = [&root, &middle, &namesake];
    let serials = [serial(&leaf.x509), serial(&middle.x509)];
    let below = path_with(&[&root.x509], &leaf.x509, &[&middle.x509], NOW);
    let anchors = [&root.x509, &middle.x509];
    let anchored = path_with(&anchors, &leaf.x509, &[], NOW);
    assert_eq!((below.anchor(), anchored.anchor()), (2, 1));

    let mut random = Random(0x5eed_0012_0003);
    let mut counts = [0; 3];
    for number in 0..SETS {
        let count = random.below(6) + 1;
        let sketches: Vec<Sketch> = (0..count).map(|_| Sketch::random(&mut random)).collect();
        let mut set = CrlSet::default();
        for sketch in &sketches {
            set.add("", &sketch.der(&pki, &serials)).unwrap();
        }
        let revoked = [Signer::Intermediate, Signer::Root].map(|signer| revoked(&sketches, signer));
        let leaf = covered(&sketches, Signer::Intermediate, Extent::Users);
        let middle = covered(&sketches, Signer::Root, Extent::Authorities);
        let listed = sketches.iter().any(|sketch| sketch.signer == Signer::Root);
        for (path, needed) in [(&below, true), (&anchored, listed)] {
            let outcome = set.check(path, NOW);
            let why = format!("set {number}, {outcome:?}: {sketches:#?}");
            let depth = revoked.iter().position(|revoked| *revoked);
            if let Some(depth) = depth {
                assert_eq!((outcome.code, outcome.depth), (23, depth as u32), "{why}");
                counts[0] += 1;
            } else if leaf.0 && (middle.0 || !needed) {
                assert_eq!(outcome.code, 0, "{why}");
                counts[1] += 1;
            } else {
                assert_ne!(outcome.code, 23, "{why}");
                if !leaf.1 || (needed && !middle.1) {
                    assert_ne!(outcome.code, 0, "{why}");
                    counts[2] += 1;
                }
            }
        }
    }
    println!("revoked, good, unknown: {counts:?}");
    assert!(counts.iter().all(|count| *count > SETS / 20), "{counts:?}");
}
