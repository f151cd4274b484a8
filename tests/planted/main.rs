//! Planted faults: our server breaks its promises one by one, and the checker has to notice.
//!
//! Each test runs a cluster with one fault switched on and names the rules of which at least one
//! has to be found broken; then it makes the same run without the fault, which has to be clean.
//! The quick ones are part of every test run. All of them, with the table of what found what:
//!
//! ```text
//! cargo test -p etcdrs-tests --test planted -- --include-ignored --nocapture | grep FOUND
//! ```

mod harness;

use etcdrs_tests::robustness::check::Rule;
use etcdrs_tests::robustness::faults::Kind;
use harness::Planted;

macro_rules! planted {
    ($($(#[$attribute:meta])* $name:ident = $planted:expr;)*) => {
        $(
            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $planted.is_found().await;
            }
        )*
    };
}

// What a client is answered.
planted! {
    /// A transaction compares with the state of some revisions ago.
    stale_compare = Planted::new("planted-stale-compare", &[Rule::WrongEffect]);
    /// A put answers the pair of some revisions ago as the previous one.
    older_prev = Planted::new("planted-older-prev", &[Rule::WrongAnswer]);
    /// A put that was refused is acknowledged.
    acked_refusal = Planted::new("planted-acked-refusal", &[Rule::WrongEffect, Rule::Lost]);
    /// A write that was done is reported as refused.
    done_refused =
        Planted::new("planted-done-refused=return(20)", &[Rule::RefusedTookEffect]);
    /// A compaction removes revisions that it was not asked to remove.
    far_compaction = Planted::new("planted-far-compaction", &[Rule::WrongRefusal]);
}

// What watchers are told.
planted! {
    /// One member forgets to tell some events.
    lost_event = Planted {
        only_at: Some(1),
        members: 3,
        ..Planted::new("planted-lost-event=return(9)", &[Rule::WatchGap])
    };
    /// Some events come twice.
    doubled_event = Planted::new("planted-doubled-event=return(9)", &[Rule::WatchDuplicate]);
    /// The events of a revision come one by one.
    split_revision = Planted::new("planted-split-revision", &[Rule::WatchSplit]);
    /// The events of an answer come in reverse.
    reordered_events = Planted::new("planted-reordered-events=return(9)", &[Rule::WatchSplit]);
    /// Previous pairs are left out.
    no_prev = Planted::new("planted-no-prev=return(9)", &[Rule::WatchPrevKv]);
    /// Progress is reported ahead of what was told.
    early_progress =
        Planted::new("planted-early-progress", &[Rule::WatchBookmark, Rule::UnknownRevision]);
}

// Leases.
planted! {
    /// A lease ends a second and a half before its time.
    early_expiry = Planted { seconds: 6, ..Planted::new("planted-early-expiry", &[Rule::LeaseEarly]) };
    /// Keys outlive their lease.
    surviving_keys = Planted::new("planted-surviving-keys", &[Rule::LeaseAfterEnd]);
    /// A lease that is gone is renewed.
    renewed_ghost = Planted { seconds: 6, ..Planted::new("planted-renewed-ghost", &[Rule::LeaseAfterEnd]) };
}

// Crashes.
planted! {
    /// A write is acknowledged before it is in the log; the chance is a slow disk.
    early_ack = Planted {
        chance: "wal-before-write=sleep(30)",
        kinds: &[Kind::Kill],
        seconds: 6,
        ..Planted::new("planted-early-ack", &[Rule::Lost])
    };
    /// A start does not take the last entries from the log, so the revision goes back.
    forgotten_tail = Planted {
        kinds: &[Kind::Kill],
        seconds: 6,
        ..Planted::new("planted-forgotten-tail", &[Rule::Lost])
    };
    /// A start applies entries again that were applied before it.
    doubled_apply = Planted {
        kinds: &[Kind::Kill],
        seconds: 10,
        ..Planted::new("planted-doubled-apply", &[Rule::AppliedTwice])
    };
}

// Clusters.
planted! {
    /// Members answer linearizable reads without asking the leader.
    no_read_index = Planted { members: 3, ..Planted::new("planted-no-read-index", &[Rule::Stale]) };
    /// A leader that lost its quorum believes that it still leads.
    trusted_lead = Planted {
        members: 3,
        kinds: &[Kind::Partition, Kind::Pause],
        seconds: 15,
        ..Planted::new("planted-trusted-lead", &[Rule::Stale])
    };
    /// One member leaves puts out.
    skipped_put = Planted {
        members: 3,
        only_at: Some(2),
        ..Planted::new("planted-skipped-put=return(50)", &[Rule::EndsDiffer])
    };
    /// A request is sent to the leader again when the link broke, though it may have arrived.
    sent_again = Planted {
        members: 3,
        kinds: &[Kind::Reset],
        seconds: 10,
        ..Planted::new("planted-sent-again", &[Rule::AppliedTwice])
    };
    /// The installation of a snapshot forgets a key.
    forgotten_key = Planted {
        members: 3,
        kinds: &[Kind::Pause],
        seconds: 15,
        ..Planted::new("planted-forgotten-key", &[Rule::EndsDiffer])
    };
}
