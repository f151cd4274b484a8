//! The named steps of a member at which a fault may end it: what failpoints there are, and what has
//! to be done for a member to come by them.

use std::collections::BTreeSet;

/// What makes a member come by a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The load, sooner or later.
    Load,
    /// The load, at whoever leads.
    Lead,
    /// A change of the leader.
    Election,
    /// A change of the membership, at whoever leads.
    Change,
    /// A change of the membership, at anybody.
    Changed,
    /// A defragmentation.
    Defragment,
    /// A start with old segments of the log.
    Start,
    /// The end on request.
    Stop,
    /// To lead while another member needs the database.
    SendDatabase,
    /// To need the database.
    ReceiveDatabase,
    /// A start without data.
    Create,
}

/// Every step, by what brings it about.
pub(super) const STEPS: &[(Occasion, &[&str])] = &[
    (
        Occasion::Load,
        &[
            "raft-before-save",
            "wal-before-write",
            "wal-after-write",
            "wal-before-sync",
            "wal-after-sync",
            "raft-after-save",
            "raft-before-follower-send",
            "raft-before-apply",
            "apply-before-commit",
            "backend-before-write",
            "backend-after-write",
            "apply-after-commit",
            "raft-after-apply",
            "wal-cut-after-truncate",
            "wal-cut-before-rename",
            "wal-cut-after-rename",
            "raft-before-flush",
            "backend-before-flush",
            "backend-after-flush",
            "snap-before-save",
            "raft-after-save-snap",
            "raft-before-save-mark",
            "raft-after-save-mark",
            "raft-before-purge",
            "raft-after-purge",
            "apply-before-compact",
            "compact-before-batch",
            "compact-after-batch",
            "compact-after-finish",
        ],
    ),
    (Occasion::Lead, &["raft-before-leader-send", "raft-after-leader-send"]),
    (
        Occasion::Election,
        &["raft-before-save-vote", "raft-after-save-vote", "raft-before-truncate"],
    ),
    (Occasion::Change, &["raft-before-conf-change", "raft-after-conf-change"]),
    (Occasion::Changed, &["apply-before-conf-change"]),
    (Occasion::Defragment, &["backend-before-defrag", "backend-defrag-bucket"]),
    (Occasion::Start, &["wal-before-purge", "wal-after-purge"]),
    (Occasion::Stop, &["wal-writer-closing"]),
    (
        Occasion::SendDatabase,
        &[
            "raft-before-send-snap",
            "backend-before-checkpoint",
            "backend-after-checkpoint",
            "raft-before-send-chunk",
            "raft-after-send-snap",
        ],
    ),
    (
        Occasion::ReceiveDatabase,
        &[
            "raft-before-receive-snap",
            "raft-receive-chunk",
            "raft-before-keep-snap",
            "raft-after-keep-snap",
            "raft-before-apply-snap",
            "raft-before-open-snap",
            "raft-after-open-snap",
            "raft-before-snapshot-mark",
            "raft-after-snapshot-mark",
            "snap-before-db-switch",
            "snap-after-db-switch",
            "raft-before-replace",
            "raft-after-apply-snap",
        ],
    ),
    (
        Occasion::Create,
        &["wal-before-reserve", "wal-create-before-sync", "wal-create-before-rename"],
    ),
];

/// Where a disk may fail: a member that met it must end.
pub(super) const DISK_FAILURES: &[&str] = &[
    "wal-before-sync",
    "wal-before-sync",
    "wal-before-write",
    "raft-before-flush",
    "snap-before-save",
    "raft-before-apply",
];

/// What a member does at any time in a run with failpoints: it ends a segment of its log at every
/// entry whose index this divides, if that is the last one of a write.
pub(super) const ALWAYS: &str = "wal-cut-early=return(100)";

/// The steps that can come about by `occasions`.
fn with(occasions: &[Occasion]) -> Vec<(Occasion, &'static str)> {
    let fitting = STEPS.iter().filter(|(occasion, _)| occasions.contains(occasion));
    fitting.flat_map(|(occasion, names)| names.iter().map(|name| (*occasion, *name))).collect()
}

/// A step for a random number. A third of them is of the frequent ones, so that the others get
/// their turn.
pub(super) fn choose(number: u64, members: usize) -> (Occasion, &'static str) {
    use Occasion::{
        Change, Changed, Defragment, Election, Lead, Load, ReceiveDatabase, SendDatabase, Start,
        Stop,
    };
    let candidates = match number % 3 {
        _ if members < 2 => with(&[Load, Defragment, Start, Stop]),
        0 => with(&[Load, Lead]),
        1 => with(&[SendDatabase, ReceiveDatabase]),
        _ => with(&[Election, Change, Changed, Defragment, Start, Stop, Lead]),
    };
    candidates[(number / 3) as usize % candidates.len()]
}

/// A step of a start without data.
pub(super) fn of_creation(number: u64) -> &'static str {
    let candidates = with(&[Occasion::Create]);
    candidates[number as usize % candidates.len()].1
}

/// The names of all steps.
pub(super) fn names() -> BTreeSet<&'static str> {
    STEPS.iter().flat_map(|(_, names)| names.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::target::repository;

    /// The failpoints that the sources mark with `fp!`.
    fn marked() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for name in ["wal", "snap", "backend", "apply", "raft-glue", "server"] {
            collect(&repository().join("crates").join(name).join("src"), &mut found);
        }
        found
    }

    fn collect(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let marks = text.split("fp!(\"").skip(1);
                found.extend(marks.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }

    /// A step that nobody marks would never be passed, and a mark outside the table never tried.
    #[test]
    fn every_step_is_marked_and_every_mark_is_a_step() {
        // A log whose end is torn is for the tests of the log.
        let mut marked = marked();
        assert!(marked.remove("wal-repair-after-copy"));
        let known: BTreeSet<String> = names().into_iter().map(str::to_owned).collect();
        assert_eq!(known, marked);
        assert!(DISK_FAILURES.iter().all(|name| names().contains(name)));
    }

    #[test]
    fn every_step_has_its_turn() {
        let drawn: BTreeSet<&str> = (0..400).map(|number| choose(number, 3).1).collect();
        let created: BTreeSet<&str> = (0..10).map(of_creation).collect();
        assert_eq!(drawn.union(&created).copied().collect::<BTreeSet<_>>(), names());
    }
}
