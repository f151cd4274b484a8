//! The end of a run: everything heals and comes to rest, and what each member then holds.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::history::{Answer, MemberEnd, Nanos, Operation, Outcome, Request, Watch, WatchEnd};
use super::store::contains;
use super::watchers::{OPEN, Told};
use super::wire::{Client, Wire};
use crate::mvccpb::event::EventType;
use crate::pb;
use crate::request;

/// The number of the client that ends a run.
const CLOSER: u32 = 901;
/// A healthy cluster has everything everywhere after this (reliability.md §3.3, rule 13).
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// A lease of a run's beginning that nobody ends, so that there is one at the end.
const LASTING_LEASE: i64 = 77;

/// What a settled cluster is like.
pub(super) struct Settled {
    /// The members.
    pub(super) ends: Vec<MemberEnd>,
    /// The last revision.
    pub(super) revision: i64,
    /// The calls it took.
    pub(super) operations: Vec<Operation>,
}

/// Before the faults: something that must be there after them.
pub(super) async fn prepare(wire: &Wire) -> Result<Vec<Operation>> {
    let mut client = Client::new(CLOSER + 1, wire);
    let grant = pb::LeaseGrantRequest { id: LASTING_LEASE, ttl: 100_000 };
    must(&mut client, 0, Request::Grant(grant)).await?;
    let put = pb::PutRequest { lease: LASTING_LEASE, ..request::put("z/lasting", "1") };
    must(&mut client, 0, Request::Put(put)).await?;
    Ok(client.operations)
}

/// Calls until there is an answer; each attempt is recorded.
async fn must(client: &mut Client, member: usize, request: Request) -> Result<Answer> {
    let limit = Instant::now() + SETTLE_LIMIT;
    loop {
        match client.call(member, request.clone()).await {
            Outcome::Answered(answer) => return Ok(answer.clone()),
            Outcome::Refused(failure) => bail!("refused on a healthy cluster: {}", failure.text),
            Outcome::Unknown(failure) if Instant::now() > limit => {
                bail!("no answer from a healthy cluster: {}", failure.text)
            }
            Outcome::Unknown(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// After healing: a write through every member, no lease but the lasting one, a last revision, and
/// what each member holds at it.
pub(super) async fn settle(cluster: &Cluster, wire: &Wire) -> Result<Settled> {
    let mut client = Client::new(CLOSER, wire);
    for member in 0..wire.members() {
        let value = format!("end.{member}");
        must(&mut client, member, Request::Put(request::put("z/end", value))).await?;
    }
    end_leases(cluster, &mut client).await?;
    let last = must(&mut client, 0, Request::Put(request::put("z/end", "last"))).await?;
    let revision = last.header().context("a header")?.revision;
    let limit = Instant::now() + SETTLE_LIMIT;
    let ends = loop {
        let mut ends = Vec::new();
        for member in 0..wire.members() {
            ends.push(end_of(cluster, member, revision).await?);
        }
        // Followers may lag, and a compaction may still be under way.
        if ends.windows(2).all(|pair| same(&pair[0], &pair[1])) || Instant::now() > limit {
            break ends;
        }
        tokio::time::sleep(PAUSE).await;
    };
    Ok(Settled { ends, revision, operations: client.operations })
}

fn same(a: &MemberEnd, b: &MemberEnd) -> bool {
    MemberEnd { member: b.member, ..a.clone() } == *b
}

/// Ends the leases of the traffic, so that the revision stands still.
async fn end_leases(cluster: &Cluster, client: &mut Client) -> Result<()> {
    let mut direct = cluster.direct(0).await?;
    let limit = Instant::now() + SETTLE_LIMIT;
    loop {
        let open: Vec<i64> =
            direct.leases().await.into_iter().filter(|lease| *lease != LASTING_LEASE).collect();
        if open.is_empty() {
            return Ok(());
        }
        if Instant::now() > limit {
            bail!("leases {open:x?} do not end");
        }
        for id in open {
            // It may end by itself before.
            client.call(0, Request::Revoke(pb::LeaseRevokeRequest { id })).await;
        }
    }
}

async fn end_of(cluster: &Cluster, member: usize, revision: i64) -> Result<MemberEnd> {
    let mut direct = cluster.direct(member).await?;
    let all = pb::RangeRequest { serializable: true, ..request::range("\0", "\0") };
    let read = direct.try_range(all).await.context("read all keys")?;
    // A member that is behind says so; the caller asks again.
    let hash = direct.try_hash_kv(revision).await.unwrap_or_default();
    let list = direct.cluster.member_list(pb::MemberListRequest::default()).await?.into_inner();
    let mut members: Vec<u64> = list.members.iter().map(|member| member.id).collect();
    members.sort_unstable();
    Ok(MemberEnd {
        member,
        revision: read.header.context("a header")?.revision,
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        kvs: read.kvs,
        leases: direct.leases().await,
        members,
    })
}

/// Waits until every live watcher has what it must have by `revision`, or has had its time, and
/// marks them all.
pub(super) async fn drain(told: &Told, revision: i64, begun: Nanos) {
    let limit = Instant::now() + SETTLE_LIMIT;
    let served = |watches: &[Watch]| {
        let newest = newest_changes(watches, revision)?;
        let open = open_watches(watches);
        open.iter().all(|at| is_served(&watches[*at], &newest)).then_some(open)
    };
    while !told.mark(revision, served) {
        if Instant::now() > limit {
            // Those that were there in time should have it all; the checker will say who has not.
            told.mark(revision, |watches| {
                let open = open_watches(watches).into_iter();
                Some(open.filter(|at| watches[*at].called < begun).collect())
            });
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn open_watches(watches: &[Watch]) -> Vec<usize> {
    let open = |watch: &Watch| matches!(&watch.end, WatchEnd::Closed(why) if why == OPEN);
    (0..watches.len()).filter(|at| open(&watches[*at])).collect()
}

/// The newest revision of each key and kind of event, by whoever was told most. None if nobody was
/// told of `revision` yet.
fn newest_changes(watches: &[Watch], revision: i64) -> Option<BTreeMap<(Bytes, i32), i64>> {
    let mut newest = BTreeMap::new();
    let answers = watches.iter().flat_map(|watch| &watch.responses);
    for event in answers.flat_map(|answer| &answer.response.events) {
        if let Some(kv) = &event.kv {
            let known = newest.entry((kv.key.clone(), event.r#type)).or_insert(0);
            *known = kv.mod_revision.max(*known);
        }
    }
    newest.values().any(|known| *known >= revision).then_some(newest)
}

fn is_served(watch: &Watch, newest: &BTreeMap<(Bytes, i32), i64>) -> bool {
    let request = &watch.request;
    let wanted = newest.iter().filter(|((key, kind), at)| {
        let filtered = i32::from(*kind == EventType::Delete as i32);
        contains(&request.key, &request.range_end, key)
            && !request.filters.contains(&filtered)
            && **at >= request.start_revision
    });
    let due = wanted.map(|(_, at)| *at).max().unwrap_or(0);
    let Some(first) = watch.responses.first() else { return false };
    let created = first.response.header.as_ref().map_or(0, |header| header.revision);
    let events = watch.responses.iter().flat_map(|answer| &answer.response.events);
    let got = events.filter_map(|event| Some(event.kv.as_ref()?.mod_revision)).max();
    let had =
        if request.start_revision == 0 { got.unwrap_or(0).max(created) } else { got.unwrap_or(0) };
    had >= due
}
