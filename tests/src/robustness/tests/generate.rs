//! Random records of a correct cluster: concurrent clients, lost answers, stale members, watchers
//! that lag, leases that end, compactions.

use super::world::{MILLISECOND, SCRIBE, World, lost};
use crate::pb::{self, WatchCreateRequest};
use crate::random::Random;
use crate::robustness::history::{History, Nanos, Outcome, Request};
use crate::robustness::requests::{Mix, Requests};
use crate::watch::{on, on_all, on_range};

const CLIENTS: u32 = 6;
const WATCHERS: usize = 5;

struct Client {
    number: u32,
    member: usize,
    requests: Requests,
    pending: Option<Pending>,
}

struct Pending {
    request: Request,
    called: Nanos,
    outcome: Option<Outcome>,
}

struct Generator {
    random: Random,
    world: World,
    clients: Vec<Client>,
    /// Lost requests that are still on their way.
    ghosts: Vec<(usize, Request)>,
    watchers: Vec<usize>,
}

/// The record of a seed.
pub(super) fn history(seed: u64, steps: usize) -> History {
    let client = |number| Client {
        number,
        member: number as usize % 3,
        requests: Requests::new(seed, number, Mix::default()),
        pending: None,
    };
    let mut generator = Generator {
        random: Random::new(seed),
        world: World::new(),
        clients: (0..CLIENTS).map(client).collect(),
        ghosts: Vec::new(),
        watchers: Vec::new(),
    };
    for _ in 0..steps {
        generator.step();
    }
    generator.finish()
}

impl Generator {
    fn step(&mut self) {
        self.world.now += self.random.below(MILLISECOND);
        if self.random.one_in(400) {
            self.world.now += self.random.below(2500) * MILLISECOND;
        }
        if self.random.one_in(3) {
            self.world.expire();
        }
        match self.random.below(20) {
            0 => self.catch_up(),
            1 => self.send_ghost(),
            2 | 3 => self.deliver(SCRIBE),
            4..8 => self.serve_watcher(),
            8 if self.random.one_in(12) => self.compact(),
            _ => self.serve_client(),
        }
    }

    fn catch_up(&mut self) {
        let member = self.random.below(3) as usize;
        let behind = (self.world.store.last() - self.world.applied[member]) as u64;
        self.world.applied[member] += self.random.below(behind + 1) as i64;
    }

    fn send_ghost(&mut self) {
        if !self.ghosts.is_empty() {
            let at = self.random.below(self.ghosts.len() as u64) as usize;
            let (member, request) = self.ghosts.swap_remove(at);
            self.world.execute(member, &request);
        }
    }

    fn deliver(&mut self, watch: usize) {
        let next = self.world.cursor(watch);
        let behind = self.world.store.last() - next + 1;
        if behind > 0 {
            let up_to = next + self.random.below(behind as u64) as i64;
            self.world.deliver(watch, up_to);
        }
    }

    fn serve_watcher(&mut self) {
        if self.watchers.len() < WATCHERS {
            let request = self.watch_request();
            let member = self.random.below(3) as usize;
            self.watchers.push(self.world.watch(member, request));
            return;
        }
        let at = self.random.below(self.watchers.len() as u64) as usize;
        let watch = self.watchers[at];
        if self.world.cursor(watch) < self.world.compacted && self.random.one_in(2) {
            let compact_revision = self.world.compacted;
            let canceled =
                pb::WatchResponse { canceled: true, compact_revision, ..Default::default() };
            self.world.send(watch, canceled);
            self.watchers.swap_remove(at);
        } else if self.random.one_in(100) {
            self.world.closed.insert(self.watchers.swap_remove(at));
        } else if self.random.one_in(4) && self.world.cursor(watch) <= self.world.store.last() + 1 {
            self.world.bookmark(watch);
        } else {
            self.deliver(watch);
        }
    }

    fn watch_request(&mut self) -> WatchCreateRequest {
        let key = format!("k/{:02}", self.random.below(12));
        let mut request = match self.random.below(4) {
            0 => on(key),
            1 => on_range("k/", key + "0"),
            2 => on_all(0),
            _ => on_range("k/", "k0"),
        };
        let last = self.world.store.last();
        match self.random.below(4) {
            0 => request.start_revision = last + self.random.below(20) as i64,
            1 => {
                let from = self.world.compacted.max(2);
                let existing = (last - from).max(0) as u64;
                request.start_revision = from + self.random.below(existing + 1) as i64;
            }
            _ => {}
        }
        request.prev_kv = self.random.one_in(2);
        if self.random.one_in(4) {
            request.filters = vec![self.random.below(2) as i32];
        }
        request
    }

    /// Never past what the scribe has, for the log would have a gap.
    fn compact(&mut self) {
        let told = self.world.cursor(SCRIBE) - 1;
        let open = told - self.world.compacted;
        if open > 0 {
            let revision = self.world.compacted + 1 + self.random.below(open as u64) as i64;
            self.world.call(50, super::compact(revision));
        }
    }

    fn serve_client(&mut self) {
        let at = self.random.below(u64::from(CLIENTS)) as usize;
        let client = &mut self.clients[at];
        let Some(mut pending) = client.pending.take() else {
            let (request, called) = (client.requests.draw(), self.world.tick());
            client.pending = Some(Pending { request, called, outcome: None });
            return;
        };
        if self.random.one_in(40) {
            if pending.outcome.is_none() && self.random.one_in(2) {
                self.ghosts.push((client.member, pending.request.clone()));
            }
            pending.outcome = Some(lost());
        }
        match pending.outcome {
            None => {
                pending.outcome = Some(self.world.execute(client.member, &pending.request));
                client.pending = Some(pending);
            }
            Some(outcome) => {
                client.requests.learn(&pending.request, &outcome);
                let times = (pending.called, self.world.tick());
                let who = (client.number, client.member);
                self.world.record(who, times, pending.request, outcome);
            }
        }
    }

    fn finish(mut self) -> History {
        for client in &mut self.clients {
            if let Some(pending) = client.pending.take() {
                let times = (pending.called, self.world.tick());
                let who = (client.number, client.member);
                self.world.record(who, times, pending.request, lost());
            }
        }
        self.world.finish()
    }
}
