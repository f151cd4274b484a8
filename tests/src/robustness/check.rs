//! The verdict on a record.

mod answers;
mod compactions;
mod ends;
mod leases;
mod log;
mod refusals;
mod sessions;
mod sights;
mod watches;
mod writes;

use std::collections::BTreeMap;
use std::fmt;

use super::describe;
use super::history::{History, Operation};
use super::store::Store;
use compactions::Compactions;
use sights::Sights;

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The watchers of everything leave a revision out, so nothing can be proven.
    LogIncomplete,
    /// Two watchers were told different things about one revision.
    LogDisagrees,
    /// A revision changes what is not there, or counts versions wrongly.
    LogImpossible,
    /// An acknowledged write is not in the log.
    Lost,
    /// Two requests were answered with the same new revision.
    TwoWritesOneRevision,
    /// A write had another effect than its request has.
    WrongEffect,
    /// A change that nobody asked for.
    Unexplained,
    /// A refused write took effect.
    RefusedTookEffect,
    /// One request took effect twice.
    AppliedTwice,
    /// A write was visible before it was asked for, or got a revision that was already over.
    BeforeCall,
    /// An answer is not what the state at its revision says.
    WrongAnswer,
    /// A linearizable answer is older than something known before the call.
    Stale,
    /// A revision beyond the end of the log was shown.
    UnknownRevision,
    /// One life of a member went back in revision or term.
    SessionWentBack,
    /// A member answered under another member's or cluster's id.
    Identity,
    /// A refusal whose reason did not hold at any time of the call.
    WrongRefusal,
    /// A read below an acknowledged compaction was answered.
    CompactedAnswered,
    /// A watcher missed an event.
    WatchGap,
    /// A watcher got an event again, too late, or from before its start.
    WatchDuplicate,
    /// The events of one revision came in more than one answer.
    WatchSplit,
    /// An event's content is wrong.
    WatchWrongEvent,
    /// An event's previous pair is wrong, missing, or was not asked for.
    WatchPrevKv,
    /// Progress was reported ahead of events, backwards, or before the start.
    WatchBookmark,
    /// A watcher was canceled without the reason given.
    WatchCancel,
    /// Answers out of the protocol: two `created`, something after `canceled`.
    WatchProtocol,
    /// A lease ended before its time.
    LeaseEarly,
    /// A lease did something after its end, or its keys outlived it.
    LeaseAfterEnd,
    /// A lease was used that nobody granted, granted twice, or ended twice.
    LeaseMisused,
    /// Members hold different data at the end.
    EndsDiffer,
    /// A member ends without something that was promised.
    EndBehind,
    /// The cluster did not recover from a fault.
    NoRecovery,
    /// A process ended by itself, or panicked.
    MemberDied,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// How, in words.
    pub text: String,
    /// The calls concerned, by their place in the history.
    pub operations: Vec<usize>,
    /// The watchers concerned, by their place in the history.
    pub watches: Vec<usize>,
}

impl Violation {
    /// A violation that no call shows.
    pub fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into(), operations: Vec::new(), watches: Vec::new() }
    }

    fn of(rule: Rule, operation: usize, text: impl Into<String>) -> Self {
        Self { operations: vec![operation], ..Self::new(rule, text) }
    }

    fn with(mut self, operations: impl IntoIterator<Item = usize>) -> Self {
        self.operations.extend(operations);
        self
    }

    /// The words with a line for each call and watcher concerned.
    pub fn explain(&self, history: &History) -> String {
        let mut text = format!("{:?}: {}", self.rule, self.text);
        for at in &self.operations {
            let shown = describe::operation(*at, &history.operations[*at]);
            text += &format!("\n    {shown}");
        }
        for at in &self.watches {
            text += &format!("\n    {}", describe::watch(*at, &history.watches[*at]));
        }
        text
    }
}

