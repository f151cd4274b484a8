//! A watcher walks along the log: each event it gets must be the next that it has to get.

use super::joined::Joined;
use super::{Broken, Rule};
use crate::mvccpb::event::EventType;
use crate::mvccpb::{Event, KeyValue};
use crate::pb::WatchCreateRequest;
use crate::pb::watch_create_request::FilterType;
use crate::robustness::check::Facts;
use crate::robustness::describe;
use crate::robustness::history::{Nanos, Watch};
use crate::robustness::store::contains;

/// Where a watcher stands.
pub(super) struct Walk<'a> {
    facts: &'a Facts<'a>,
    request: &'a WatchCreateRequest,
    start: i64,
    /// The place of the next event that may be due: a revision, and an event in it.
    next: (i64, usize),
    bookmark: i64,
    /// The newest event, 0 before the first.
    newest: i64,
}

impl<'a> Walk<'a> {
    /// WA-04: without a start a watcher gets what comes after the revision it was created at.
    pub(super) fn begin(facts: &'a Facts<'a>, watch: &'a Watch, created_at: i64) -> Self {
        let request = &watch.request;
        let start =
            if request.start_revision > 0 { request.start_revision } else { created_at + 1 };
        // Revision 1 is the empty store.
        let next = (start.max(2), 0);
        Self { facts, request, start, next, bookmark: 0, newest: 0 }
    }

    /// The next event that has to come, with its revision.
    fn expected(&mut self) -> Option<(i64, &'a Event)> {
        let store = self.facts.store;
        while let Some(group) = store.group(self.next.0) {
            let rest = &group.events[self.next.1.min(group.events.len())..];
            if let Some(skipped) = rest.iter().position(|event| self.wants(event)) {
                self.next.1 += skipped;
                return Some((self.next.0, &rest[skipped]));
            }
            self.next = (self.next.0 + 1, 0);
        }
        None
    }

    fn wants(&self, event: &Event) -> bool {
        let key: &[u8] = if self.request.key.is_empty() { b"\0" } else { &self.request.key };
        let kind = if event.r#type == EventType::Delete as i32 {
            FilterType::Nodelete
        } else {
            FilterType::Noput
        };
        let in_range =
            event.kv.as_ref().is_some_and(|kv| contains(key, &self.request.range_end, &kv.key));
        in_range && !self.request.filters.contains(&(kind as i32))
    }

    /// Rules 1 to 5, 7 to 9 and 12: exactly the log's events, in its order, revisions whole.
    pub(super) fn events(&mut self, answer: &Joined) -> Result<(), Broken> {
        for event in &answer.events {
            self.event(event, answer.at)?;
        }
        match self.expected() {
            Some((revision, missing)) if revision == self.newest => {
                let missing = describe::event(missing);
                let text = format!("revision {revision} came without [{missing}]");
                Err((Rule::WatchSplit, text))
            }
            _ => Ok(()),
        }
    }

    fn event(&mut self, event: &Event, at: Nanos) -> Result<(), Broken> {
        let kv = event.kv.clone().unwrap_or_default();
        let got = describe::event(event);
        if kv.mod_revision > self.facts.store.last() {
            let text = format!("[{got}] is beyond the end of the log");
            return Err((Rule::UnknownRevision, text));
        }
        if !self.wants(event) {
            return Err((Rule::WatchWrongEvent, format!("[{got}] was not asked for")));
        }
        if kv.mod_revision < self.start {
            let text = format!("[{got}] is from before the start at {}", self.start);
            return Err((Rule::WatchDuplicate, text));
        }
        let Some((revision, expected)) = self.expected() else {
            return Err((Rule::WatchDuplicate, format!("[{got}] after everything had come")));
        };
        let due = describe::event(expected);
        if kv.mod_revision < revision {
            let text = format!("[{got}] came when [{due}] was due");
            return Err((Rule::WatchDuplicate, text));
        }
        let expected_kv = expected.kv.clone().unwrap_or_default();
        if kv.mod_revision > revision || kv.key != expected_kv.key {
            let text = format!("[{got}] came when [{due}] was due");
            // A revision that was begun is not missing but torn.
            let rule = if revision == self.newest { Rule::WatchSplit } else { Rule::WatchGap };
            return Err((rule, text));
        }
        if kv != expected_kv || event.r#type != expected.r#type {
            return Err((Rule::WatchWrongEvent, format!("[{got}] instead of [{due}]")));
        }
        self.check_previous(event, &kv, at)?;
        self.newest = revision;
        self.next.1 += 1;
        Ok(())
    }

    /// Rule 8 (WA-17): the pair of the revision before, unless that is compacted.
    fn check_previous(&self, event: &Event, kv: &KeyValue, at: Nanos) -> Result<(), Broken> {
        let got = event.prev_kv.as_ref();
        let before = kv.mod_revision - 1;
        let right = self.facts.store.get(&kv.key, before).filter(|_| self.request.prev_kv);
        let compacted = || self.facts.compactions.possible(kv.mod_revision, at, None);
        if got == right || (got.is_none() && compacted()) {
            return Ok(());
        }
        let show = |kv: Option<&KeyValue>| kv.map_or("nothing".into(), describe::pair);
        let text = format!(
            "[{}] has the previous pair {}, not {}",
            describe::event(event),
            show(got),
            show(right)
        );
        Err((Rule::WatchPrevKv, text))
    }

    /// Rule 6 and 7: everything up to a bookmark was delivered, and it is not before the start.
    pub(super) fn bookmark(&mut self, revision: i64) -> Result<(), Broken> {
        let broken = |text: String| Err((Rule::WatchBookmark, text));
        if revision > self.facts.store.last() {
            let text = format!("progress at {revision} is beyond the end of the log");
            return Err((Rule::UnknownRevision, text));
        }
        if revision < self.bookmark {
            return broken(format!("progress went from {} to {revision}", self.bookmark));
        }
        if revision + 1 < self.start {
            return broken(format!("progress at {revision} before the start at {}", self.start));
        }
        self.bookmark = revision;
        match self.expected() {
            Some((due, missing)) if due <= revision => {
                let missing = describe::event(missing);
                broken(format!("progress at {revision}, but [{missing}] had not come"))
            }
            _ => Ok(()),
        }
    }

    /// Rule 10 (WA-06, WA-07): only a compaction that passed the watcher cancels it.
    pub(super) fn canceled(&mut self, answer: &Joined) -> Result<(), Broken> {
        let broken = |text: String| Err((Rule::WatchCancel, text));
        if !answer.events.is_empty() {
            return broken("it came with events".into());
        }
        let compacted = answer.compact_revision;
        if compacted == 0 {
            return Ok(());
        }
        if !self.facts.compactions.possible(compacted, answer.at, None) {
            return broken(format!("nobody had asked for a compaction at {compacted}"));
        }
        let needs = self.start.max(self.newest + 1);
        if needs >= compacted {
            return broken(format!("it needs {needs} and later, which {compacted} leaves"));
        }
        Ok(())
    }

    /// Rule 13: on a healthy cluster everything arrives.
    pub(super) fn drained(&mut self, revision: i64) -> Result<(), Broken> {
        match self.expected() {
            Some((due, missing)) if due <= revision => {
                let missing = describe::event(missing);
                Err((Rule::WatchGap, format!("[{missing}] never came")))
            }
            _ => Ok(()),
        }
    }
}
