//! Watchers of a run: one that lives through it on each server, the history that both tell at its
//! end, and random watchers of ours that must each tell their part of that history.

use anyhow::{Result, ensure};
use bytes::Bytes;

use super::generate::{ENDS, Generator, KEYS};
use crate::client::Clients;
use crate::mvccpb::Event;
use crate::pb;
use crate::random::Random;
use crate::watch::{self, WatchSession};

/// A watcher of everything on each of the servers, opened before the first request.
pub struct Live {
    ours: WatchSession,
    theirs: WatchSession,
}

impl Live {
    /// Opens both.
    pub async fn open(ours: &Clients, theirs: &Clients) -> Self {
        let mut live = Self { ours: ours.watch(), theirs: theirs.watch() };
        let create = || pb::WatchCreateRequest { prev_kv: true, ..watch::on_all(0) };
        live.ours.create(create()).await;
        live.theirs.create(create()).await;
        live
    }

    /// Compares what both saw until revision `newest`.
    pub async fn compare(&mut self, newest: i64) -> Result<()> {
        let ours = until(&mut self.ours, newest).await;
        let theirs = until(&mut self.theirs, newest).await;
        equal(&ours, &theirs)
    }
}

/// Compares all events since the last compaction, and returns them.
pub async fn compare_history(
    ours: &Clients,
    theirs: &Clients,
    generator: &Generator,
) -> Result<Vec<Event>> {
    // A delete made at the compacted revision itself is kept by 3.7 and not by 3.5.1.
    let start = (generator.compacted() + 1).max(2);
    let (mut our_session, mut their_session) = (ours.watch(), theirs.watch());
    let create = || pb::WatchCreateRequest { prev_kv: true, ..watch::on_all(start) };
    our_session.create(create()).await;
    their_session.create(create()).await;
    let newest = if generator.revision() < start { 0 } else { generator.revision() };
    let our = until(&mut our_session, newest).await;
    let their = until(&mut their_session, newest).await;
    equal(&our, &their)?;
    Ok(our)
}

/// Random watchers of our server against the parts of `history` they ask for.
pub async fn compare_random(ours: &Clients, history: &[Event], seed: u64) -> Result<()> {
    const WATCHERS: i64 = 40;
    let mut random = Random::new(seed ^ 0x77);
    let Some(last) = history.last().map(revision) else { return Ok(()) };
    let first = history.first().map_or(last, revision);
    for _ in 0..WATCHERS {
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(random.pick(&KEYS)),
            range_end: Bytes::from_static(random.pick(&ENDS)),
            start_revision: first + random.below((last - first + 1) as u64) as i64,
            filters: random.pick::<&[i32]>(&[&[], &[], &[0], &[1]]).to_vec(),
            prev_kv: random.one_in(2),
            ..Default::default()
        };
        compare_one(ours, history, create).await?;
    }
    Ok(())
}

async fn compare_one(
    ours: &Clients,
    history: &[Event],
    create: pb::WatchCreateRequest,
) -> Result<()> {
    let wanted: Vec<Event> = history
        .iter()
        .filter(|event| is_wanted(event, &create))
        .map(|event| {
            let prev_kv = if create.prev_kv { event.prev_kv.clone() } else { None };
            Event { prev_kv, ..event.clone() }
        })
        .collect();
    let mut session = ours.watch();
    let created = session.create(create.clone()).await;
    let is_empty = !matches!(&create.range_end[..], b"" | b"\0") && create.key >= create.range_end;
    ensure!(created.canceled == is_empty, "{create:?}: {created:?}");
    if is_empty {
        return Ok(());
    }
    let mut seen: Vec<Event> = Vec::new();
    while seen.len() < wanted.len() {
        seen.extend(session.next().await.events);
    }
    ensure!(seen == wanted, "{create:?}\nseen:   {seen:#?}\nwanted: {wanted:#?}");
    Ok(())
}

fn is_wanted(event: &Event, create: &pb::WatchCreateRequest) -> bool {
    let Some(kv) = &event.kv else { return false };
    let in_range = match &create.range_end[..] {
        b"" => kv.key == create.key,
        b"\0" => kv.key >= create.key,
        end => kv.key >= create.key && &kv.key[..] < end,
    };
    in_range && kv.mod_revision >= create.start_revision && !create.filters.contains(&event.r#type)
}

async fn until(session: &mut WatchSession, newest: i64) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while events.last().map_or(1, revision) < newest {
        events.extend(session.next().await.events);
    }
    events
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn equal(ours: &[Event], theirs: &[Event]) -> Result<()> {
    ensure!(ours.len() == theirs.len(), "{} events here, {} there", ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(theirs) {
        ensure!(our == their, "the events differ\nours:   {our:#?}\ntheirs: {their:#?}");
    }
    Ok(())
}
