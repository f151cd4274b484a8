//! Calls about a member's own state. Use [`Client::at`] to say which member answers.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tonic::Streaming;

use crate::channel::Client;
use crate::error::Error;
use crate::pb;
use crate::retry::Rpc;

const STATUS: Rpc = Rpc::repeatable("/etcdserverpb.Maintenance/Status");
const ALARM: Rpc = Rpc::repeatable("/etcdserverpb.Maintenance/Alarm");
const HASH: Rpc = Rpc::repeatable("/etcdserverpb.Maintenance/Hash");
const HASH_KV: Rpc = Rpc::repeatable("/etcdserverpb.Maintenance/HashKV");
const SNAPSHOT: Rpc = Rpc::repeatable("/etcdserverpb.Maintenance/Snapshot");
const MOVE_LEADER: Rpc = Rpc::repeatable("/etcdserverpb.Maintenance/MoveLeader");
const DEFRAGMENT: Rpc = Rpc::once("/etcdserverpb.Maintenance/Defragment");

/// Bytes of the SHA-256 that ends a snapshot stream.
const TRAILER_BYTES: usize = 32;
/// The database in a snapshot is a whole number of these, so that a trailer can be told from it.
const SECTOR_BYTES: u64 = 512;

impl Client {
    /// The state of a member.
    ///
    /// # Errors
    /// As any call.
    pub async fn status(&self) -> Result<pb::StatusResponse, Error> {
        self.call(STATUS, pb::StatusRequest {}).await
    }

    /// Gives free space of a member's database back to the file system.
    ///
    /// # Errors
    /// As any call.
    pub async fn defragment(&self) -> Result<pb::DefragmentResponse, Error> {
        self.call(DEFRAGMENT, pb::DefragmentRequest {}).await
    }

    /// A hash over a member's whole database.
    ///
    /// # Errors
    /// As any call.
    pub async fn hash(&self) -> Result<pb::HashResponse, Error> {
        self.call(HASH, pb::HashRequest {}).await
    }

    /// A hash over a member's keys up to `revision`; 0 for the newest.
    ///
    /// # Errors
    /// Kinds `Compacted` and `FutureRevision`, else as any call.
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Error> {
        self.call(HASH_KV, pb::HashKvRequest { revision }).await
    }

    /// Reads, raises or clears alarms.
    ///
    /// # Errors
    /// As any call.
    pub async fn alarm(&self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Error> {
        self.call(ALARM, request).await
    }

    /// Every alarm that is raised.
    ///
    /// # Errors
    /// As any call.
    pub async fn alarms(&self) -> Result<pb::AlarmResponse, Error> {
        self.alarm(pb::AlarmRequest::default()).await
    }

    /// Makes another member the leader; to be sent to the present leader.
    ///
    /// # Errors
    /// Kind `FailedPrecondition`, else as any call.
    pub async fn move_leader(&self, target_id: u64) -> Result<pb::MoveLeaderResponse, Error> {
        self.call(MOVE_LEADER, pb::MoveLeaderRequest { target_id }).await
    }

    /// Downloads a member's database, with its SHA-256 behind it, as etcdctl saves it.
    ///
    /// # Errors
    /// As any call; the stream itself fails with kind `Corrupt` where the hash is wrong.
    pub async fn snapshot(&self) -> Result<SnapshotStream, Error> {
        let stream = self.server_stream(SNAPSHOT, pb::SnapshotRequest {}).await?;
        Ok(SnapshotStream { stream, check: Check::default(), version: String::new() })
    }
}

/// A database on its way. Not resumed when the connection breaks.
#[derive(Debug)]
pub struct SnapshotStream {
    stream: Streaming<pb::SnapshotResponse>,
    check: Check,
    version: String,
}

impl SnapshotStream {
    /// The next piece, `None` after the last one. All pieces make the file that etcdctl writes:
    /// the database, then its SHA-256. The hash has been checked when `None` comes.
    ///
    /// # Errors
    /// Kind `Corrupt` where the hash is missing or wrong, else as any call.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(answer) = self.stream.message().await? else {
                return self.check.finish().map(|()| None);
            };
            if !answer.version.is_empty() {
                self.version = answer.version;
            }
            if !answer.blob.is_empty() {
                self.check.update(&answer.blob);
                return Ok(Some(answer.blob));
            }
        }
    }

    /// The server's storage version, where it has sent one (3.6 and later).
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Bytes received so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.check.total
    }
}

/// Hashes all but the last bytes of a stream of unknown length: those are the trailer.
#[derive(Debug, Default)]
struct Check {
    hash: Sha256,
    /// The newest bytes, at most [`TRAILER_BYTES`], not hashed yet.
    tail: Vec<u8>,
    total: u64,
}

impl Check {
    fn update(&mut self, piece: &[u8]) {
        self.total += piece.len() as u64;
        let settled = (self.tail.len() + piece.len()).saturating_sub(TRAILER_BYTES);
        let from_tail = settled.min(self.tail.len());
        self.hash.update(&self.tail[..from_tail]);
        self.tail.drain(..from_tail);
        let from_piece = settled - from_tail;
        self.hash.update(&piece[..from_piece]);
        self.tail.extend_from_slice(&piece[from_piece..]);
    }

    fn finish(&mut self) -> Result<(), Error> {
        if self.total % SECTOR_BYTES != TRAILER_BYTES as u64 {
            return Err(Error::corrupt(format!(
                "sha256 checksum not found [bytes: {}]",
                self.total
            )));
        }
        let got = std::mem::take(&mut self.hash).finalize();
        if got[..] == self.tail[..] {
            return Ok(());
        }
        let want = &self.tail;
        Err(Error::corrupt(format!("expected sha256 {want:?}, got {:?}", &got[..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &[u8], piece: usize) -> Result<(), Error> {
        let mut check = Check::default();
        file.chunks(piece).for_each(|piece| check.update(piece));
        check.finish()
    }

    #[test]
    fn mt_05_a_snapshot_ends_with_its_hash_however_it_is_cut() {
        let mut file: Vec<u8> = (0..1024_u32).map(|byte| byte as u8).collect();
        let hash = Sha256::digest(&file);
        file.extend_from_slice(&hash);
        for piece in [1, 5, 31, 32, 33, 512, 1040, 2000] {
            check(&file, piece).expect("the hash is right");
        }
        file[3] ^= 1;
        assert!(check(&file, 100).unwrap_err().text().starts_with("expected sha256 ["));
        let error = check(&file[..1000], 100).unwrap_err();
        assert_eq!(error.text(), "sha256 checksum not found [bytes: 1000]");
    }
}
