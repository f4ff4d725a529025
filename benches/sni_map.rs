//! The SNI map at 10, 10,000 and 1,000,000 names: build, and look-up of an exact name, of a name
//! that a wildcard matches, and of a name without a match.
//!
//! Look-ups go through 4,096 names in a shuffled order, so that entries of a large map are read
//! from memory, not from the CPU cache. Criterion's throughput line for `build` is names a second;
//! bytes a name are printed once for each size.

// criterion_group! of criterion 0.7 generates a function without documentation.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{criterion_group, criterion_main, BatchSize, BenchmarkId, Criterion, Throughput};
use resty_mtls::handshake::sni_map::{SniMap, SniMapBuilder};

const SIZES: [usize; 3] = [10, 10_000, 1_000_000];

/// One wildcard for a hundred names, at least one.
const NAMES_PER_WILDCARD: usize = 100;

fn host(i: usize) -> String {
    format!("host-{i}.tenant-{}.example.com", i / NAMES_PER_WILDCARD)
}

fn patterns(names: usize) -> Vec<String> {
    let wildcards = names.div_ceil(NAMES_PER_WILDCARD);
    (0..names - wildcards)
        .map(host)
        .chain((0..wildcards).map(|i| format!("*.wild-{i}.example.com")))
        .collect()
}

fn build(patterns: &[String]) -> SniMap {
    let mut builder = SniMapBuilder::new();
    for (value, pattern) in (0..).zip(patterns) {
        builder.add(pattern.as_bytes(), value).expect("pattern");
    }
    builder.build()
}

/// `count` numbers below `below`, in an order that the prefetcher cannot predict.
fn shuffled(count: usize, below: usize) -> impl Iterator<Item = usize> {
    (0..count).scan(0x9e37_79b9_7f4a_7c15_u64, move |state, _| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Some((*state >> 33) as usize % below)
    })
}

fn bench(criterion: &mut Criterion) {
    for size in SIZES {
        let patterns = patterns(size);
        let text: usize = patterns.iter().map(String::len).sum();
        let map = build(&patterns);
        println!(
            "sni_map/{size}: {:.1} bytes a name beyond its text",
            (map.memory() - text) as f64 / size as f64
        );

        let mut group = criterion.benchmark_group("sni_map/build");
        group.sample_size(10);
        group.measurement_time(Duration::from_secs(3));
        group.throughput(Throughput::Elements(size as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(size),
            &patterns,
            |b, patterns| {
                b.iter_batched(|| (), |()| build(patterns), BatchSize::PerIteration);
            },
        );
        group.finish();

        let wildcards = size.div_ceil(NAMES_PER_WILDCARD);
        let hits: Vec<String> = shuffled(4096, size - wildcards).map(host).collect();
        let wildcard_hits = shuffled(4096, wildcards)
            .map(|i| format!("any-{i}.wild-{i}.example.com"))
            .collect();
        let misses = shuffled(4096, size)
            .map(|i| format!("host-{i}.nowhere.example.net"))
            .collect();
        for (kind, names, found) in [
            ("hit", hits, true),
            ("wildcard", wildcard_hits, true),
            ("miss", misses, false),
        ] {
            for name in &names {
                assert_eq!(map.get(Some(name.as_bytes())).is_some(), found, "{name}");
            }
            let mut names = names.iter().cycle();
            criterion.bench_function(&format!("sni_map/{kind}/{size}"), |b| {
                b.iter(|| map.get(names.next().map(|name| black_box(name.as_bytes()))));
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = bench
}
criterion_main!(benches);
