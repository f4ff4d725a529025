//! A list of certificates at 1,000,000 entries: time to read it, look-up of a certificate that is
//! not on it, and memory.
//!
//! Look-ups go through other keys in a random order, so that entries are read from memory, not from
//! the CPU cache.

// criterion_group! of criterion 0.7 generates a function without documentation.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{criterion_group, criterion_main, Criterion};
use openssl::sha::sha256;
use resty_mtls::trust::lists::List;
use resty_mtls::trust::selector::{Selector, SelectorKind};

const ENTRIES: usize = 1_000_000;

fn key(number: usize) -> [u8; 32] {
    sha256(&number.to_be_bytes())
}

fn text() -> String {
    let hex = |number: usize| -> String {
        let digits = key(number).map(|byte| format!("{byte:02x}"));
        digits.concat()
    };
    (0..ENTRIES)
        .map(|number| format!("sha256 {}\n", hex(number)))
        .collect()
}

fn bench(criterion: &mut Criterion) {
    let text = text();
    let read = || List::read(&mut text.as_bytes(), text.len() as u64).expect("list");
    let list = read();
    println!(
        "lists/{ENTRIES}: {:.1} bytes an entry",
        list.memory() as f64 / ENTRIES as f64
    );
    let mut group = criterion.benchmark_group("lists");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    group.bench_function("read", |bencher| bencher.iter(|| black_box(read().len())));
    let selectors: Vec<Selector> = (0..65_536)
        .map(|number| Selector {
            kind: SelectorKind::Sha256,
            key: key(ENTRIES + number),
        })
        .collect();
    let mut next = 0;
    group.sample_size(50).bench_function("look-up", |bencher| {
        bencher.iter(|| {
            next = (next + 1) % selectors.len();
            list.find_selector(black_box(&selectors[next]), 0)
        })
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
