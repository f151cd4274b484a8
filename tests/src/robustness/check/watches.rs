//! The rules of watchers (reliability.md §3.3), each watcher against the log.

mod joined;
mod walk;

use super::{Counts, Facts, Rule, Violation};
use crate::robustness::history::{Watch, WatchEnd};
use joined::{Joined, join};
use walk::Walk;

/// Checks every watcher.
pub(super) fn check(facts: &Facts<'_>, counts: &mut Counts, violations: &mut Vec<Violation>) {
    for (at, watch) in facts.history.watches.iter().enumerate() {
        if let Err((rule, text)) = check_watch(facts, counts, watch) {
            let watches = vec![at];
            violations.push(Violation { watches, ..Violation::new(rule, text) });
        }
    }
}

/// A broken rule of one watcher; what follows it is not looked at, for it would break again.
type Broken = (Rule, String);

fn check_watch(facts: &Facts<'_>, counts: &mut Counts, watch: &Watch) -> Result<(), Broken> {
    let mut answers = join(watch).into_iter();
    let Some(created) = answers.next() else {
        return match watch.end {
            WatchEnd::Closed(_) => Ok(()),
            WatchEnd::Drained(_) => Err((Rule::WatchProtocol, "it was never created".into())),
        };
    };
    if !created.created {
        return Err((Rule::WatchProtocol, "the first answer is not `created`".into()));
    }
    if created.canceled {
        return match answers.next() {
            Some(_) => Err((Rule::WatchProtocol, "answers after a refused creation".into())),
            None => Ok(()),
        };
    }
    let mut walk = Walk::begin(facts, watch, created.revision);
    let mut canceled = false;
    for answer in answers {
        if canceled {
            return Err((Rule::WatchProtocol, "an answer after `canceled`".into()));
        }
        if answer.created {
            return Err((Rule::WatchProtocol, "a second `created`".into()));
        }
        canceled = answer.canceled;
        step(&mut walk, counts, &answer)?;
    }
    match watch.end {
        WatchEnd::Drained(revision) if !canceled => walk.drained(revision),
        _ => Ok(()),
    }
}

fn step(walk: &mut Walk<'_>, counts: &mut Counts, answer: &Joined) -> Result<(), Broken> {
    if answer.canceled {
        return walk.canceled(answer);
    }
    if answer.events.is_empty() {
        counts.bookmarks += 1;
        return walk.bookmark(answer.revision);
    }
    counts.watch_events += answer.events.len();
    walk.events(answer)
}
