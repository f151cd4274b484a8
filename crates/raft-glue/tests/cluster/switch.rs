//! The wires between the members.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use etcdrs_raft_glue::{Chunks, Inbound, Lane, SnapshotUnsent, Transport, Unsent};
use etcdrs_types::MemberId;
use parking_lot::Mutex;
use tokio::sync::watch;

/// A message on its way.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) from: MemberId,
    pub(crate) to: MemberId,
    pub(crate) lane: Lane,
    pub(crate) message: Bytes,
}

/// Who is there, and which directed paths are cut.
#[derive(Default)]
pub(crate) struct Switch {
    members: Mutex<HashMap<MemberId, Inbound>>,
    cut: Mutex<HashSet<(MemberId, MemberId)>>,
    /// Paths on which messages vanish without a word.
    lossy: Mutex<HashSet<(MemberId, MemberId)>>,
    /// Everything that was sent, if it is recorded.
    tape: Mutex<Option<Vec<Sent>>>,
    /// Members to whom databases are on the way for ever.
    stalled: watch::Sender<HashSet<MemberId>>,
}

impl Switch {
    fn path(&self, from: MemberId, to: MemberId) -> Option<Inbound> {
        if self.cut.lock().contains(&(from, to)) {
            return None;
        }
        self.members.lock().get(&to).cloned()
    }

    /// Tells everybody whom they can send to now.
    fn tell(&self) {
        let members = self.members.lock().clone();
        for (from, inbound) in &members {
            for to in (1..=5).map(MemberId).filter(|to| to != from) {
                inbound.link_changed(to, self.path(*from, to).is_some());
            }
        }
    }

    pub(crate) fn plug(&self, member: MemberId, inbound: Inbound) {
        self.members.lock().insert(member, inbound);
        self.tell();
    }

    pub(crate) fn unplug(&self, member: MemberId) {
        self.members.lock().remove(&member);
        self.tell();
    }

    /// Cuts a member off from all others, or heals that.
    pub(crate) fn isolate(&self, member: MemberId, cut: bool) {
        for other in (1..=5).map(MemberId) {
            for path in [(member, other), (other, member)] {
                if cut {
                    self.cut.lock().insert(path);
                } else {
                    self.cut.lock().remove(&path);
                }
            }
        }
        self.tell();
    }

    /// Loses everything that a member sends, without a word, or ends that.
    pub(crate) fn mute(&self, member: MemberId, mute: bool) {
        for path in (1..=5).map(|other| (member, MemberId(other))) {
            if mute {
                self.lossy.lock().insert(path);
            } else {
                self.lossy.lock().remove(&path);
            }
        }
    }

    /// Lets databases to a member get stuck on their way, or go on.
    pub(crate) fn stall(&self, to: MemberId, stall: bool) {
        self.stalled.send_modify(|stalled| {
            if stall {
                stalled.insert(to);
            } else {
                stalled.remove(&to);
            }
        });
    }

    /// Whether a database for a member is stuck on its way.
    pub(crate) fn holds_snapshot(&self) -> bool {
        self.stalled.receiver_count() > 0
    }

    /// Records what is sent from now on.
    pub(crate) fn record(&self) {
        *self.tape.lock() = Some(Vec::new());
    }

    /// Ends the recording.
    pub(crate) fn take_tape(&self) -> Vec<Sent> {
        self.tape.lock().take().unwrap_or_default()
    }

    /// Delivers a message as if `from` had sent it.
    pub(crate) fn deliver(&self, from: MemberId, to: MemberId, message: Bytes) {
        if let Some(inbound) = self.path(from, to) {
            inbound.receive(from, &mut vec![message]);
        }
    }
}

/// A member's end of the wires.
pub(crate) struct Wire {
    pub(crate) from: MemberId,
    pub(crate) switch: Arc<Switch>,
}

impl Transport for Wire {
    fn send(&self, to: MemberId, lane: Lane, message: Bytes) -> Result<(), Unsent> {
        let Self { from, switch } = self;
        let inbound = switch.path(*from, to).ok_or(Unsent::NoLink)?;
        if let Some(tape) = switch.tape.lock().as_mut() {
            tape.push(Sent { from: *from, to, lane, message: message.clone() });
        }
        if !switch.lossy.lock().contains(&(*from, to)) {
            inbound.receive(*from, &mut vec![message]);
        }
        Ok(())
    }

    fn send_snapshot(
        &self,
        to: MemberId,
        head: Bytes,
        chunks: Chunks,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, SnapshotUnsent>> + Send>> {
        let (from, path) = (self.from, self.switch.path(self.from, to));
        let stalled = self.switch.stalled.borrow().contains(&to);
        let mut stall = stalled.then(|| self.switch.stalled.subscribe());
        Box::pin(async move {
            if let Some(stall) = &mut stall {
                // The sender lives as long as the members.
                let _ = stall.wait_for(|stalled| !stalled.contains(&to)).await;
            }
            let inbound = path.ok_or(SnapshotUnsent("no path".into()))?;
            let answer = inbound.receive_snapshot(from, head, chunks).await;
            answer.map_err(|error| SnapshotUnsent(error.to_string()))
        })
    }
}
