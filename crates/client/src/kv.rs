//! Get, put, delete, compact.

use bytes::Bytes;
use etcdrs_types::KeyRange;

use crate::channel::Client;
use crate::error::{Error, ErrorKind};
use crate::pb;
use crate::pb::range_request::{SortOrder, SortTarget};
use crate::retry::Rpc;

const RANGE: Rpc = Rpc::repeatable("/etcdserverpb.KV/Range");
const RANGE_STREAM: Rpc = Rpc::repeatable("/etcdserverpb.KV/RangeStream");
const PUT: Rpc = Rpc::once("/etcdserverpb.KV/Put");
const DELETE: Rpc = Rpc::once("/etcdserverpb.KV/DeleteRange");
const COMPACT: Rpc = Rpc::once("/etcdserverpb.KV/Compact");

/// A read of one key or of a range.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Get(pb::RangeRequest);

impl Get {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::range(&KeyRange::single(key))
    }

    /// Every key that begins with `prefix`; all keys if it is empty.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        Self::range(&KeyRange::prefix(prefix.as_ref()))
    }

    /// A range of keys.
    pub fn range(range: &KeyRange) -> Self {
        let (key, range_end) = wire_range(range);
        Self(pb::RangeRequest { key, range_end, ..Default::default() })
    }

    /// At most this many keys; 0 for all.
    pub fn limit(mut self, keys: i64) -> Self {
        self.0.limit = keys;
        self
    }

    /// As of this revision instead of the newest.
    pub fn revision(mut self, revision: i64) -> Self {
        self.0.revision = revision;
        self
    }

    /// Sorted by the server.
    pub fn sort(mut self, target: SortTarget, order: SortOrder) -> Self {
        // Keys come in ascending order anyway; asking for it would make old servers sort again.
        if (target, order) != (SortTarget::Key, SortOrder::Ascend) {
            self.0.sort_target = target.into();
            self.0.sort_order = order.into();
        }
        self
    }

    /// From the asked member's own state, which may be behind.
    pub fn serializable(mut self) -> Self {
        self.0.serializable = true;
        self
    }

    /// Without values.
    pub fn keys_only(mut self) -> Self {
        self.0.keys_only = true;
        self
    }

    /// Only how many there are.
    pub fn count_only(mut self) -> Self {
        self.0.count_only = true;
        self
    }
}

impl From<pb::RangeRequest> for Get {
    fn from(request: pb::RangeRequest) -> Self {
        Self(request)
    }
}

impl From<Get> for pb::RangeRequest {
    fn from(get: Get) -> Self {
        get.0
    }
}

/// A write of one key.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Put(pb::PutRequest);

impl Put {
    /// Sets `key` to `value`.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self(pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() })
    }

    /// Attaches the key to a lease.
    pub fn lease(mut self, id: i64) -> Self {
        self.0.lease = id;
        self
    }

    /// Answers with what was there before.
    pub fn prev_kv(mut self) -> Self {
        self.0.prev_kv = true;
        self
    }

    /// Keeps the value and changes the lease only.
    pub fn ignore_value(mut self) -> Self {
        self.0.ignore_value = true;
        self
    }

    /// Keeps the lease and changes the value only.
    pub fn ignore_lease(mut self) -> Self {
        self.0.ignore_lease = true;
        self
    }
}

impl From<pb::PutRequest> for Put {
    fn from(request: pb::PutRequest) -> Self {
        Self(request)
    }
}

impl From<Put> for pb::PutRequest {
    fn from(put: Put) -> Self {
        put.0
    }
}

/// A removal of one key or of a range.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Delete(pb::DeleteRangeRequest);

impl Delete {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::range(&KeyRange::single(key))
    }

    /// Every key that begins with `prefix`; all keys if it is empty.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        Self::range(&KeyRange::prefix(prefix.as_ref()))
    }

    /// A range of keys.
    pub fn range(range: &KeyRange) -> Self {
        let (key, range_end) = wire_range(range);
        Self(pb::DeleteRangeRequest { key, range_end, ..Default::default() })
    }

    /// Answers with what was there before.
    pub fn prev_kv(mut self) -> Self {
        self.0.prev_kv = true;
        self
    }
}

