//! When which revision was seen: the real-time side of the order.

use crate::robustness::history::{History, Nanos};

/// Who saw a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The answer of a call.
    Operation(usize),
    /// An answer to a watcher.
    Watch(usize),
}

/// All sights in the order of time, with the highest revision so far.
///
/// A revision in any answer was committed before the answer was sent, so it binds everything that
/// is asked later; that holds for stale reads and for watchers too.
pub(super) struct Sights {
    all: Vec<Sight>,
}

struct Sight {
    at: Nanos,
    newest: i64,
    source: Source,
}

impl Sights {
    pub(super) fn collect(history: &History) -> Self {
        let mut all = Vec::new();
        for (at, op) in history.operations.iter().enumerate() {
            if let Some(newest) = op.revision() {
                all.push(Sight { at: op.returned, newest, source: Source::Operation(at) });
            }
        }
        for (at, watch) in history.watches.iter().enumerate() {
            for received in &watch.responses {
                let response = &received.response;
                let events = response.events.iter().filter_map(|event| event.kv.as_ref());
                let newest = events.map(|kv| kv.mod_revision).max();
                let header = response.header.as_ref().map(|header| header.revision);
                if let Some(newest) = newest.max(header) {
                    all.push(Sight { at: received.at, newest, source: Source::Watch(at) });
                }
            }
        }
        all.sort_by_key(|sight| sight.at);
        let mut highest: Option<(i64, Source)> = None;
        for sight in &mut all {
            match highest {
                Some((newest, source)) if newest >= sight.newest => {
                    (sight.newest, sight.source) = (newest, source);
                }
                _ => highest = Some((sight.newest, sight.source)),
            }
        }
        Self { all }
    }

    /// The highest revision that anybody knew before `time`, and from whom. 1 is always known.
    pub(super) fn newest_before(&self, time: Nanos) -> (i64, Option<Source>) {
        let count = self.all.partition_point(|sight| sight.at < time);
        match self.all[..count].last() {
            Some(sight) if sight.newest > 1 => (sight.newest, Some(sight.source)),
            _ => (1, None),
        }
    }

    /// When this revision or a later one was first known.
    pub(super) fn first_seen(&self, revision: i64) -> Option<Nanos> {
        let at = self.all.partition_point(|sight| sight.newest < revision);
        self.all.get(at).map(|sight| sight.at)
    }
}
