//! etcd's protobuf messages and gRPC client stubs, generated from our own .proto files.
//!
//! Names, numbers and types are those of etcd 3.7 (`v3-api.md` §1, `storage-and-raft.md` §1.2), so
//! that bytes written by either side are read by the other. Invariants:
//!
//! - Every `bytes` field is a [`bytes::Bytes`]: decoding from one shares its buffer, never copies.
//! - The proto2 messages (`raftpb`, `walpb`, `snappb`, `etcdserverpb::Metadata`) write their scalars
//!   even when zero, as etcd up to 3.6 does, and read absent ones as zero.
//! - Rarely used fields of [`etcdserverpb::InternalRaftRequest`] are boxed, so that it stays small.
//! - `Debug` of a message with a password never shows it.
//!
//! There are no server stubs: the server dispatches by [`METHODS`].

mod secrets;

/// Declares a module of generated code. The lints are about code people write.
macro_rules! generated {
    ($(#[$doc:meta])* $module:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, unreachable_pub, rust_2018_idioms, clippy::all)]
        pub mod $module {
            include!(concat!("gen/", $file));
        }
    };
}

generated!(
    /// Keys, values and events.
    mvccpb,
    "mvccpb.rs"
);
generated!(
    /// Stored users, roles and permissions.
    authpb,
    "authpb.rs"
);
generated!(
    /// The client API, and what log entries hold.
    etcdserverpb,
    "etcdserverpb.rs"
);
generated!(
    /// Stored members and requests that change them.
    membershippb,
    "membershippb.rs"
);
generated!(
    /// Stored leases, and lease questions between members.
    leasepb,
    "leasepb.rs"
);
generated!(
    /// The lock service.
    v3lockpb,
    "v3lockpb.rs"
);
generated!(
    /// The election service.
    v3electionpb,
    "v3electionpb.rs"
);
generated!(
    /// Log entries, hard state, snapshots, configuration changes.
    raftpb,
    "raftpb.rs"
);
generated!(
    /// Records of the write-ahead log.
    walpb,
    "walpb.rs"
);
generated!(
    /// The wrapper of a `.snap` file.
    snappb,
    "snappb.rs"
);
generated!(
    /// `grpc.health.v1`, the standard health service.
    health,
    "grpc.health.v1.rs"
);

/// An encoded `google.protobuf.FileDescriptorSet` of all files, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");

/// One method of a gRPC service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// HTTP/2 `:path`, such as `/etcdserverpb.KV/Range`.
    pub path: &'static str,
    /// Full name of the service, such as `etcdserverpb.KV`.
    pub service: &'static str,
    /// Name within the service, such as `Range`.
    pub name: &'static str,
    /// The client sends any number of messages.
    pub client_streaming: bool,
    /// The server sends any number of messages.
    pub server_streaming: bool,
}

include!("gen/methods.rs");

#[cfg(test)]
mod tests;

/// Runs the example of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
