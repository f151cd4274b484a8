//! What the tests of one member and of several share.

use std::path::Path;
use std::time::Duration;

use etcdrs_proto::etcdserverpb as pb;
use etcdrs_raft_glue::Config;
use etcdrs_types::{ClusterId, MemberId};
use prost::Message as _;

/// Settings of a member that makes snapshots often and keeps little behind them.
pub(crate) fn config(dir: &Path, member: MemberId, voters: &[MemberId]) -> Config {
    Config {
        member,
        cluster: ClusterId(9),
        voters: voters.to_vec(),
        force_new: false,
        wal_dir: dir.join("wal"),
        snap_dir: dir.join("snap"),
        heartbeat: Duration::from_millis(100),
        election: Duration::from_millis(1000),
        pre_vote: true,
        snapshot_count: 10,
        catchup_entries: 5,
        hold_log: Duration::ZERO,
        log_cache_bytes_max: 1 << 20,
        snaps_max: 2,
        wals_max: 2,
        warn_apply: Duration::from_secs(10),
        wal: etcdrs_wal::Options {
            prepare: etcdrs_wal::Prepare::Allocate,
            ..etcdrs_wal::Options::default()
        },
    }
}

/// An encoded request that puts `key`.
pub(crate) fn put(key: &str) -> bytes::Bytes {
    let put =
        pb::PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
    pb::InternalRaftRequest { put: Some(put), ..Default::default() }.encode_to_vec().into()
}

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(test);
}
