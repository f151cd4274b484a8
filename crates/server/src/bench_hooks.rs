//! Hot private functions, for `benches/`. Behind the feature `bench-hooks`, which no release build
//! turns on; nothing here is part of the API.

use bytes::Bytes;
use etcdrs_mvcc::{RangeQuery, RangeResult, Reader};
use etcdrs_proto::etcdserverpb as pb;
use tonic::Status;

use crate::api::dispatch::decode;
use crate::api::wire::Header;
use crate::api::{Request, check, encode, internal_request, kv};

/// Encodes the answer to a range as it leaves for the wire. What comes back keeps the bytes alive
/// and shows nothing.
#[must_use]
pub fn encode_range(result: &RangeResult) -> impl Sized + use<> {
    encode::range(&header(result.revision), result)
}

/// Reads and encodes a short list of what is in memory, which is the usual way of a list. `None`
/// if the query is none for it.
#[must_use]
pub fn splice_range(reader: &Reader, query: &RangeQuery) -> Option<impl Sized + use<>> {
    let mut list = encode::Splicer::default();
    let found = reader.splice(query, kv::INLINE_KEYS_MAX as usize, &mut list)?;
    Some(list.finish(&header(found.revision), found.more, found.count))
}

fn header(revision: i64) -> Header {
    Header { cluster_id: 1 << 60, member_id: 1 << 61, revision, raft_term: 2 }
}

/// What happens to a put between the wire and the log: decoded, checked, wrapped as the
/// `InternalRaftRequest` that is proposed.
///
/// # Errors
///
/// The status that the client would get.
pub fn wrap_put(raw: &Bytes) -> Result<Bytes, Status> {
    check::put(&decode::<pb::PutRequest>(raw)?)?;
    Ok(internal_request(Request::Put, raw))
}
