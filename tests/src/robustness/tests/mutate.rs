//! Ways to spoil a correct record so that it cannot be correct any more, and ways that cannot.

use tonic::Code;

use super::world::lost;
use crate::mvccpb::Event;
use crate::random::Random;
use crate::robustness::check::Rule;
use crate::robustness::history::{
    Answer, Failure, History, Operation, Outcome, Request, Watch, WatchEnd,
};
use crate::robustness::model::execute;
use crate::robustness::store::Store;

/// Spoils a record; the rules that it may be found by, or None if the record offers no occasion.
pub(super) type Mutation = fn(&mut History, &Store, &mut Random) -> Option<Vec<Rule>>;

/// All that must be found.
pub(super) const HARMFUL: &[(&str, Mutation)] = &[
    ("stale read", stale_read),
    ("member goes back", session_back),
    ("read shows another value", other_value),
    ("read counts wrong", other_count),
    ("transaction takes the other branch", other_branch),
    ("delete counts wrong", other_deleted),
    ("acknowledged put is said to be refused", refused_put),
    ("two puts change revisions", exchanged_puts),
    ("put is called after it was seen", late_call),
    ("put is applied again", applied_again),
    ("revision is left out of the log", hole_in_log),
    ("event is lost", lost_event),
    ("answer to a watcher comes twice", doubled_events),
    ("answers to a watcher change places", exchanged_events),
    ("revision comes in two answers", torn_revision),
    ("previous pair is another", other_previous),
    ("progress comes too early", early_progress),
    ("lease was promised for longer", longer_lease),
    ("member hashes differently", other_hash),
    ("member lacks a key", lacking_key),
];

/// All that must not be found: they only take knowledge away.
pub(super) const HARMLESS: &[(&str, Mutation)] = &[
    ("answers are lost", forgotten_answers),
    ("answers come later", later_answers),
    ("calls begin earlier", earlier_calls),
    ("watchers are forgotten", forgotten_watchers),
];

/// The log of a record whose first watcher has all of it.
pub(super) fn store_of(history: &History) -> Store {
    let mut store = Store::default();
    let mut group: Vec<Event> = Vec::new();
    for event in history.watches[0].responses.iter().flat_map(|r| &r.response.events) {
        if group.first().is_some_and(|first| revision(first) != revision(event)) {
            store.push(std::mem::take(&mut group)).unwrap();
        }
        group.push(event.clone());
    }
    if !group.is_empty() {
        store.push(group).unwrap();
    }
    store
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().unwrap().mod_revision
}

/// One of the places that fit.
fn choose<T>(all: &[T], random: &mut Random, fits: impl Fn(usize, &T) -> bool) -> Option<usize> {
    let fitting: Vec<usize> = (0..all.len()).filter(|at| fits(*at, &all[*at])).collect();
    (!fitting.is_empty()).then(|| random.pick(&fitting))
}

fn is_newest_read(op: &Operation) -> bool {
    matches!((&op.request, &op.outcome),
        (Request::Range(range), Outcome::Answered(_)) if range.revision == 0)
}

fn is_put(op: &Operation) -> bool {
    matches!((&op.request, &op.outcome),
        (Request::Put(put), Outcome::Answered(_)) if !put.ignore_value)
}

fn read(op: &mut Operation) -> Option<&mut crate::pb::RangeResponse> {
    match &mut op.outcome {
        Outcome::Answered(Answer::Range(answer)) => Some(answer),
        _ => None,
    }
}

/// Answers a read from an older state.
fn answer_from(op: &mut Operation, store: &Store, at: i64) -> Option<()> {
    let header = read(op)?.header;
    let older = execute(store, at, &op.request)?;
    op.outcome = Outcome::Answered(older.answer);
    let answer = read(op)?;
    answer.header = header;
    answer.header.as_mut()?.revision = at;
    Some(())
}

/// The highest revision that calls of some kind returned before a call.
fn known_before(history: &History, at: usize, counts: impl Fn(&Operation) -> bool) -> i64 {
    let called = history.operations[at].called;
    let before = history.operations.iter().filter(|op| op.returned < called && counts(op));
    before.filter_map(Operation::revision).max().unwrap_or(1)
}

fn stale_read(history: &mut History, store: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let at = choose(&history.operations, random, |_, op| {
        is_newest_read(op) && op.request.is_linearizable()
    })?;
    let known = known_before(history, at, |_| true);
    let older = known - 1 - random.below(5) as i64;
    (older >= 1).then_some(())?;
    answer_from(&mut history.operations[at], store, older)?;
    Some(vec![Rule::Stale])
}

fn session_back(history: &mut History, store: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let at = choose(&history.operations, random, |_, op| {
        is_newest_read(op) && !op.request.is_linearizable()
    })?;
    let session = history.operations[at].session;
    let known = known_before(history, at, |op| op.session == session);
    (known > 1).then_some(())?;
    answer_from(&mut history.operations[at], store, known - 1)?;
    Some(vec![Rule::SessionWentBack])
}

