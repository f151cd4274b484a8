//! What a request asks for: the one visitor behind every decision.
//!
//! The table of v3-api.md §3.14 as code. Whoever decides (the API before a proposal, apply, the
//! gateway, Lock and Election) walks a request with this and nothing else, so no way in is
//! forgotten.

use bytes::Bytes;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::{KeyRange, LeaseId};

use crate::error::Refused;

/// One thing that a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// To read all keys of a range.
    Read(KeyRange),
    /// To write all keys of a range.
    Write(KeyRange),
    /// To read every key of a lease.
    ReadLease(LeaseId),
    /// To write every key of a lease.
    WriteLease(LeaseId),
    /// To be somebody.
    Somebody,
    /// To be this user, or root.
    User(String),
    /// To hold this role, or root.
    Role(String),
    /// To hold the role root.
    Root,
}

/// Which keys hang on a lease now.
pub trait LeaseKeys {
    /// The keys of `lease`; none if there is no such lease.
    fn keys(&self, lease: LeaseId) -> Vec<Bytes>;
}

/// Hands everything that a request needs to `visit`, and ends with its first refusal.
pub struct Needs<V>(pub V);

impl<V: FnMut(Need) -> Result<(), Refused>> Needs<V> {
    /// Range and RangeStream.
    ///
    /// # Errors
    ///
    /// The first that `visit` gives; so for all of these.
    pub fn range(&mut self, range: &pb::RangeRequest) -> Result<(), Refused> {
        self.read(&range.key, &range.range_end)
    }

    /// Put (AU-35).
    ///
    /// # Errors
    ///
    /// As [`Self::range`].
    pub fn put(&mut self, put: &pb::PutRequest) -> Result<(), Refused> {
        (self.0)(Need::Write(KeyRange::single(put.key.clone())))?;
        if put.prev_kv {
            (self.0)(Need::Read(KeyRange::single(put.key.clone())))?;
        }
        match LeaseId(put.lease) {
            LeaseId::NONE => Ok(()),
            // Whoever attaches a key can end the others with it.
            lease => (self.0)(Need::WriteLease(lease)),
        }
    }

    /// DeleteRange (AU-35).
    ///
    /// # Errors
    ///
    /// As [`Self::range`].
    pub fn delete(&mut self, delete: &pb::DeleteRangeRequest) -> Result<(), Refused> {
        let range = KeyRange::from_wire(delete.key.clone(), delete.range_end.clone());
        (self.0)(Need::Write(range.clone()))?;
        if delete.prev_kv { (self.0)(Need::Read(range)) } else { Ok(()) }
    }

