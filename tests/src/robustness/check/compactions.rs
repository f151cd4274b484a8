//! Which compactions may have taken effect, and which must have.

use crate::robustness::history::{Answer, History, Nanos, Outcome, Request};

struct Compaction {
    operation: usize,
    revision: i64,
    called: Nanos,
    /// When it was acknowledged.
    done: Option<Nanos>,
}

/// All compactions that were not refused.
pub(super) struct Compactions(Vec<Compaction>);

impl Compactions {
    pub(super) fn collect(history: &History) -> Self {
        let all = history.operations.iter().enumerate().filter_map(|(operation, op)| {
            let Request::Compact(request) = &op.request else { return None };
            let done = match op.outcome {
                Outcome::Answered(Answer::Compact(_)) => Some(op.returned),
                Outcome::Answered(_) | Outcome::Unknown(_) => None,
                Outcome::Refused(_) => return None,
            };
            Some(Compaction { operation, revision: request.revision, called: op.called, done })
        });
        Self(all.collect())
    }

    /// True if a compaction at `revision` or above, asked for by another call than `except`, may
    /// have been in effect before `time`.
    pub(super) fn possible(&self, revision: i64, time: Nanos, except: Option<usize>) -> bool {
        self.0.iter().any(|compaction| {
            compaction.revision >= revision
                && compaction.called < time
                && Some(compaction.operation) != except
        })
    }

    /// A compaction above `revision` that was acknowledged before `time`.
    pub(super) fn certain_above(&self, revision: i64, time: Nanos) -> Option<usize> {
        let found = self.0.iter().find(|compaction| {
            compaction.revision > revision && compaction.done.is_some_and(|done| done < time)
        });
        found.map(|compaction| compaction.operation)
    }
}
