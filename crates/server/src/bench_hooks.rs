//! Hot private functions, for `benches/`. Behind the feature `bench-hooks`, which no release build
//! turns on; nothing here is part of the API.

use bytes::Bytes;
use etcdrs_mvcc::RangeResult;
use etcdrs_proto::etcdserverpb as pb;
use tonic::Status;

use crate::api::dispatch::decode;
use crate::api::wire::Header;
use crate::api::{Request, check, encode, internal_request};

/// Encodes the answer to a range as it leaves for the wire. What comes back keeps the bytes alive
/// and shows nothing.
#[must_use]
pub fn encode_range(result: &RangeResult) -> impl Sized + use<> {
    let header =
        Header { cluster_id: 1 << 60, member_id: 1 << 61, revision: result.revision, raft_term: 2 };
    encode::range(&header, result)
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