impl From<pb::DeleteRangeRequest> for Delete {
    fn from(request: pb::DeleteRangeRequest) -> Self {
        Self(request)
    }
}

impl From<Delete> for pb::DeleteRangeRequest {
    fn from(delete: Delete) -> Self {
        delete.0
    }
}

/// The two byte strings of a request. A range that begins with the empty key begins with the
/// key `\0` on the wire, because an empty key is refused and nothing lies between them.
pub(crate) fn wire_range(range: &KeyRange) -> (Bytes, Bytes) {
    let key = if range.start.is_empty() && !range.is_single() {
        Bytes::from_static(&[0])
    } else {
        range.start.clone()
    };
    (key, range.wire_end())
}

impl Client {
    /// Reads keys.
    ///
    /// # Errors
    /// Kinds `Compacted` and `FutureRevision` for a revision that is not there, else as any call.
    pub async fn get(&self, get: impl Into<Get>) -> Result<pb::RangeResponse, Error> {
        self.call(RANGE, get.into().0).await
    }

    /// Reads keys through RangeStream (3.7), so that the server need not hold the whole answer,
    /// and puts the pieces together; an older server is asked in the ordinary way.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_in_pieces(&self, get: impl Into<Get>) -> Result<pb::RangeResponse, Error> {
        let request = get.into().0;
        let work = async {
            let mut stream = self.server_stream(RANGE_STREAM, request.clone()).await?;
            let mut whole = pb::RangeResponse::default();
            while let Some(piece) = stream.message().await? {
                let piece: pb::RangeStreamResponse = piece;
                let Some(piece) = piece.range_response else { continue };
                whole.kvs.extend(piece.kvs);
                whole.header = piece.header.or(whole.header);
                whole.more |= piece.more;
                whole.count = whole.count.max(piece.count);
            }
            Ok(whole)
        };
        let outcome: Result<_, Error> = self.within(self.timeout(), work).await;
        match outcome {
            Err(error) if error.kind() == ErrorKind::Unimplemented => self.get(request).await,
            outcome => outcome,
        }
    }

    /// Writes a key. Never sent twice.
    ///
    /// # Errors
    /// Kinds `LeaseNotFound`, `NoSpace`, `InvalidArgument`, else as any call; after `Unavailable`
    /// and `DeadlineExceeded` the key may or may not be written.
    pub async fn put(&self, put: impl Into<Put>) -> Result<pb::PutResponse, Error> {
        self.call(PUT, put.into().0).await
    }

    /// Removes keys. Never sent twice.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn delete(
        &self,
        delete: impl Into<Delete>,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        self.call(DELETE, delete.into().0).await
    }

    /// Forgets history before `revision`; with `physical` the answer comes after the data is gone.
    ///
    /// # Errors
    /// Kinds `Compacted` and `FutureRevision`, else as any call.
    pub async fn compact(
        &self,
        revision: i64,
        physical: bool,
    ) -> Result<pb::CompactionResponse, Error> {
        self.call(COMPACT, pb::CompactionRequest { revision, physical }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kr_ranges_are_written_as_etcd_writes_them() {
        let wire = |get: Get| {
            (pb::RangeRequest::from(get.clone()).key, pb::RangeRequest::from(get).range_end)
        };
        assert_eq!(wire(Get::key("a")), ("a".into(), "".into()));
        assert_eq!(wire(Get::prefix("a")), ("a".into(), "b".into()));
        assert_eq!(wire(Get::prefix("")), ("\0".into(), "\0".into()));
        assert_eq!(wire(Get::prefix([0xff])), (Bytes::from_static(&[0xff]), "\0".into()));
    }

    #[test]
    fn ascending_keys_need_no_sort() {
        let get = Get::prefix("a").sort(SortTarget::Key, SortOrder::Ascend);
        assert_eq!(get, Get::prefix("a"));
        let get =
            pb::RangeRequest::from(Get::prefix("a").sort(SortTarget::Key, SortOrder::Descend));
        assert_eq!(get.sort_order(), SortOrder::Descend);
    }
}