    /// Txn: its compares and both branches, with all that is nested in them (AU-35).
    ///
    /// # Errors
    ///
    /// As [`Self::range`].
    pub fn txn(&mut self, txn: &pb::TxnRequest) -> Result<(), Refused> {
        use pb::request_op::Request;
        for compare in &txn.compare {
            self.read(&compare.key, &compare.range_end)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Request::RequestRange(range)) => self.range(range)?,
                Some(Request::RequestPut(put)) => self.put(put)?,
                Some(Request::RequestDeleteRange(delete)) => self.delete(delete)?,
                Some(Request::RequestTxn(nested)) => self.txn(nested)?,
                None => {}
            }
        }
        Ok(())
    }

    /// The range of a watcher, as it was read from the wire: a watcher is let in for that and
    /// nothing wider.
    ///
    /// # Errors
    ///
    /// As [`Self::range`].
    pub fn watch(&mut self, range: KeyRange) -> Result<(), Refused> {
        (self.0)(Need::Read(range))
    }

    /// LeaseRevoke and LeaseKeepAlive.
    ///
    /// # Errors
    ///
    /// As [`Self::range`].
    pub fn lease(&mut self, lease: LeaseId) -> Result<(), Refused> {
        (self.0)(Need::WriteLease(lease))
    }

    /// LeaseTimeToLive.
    ///
    /// # Errors
    ///
    /// As [`Self::range`].
    pub fn time_to_live(&mut self, request: &pb::LeaseTimeToLiveRequest) -> Result<(), Refused> {
        let lease = LeaseId(request.id);
        (self.0)(if request.keys { Need::ReadLease(lease) } else { Need::Somebody })
    }

    /// Everything that goes through the log. What is not named here needs root.
    ///
    /// # Errors
    ///
    /// As [`Self::range`].
    pub fn entry(&mut self, request: &pb::InternalRaftRequest) -> Result<(), Refused> {
        if let Some(put) = &request.put {
            self.put(put)
        } else if let Some(delete) = &request.delete_range {
            self.delete(delete)
        } else if let Some(txn) = &request.txn {
            self.txn(txn)
        } else if let Some(range) = &request.range {
            self.range(range)
        } else if request.lease_grant.is_some() {
            (self.0)(Need::Somebody)
        } else if let Some(revoke) = &request.lease_revoke {
            self.lease(LeaseId(revoke.id))
        } else if let Some(alarm) = &request.alarm
            && alarm.action() == pb::alarm_request::AlarmAction::Get
        {
            (self.0)(Need::Somebody)
        } else if let Some(get) = &request.auth_user_get {
            (self.0)(Need::User(get.name.clone()))
        } else if let Some(get) = &request.auth_role_get {
            (self.0)(Need::Role(get.role.clone()))
        } else {
            (self.0)(Need::Root)
        }
    }

    fn read(&mut self, key: &Bytes, range_end: &Bytes) -> Result<(), Refused> {
        (self.0)(Need::Read(KeyRange::from_wire(key.clone(), range_end.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(request: pb::InternalRaftRequest) -> Vec<Need> {
        let mut found = Vec::new();
        let visit = |need| {
            found.push(need);
            Ok(())
        };
        Needs(visit).entry(&request).expect("nothing refuses");
        found
    }

    fn single(key: &'static str) -> KeyRange {
        KeyRange::single(key)
    }

    fn op(request: pb::request_op::Request) -> pb::RequestOp {
        pb::RequestOp { request: Some(request) }
    }

    /// AU-35, GHSA-rfx7-8w68-q57q: nothing nested escapes.
    #[test]
    fn au_35_row_128_both_branches_and_all_that_is_nested() {
        use pb::request_op::Request;
        let put = pb::PutRequest {
            key: "p".into(),
            prev_kv: true,
            lease: 7,
            ..pb::PutRequest::default()
        };
        let delete =
            pb::DeleteRangeRequest { key: "d".into(), range_end: "e".into(), prev_kv: true };
        let range = pb::RangeRequest { key: "r".into(), ..pb::RangeRequest::default() };
        let compare = pb::Compare { key: "c".into(), ..pb::Compare::default() };
        let nested = pb::TxnRequest {
            compare: vec![pb::Compare { key: "n".into(), ..pb::Compare::default() }],
            success: vec![op(Request::RequestPut(put))],
            failure: vec![op(Request::RequestDeleteRange(delete))],
        };
        let txn = pb::TxnRequest {
            compare: vec![compare],
            success: vec![op(Request::RequestRange(range))],
            failure: vec![op(Request::RequestTxn(nested))],
        };
        let d = KeyRange::from_wire("d".into(), "e".into());
        let expected = [
            Need::Read(single("c")),
            Need::Read(single("r")),
            Need::Read(single("n")),
            Need::Write(single("p")),
            Need::Read(single("p")),
            Need::WriteLease(LeaseId(7)),
            Need::Write(d.clone()),
            Need::Read(d),
        ];
        let request = pb::InternalRaftRequest { txn: Some(txn), ..Default::default() };
        assert_eq!(needs(request), expected);
    }

    /// CVE-2026-33413: what nobody thought of needs root.
    #[test]
    fn row_130_what_is_not_named_needs_root() {
        assert_eq!(needs(pb::InternalRaftRequest::default()), [Need::Root]);
        let compact = pb::InternalRaftRequest {
            compaction: Some(pb::CompactionRequest::default()),
            ..Default::default()
        };
        assert_eq!(needs(compact), [Need::Root]);
        let alarm = |action: pb::alarm_request::AlarmAction| pb::InternalRaftRequest {
            alarm: Some(pb::AlarmRequest { action: action as i32, ..Default::default() }.into()),
            ..Default::default()
        };
        assert_eq!(needs(alarm(pb::alarm_request::AlarmAction::Get)), [Need::Somebody]);
        assert_eq!(needs(alarm(pb::alarm_request::AlarmAction::Activate)), [Need::Root]);
    }
}
