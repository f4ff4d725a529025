//! Random sets of CRLs compared with a model: a certificate with an entry in an authentic CRL is
//! never good, and a certificate that valid CRLs cover is never refused.

use super::tests::{ce, code, delta, number, only, path_with, serial, TestCrl};
use super::*;
use crate::certificate::time::utc_time;
use crate::testing::{issue, Issued, Random, NOW};

const DAY: i64 = 86_400;
const SETS: usize = 3_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    Root,
    Intermediate,
    /// A CA with the name of the intermediate and another key.
    SameName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Full,
    Users,
    Authorities,
    Empty,
}

#[derive(Debug)]
struct CrlModel {
    signer: Signer,
    extent: Extent,
    this: i64,
    next: Option<i64>,
    number: Option<u8>,
    delta: Option<u8>,
    critical: bool,
    critical_entry: bool,
    /// Reason of an entry for the certificate in the chain that the signer issued.
    entry: Option<u8>,
}

impl CrlModel {
    /// Mostly a valid CRL, so that both verdicts occur.
    fn random(random: &mut Random) -> CrlModel {
        let delta = random.one_in(6).then(|| random.below(4) as u8 + 1);
        CrlModel {
            signer: random.pick(&[
                Signer::Root,
                Signer::Root,
                Signer::Intermediate,
                Signer::Intermediate,
                Signer::SameName,
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
            Signer::SameName => (pki[2], &serials[0]),
        };
        let time = |time| utc_time(time).unwrap();
        let (this, next) = (time(self.this), self.next.map(time).unwrap_or_default());
        let mut made = TestCrl {
            this: &this,
            next: &next,
            ..TestCrl::by(issuer)
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

    fn is_supported(&self) -> bool {
        !self.critical && !self.critical_entry && self.extent != Extent::Empty
    }

    fn revokes(&self) -> bool {
        match self.entry {
            None | Some(8) => false,
            Some(6) => self.in_force(),
            Some(_) => true,
        }
    }

    fn is_withdrawn_by(&self, newer: &CrlModel) -> bool {
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
            && newer.is_supported()
            && newer.this <= NOW
            && later
            && numbered
            && gone
    }
}

/// Whether the signer's certificate in the chain is revoked.
fn revoked(models: &[CrlModel], signer: Signer) -> bool {
    let by = |model: &&CrlModel| model.signer == signer;
    models
        .iter()
        .filter(by)
        .any(|model| model.revokes() && !models.iter().any(|newer| model.is_withdrawn_by(newer)))
}

/// Whether a CRL certainly makes the certificate good, and whether one possibly does.
fn covered(models: &[CrlModel], signer: Signer, extent: Extent) -> (bool, bool) {
    let by = |model: &&CrlModel| {
        model.signer == signer
            && model.delta.is_none()
            && model.is_supported()
            && model.in_force()
            && (model.extent == Extent::Full || model.extent == extent)
    };
    let mut fit = models.iter().filter(by).peekable();
    let possible = fit.peek().is_some();
    let certain = fit.any(|model| {
        let newest = !models
            .iter()
            .any(|other| other.signer == signer && other.this > model.this);
        newest && !matches!(model.entry, Some(0..=7)) && model.next.is_some()
    });
    (certain, possible)
}

#[test]
fn check_random_sets_agrees_with_the_model() {
    let root = issue("Root", None, true, DAY, &[]);
    let middle = issue("Intermediate", Some(&root), true, DAY, &[]);
    let same_name = issue("Intermediate", Some(&root), true, DAY, &[]);
    let leaf = issue("leaf", Some(&middle), false, DAY, &[]);
    let pki = [&root, &middle, &same_name];
    let serials = [serial(&leaf.x509), serial(&middle.x509)];
    let below = path_with(&[&root.x509], &leaf.x509, &[&middle.x509], NOW);
    let anchors = [&root.x509, &middle.x509];
    let anchored = path_with(&anchors, &leaf.x509, &[], NOW);
    assert_eq!((below.anchor(), anchored.anchor()), (2, 1));

    let mut random = Random(0x5eed_0012_0003);
    let mut counts = [0; 3];
    for number in 0..SETS {
        let count = random.below(6) + 1;
        let models: Vec<CrlModel> = (0..count).map(|_| CrlModel::random(&mut random)).collect();
        let mut set = CrlSet::default();
        for model in &models {
            set.add("", &model.der(&pki, &serials)).unwrap();
        }
        let revoked = [Signer::Intermediate, Signer::Root].map(|signer| revoked(&models, signer));
        let leaf = covered(&models, Signer::Intermediate, Extent::Users);
        let middle = covered(&models, Signer::Root, Extent::Authorities);
        let listed = models.iter().any(|model| model.signer == Signer::Root);
        for (path, needed) in [(&below, listed), (&anchored, listed)] {
            let verdict = set.check(path, NOW);
            let why = format!("set {number}, {verdict:?}: {models:#?}");
            let depth = revoked.iter().position(|revoked| *revoked);
            if let Some(depth) = depth {
                assert_eq!((verdict.code, verdict.depth), (23, depth as u32), "{why}");
                counts[0] += 1;
            } else if leaf.0 && (middle.0 || !needed) {
                assert_eq!(verdict.code, 0, "{why}");
                counts[1] += 1;
            } else {
                assert_ne!(verdict.code, 23, "{why}");
                if !leaf.1 || (needed && !middle.1) {
                    assert_ne!(verdict.code, 0, "{why}");
                    counts[2] += 1;
                }
            }
        }
    }
    println!("revoked, good, unknown: {counts:?}");
    assert!(counts.iter().all(|count| *count > SETS / 20), "{counts:?}");
}
