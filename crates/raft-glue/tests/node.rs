//! One member: proposes, reads, stops, starts again.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{block_on, config, put};
use etcdrs_apply::{Machine, Options};
use etcdrs_backend::Backend;
use etcdrs_platform::OsFs;
use etcdrs_raft_glue::{NoPeers, Node, StartError};
use etcdrs_types::{ClusterId, MemberId};

const MEMBER: MemberId = MemberId(7);

async fn start(dir: &Path) -> (Node<OsFs>, etcdrs_apply::Shared) {
    try_start(dir).await.expect("start node")
}

async fn try_start(dir: &Path) -> Result<(Node<OsFs>, etcdrs_apply::Shared), StartError> {
    let backend = Backend::open(&dir.join("db"), &Default::default()).expect("open backend");
    let options =
        Options { store: Default::default(), lease: Default::default(), watch: Default::default() };
    let opened = Machine::open(backend, options).expect("open machine");
    let shared = opened.machine.shared();
    let config = config(dir, MEMBER, &[MEMBER]);
    Ok((Node::start(OsFs, config, opened, Arc::new(NoPeers)).await?, shared))
}

#[test]
fn what_was_acknowledged_is_there_after_a_start_from_the_log_alone() {
    block_on(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let (node, shared) = start(dir.path()).await;
        let handle = node.handle();
        for i in 0..35 {
            let committed = handle.propose(put(&format!("k{i}"))).await.expect("applied");
            assert_eq!(committed.outcome.revision, i + 2);
        }
        handle.read_barrier().await.expect("a leader of one answers");
        assert_eq!(shared.reader.current_revision(), 36);
        let status = handle.status();
        assert!(status.is_leader && status.leader == Some(MEMBER));
        node.stop().await;
        drop(shared);
        // Nothing flushed the database but the snapshots on the way: the rest is replayed.
        let (node, shared) = start(dir.path()).await;
        let handle = node.handle();
        handle.read_barrier().await.expect("recovered");
        assert_eq!(shared.reader.current_revision(), 36);
        assert_eq!(handle.cluster(), ClusterId(9));
        let committed = handle.propose(put("more")).await.expect("applied");
        assert_eq!(committed.outcome.revision, 37);
        node.stop().await;
    });
}

#[test]
fn snapshots_leave_files_and_shorten_the_log() {
    block_on(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let (node, _shared) = start(dir.path()).await;
        let handle = node.handle();
        let files = || {
            let names = std::fs::read_dir(dir.path().join("snap")).expect("list");
            names
                .filter(|name| {
                    let name = name.as_ref().expect("entry").file_name();
                    name.to_string_lossy().ends_with(".snap")
                })
                .count()
        };
        let mut i = 0;
        while files() < 2 || handle.log_cache().entries > 40 {
            handle.propose(put(&format!("k{i}"))).await.expect("applied");
            i += 1;
            assert!(i < 5000, "{} files, {:?}", files(), handle.log_cache());
        }
        node.stop().await;
    });
}

#[test]
fn proposals_after_the_stop_are_refused() {
    block_on(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let (node, _shared) = start(dir.path()).await;
        let handle = node.handle();
        handle.propose(put("a")).await.expect("applied");
        node.stop().await;
        let late = handle.propose(put("b")).await;
        assert_eq!(late.map(drop), Err(etcdrs_raft_glue::ProposeError::Stopped));
        assert!(handle.read_barrier().await.is_err());
    });
}

#[test]
fn a_database_without_its_log_is_refused() {
    block_on(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let (node, shared) = start(dir.path()).await;
        for i in 0..30 {
            node.handle().propose(put(&format!("k{i}"))).await.expect("applied");
        }
        node.stop().await;
        shared.backend().flush().expect("flush");
        drop(shared);
        std::fs::remove_dir_all(dir.path().join("wal")).expect("remove the log");
        let refused = try_start(dir.path()).await;
        assert!(matches!(refused.map(drop), Err(StartError::LogMissing { applied: 30.., .. })));
    });
}