fn other_value(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let at = choose(
        &history.operations,
        random,
        |_, op| matches!(op.answer(), Some(Answer::Range(answer)) if !answer.kvs.is_empty()),
    )?;
    let kvs = &mut read(&mut history.operations[at])?.kvs;
    let which = random.below(kvs.len() as u64) as usize;
    kvs[which].value = "never written".into();
    Some(vec![Rule::WrongAnswer])
}

fn other_count(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let at =
        choose(&history.operations, random, |_, op| matches!(op.answer(), Some(Answer::Range(_))))?;
    read(&mut history.operations[at])?.count += 1;
    Some(vec![Rule::WrongAnswer])
}

fn other_branch(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let at =
        choose(&history.operations, random, |_, op| matches!(op.answer(), Some(Answer::Txn(_))))?;
    let Outcome::Answered(Answer::Txn(answer)) = &mut history.operations[at].outcome else {
        return None;
    };
    answer.succeeded = !answer.succeeded;
    Some(vec![Rule::WrongAnswer])
}

fn other_deleted(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let at = choose(
        &history.operations,
        random,
        |_, op| matches!(op.answer(), Some(Answer::Delete(answer)) if answer.deleted > 0),
    )?;
    let Outcome::Answered(Answer::Delete(answer)) = &mut history.operations[at].outcome else {
        return None;
    };
    answer.deleted += 1;
    Some(vec![Rule::WrongAnswer])
}

fn refused_put(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let at = choose(&history.operations, random, |_, op| is_put(op))?;
    let refusal = Failure { code: Code::InvalidArgument, text: "no".into() };
    history.operations[at].outcome = Outcome::Refused(refusal);
    Some(vec![Rule::RefusedTookEffect])
}

fn exchanged_puts(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let one = choose(&history.operations, random, |_, op| is_put(op))?;
    let other = choose(&history.operations, random, |at, op| is_put(op) && at != one)?;
    let outcome = history.operations[one].outcome.clone();
    history.operations[one].outcome = history.operations[other].outcome.clone();
    history.operations[other].outcome = outcome;
    Some(vec![Rule::Lost, Rule::WrongEffect])
}

fn late_call(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let at = choose(&history.operations, random, |_, op| is_put(op))?;
    let revision = history.operations[at].revision()?;
    let seen =
        history.operations.iter().enumerate().filter(|(other, op)| {
            *other != at && op.revision().is_some_and(|seen| seen >= revision)
        });
    let seen = seen.map(|(_, op)| op.returned).min()?;
    let op = &mut history.operations[at];
    (op.called, op.returned) = (seen + 1, op.returned.max(seen + 2));
    Some(vec![Rule::BeforeCall])
}

fn applied_again(history: &mut History, store: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let at = choose(&history.operations, random, |_, op| is_put(op))?;
    let again = execute(store, store.last(), &history.operations[at].request)?;
    let scribe = &mut history.watches[0].responses;
    let mut answer = scribe.iter().rev().find(|r| !r.response.events.is_empty())?.clone();
    answer.response.events = again.events;
    scribe.push(answer);
    Some(vec![Rule::AppliedTwice])
}

fn hole_in_log(history: &mut History, store: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let last = store.last();
    (last > 3).then_some(())?;
    let hole = 2 + random.below(last as u64 - 2) as i64;
    for watch in history.watches.iter_mut().filter(|watch| watch.sees_everything()) {
        for received in &mut watch.responses {
            received.response.events.retain(|event| revision(event) != hole);
        }
    }
    Some(vec![Rule::LogIncomplete])
}

fn drained(watch: &Watch) -> bool {
    matches!(watch.end, WatchEnd::Drained(_)) && !watch.responses.is_empty()
}

/// A watcher, not the one that tells the log, and one of its answers.
fn choose_answer(
    history: &History,
    random: &mut Random,
    fits: impl Fn(&Watch, usize) -> bool,
) -> Option<(usize, usize)> {
    let watch = choose(&history.watches, random, |at, watch| {
        at > 0
            && drained(watch)
            && !watch.responses.iter().any(|r| r.response.canceled)
            && (0..watch.responses.len()).any(|answer| fits(watch, answer))
    })?;
    let chosen = &history.watches[watch];
    let answer = choose(&chosen.responses, random, |answer, _| fits(chosen, answer))?;
    Some((watch, answer))
}

fn has_events(watch: &Watch, answer: usize) -> bool {
    !watch.responses[answer].response.events.is_empty()
}

