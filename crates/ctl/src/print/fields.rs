//! `-w fields`: `"Name" : value` lines.

use std::fmt::{Display, Write};

use etcdrs_client::mvccpb::{Event, KeyValue, event::EventType};
use etcdrs_client::pb;

use crate::go;
use crate::print::{Answer, Health, alarm_name};

pub(super) fn render(answer: &Answer<'_>, hex: bool) -> Option<String> {
    let mut page = Page { out: String::new(), hex };
    match answer {
        Answer::Put(response) => page.put(response),
        Answer::Get { response, .. } => page.get(response),
        Answer::Delete(response) => page.delete(response),
        Answer::Txn(response) => page.txn(response),
        Answer::Watch(response) => {
            page.header(response.header.as_ref());
            response.events.iter().for_each(|event| page.event(event));
        }
        Answer::Grant(response) => {
            page.header(response.header.as_ref());
            page.lease("ID", response.id);
            page.field("TTL", response.ttl);
        }
        Answer::Revoke { response, .. } => page.header(response.header.as_ref()),
        Answer::TimeToLive { response, .. } => {
            page.header(response.header.as_ref());
            page.lease("ID", response.id);
            page.field("TTL", response.ttl);
            page.field("GrantedTTL", response.granted_ttl);
            response.keys.iter().for_each(|key| page.field("Key", go::quote(key)));
        }
        Answer::KeepAlive(response) => {
            page.header(response.header.as_ref());
            page.lease("ID", response.id);
            page.field("TTL", response.ttl);
        }
        Answer::Leases(response) => {
            page.header(response.header.as_ref());
            response.leases.iter().for_each(|lease| page.lease("ID", lease.id));
        }
        Answer::MemberList(response) => page.members(response),
        Answer::Health(checks) => checks.iter().for_each(|check| page.health(check)),
        Answer::Status(all) => all.iter().for_each(|(name, status)| page.status(name, status)),
        Answer::HashKv(all) => all.iter().for_each(|(name, answer)| page.hash_kv(name, answer)),
        Answer::Alarms(response) => {
            page.header(response.header.as_ref());
            for alarm in &response.alarms {
                page.id("MemberID", alarm.member_id);
                page.field("AlarmType", alarm_name(alarm.alarm));
                page.out.push('\n');
            }
        }
        Answer::MemberAdd { .. }
        | Answer::MemberRemove { .. }
        | Answer::MemberUpdate { .. }
        | Answer::MemberPromote { .. }
        | Answer::MoveLeader { .. } => return None,
    }
    Some(page.out)
}

struct Page {
    out: String,
    hex: bool,
}

impl Page {
    fn field(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.out, "\"{name}\" : {value}");
    }

    fn quoted(&mut self, name: &str, value: &str) {
        self.field(name, go::quote(value.as_bytes()));
    }

    /// A member's or cluster's id.
    fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    /// A lease's id.
    fn lease(&mut self, name: &str, id: i64) {
        if self.hex { self.field(name, format_args!("{id:016x}")) } else { self.field(name, id) }
    }

    fn header(&mut self, header: Option<&pb::ResponseHeader>) {
        let header = header.cloned().unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        // Since 3.6: an answer without a revision shows none.
        if header.revision != 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    fn pair(&mut self, prefix: &str, kv: &KeyValue) {
        self.field(&format!("{prefix}Key"), go::quote(&kv.key));
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.field(&format!("{prefix}Value"), go::quote(&kv.value));
        self.lease(&format!("{prefix}Lease"), kv.lease);
    }

    fn put(&mut self, response: &pb::PutResponse) {
        self.header(response.header.as_ref());
        if let Some(kv) = &response.prev_kv {
            self.pair("Prev", kv);
        }
    }

    fn get(&mut self, response: &pb::RangeResponse) {
        self.header(response.header.as_ref());
        response.kvs.iter().for_each(|kv| self.pair("", kv));
        self.field("More", response.more);
        self.field("Count", response.count);
    }

    fn delete(&mut self, response: &pb::DeleteRangeResponse) {
        self.header(response.header.as_ref());
        self.field("Deleted", response.deleted);
        response.prev_kvs.iter().for_each(|kv| self.pair("Prev", kv));
    }

    fn txn(&mut self, response: &pb::TxnResponse) {
        self.header(response.header.as_ref());
        self.field("Succeeded", response.succeeded);
        for op in &response.responses {
            use pb::response_op::Response;
            match &op.response {
                Some(Response::ResponsePut(put)) => self.put(put),
                Some(Response::ResponseRange(get)) => self.get(get),
                Some(Response::ResponseDeleteRange(delete)) => self.delete(delete),
                Some(Response::ResponseTxn(txn)) => self.txn(txn),
                None => {}
            }
        }
    }

    fn event(&mut self, event: &Event) {
        self.field(
            "Type",
            match event.r#type() {
                EventType::Put => "PUT",
                EventType::Delete => "DELETE",
            },
        );
        if let Some(kv) = &event.prev_kv {
            self.pair("Prev", kv);
        }
        if let Some(kv) = &event.kv {
            self.pair("", kv);
        }
    }

    fn members(&mut self, response: &pb::MemberListResponse) {
        self.header(response.header.as_ref());
        for member in &response.members {
            self.id("ID", member.id);
            self.quoted("Name", &member.name);
            member.peer_urls.iter().for_each(|url| self.quoted("PeerURL", url));
            member.client_urls.iter().for_each(|url| self.quoted("ClientURL", url));
            self.field("IsLearner", member.is_learner);
            self.out.push('\n');
        }
    }

    fn health(&mut self, check: &Health) {
        self.quoted("Endpoint", &check.endpoint);
        self.field("Health", check.healthy);
        self.field("Took", go::format_duration(check.took));
        self.field("Error", &check.error);
        self.out.push('\n');
    }

    fn status(&mut self, endpoint: &str, status: &pb::StatusResponse) {
        self.header(status.header.as_ref());
        self.quoted("Version", &status.version);
        self.quoted("StorageVersion", &status.storage_version);
        self.field("DBSize", status.db_size);
        self.field("DBSizeInUse", status.db_size_in_use);
        self.field("DBSizeQuota", status.db_size_quota);
        self.id("Leader", status.leader);
        self.field("IsLearner", status.is_learner);
        self.field("RaftIndex", status.raft_index);
        self.field("RaftTerm", status.raft_term);
        self.field("RaftAppliedIndex", status.raft_applied_index);
        self.field("Errors", format_args!("[{}]", status.errors.join(" ")));
        self.quoted("Endpoint", endpoint);
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        self.quoted("DowngradeTargetVersion", &downgrade.target_version);
        self.field("DowngradeEnabled", downgrade.enabled);
        self.out.push('\n');
    }

    fn hash_kv(&mut self, endpoint: &str, answer: &pb::HashKvResponse) {
        self.header(answer.header.as_ref());
        self.quoted("Endpoint", endpoint);
        self.field("Hash", answer.hash);
        self.field("HashRevision", answer.hash_revision);
        self.out.push('\n');
    }
}
