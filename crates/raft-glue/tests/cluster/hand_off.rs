//! From raft to the state machine and to readers: what is told at once, and what waits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcdrs_apply::Machine;
use etcdrs_backend::Backend;
use etcdrs_platform::{Fs as _, SimFs};
use etcdrs_raft_glue::{Config, NoPeers, Node};
use etcdrs_types::{LogIndex, MemberId};
use etcdrs_wal as wal;

use crate::common::{self, block_on, put};
use crate::members::{Cluster, QUIET, machine_options, within};

fn snap_files(cluster: &Cluster, id: MemberId) -> usize {
    let dir = cluster.dir.path().join(id.to_string()).join("snap");
    let names = std::fs::read_dir(dir).expect("listed").map(|entry| entry.expect("entry").path());
    names.filter(|path| path.extension().is_some_and(|end| end == "snap")).count()
}

/// R31, R32, R37: what is committed is told at once, and the gap to what is applied can be read;
/// applied, and made a snapshot of, is only what the own log has on disk.
#[test]
fn r_32_r_37_what_is_committed_is_told_before_it_is_applied() {
    block_on(async {
        // An election asks the disk for a vote, which it cannot give while it is held.
        for _ in 0..5 {
            if ahead_of_the_own_disk().await {
                return;
            }
        }
        panic!("never without an election");
    });
}

/// `false` if another leader was elected meanwhile, so that nothing was seen.
async fn ahead_of_the_own_disk() -> bool {
    const PUTS: u64 = 80;
    let cluster = Cluster::of(3).await;
    let leader = cluster.settled().await;
    let slow = cluster.other_than(&[leader]);
    cluster.put(leader, "first").await;
    cluster.equal().await;
    cluster.disk(slow).hold(true);
    let handle = cluster.handle(slow).clone();
    let (term, applied) = (handle.status().term, handle.status().applied);
    // More than make a snapshot. At once: a leader that has waited for an answer for too long sends
    // no more before it has one.
    let keys: Vec<String> = (0..PUTS).map(|i| format!("k{i}")).collect();
    futures_util::future::join_all(keys.iter().map(|key| cluster.put(leader, key))).await;
    let told = LogIndex(applied.0 + PUTS);
    let (mut here, mut there) = (handle.watch_status(), cluster.handle(leader).watch_status());
    let seen = within(async {
        tokio::select! {
            told = here.wait_for(|status| status.committed >= told) => told.is_ok(),
            elected = there.wait_for(|status| status.term != term) => elected.is_err(),
        }
    });
    if !seen.await {
        cluster.disk(slow).hold(false);
        cluster.end().await;
        return false;
    }
    assert_eq!(handle.status().applied, applied, "applied what is not on its disk");
    assert_eq!(handle.apply_gap(), PUTS);
    assert_eq!(snap_files(&cluster, slow), 0, "a snapshot ahead of the log");
    let elsewhere = async {
        while snap_files(&cluster, leader) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(elsewhere).await;

    cluster.disk(slow).hold(false);
    assert!(within(handle.wait_applied(told)).await);
    assert_eq!(handle.apply_gap(), 0);
    cluster.equal().await;
    drop(handle);
    cluster.end().await;
    true
}

/// R30: a read that waits for the apply of what it has to see holds up nobody, and neither do
/// readers that went away.
#[test]
fn r_30_a_read_that_waits_holds_up_nobody() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let slow = cluster.other_than(&[leader]);
        let other = cluster.other_than(&[leader, slow]);
        cluster.put(leader, "a").await;
        cluster.equal().await;
        cluster.disk(slow).hold(true);
        let mut revision = cluster.put(leader, "b").await;
        let reader = cluster.handle(slow).clone();
        let mut waiting = tokio::spawn(async move { reader.read_barrier().await });
        for _ in 0..200 {
            let gone = cluster.handle(slow).read_barrier();
            assert!(tokio::time::timeout(Duration::ZERO, gone).await.is_err());
        }
        for i in 0..50 {
            revision = cluster.put(other, &format!("k{i}")).await;
            assert_eq!(cluster.revision(leader).await, revision);
            assert_eq!(cluster.revision(other).await, revision);
        }
        assert!(tokio::time::timeout(QUIET, &mut waiting).await.is_err(), "read too early");
        cluster.disk(slow).hold(false);
        assert_eq!(within(waiting).await.expect("no panic"), Ok(()));
        assert_eq!(cluster.revision(slow).await, revision);
        cluster.end().await;
    });
}

fn durable_dir(dir: &Path) -> SimFs {
    let fs = SimFs::seeded(33);
    fs.create_dir_all(dir, 0o700).expect("made");
    for above in dir.ancestors() {
        fs.sync_dir(above).expect("synced");
    }
    fs
}

/// R33, and the last clause of R45: the power goes after each of a thousand answers. The log, read
/// as a start reads it, has the entry every time, while segments are cut and snapshots made.
#[test]
fn r_33_a_thousand_losses_of_power_after_an_answer() {
    const ROUNDS: usize = 1000;
    block_on(async {
        let folder = tempfile::tempdir().expect("temp dir");
        let (dir, member) = (folder.path(), MemberId(7));
        let fs = durable_dir(dir);
        let wal_options = wal::Options {
            segment_bytes: 8 << 10,
            prepare: wal::Prepare::Allocate,
            ..wal::Options::default()
        };
        let config = Config {
            snapshot_count: 100,
            catchup_entries: 20,
            wal: wal_options,
            ..common::config(dir, member, &[member])
        };
        let backend = Backend::open(&dir.join("db"), &Default::default()).expect("open backend");
        let opened = Machine::open(backend, machine_options()).expect("open machine");
        let wal_dir = config.wal_dir.clone();
        let node = Node::start(fs.clone(), config, opened, Arc::new(NoPeers)).await;
        let node = node.expect("starts");
        let handle = node.handle();
        let mut marks = 0;
        for round in 0..ROUNDS {
            let answered =
                within(handle.propose(put(&format!("k{round}")))).await.expect("applied");
            let newest = wal::StartAt::NewestAtOrBelow(LogIndex(u64::MAX));
            let left = wal::read_only(&fs.crash(), &wal_dir, &newest)
                .unwrap_or_else(|error| panic!("round {round}: {error}"));
            let entry = left.entries.iter().find(|entry| entry.index == answered.index);
            // Behind a mark the database has it.
            assert!(entry.is_some() || left.base.index >= answered.index, "round {round}: lost");
            if let Some(data) = entry.and_then(|entry| entry.data.as_ref()) {
                let key = format!("k{round}");
                assert!(data.windows(key.len()).any(|part| part == key.as_bytes()));
            }
            marks = marks.max(left.base.index.0);
        }
        assert!(marks > 500, "snapshots were made on the way: {marks}");
        node.stop().await;
    });
}
