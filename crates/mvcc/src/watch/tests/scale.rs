//! Many watchers: fairness, and what they cost.

use super::*;

#[test]
fn ten_thousand_watchers_on_one_stream_all_move_on() {
    const WATCHERS: i64 = 10_000;
    let world = World::with(HubOptions { queue_bytes_max: 256 << 10, ..HubOptions::default() });
    let client = Client::new(&world);
    for _ in 0..WATCHERS {
        client.watch(prefix("k"));
    }
    let mut last_seen = vec![0_usize; WATCHERS as usize];
    let mut longest_wait = 0;
    let mut seen = vec![0_i64; WATCHERS as usize];
    let mut poll = |round: usize, budget: usize| {
        let mut out = Vec::new();
        let more = client.stream.poll(budget, &mut out);
        for response in &out {
            let Response::Events { watch_id, events, .. } = response else { panic!() };
            let id = *watch_id as usize;
            for event in events.iter() {
                assert_eq!(event.revision.main, seen[id] + 2);
                seen[id] += 1;
            }
            longest_wait = longest_wait.max(round - last_seen[id]);
            last_seen[id] = round;
        }
        more
    };
    // Writes never pause, and the client reads less than half of what they make.
    for round in 1..=200 {
        world.write(&[put("k", "v")]);
        poll(round, 400_000);
        world.hub.catch_up(2500);
    }
    while poll(200, 1 << 20) | world.hub.catch_up(2500) || world.hub.stats().pending_events > 0 {}
    assert!(seen.iter().all(|&count| count == 200));
    assert!(longest_wait <= 16, "a watcher waited for {longest_wait} rounds");
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Run by hand: `cargo test --release -p etcdrs-mvcc million -- --ignored --nocapture`.
#[test]
#[ignore = "takes a gigabyte and prints a measurement"]
fn memory_of_a_million_watchers() {
    // Kept to the end: memory that was given back would hide what the next ones take.
    let mut kept = Vec::new();
    for ranges in [false, true] {
        let world = World::new();
        let before = resident_bytes();
        let clients: Vec<Client> = (0..1000).map(|_| Client::new(&world)).collect();
        for n in 0..1_000_000 {
            let name = format!("/registry/pods/some-namespace-{:05}/pod-name-{n:025}", n % 1000);
            let spec = if ranges { prefix(&name) } else { key(&name) };
            clients[n % 1000].watch(spec);
        }
        let bytes = resident_bytes() - before;
        println!("ranges {ranges}: {} MB, {} bytes a watcher", bytes >> 20, bytes / 1_000_000);
        assert!(bytes < 400 << 20);
        kept.push((world, clients));
    }
}

/// Run by hand: `cargo test --release -p etcdrs-mvcc delivered -- --ignored --nocapture`.
#[test]
#[ignore = "prints a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn cost_of_a_delivered_event() {
    let world = World::new();
    let clients: Vec<Client> = (0..100).map(|_| Client::new(&world)).collect();
    for client in &clients {
        client.watch(prefix("k"));
    }
    let value = "x".repeat(256);
    let blocks: Vec<_> = (0..20_000)
        .map(|n| {
            let kv = mvccpb::KeyValue {
                key: format!("k{n:08}").into(),
                value: value.clone().into(),
                create_revision: n + 2,
                mod_revision: n + 2,
                version: 1,
                lease: 0,
            };
            let stored = StoredKv::from_encoded(kv.encode_to_vec().into());
            let event = Event::put(kv.key, Revision::main(n + 2), true, stored, PrevKv::None);
            EventBlock::new(n + 2, vec![event])
        })
        .collect();
    let (mut out, mut wire) = (Vec::new(), bytes::BytesMut::new());
    let mut spent = [std::time::Duration::ZERO; 2];
    let mut delivered = 0;
    for batch in blocks.chunks(50) {
        let start = std::time::Instant::now();
        world.hub.publish(batch);
        spent[0] += start.elapsed();
        let start = std::time::Instant::now();
        for client in &clients {
            client.stream.poll(usize::MAX, &mut out);
            for response in out.drain(..) {
                let Response::Events { events, .. } = response else { panic!() };
                events.encode_wire(false, &mut wire);
                delivered += events.len();
            }
            wire.clear();
        }
        spent[1] += start.elapsed();
    }
    assert_eq!(delivered, 2_000_000);
    let per_event = spent.map(|spent| spent.as_nanos() / delivered as u128);
    println!(
        "publish {} ns, poll and encode {} ns per delivered event",
        per_event[0], per_event[1]
    );
}
