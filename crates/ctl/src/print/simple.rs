//! `-w simple`: keys and values as they are, a line each.

use std::fmt::Write;

use etcdrs_client::mvccpb::{Event, KeyValue, event::EventType};
use etcdrs_client::pb;

use crate::go::format_duration;
use crate::print::{Answer, Health, Rendered, alarm_name, rows};

pub(super) fn render(answer: &Answer<'_>, hex: bool) -> Rendered {
    let mut page = Page { out: Vec::new(), hex };
    match answer {
        Answer::Put(response) => page.put(response),
        Answer::Get { response, values_only } => page.get(response, *values_only),
        Answer::Delete(response) => page.delete(response),
        Answer::Txn(response) => page.txn(response),
        Answer::Watch(response) => response.events.iter().for_each(|event| page.event(event)),
        Answer::Grant(response) => {
            page.line(&format!("lease {:016x} granted with TTL({}s)", response.id, response.ttl));
        }
        Answer::Revoke { id, .. } => page.line(&format!("lease {id:016x} revoked")),
        Answer::TimeToLive { response, keys } => page.time_to_live(response, *keys),
        Answer::KeepAlive(response) => {
            let (id, ttl) = (response.id, response.ttl);
            page.line(&format!("lease {id:016x} keepalived with TTL({ttl})"));
        }
        Answer::Leases(response) => {
            page.line(&format!("found {} leases", response.leases.len()));
            response.leases.iter().for_each(|lease| page.line(&format!("{:016x}", lease.id)));
        }
        Answer::MemberAdd { name, response } => page.member_add(name, response),
        Answer::MemberRemove { id, response } => {
            page.member_change(*id, "removed from", response.header.as_ref());
        }
        Answer::MemberUpdate { id, response } => {
            page.member_change(*id, "updated in", response.header.as_ref());
        }
        Answer::MemberPromote { id, response } => {
            page.member_change(*id, "promoted in", response.header.as_ref());
        }
        Answer::Health(checks) => return health(checks),
        Answer::Alarms(response) => {
            for alarm in &response.alarms {
                let (id, name) = (alarm.member_id, alarm_name(alarm.alarm));
                page.line(&format!("memberID:{id} alarm:{name}"));
            }
        }
        Answer::MoveLeader { from, to, .. } => {
            page.line(&format!("Leadership transferred from {from:x} to {to:x}"));
        }
        Answer::MemberList(_) | Answer::Status(_) | Answer::HashKv(_) => {
            for row in rows(answer).into_iter().flat_map(|(_, rows)| rows) {
                page.line(&row.join(", "));
            }
        }
    }
    page.out.into()
}

/// Health goes to two places: what is well to standard output, the rest to standard error.
fn health(checks: &[Health]) -> Rendered {
    let mut rendered = Rendered::default();
    for check in checks {
        let endpoint = &check.endpoint;
        if check.healthy {
            let took = format_duration(check.took);
            let line =
                format!("{endpoint} is healthy: successfully committed proposal: took = {took}\n");
            rendered.out.extend_from_slice(line.as_bytes());
        } else {
            let error = &check.error;
            let line = format!("{endpoint} is unhealthy: failed to commit proposal: {error}\n");
            rendered.err.extend_from_slice(line.as_bytes());
        }
    }
    rendered
}

struct Page {
    out: Vec<u8>,
    hex: bool,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'\n');
    }

    /// A key or a value; with `--hex` each byte as `\x66`.
    fn bytes(&mut self, bytes: &[u8]) {
        if self.hex {
            let mut text = String::with_capacity(bytes.len() * 4);
            for byte in bytes {
                let _ = write!(text, "\\x{byte:02x}");
            }
            self.line(&text);
        } else {
            self.out.extend_from_slice(bytes);
            self.out.push(b'\n');
        }
    }

    fn pair(&mut self, kv: &KeyValue) {
        self.bytes(&kv.key);
        self.bytes(&kv.value);
    }

    fn put(&mut self, response: &pb::PutResponse) {
        self.line("OK");
        if let Some(kv) = &response.prev_kv {
            self.pair(kv);
        }
    }

    fn get(&mut self, response: &pb::RangeResponse, values_only: bool) {
        for kv in &response.kvs {
            if values_only { self.bytes(&kv.value) } else { self.pair(kv) }
        }
    }

    fn delete(&mut self, response: &pb::DeleteRangeResponse) {
        self.line(&response.deleted.to_string());
        response.prev_kvs.iter().for_each(|kv| self.pair(kv));
    }

    fn txn(&mut self, response: &pb::TxnResponse) {
        self.line(if response.succeeded { "SUCCESS" } else { "FAILURE" });
        for op in &response.responses {
            use pb::response_op::Response;
            self.line("");
            match &op.response {
                Some(Response::ResponsePut(put)) => self.put(put),
                Some(Response::ResponseRange(get)) => self.get(get, false),
                Some(Response::ResponseDeleteRange(delete)) => self.delete(delete),
                Some(Response::ResponseTxn(txn)) => self.txn(txn),
                None => {}
            }
        }
    }

    fn event(&mut self, event: &Event) {
        self.line(match event.r#type() {
            EventType::Put => "PUT",
            EventType::Delete => "DELETE",
        });
        for kv in [&event.prev_kv, &event.kv].into_iter().flatten() {
            self.pair(kv);
        }
    }

    fn time_to_live(&mut self, response: &pb::LeaseTimeToLiveResponse, keys: bool) {
        let id = response.id;
        if response.granted_ttl == 0 && response.ttl == -1 {
            self.line(&format!("lease {id:016x} already expired"));
            return;
        }
        let (granted, left) = (response.granted_ttl, response.ttl);
        let text = format!("lease {id:016x} granted with TTL({granted}s), remaining({left}s)");
        self.out.extend_from_slice(text.as_bytes());
        if keys {
            self.out.extend_from_slice(b", attached keys([");
            self.out.extend_from_slice(&response.keys.join(&b' '));
            self.out.extend_from_slice(b"])");
        }
        self.line("");
    }

    fn member_change(&mut self, id: u64, what: &str, header: Option<&pb::ResponseHeader>) {
        let cluster = header.map_or(0, |header| header.cluster_id);
        self.line(&format!("Member {id:>16x} {what} cluster {cluster:>16x}"));
    }

    /// The new member, then the environment it is to be started with.
    fn member_add(&mut self, name: &str, response: &pb::MemberAddResponse) {
        let new = response.member.clone().unwrap_or_default();
        let what = if new.is_learner { "added as learner to" } else { "added to" };
        self.member_change(new.id, what, response.header.as_ref());
        let peers: Vec<String> = response
            .members
            .iter()
            .flat_map(|member| {
                let name = if member.id == new.id { name } else { &member.name };
                member.peer_urls.iter().map(move |url| format!("{name}={url}"))
            })
            .collect();
        self.line("");
        self.line(&format!("ETCD_NAME=\"{name}\""));
        self.line(&format!("ETCD_INITIAL_CLUSTER=\"{}\"", peers.join(",")));
        let urls = new.peer_urls.join(",");
        self.line(&format!("ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{urls}\""));
        self.line("ETCD_INITIAL_CLUSTER_STATE=\"existing\"");
    }
}
