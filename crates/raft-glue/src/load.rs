//! Opening what lies on disk: the log, from where the database stands.

use std::collections::VecDeque;

use bytes::Bytes;
use etcdrs_apply as apply;
use etcdrs_platform::Fs;
use etcdrs_platform::failpoint::strikes;
use etcdrs_snap as snap;
use etcdrs_types::{LogIndex, MemberId, Term};
use etcdrs_wal as wal;
use prost::Message as _;
use tokio::sync::oneshot;

use crate::error::StartError;
use crate::log_store::Found;
use crate::node::Config;
use crate::runtime::Platform;
use crate::types::{self, MembershipRecord};

pub(crate) struct Loaded<F: Fs> {
    pub(crate) writer: wal::Writer,
    pub(crate) found: Found,
    pub(crate) metadata: wal::Metadata,
    pub(crate) machine: apply::Machine,
    pub(crate) membership: MembershipRecord,
    pub(crate) store: snap::Store<F>,
}

pub(crate) async fn load<F: Fs>(
    platform: &Platform<F>,
    config: &Config,
    opened: apply::Opened,
) -> Result<Loaded<F>, StartError> {
    let Platform { fs, threads, .. } = platform;
    let mut machine = opened.machine;
    let store = snap::Store::open(fs.clone(), &config.snap_dir)?;
    let dir = config.wal_dir.clone();
    // Damaged files are set aside here; the database is what a start reads.
    match store.newest() {
        Ok(_) | Err(snap::Error::NoSnapshot) => {}
        Err(error) => return Err(error.into()),
    }
    let exists = wal::Wal::exists(fs, &dir)
        .map_err(|source| wal::OpenError::Io { path: dir.clone(), source })
        .map_err(|source| StartError::OpenLog { dir: dir.clone(), source })?;
    let applied = machine.applied().0;
    if !exists && applied.0 > 0 {
        return Err(StartError::LogMissing { dir, applied: applied.0 });
    }
    let membership = membership(&mut machine, opened.membership, config, exists)?;
    if !exists {
        let metadata = wal::Metadata { node_id: config.member, cluster_id: config.cluster };
        let log = wal::Wal::create(fs.clone(), &dir, &metadata, config.wal.clone())
            .map_err(|source| StartError::CreateLog { dir: dir.clone(), source })?;
        let found = Found {
            purged: types::log_id(0, 0),
            entries: VecDeque::new(),
            hard_state: wal::HardState::default(),
        };
        let writer = threads.write(log).map_err(StartError::Thread)?;
        return Ok(Loaded { writer, found, metadata, machine, membership, store });
    }
    // A mark is written after the flush it speaks of, so none above the database is there.
    let from = wal::StartAt::NewestAtOrBelow(applied);
    let opened = wal::Wal::open(fs.clone(), &dir, &from, config.wal.clone())
        .map_err(|source| StartError::OpenLog { dir: dir.clone(), source })?;
    let content = opened.content;
    let purged = types::log_id(content.base.term.0, content.base.index.0);
    let mut entries = content
        .entries
        .into_iter()
        .map(types::from_wal)
        .collect::<Result<VecDeque<_>, _>>()
        .map_err(StartError::Entry)?;
    if strikes("planted-forgotten-tail", 0) {
        let known = applied.0.max(content.hard_state.commit.0);
        entries.retain(|entry| entry.log_id.index <= known);
    }
    let last = entries.back().map_or(purged.index, |entry| entry.log_id.index);
    if applied.0 > last {
        return Err(StartError::LogBehind { applied: applied.0, last });
    }
    if applied.0 < purged.index {
        return Err(StartError::DatabaseBehind { applied: applied.0, purged: purged.index });
    }
    let mut found = Found { purged, entries, hard_state: content.hard_state };
    let writer = threads.write(opened.wal).map_err(StartError::Thread)?;
    if config.force_new {
        force_new(&mut found, &writer, content.metadata.node_id).await?;
    }
    Ok(Loaded { writer, found, metadata: content.metadata, machine, membership, store })
}

/// The membership of the database, or the one that a new cluster begins with.
fn membership(
    machine: &mut apply::Machine,
    stored: Option<Bytes>,
    config: &Config,
    log_exists: bool,
) -> Result<MembershipRecord, StartError> {
    match stored {
        Some(bytes) => MembershipRecord::decode(bytes)
            .map_err(|error| StartError::Entry(format!("stored membership: {error}"))),
        // The members are durable before the log exists, so this is another database.
        None if log_exists => {
            let path = machine.shared().backend().path().to_path_buf();
            Err(StartError::DatabaseMissing { path })
        }
        None => {
            let record = MembershipRecord::seed(config.voters.iter().map(|id| id.0));
            // Durable before the log exists: a log whose members are unknown could never start.
            machine.seed_membership(&record.encode_to_vec())?;
            Ok(record)
        }
    }
}

/// Makes this member the only one, whatever the others may think: what is not known to be
/// committed goes, and an entry behind it says who is left. Durable before anything is served.
async fn force_new(
    found: &mut Found,
    writer: &wal::Writer,
    member: MemberId,
) -> Result<(), StartError> {
    let commit = found.hard_state.commit.0.max(found.purged.index);
    found.entries.retain(|entry| entry.log_id.index <= commit);
    let last = found.entries.back().map_or(found.purged, |entry| entry.log_id);
    // The term of a vote is at least that of the last entry, and no other member has an entry of
    // this term here: it would be this one that led.
    let term = found.hard_state.vote.term.0.max(types::term_of(&last)) + 1;
    let record = MembershipRecord::seed([member.0].into_iter());
    let entry = types::forced(types::log_id(term, last.index + 1), &record);
    let vote = wal::Vote { term: Term(term), member, committed: false };
    let commit = LogIndex(entry.log_id.index);
    let batch = wal::Batch {
        vote: Some(vote),
        entries: vec![types::to_wal(&entry)],
        commit: Some(commit),
        mark: None,
    };
    let (done, written) = oneshot::channel();
    writer.submit(batch, move |result| {
        // Whoever waits is below.
        let _ = done.send(result);
    });
    let result = written.await.map_err(|_| StartError::Entry("the log's writer ended".into()))?;
    result.map_err(|error| StartError::Entry(error.to_string()))?;
    found.entries.push_back(entry);
    found.hard_state = wal::HardState { vote, commit };
    Ok(())
}
