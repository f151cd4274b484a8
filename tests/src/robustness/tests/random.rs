//! Random correct records are accepted, and every way to spoil one is found.

use std::collections::BTreeMap;

use super::generate;
use super::mutate::{HARMFUL, HARMLESS, store_of};
use super::world::accept;
use crate::random::Random;
use crate::robustness::check::check;
use crate::robustness::report;

const SEEDS: u64 = 30;
const STEPS: usize = 3_000;

#[test]
fn correct_records_are_accepted() {
    let mut unknown = 0;
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let verdict = accept(&generate::history(seed, STEPS));
        let counts = verdict.counts;
        println!("seed {seed}: {counts}");
        assert!(counts.revision > 100 && counts.watch_events > 100, "too little: {counts}");
        assert!(counts.linearizable_reads > 50 && counts.serializable_reads > 20, "{counts}");
        unknown += counts.by_unknown.min(counts.by_expiry).min(counts.bookmarks);
    }
    assert!(unknown > 0, "no lost answer took effect, or no lease ended");
}

#[test]
fn what_takes_knowledge_away_is_accepted() {
    for seed in 0..SEEDS {
        let history = generate::history(seed, STEPS);
        let store = store_of(&history);
        for (name, mutation) in HARMLESS {
            println!("seed {seed}: {name}");
            let mut history = history.clone();
            mutation(&mut history, &store, &mut Random::new(seed));
            accept(&history);
        }
    }
}

#[test]
fn what_cannot_be_is_found() {
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        let history = generate::history(seed, STEPS);
        let store = store_of(&history);
        for (name, mutation) in HARMFUL {
            let mut history = history.clone();
            let Some(rules) = mutation(&mut history, &store, &mut Random::new(seed)) else {
                continue;
            };
            let verdict = check(&history);
            let hit = verdict.violations.iter().any(|violation| rules.contains(&violation.rule));
            assert!(hit, "seed {seed}, {name}: {rules:?} not in\n{}", {
                verdict.explain(&history, 3)
            });
            *found.entry(name).or_default() += 1;
        }
    }
    println!("{found:#?}");
    for (name, _) in HARMFUL {
        assert!(found.get(name).is_some_and(|count| *count >= SEEDS / 3), "{name}: {found:#?}");
    }
}

/// The size of a long run; it takes seconds, not minutes, in a debug build.
#[test]
fn hundred_thousand_calls() {
    let history = generate::history(7, 500_000);
    let verdict = accept(&history);
    println!("{}", verdict.counts);
    assert!(verdict.counts.operations > 90_000, "{}", verdict.counts);
}

#[test]
fn records_are_read_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let history = generate::history(3, STEPS);
    report::save(folder.path(), &history).unwrap();
    assert!(report::load(folder.path()).unwrap() == history, "another record came back");
}
