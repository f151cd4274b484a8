//! `-w json`: one line, as Go's encoding/json writes etcd's structs: names as in the .proto files,
//! zero values left out, byte strings in base64, 64-bit numbers as plain numbers.

mod object;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use etcdrs_client::mvccpb::{Event, KeyValue};
use etcdrs_client::pb;

use crate::go;
use crate::print::Answer;
use crate::print::json::object::{Object, array, string};

pub(super) fn render(answer: &Answer<'_>, hex: bool) -> String {
    let ids = Ids { hex: false };
    let member_ids = Ids { hex };
    let mut line = match answer {
        Answer::Put(response) => put(response),
        Answer::Get { response, .. } => get(response),
        Answer::Delete(response) => delete(response),
        Answer::Txn(response) => txn(response),
        Answer::Watch(response) => watch(response),
        Answer::Grant(response) => ids
            .flat(response.header.as_ref())
            .always("ID", response.id)
            .always("TTL", response.ttl)
            .always("Error", string(&response.error))
            .close(),
        Answer::Revoke { response, .. } => ids.only_header(response.header.as_ref()),
        Answer::TimeToLive { response, .. } => ids.time_to_live(response),
        Answer::KeepAlive(response) => ids
            .flat(response.header.as_ref())
            .always("ID", response.id)
            .always("TTL", response.ttl)
            .close(),
        Answer::Leases(response) => {
            let leases =
                response.leases.iter().map(|lease| Object::new().always("id", lease.id).close());
            ids.flat(response.header.as_ref()).always("leases", array(leases)).close()
        }
        Answer::MemberList(_)
        | Answer::MemberAdd { .. }
        | Answer::MemberRemove { .. }
        | Answer::MemberUpdate { .. }
        | Answer::MemberPromote { .. } => member_ids.about_members(answer),
        Answer::Health(checks) => array(checks.iter().map(|check| {
            Object::new()
                .always("endpoint", string(&check.endpoint))
                .always("health", check.healthy)
                .always("took", string(&go::format_duration(check.took)))
                .text("error", &check.error)
                .close()
        })),
        Answer::Status(all) => array(all.iter().map(|(endpoint, answer)| {
            let endpoint = string(endpoint);
            Object::new().always("Endpoint", endpoint).always("Status", status(answer)).close()
        })),
        Answer::HashKv(all) => array(all.iter().map(|(endpoint, answer)| {
            let endpoint = string(endpoint);
            Object::new().always("Endpoint", endpoint).always("HashKV", hash_kv(answer)).close()
        })),
        Answer::Alarms(response) => {
            let alarms = response.alarms.iter().map(|alarm| {
                Object::new()
                    .number("memberID", alarm.member_id)
                    .number("alarm", alarm.alarm)
                    .close()
            });
            ids.headed(response.header.as_ref()).list("alarms", alarms).close()
        }
        Answer::MoveLeader { response, .. } => ids.only_header(response.header.as_ref()),
    };
    line.push('\n');
    line
}

/// A JSON string, for what is written outside of answers.
pub(crate) fn json_string(text: &str) -> String {
    string(text)
}

/// How ids of members and clusters are written.
#[derive(Clone, Copy)]
struct Ids {
    hex: bool,
}

const DECIMAL: Ids = Ids { hex: false };

impl Ids {
    fn id(self, object: Object, name: &str, id: u64) -> Object {
        match (self.hex, id) {
            (true, id) => object.always(name, string(&format!("{id:x}"))),
            (false, id) => object.number(name, id),
        }
    }

    /// The header's members, as the beginning of an object.
    fn flat(self, header: Option<&pb::ResponseHeader>) -> Object {
        let Some(header) = header else { return Object::new() };
        let object = self.id(Object::new(), "cluster_id", header.cluster_id);
        let object = self.id(object, "member_id", header.member_id);
        object.number("revision", header.revision).number("raft_term", header.raft_term)
    }

    /// An object that begins with the header.
    fn headed(self, header: Option<&pb::ResponseHeader>) -> Object {
        let header = header.map(|header| self.flat(Some(header)).close());
        Object::new().maybe("header", header)
    }

    fn only_header(self, header: Option<&pb::ResponseHeader>) -> String {
        self.headed(header).close()
    }

    fn member(self, member: &pb::Member) -> String {
        self.id(Object::new(), "ID", member.id)
            .text("name", &member.name)
            .list("peerURLs", member.peer_urls.iter().map(|url| string(url)))
            .list("clientURLs", member.client_urls.iter().map(|url| string(url)))
            .truth("isLearner", member.is_learner)
            .close()
    }

    /// The answers about members, the only ones whose ids `--hex` changes.
    fn about_members(self, answer: &Answer<'_>) -> String {
        let (header, new, members) = match answer {
            Answer::MemberList(response) => (&response.header, None, &response.members),
            Answer::MemberAdd { response, .. } => {
                (&response.header, response.member.as_ref(), &response.members)
            }
            Answer::MemberRemove { response, .. } => (&response.header, None, &response.members),
            Answer::MemberUpdate { response, .. } => (&response.header, None, &response.members),
            Answer::MemberPromote { response, .. } => (&response.header, None, &response.members),
            _ => return String::new(),
        };
        self.with_members(header.as_ref(), new, members)
    }

