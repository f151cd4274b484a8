//! Requests that were sent to the leader, until their entries are applied here.
//!
//! The leader does not answer them: each carries an id in its header, as etcd's requests do, and
//! the member that sent it meets it again in its own log. The header stands last and has a fixed
//! length, so that the id is read without decoding the request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use prost::encoding::{decode_key, decode_varint};
use tokio::sync::oneshot;

use crate::propose::Committed;

/// `RequestHeader header = 100` with nothing but `uint64 ID = 1`, ten bytes as a varint.
const HEADER: [u8; 4] = [0xa2, 0x06, 0x0b, 0x08];
const ID_BYTES: usize = 10;
/// Ids have this bit, so that all take ten bytes.
const ID_BIT: u64 = 1 << 63;

/// Requests that wait for their entries. Cloneable.
#[derive(Clone)]
pub(crate) struct Forwarded(Arc<Inner>);

struct Inner {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Committed>>>,
    /// How many wait: read for each entry, so without the lock.
    count: AtomicUsize,
}

/// A request that waits. Dropping it forgets the request.
pub(crate) struct Ticket {
    pub(crate) committed: oneshot::Receiver<Committed>,
    id: u64,
    forwarded: Forwarded,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.forwarded.take(self.id);
    }
}

impl Forwarded {
    /// `seed` is random, so that ids of two lives of a member differ.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            // Room for 2^24 requests a second during four months before two lives could meet.
            next: AtomicU64::new((seed << 16) | ID_BIT),
            waiting: Mutex::default(),
            count: AtomicUsize::new(0),
        }))
    }

    /// Adds a header with a new id to `request`.
    pub(crate) fn register(&self, request: &[u8]) -> (Bytes, Ticket) {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed) | ID_BIT;
        let mut bytes = BytesMut::with_capacity(request.len() + HEADER.len() + ID_BYTES);
        bytes.put_slice(request);
        bytes.put_slice(&HEADER);
        prost::encoding::encode_varint(id, &mut bytes);
        let (sender, committed) = oneshot::channel();
        self.0.waiting.lock().insert(id, sender);
        self.0.count.fetch_add(1, Ordering::Release);
        (bytes.freeze(), Ticket { committed, id, forwarded: self.clone() })
    }

    /// Whether anybody waits.
    pub(crate) fn any(&self) -> bool {
        self.0.count.load(Ordering::Acquire) > 0
    }

    /// Tells whoever sent `request` from here what it did.
    pub(crate) fn applied(&self, request: &[u8], committed: impl FnOnce() -> Committed) {
        if let Some(waiting) = id_of(request).and_then(|id| self.take(id)) {
            // The client may have gone away.
            let _ = waiting.send(committed());
        }
    }

    /// Tells all that wait that nobody knows: a database took the place of what was applied here,
    /// and their entries may have come with it.
    pub(crate) fn overtaken(&self) {
        let mut waiting = self.0.waiting.lock();
        self.0.count.fetch_sub(waiting.len(), Ordering::Release);
        waiting.clear();
    }

    fn take(&self, id: u64) -> Option<oneshot::Sender<Committed>> {
        let taken = self.0.waiting.lock().remove(&id)?;
        self.0.count.fetch_sub(1, Ordering::Release);
        Some(taken)
    }
}

/// The id of a request that consists of one field and a header as [`Forwarded::register`] adds it.
fn id_of(request: &[u8]) -> Option<u64> {
    let mut rest = request;
    decode_key(&mut rest).ok()?;
    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    let mut id = rest.get(length..)?.strip_prefix(&HEADER)?;
    let found = decode_varint(&mut id).ok()?;
    id.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use etcdrs_platform::{OsRandom, Random as _};
    use etcdrs_proto::etcdserverpb as pb;
    use etcdrs_types::{LogIndex, Term};
    use prost::Message as _;

    use super::*;

    fn committed() -> Committed {
        let outcome =
            etcdrs_apply::Outcome { revision: 7, result: Ok(etcdrs_apply::Answer::Empty) };
        Committed { index: LogIndex(3), term: Term(2), outcome }
    }

    #[test]
    fn a_request_is_met_again_by_its_id() {
        let forwarded = Forwarded::new(u64::MAX);
        assert!(!forwarded.any());
        let put =
            pb::PutRequest { key: "k".into(), value: vec![7; 300].into(), ..Default::default() };
        let request = pb::InternalRaftRequest { put: Some(put.clone()), ..Default::default() };
        let (bytes, mut ticket) = forwarded.register(&request.encode_to_vec());
        let (other, dropped) = forwarded.register(&request.encode_to_vec());
        drop(dropped);
        assert!(forwarded.any());

        let decoded = pb::InternalRaftRequest::decode(bytes.clone()).expect("decodes");
        assert_eq!(decoded.put, Some(put));
        assert_eq!(decoded.header.map(|header| header.id), Some(ticket.id));

        forwarded.applied(&other, || panic!("nobody waits for it"));
        forwarded.applied(&request.encode_to_vec(), || panic!("it has no id"));
        forwarded.applied(&bytes, committed);
        assert_eq!(ticket.committed.try_recv().expect("told").index, LogIndex(3));
        assert!(!forwarded.any());

        let (bytes, mut ticket) = forwarded.register(&request.encode_to_vec());
        forwarded.overtaken();
        assert!(!forwarded.any() && ticket.committed.try_recv().is_err());
        forwarded.applied(&bytes, || panic!("nobody waits any more"));
    }

    /// U31: a million ids of three members with four lives each.
    #[test]
    fn u_31_ids_of_members_and_lives_differ() {
        const LIVES: usize = 12;
        const EACH: usize = 1_000_000_usize.div_ceil(LIVES);
        let mut ids = std::collections::HashSet::with_capacity(LIVES * EACH);
        for _ in 0..LIVES {
            let life = Forwarded::new(OsRandom.next_u64());
            for _ in 0..EACH {
                let (request, ticket) = life.register(&[0x22, 0]);
                assert_eq!(id_of(&request), Some(ticket.id));
                ids.insert(ticket.id);
            }
        }
        assert_eq!(ids.len(), LIVES * EACH);
    }

    #[test]
    fn what_is_no_request_has_no_id() {
        let header = [&HEADER[..], &[0xff; 9], &[1]].concat();
        assert_eq!(id_of(&[&[0x22, 0][..], &header].concat()), Some(u64::MAX));
        for bad in [&[][..], &[0x22], &[0x22, 5, 1], &[0x22, 0], &header] {
            assert_eq!(id_of(bad), None, "{bad:?}");
        }
        assert_eq!(id_of(&[&[0x22, 0][..], &header, &[0]].concat()), None);
    }
}