fn lost_event(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let (watch, answer) = choose_answer(history, random, has_events)?;
    let events = &mut history.watches[watch].responses[answer].response.events;
    let at = random.below(events.len() as u64) as usize;
    events.remove(at);
    if events.is_empty() {
        history.watches[watch].responses.remove(answer);
    }
    Some(vec![Rule::WatchGap, Rule::WatchSplit, Rule::WatchBookmark])
}

fn doubled_events(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let (watch, answer) = choose_answer(history, random, has_events)?;
    let again = history.watches[watch].responses[answer].clone();
    history.watches[watch].responses.insert(answer + 1, again);
    Some(vec![Rule::WatchDuplicate])
}

fn exchanged_events(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let (watch, answer) = choose_answer(history, random, |watch, answer| {
        has_events(watch, answer)
            && watch.responses.len() > answer + 1
            && has_events(watch, answer + 1)
    })?;
    history.watches[watch].responses.swap(answer, answer + 1);
    Some(vec![Rule::WatchGap])
}

fn torn_revision(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let pair_of =
        |events: &[Event]| events.windows(2).position(|e| revision(&e[0]) == revision(&e[1]));
    let (watch, answer) = choose_answer(history, random, |watch, answer| {
        pair_of(&watch.responses[answer].response.events).is_some()
    })?;
    let whole = &mut history.watches[watch].responses[answer];
    let at = pair_of(&whole.response.events)?;
    let mut rest = whole.clone();
    rest.response.events.drain(..=at);
    whole.response.events.truncate(at + 1);
    history.watches[watch].responses.insert(answer + 1, rest);
    Some(vec![Rule::WatchSplit])
}

fn other_previous(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let has_previous = |event: &Event| event.prev_kv.is_some();
    let (watch, answer) = choose_answer(history, random, |watch, answer| {
        watch.responses[answer].response.events.iter().any(has_previous)
    })?;
    let events = &mut history.watches[watch].responses[answer].response.events;
    let event = events.iter_mut().find(|event| has_previous(event))?;
    event.prev_kv.as_mut()?.value = "never written".into();
    Some(vec![Rule::WatchPrevKv])
}

fn early_progress(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let is_progress = |watch: &Watch, answer: usize| {
        let response = &watch.responses[answer].response;
        !response.created && response.events.is_empty()
    };
    let (watch, answer) = choose_answer(history, random, |watch, answer| {
        is_progress(watch, answer)
            && watch.responses.len() > answer + 1
            && has_events(watch, answer + 1)
    })?;
    let responses = &mut history.watches[watch].responses;
    let next = revision(responses[answer + 1].response.events.first()?);
    responses[answer].response.header.as_mut()?.revision = next;
    Some(vec![Rule::WatchBookmark])
}

fn longer_lease(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let all = history.operations.clone();
    let granted = |id: i64, before: u64| {
        all.iter().any(|op| {
            matches!(op.answer(), Some(Answer::Grant(answer)) if answer.id == id)
                && op.returned < before
        })
    };
    let revoked = |id: i64| {
        all.iter().any(|op| {
            matches!(&op.request, Request::Revoke(revoke) if revoke.id == id)
                && op.may_have_happened()
        })
    };
    let at = choose(&all, random, |_, op| {
        matches!(op.answer(), Some(Answer::KeepAlive(answer))
            if answer.ttl == 0 && granted(answer.id, op.called) && !revoked(answer.id))
    })?;
    let Request::KeepAlive(lease) = &all[at].request else { return None };
    for op in &mut history.operations {
        if let Outcome::Answered(Answer::Grant(answer)) = &mut op.outcome
            && answer.id == lease.id
        {
            answer.ttl = 1_000_000;
        }
    }
    Some(vec![Rule::LeaseEarly])
}

fn other_hash(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let member = random.below(history.ends.len() as u64) as usize;
    history.ends[member].hash ^= 1;
    Some(vec![Rule::EndsDiffer])
}

fn lacking_key(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    let member = random.below(history.ends.len() as u64) as usize;
    history.ends[member].kvs.pop()?;
    Some(vec![Rule::EndBehind])
}

fn forgotten_answers(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    for op in &mut history.operations {
        if op.may_have_happened() && random.one_in(10) {
            op.outcome = lost();
        }
    }
    Some(Vec::new())
}

fn later_answers(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    for op in &mut history.operations {
        op.returned += random.below(1_000_000_000);
    }
    Some(Vec::new())
}

fn earlier_calls(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    for op in &mut history.operations {
        op.called -= random.below(op.called);
    }
    Some(Vec::new())
}

fn forgotten_watchers(history: &mut History, _: &Store, random: &mut Random) -> Option<Vec<Rule>> {
    for watch in history.watches.iter_mut().skip(1) {
        if random.one_in(2) {
            continue;
        }
        let kept = random.below(watch.responses.len() as u64 + 1) as usize;
        watch.responses.truncate(kept);
        watch.end = WatchEnd::Closed("forgotten".into());
    }
    Some(Vec::new())
}