/// How much was looked at; a verdict over little is worth little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls.
    pub operations: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls with an unknown outcome.
    pub unknown: usize,
    /// The last revision of the log.
    pub revision: i64,
    /// Revisions that only a call with an unknown outcome explains.
    pub by_unknown: usize,
    /// Revisions that the end of a lease explains.
    pub by_expiry: usize,
    /// Linearizable answers compared with the state.
    pub linearizable_reads: usize,
    /// Serializable answers compared with the state.
    pub serializable_reads: usize,
    /// Events compared with the log.
    pub watch_events: usize,
    /// Progress reports checked.
    pub bookmarks: usize,
    /// Renewals checked.
    pub renewals: usize,
}

/// With fewer revisions or events than this, a run without violations says nothing.
const LEAST: usize = 50;

impl Counts {
    /// Whether enough went on to judge by: on a machine that is too busy little gets through.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        usize::try_from(self.revision).is_ok_and(|revision| revision > LEAST)
            && self.watch_events > LEAST
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls ({} answered, {} unknown), {} revisions ({} by unknown calls, {} by ended \
             leases), {} linearizable and {} serializable reads, {} events, {} bookmarks, \
             {} renewals",
            self.operations,
            self.answered,
            self.unknown,
            self.revision,
            self.by_unknown,
            self.by_expiry,
            self.linearizable_reads,
            self.serializable_reads,
            self.watch_events,
            self.bookmarks,
            self.renewals
        )
    }
}

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Empty if the history is right.
    pub violations: Vec<Violation>,
    /// How much was looked at.
    pub counts: Counts,
}

impl Verdict {
    /// True if nothing was broken.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// All violations in words, at most `each` of a rule: one fault often breaks many promises.
    pub fn explain(&self, history: &History, each: usize) -> String {
        let mut by_rule: BTreeMap<Rule, Vec<&Violation>> = BTreeMap::new();
        for violation in &self.violations {
            by_rule.entry(violation.rule).or_default().push(violation);
        }
        let mut text = String::new();
        for (rule, violations) in by_rule {
            for violation in violations.iter().take(each) {
                text += &violation.explain(history);
                text.push('\n');
            }
            if violations.len() > each {
                text += &format!("{rule:?}: {} more\n", violations.len() - each);
            }
        }
        text
    }
}

/// What all checks share.
struct Facts<'a> {
    history: &'a History,
    store: &'a Store,
    sights: &'a Sights,
    compactions: &'a Compactions,
}

impl<'a> Facts<'a> {
    fn operations(&self) -> impl Iterator<Item = (usize, &'a Operation)> {
        self.history.operations.iter().enumerate()
    }

    /// Answered calls with their revisions.
    fn answered(&self) -> impl Iterator<Item = (usize, &'a Operation, i64)> {
        self.operations().filter_map(|(at, op)| Some((at, op, op.revision()?)))
    }
}

/// Decides whether a record can be the work of a correct cluster.
pub fn check(history: &History) -> Verdict {
    let mut violations = Vec::new();
    let store = log::read(history, &mut violations);
    let sights = Sights::collect(history);
    let compactions = Compactions::collect(history);
    let facts = Facts { history, store: &store, sights: &sights, compactions: &compactions };
    let mut counts = Counts {
        operations: history.operations.len(),
        answered: facts.operations().filter(|(_, op)| op.answer().is_some()).count(),
        unknown: history
            .operations
            .iter()
            .filter(|op| op.may_have_happened() && op.answer().is_none())
            .count(),
        revision: store.last(),
        ..Default::default()
    };
    let explained = writes::check(&facts, &mut counts, &mut violations);
    answers::check(&facts, &mut counts, &mut violations);
    refusals::check(&facts, &mut violations);
    sessions::check(&facts, &mut violations);
    leases::check(&facts, &explained, &mut counts, &mut violations);
    watches::check(&facts, &mut counts, &mut violations);
    ends::check(&facts, &mut violations);
    Verdict { violations, counts }
}
