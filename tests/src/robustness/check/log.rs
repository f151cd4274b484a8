//! The log, put together from everybody who watched everything.

use std::collections::BTreeMap;

use super::{Rule, Violation};
use crate::mvccpb::Event;
use crate::robustness::describe;
use crate::robustness::history::History;
use crate::robustness::store::Store;

/// Reads the log. Watchers of everything must agree on every revision that two of them saw, and
/// together have all revisions without a gap, because each revision changes something (RV-02).
pub(super) fn read(history: &History, violations: &mut Vec<Violation>) -> Store {
    let mut groups: BTreeMap<i64, (usize, Vec<Event>)> = BTreeMap::new();
    for (at, watch) in history.watches.iter().enumerate() {
        if !watch.sees_everything() {
            continue;
        }
        for (revision, events) in groups_of(watch) {
            match groups.get(&revision) {
                None => {
                    groups.insert(revision, (at, events));
                }
                Some((_, known)) if *known == events => {}
                Some((other, known)) => {
                    let text = format!(
                        "revision {revision} is told as [{}] and as [{}]",
                        describe::events(known),
                        describe::events(&events)
                    );
                    let watches = vec![*other, at];
                    violations
                        .push(Violation { watches, ..Violation::new(Rule::LogDisagrees, text) });
                }
            }
        }
    }
    build(groups, violations)
}

fn build(groups: BTreeMap<i64, (usize, Vec<Event>)>, violations: &mut Vec<Violation>) -> Store {
    let mut store = Store::default();
    for (revision, (watch, events)) in groups {
        let wanted = store.last() + 1;
        if revision != wanted {
            let text = format!("nobody saw revisions {wanted} to {}", revision - 1);
            violations.push(Violation::new(Rule::LogIncomplete, text));
            break;
        }
        if let Err(problem) = store.push(events) {
            let text = format!("revision {revision}: {problem}");
            let watches = vec![watch];
            violations.push(Violation { watches, ..Violation::new(Rule::LogImpossible, text) });
        }
    }
    store
}

/// The events of a watcher by revision, once each and without previous pairs. What is wrong with
/// the way they came is for the rules of watchers to say.
fn groups_of(watch: &crate::robustness::history::Watch) -> BTreeMap<i64, Vec<Event>> {
    let mut groups: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    let complete = complete_responses(watch);
    for received in &watch.responses[..complete] {
        for event in &received.response.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let event = Event { prev_kv: None, ..event.clone() };
            let group = groups.entry(revision).or_default();
            if !group.contains(&event) {
                group.push(event);
            }
        }
    }
    groups
}

/// How many answers there are up to the last that is whole: a stream may break between fragments.
pub(super) fn complete_responses(watch: &crate::robustness::history::Watch) -> usize {
    let last_whole = watch.responses.iter().rposition(|received| !received.response.fragment);
    last_whole.map_or(0, |at| at + 1)
}