    fn with_members(
        self,
        header: Option<&pb::ResponseHeader>,
        new: Option<&pb::Member>,
        members: &[pb::Member],
    ) -> String {
        self.headed(header)
            .maybe("member", new.map(|member| self.member(member)))
            .list("members", members.iter().map(|member| self.member(member)))
            .close()
    }

    fn time_to_live(self, response: &pb::LeaseTimeToLiveResponse) -> String {
        let keys = match response.keys.as_slice() {
            [] => "null".to_owned(),
            keys => array(keys.iter().map(|key| base64(key))),
        };
        self.flat(response.header.as_ref())
            .always("id", response.id)
            .always("ttl", response.ttl)
            .always("granted-ttl", response.granted_ttl)
            .always("keys", keys)
            .close()
    }
}

fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(bytes))
}

fn maybe_base64(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| base64(bytes))
}

fn pair(kv: &KeyValue) -> String {
    Object::new()
        .maybe("key", maybe_base64(&kv.key))
        .number("create_revision", kv.create_revision)
        .number("mod_revision", kv.mod_revision)
        .number("version", kv.version)
        .maybe("value", maybe_base64(&kv.value))
        .number("lease", kv.lease)
        .close()
}

fn put(response: &pb::PutResponse) -> String {
    DECIMAL
        .headed(response.header.as_ref())
        .maybe("prev_kv", response.prev_kv.as_ref().map(pair))
        .close()
}

fn get(response: &pb::RangeResponse) -> String {
    DECIMAL
        .headed(response.header.as_ref())
        .list("kvs", response.kvs.iter().map(pair))
        .truth("more", response.more)
        .number("count", response.count)
        .close()
}

fn delete(response: &pb::DeleteRangeResponse) -> String {
    DECIMAL
        .headed(response.header.as_ref())
        .number("deleted", response.deleted)
        .list("prev_kvs", response.prev_kvs.iter().map(pair))
        .close()
}

fn txn(response: &pb::TxnResponse) -> String {
    let responses = response.responses.iter().map(|op| {
        use pb::response_op::Response;
        let (name, body) = match &op.response {
            Some(Response::ResponseRange(response)) => ("response_range", get(response)),
            Some(Response::ResponsePut(response)) => ("response_put", put(response)),
            Some(Response::ResponseDeleteRange(response)) => {
                ("response_delete_range", delete(response))
            }
            Some(Response::ResponseTxn(response)) => ("response_txn", txn(response)),
            None => return Object::new().always("Response", "null").close(),
        };
        Object::new().always("Response", Object::new().always(name, body).close()).close()
    });
    DECIMAL
        .headed(response.header.as_ref())
        .truth("succeeded", response.succeeded)
        .list("responses", responses)
        .close()
}

/// The one answer that is not the message but a struct of the client library, hence the names.
fn watch(response: &pb::WatchResponse) -> String {
    let header = response.header.as_ref().map(|header| DECIMAL.flat(Some(header)).close());
    Object::new()
        .always("Header", header.unwrap_or_else(|| "null".to_owned()))
        .always("Events", array(response.events.iter().map(event)))
        .always("CompactRevision", response.compact_revision)
        .always("Canceled", response.canceled)
        .always("Created", response.created)
        .always("CancelReason", string(&response.cancel_reason))
        .close()
}

fn event(event: &Event) -> String {
    Object::new()
        .number("type", event.r#type)
        .maybe("kv", event.kv.as_ref().map(pair))
        .maybe("prev_kv", event.prev_kv.as_ref().map(pair))
        .close()
}

fn status(status: &pb::StatusResponse) -> String {
    let downgrade = status.downgrade_info.as_ref().map(|info| {
        Object::new()
            .truth("enabled", info.enabled)
            .text("targetVersion", &info.target_version)
            .close()
    });
    DECIMAL
        .headed(status.header.as_ref())
        .text("version", &status.version)
        .number("dbSize", status.db_size)
        .number("leader", status.leader)
        .number("raftIndex", status.raft_index)
        .number("raftTerm", status.raft_term)
        .number("raftAppliedIndex", status.raft_applied_index)
        .list("errors", status.errors.iter().map(|error| string(error)))
        .number("dbSizeInUse", status.db_size_in_use)
        .truth("isLearner", status.is_learner)
        .text("storageVersion", &status.storage_version)
        .number("dbSizeQuota", status.db_size_quota)
        .maybe("downgradeInfo", downgrade)
        .close()
}

fn hash_kv(answer: &pb::HashKvResponse) -> String {
    DECIMAL
        .headed(answer.header.as_ref())
        .number("hash", answer.hash)
        .number("compact_revision", answer.compact_revision)
        .number("hash_revision", answer.hash_revision)
        .close()
}
