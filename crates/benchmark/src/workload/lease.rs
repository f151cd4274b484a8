//! Leases.

use etcdrs_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest};
use prost::Message as _;

use super::{Call, Workload};
use crate::clock::Random;
use crate::http2::Keep;

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Grants leases.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Seconds.
    pub ttl: i64,
    /// Operation n grants lease `first_id + n`; with 0 the server chooses.
    pub first_id: i64,
}

impl Workload for Grant {
    fn classes(&self) -> &'static [&'static str] {
        &["grant"]
    }

    fn begin(&mut self, n: u64, _: usize, _: &mut Random, out: &mut Vec<u8>) -> Call {
        let id = if self.first_id == 0 { 0 } else { self.first_id + n as i64 };
        let request = LeaseGrantRequest { ttl: self.ttl, id };
        request.encode(out).expect("a Vec grows as needed");
        Call { path: GRANT, keep: Keep::Nothing }
    }
}

/// Renews leases, each client its own.
#[derive(Debug, Clone)]
pub struct KeepAlive {
    /// Client n renews lease `first_id + n`.
    pub first_id: i64,
    /// One stream per client instead of one per renewal.
    pub reuse_stream: bool,
}

impl Workload for KeepAlive {
    fn classes(&self) -> &'static [&'static str] {
        &["keep-alive"]
    }

    fn begin(&mut self, _: u64, client: usize, _: &mut Random, out: &mut Vec<u8>) -> Call {
        let request = LeaseKeepAliveRequest { id: self.first_id + client as i64 };
        request.encode(out).expect("a Vec grows as needed");
        Call { path: KEEP_ALIVE, keep: Keep::Nothing }
    }

    fn streaming(&self) -> Option<&'static str> {
        self.reuse_stream.then_some(KEEP_ALIVE)
    }
}
