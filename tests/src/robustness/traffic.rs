//! The load of a run: clients with random requests, and one that compacts and defragments.

use std::time::Duration;

use tokio::sync::watch;

use super::history::{Operation, Request};
use super::requests::{Mix, Requests};
use super::watchers::{Seat, Told};
use super::wire::{Client, Wire};
use crate::mvccpb::event::EventType;
use crate::pb;
use crate::random::Random;
use crate::target::Flavour;

/// How much of it there is.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Clients, each with one request at a time.
    pub clients: u32,
    /// Each client asks about this often a second.
    pub calls_per_second: u64,
    /// Random watchers beside those that tell the log.
    pub watchers: u32,
    /// What the requests are about.
    pub mix: Mix,
    /// Whether history is compacted, and members are defragmented.
    pub compactions: bool,
}

impl Default for Traffic {
    fn default() -> Self {
        let mix = Mix::default();
        Self { clients: 8, calls_per_second: 60, watchers: 5, mix, compactions: true }
    }
}

/// The number of the client that compacts.
const KEEPER: u32 = 900;
/// After an unknown outcome, so that a dead member is not asked all the time.
const PAUSE: Duration = Duration::from_millis(50);

/// Calls until `stop`, and returns the record.
pub async fn client(
    number: u32,
    seed: u64,
    traffic: Traffic,
    wire: Wire,
    stop: watch::Receiver<bool>,
) -> Vec<Operation> {
    let mut random = Random::new(seed.wrapping_add(u64::from(number) << 32));
    let mut requests = Requests::new(seed, number, traffic.mix);
    let mut client = Client::new(number, &wire);
    let mut member = number as usize % wire.members();
    while !*stop.borrow() {
        let request = requests.draw();
        let outcome = client.call(member, request.clone()).await;
        requests.learn(&request, outcome);
        let lost = matches!(outcome, super::history::Outcome::Unknown(_));
        if lost {
            tokio::time::sleep(PAUSE).await;
        }
        if lost || random.one_in(30) {
            member = random.below(wire.members() as u64) as usize;
        }
        let pace = 2_000_000 / traffic.calls_per_second.max(1);
        tokio::time::sleep(Duration::from_micros(random.below(pace))).await;
    }
    client.operations
}

/// Compacts what has been told, and now and then defragments a member.
pub async fn keeper(seed: u64, seat: Seat, stop: watch::Receiver<bool>) -> Vec<Operation> {
    let wire = &seat.wire;
    let mut random = Random::new(seed ^ 0xc0);
    let mut client = Client::new(KEEPER, wire);
    while !*stop.borrow() {
        tokio::time::sleep(Duration::from_millis(200 + random.below(1500))).await;
        let member = random.below(wire.members() as u64) as usize;
        if random.one_in(8) {
            client.call(member, Request::Defragment).await;
            continue;
        }
        // Often at the newest revision, where tombstones are delicate.
        let behind = if random.one_in(3) { 0 } else { random.below(100) as i64 };
        let revision = *seat.newest.borrow() - behind;
        // etcd 3.5.1 forgets a delete made at the compacted revision.
        let delicate = seat.flavour == Flavour::Etcd35 && deletes_at(&seat.told, revision);
        if revision > 0 && !delicate {
            let physical = random.one_in(2);
            let request = pb::CompactionRequest { revision, physical };
            client.call(member, Request::Compact(request)).await;
        }
    }
    client.operations
}

fn deletes_at(told: &Told, revision: i64) -> bool {
    told.with(|watches| {
        let answers = watches.iter().flat_map(|watch| &watch.responses);
        answers.flat_map(|answer| &answer.response.events).any(|event| {
            event.r#type == EventType::Delete as i32
                && event.kv.as_ref().is_some_and(|kv| kv.mod_revision == revision)
        })
    })
}
