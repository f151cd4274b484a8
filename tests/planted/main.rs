//! Planted faults: our server breaks its promises one by one, and the checker has to notice.
//!
//! Each test runs a cluster with one fault switched on and names the rules of which at least one
//! has to be found broken; then it makes the same run without the fault, which has to be clean.
//! The quick ones are part of every test run. All of them, with the table of what found what:
//!
//! ```text
//! cargo test -p etcdrs-tests --test planted -- --include-ignored --nocapture | grep FOUND
//! ```
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

mod harness;
mod slow_disk;

use etcdrs_tests::robustness::check::Rule;
use etcdrs_tests::robustness::faults::Kind;
use harness::Planted;

macro_rules! planted {
    ($($(#[$attribute:meta])* $name:ident = $planted:expr;)*) => {
        $(
            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $planted.must_be_found().await;
            }
        )*
    };
}

// What a client is answered.
planted! {
    /// A transaction compares with the state of some revisions ago.
    stale_compare = Planted::new("planted-stale-compare", &[Rule::WrongAnswer, Rule::Lost]);
    /// A put answers the pair of some revisions ago as the previous one.
    older_prev = Planted::new("planted-older-prev", &[Rule::WrongAnswer]);
    /// A put that was refused is acknowledged.
    acked_refusal = Planted::new("planted-acked-refusal", &[Rule::WrongEffect, Rule::Lost]);
    /// A write that was done is reported as refused.
    done_refused =
        Planted::new("planted-done-refused=return(20)", &[Rule::RefusedTookEffect]);
    /// A compaction removes revisions that it was not asked to remove.
    #[ignore = "takes its time"]
    far_compaction = Planted::new("planted-far-compaction", &[Rule::WrongRefusal]);
}

// What watchers are told.
planted! {
    /// One member forgets to tell some events.
    #[ignore = "takes its time"]
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
    #[ignore = "takes its time"]
    reordered_events = Planted::new("planted-reordered-events=return(9)", &[Rule::WatchSplit]);
    /// Previous pairs are left out.
    #[ignore = "takes its time"]
    no_prev = Planted::new("planted-no-prev=return(9)", &[Rule::WatchPrevKv]);
    /// Progress is reported ahead of what was told.
    #[ignore = "takes its time"]
    early_progress =
        Planted::new("planted-early-progress", &[Rule::WatchBookmark, Rule::UnknownRevision]);
}

// Leases.
planted! {
    /// A lease ends a second and a half before its time.
    #[ignore = "takes its time"]
    early_expiry = Planted { seconds: 6, ..Planted::new("planted-early-expiry", &[Rule::LeaseEarly]) };
    /// Keys outlive their lease.
    surviving_keys = Planted::new("planted-surviving-keys", &[Rule::LeaseAfterEnd]);
    /// A lease that is gone is renewed.
    #[ignore = "takes its time"]
    renewed_ghost = Planted { seconds: 6, ..Planted::new("planted-renewed-ghost", &[Rule::LeaseAfterEnd, Rule::LeaseEarly]) };
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
    /// A log goes on after a sync that failed, as if nothing had happened.
    #[ignore = "takes its time"]
    ignored_sync = Planted {
        kinds: &[Kind::FailDisk],
        failpoints: true,
        seconds: 8,
        ..Planted::new("planted-ignored-sync", &[Rule::NoRecovery])
    };
    /// A start leaves out entries that the log does not call committed: the revision goes back.
    #[ignore = "takes its time"]
    forgotten_tail = Planted {
        kinds: &[Kind::Kill],
        seconds: 6,
        ..Planted::new("planted-forgotten-tail", &[Rule::Lost])
    };
    /// A start applies entries again that were applied before it.
    #[ignore = "takes its time"]
    doubled_apply = Planted {
        kinds: &[Kind::Kill],
        // What is not in the database yet is applied again anyway.
        flags: "--snapshot-count=20",
        seconds: 8,
        ..Planted::new("planted-doubled-apply", &[Rule::AppliedTwice, Rule::Lost])
    };
}

// Clusters.
planted! {
    /// Members answer linearizable reads without asking the leader. Shows only while a follower
    /// lags, which is a matter of luck on a machine that is busy with other things.
    #[ignore = "takes its time"]
    no_read_index = Planted { members: 3, ..Planted::new("planted-no-read-index", &[Rule::Stale]) };
    /// A leader that lost its quorum believes that it still leads.
    #[ignore = "takes its time"]
    trusted_lead = Planted {
        members: 3,
        // Those who write to a leader that was cut off wait; some have to be left to read.
        clients: 24,
        kinds: &[Kind::Partition],
        seconds: 12,
        seed: 3,
        ..Planted::new("planted-trusted-lead", &[Rule::Stale])
    };
    /// One member leaves puts out.
    #[ignore = "takes its time"]
    skipped_put = Planted {
        members: 3,
        only_at: Some(2),
        ..Planted::new("planted-skipped-put=return(50)", &[Rule::EndsDiffer])
    };
    /// A request is sent to the leader again when the link broke, though it may have arrived.
    #[ignore = "takes its time"]
    sent_again = Planted {
        members: 3,
        kinds: &[Kind::Reset],
        seconds: 10,
        ..Planted::new("planted-sent-again", &[Rule::AppliedTwice])
    };
    /// The installation of a snapshot forgets a key.
    #[ignore = "takes its time"]
    forgotten_key = Planted {
        members: 3,
        kinds: &[Kind::Kill, Kind::Partition],
        // A leader that was started again has no log before its snapshot: who was away needs it.
        flags: "--snapshot-count=20 --snapshot-catchup-entries=2",
        seconds: 20,
        ..Planted::new("planted-forgotten-key", &[Rule::EndsDiffer])
    };
}
