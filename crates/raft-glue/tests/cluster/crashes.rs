//! A loss of power after every single change of the log's files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcdrs_apply::{Machine, Shared};
use etcdrs_backend::Backend;
use etcdrs_platform::{Fs as _, SimFs};
use etcdrs_raft_glue::{Config, NoPeers, Node, StartError};
use etcdrs_types::{MemberId, Term};
use etcdrs_wal as wal;

use crate::common::{self, block_on, put};
use crate::members::{machine_options, within};

const MEMBER: MemberId = MemberId(7);
const PUTS: i64 = 24;
/// Starts that are tried: each opens a database.
const STARTS_MAX: usize = 70;

/// Small segments, so that some are cut; no snapshots, so that every log fits an old database.
fn config(dir: &Path) -> Config {
    let wal = wal::Options {
        segment_bytes: 2048,
        prepare: wal::Prepare::Allocate,
        ..wal::Options::default()
    };
    Config { snapshot_count: u64::MAX, wal, ..common::config(dir, MEMBER, &[MEMBER]) }
}

async fn start(fs: SimFs, dir: &Path, db: &Path) -> Result<(Node<SimFs>, Shared), StartError> {
    let backend = Backend::open(db, &Default::default()).expect("open backend");
    let opened = Machine::open(backend, machine_options()).expect("open machine");
    let shared = opened.machine.shared();
    let node = Node::start(fs, config(dir), opened, Arc::new(NoPeers)).await?;
    Ok((node, shared))
}

fn disk(dir: &Path) -> SimFs {
    let fs = SimFs::seeded(4);
    fs.create_dir_all(dir, 0o700).expect("made");
    for above in dir.ancestors() {
        fs.sync_dir(above).expect("synced");
    }
    fs
}

fn copy(from: &Path, to: PathBuf) -> PathBuf {
    std::fs::create_dir(&to).expect("made");
    for file in std::fs::read_dir(from).expect("listed") {
        let file = file.expect("an entry");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
    to
}

/// R04, R23: at whatever change of the log the power goes, the member starts, has everything that
/// it acknowledged and nothing that nobody asked for, and does not vote twice in a term.
#[test]
fn r_04_a_loss_of_power_at_every_change_leaves_a_legal_start() {
    block_on(async {
        let folder = tempfile::tempdir().expect("temp dir");
        let dir = folder.path();
        // The database as it is before the log: it knows its members and nothing else.
        let seeded = dir.join("seeded");
        let full = disk(dir);
        full.fail_write(1);
        let refused = start(full, dir, &seeded).await.map(drop).expect_err("no log can be made");
        assert!(matches!(refused, StartError::CreateLog { .. }), "{refused}");

        let fs = disk(dir);
        fs.record_crashes();
        let db = copy(&seeded, dir.join("db"));
        let (node, shared) = start(fs.clone(), dir, &db).await.expect("starts");
        let handle = node.handle();
        // Each with the revision and the term that were known to others before.
        let mut images = Vec::new();
        let (mut acknowledged, mut term) = (1, Term(0));
        for i in 0..PUTS {
            let value = "v".repeat(300);
            let done = within(handle.propose(put(&format!("k{i}{value}")))).await.expect("applied");
            images.extend(fs.take_crashes().into_iter().map(|image| (image, acknowledged, term)));
            (acknowledged, term) = (done.outcome.revision, handle.status().term);
        }
        images.extend((0..5).map(|_| (fs.crash(), acknowledged, term)));
        node.stop().await;
        drop(shared);

        let step = images.len().div_ceil(STARTS_MAX);
        println!("{} losses of power, every {step}th is tried", images.len());
        assert!(images.len() > 80, "{}", images.len());
        let tried = images.into_iter().enumerate().rev().step_by(step);
        for (n, (image, acknowledged, term)) in tried {
            let db = copy(&seeded, dir.join(format!("db{n}")));
            let (node, shared) = start(image, dir, &db).await.unwrap_or_else(|error| {
                panic!("loss {n}: {error}");
            });
            let handle = node.handle();
            within(handle.read_barrier()).await.expect("it leads");
            let revision = shared.reader.current_revision();
            assert!((acknowledged..=1 + PUTS).contains(&revision), "loss {n}: {revision}");
            assert!(handle.status().term > term, "loss {n}: term {term:?} again");
            let after = within(handle.propose(put("after"))).await.expect("applied");
            assert_eq!(after.outcome.revision, revision + 1, "loss {n}");
            node.stop().await;
            drop(shared);
        }
    });
}
