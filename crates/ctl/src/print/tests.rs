//! Golden outputs: samples of a real etcdctl (ctl.md §2), made again from the same answers.

use etcdrs_client::mvccpb::{Event, KeyValue};

use super::*;

const CLUSTER: u64 = 4_741_137_254_044_468_900;
const MEMBER: u64 = 16_342_170_355_004_208_570;

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: CLUSTER, member_id: MEMBER, revision, raft_term: 2 })
}

fn pair(key: &'static str, value: &'static str, revisions: [i64; 3]) -> KeyValue {
    let [create_revision, mod_revision, version] = revisions;
    KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision,
        mod_revision,
        version,
        lease: 0,
    }
}

fn render(format: Format, hex: bool, answer: &Answer<'_>) -> String {
    let rendered = Printer::new(format, hex).render(answer).expect("the format is supported");
    assert!(rendered.err.is_empty());
    String::from_utf8(rendered.out).expect("the sample is text")
}

#[track_caller]
fn check(answer: &Answer<'_>, format: Format, want: &str) {
    assert_eq!(render(format, false, answer), want);
}

fn range() -> pb::RangeResponse {
    let kvs = vec![pair("foo", "bar2", [2, 7, 4]), pair("foo2", "b\u{1}z", [8, 8, 1])];
    pb::RangeResponse { header: header(8), kvs, more: false, count: 2 }
}

#[test]
fn get() {
    let response = range();
    let answer = Answer::Get { response: &response, values_only: false };
    check(&answer, Format::Simple, "foo\nbar2\nfoo2\nb\u{1}z\n");
    check(
        &answer,
        Format::Json,
        "{\"header\":{\"cluster_id\":4741137254044468900,\"member_id\":16342170355004208570,\
         \"revision\":8,\"raft_term\":2},\"kvs\":[{\"key\":\"Zm9v\",\"create_revision\":2,\
         \"mod_revision\":7,\"version\":4,\"value\":\"YmFyMg==\"},{\"key\":\"Zm9vMg==\",\
         \"create_revision\":8,\"mod_revision\":8,\"version\":1,\"value\":\"YgF6\"}],\"count\":2}\n",
    );
    check(
        &answer,
        Format::Fields,
        r#""ClusterID" : 4741137254044468900
"MemberID" : 16342170355004208570
"Revision" : 8
"RaftTerm" : 2
"Key" : "foo"
"CreateRevision" : 2
"ModRevision" : 7
"Version" : 4
"Value" : "bar2"
"Lease" : 0
"Key" : "foo2"
"CreateRevision" : 8
"ModRevision" : 8
"Version" : 1
"Value" : "b\x01z"
"Lease" : 0
"More" : false
"Count" : 2
"#,
    );
    let values = Answer::Get { response: &response, values_only: true };
    check(&values, Format::Simple, "bar2\nb\u{1}z\n");
    assert_eq!(render(Format::Simple, true, &values), "\\x62\\x61\\x72\\x32\n\\x62\\x01\\x7a\n",);
    assert!(Printer::new(Format::Table, false).render(&answer).is_none());
}

#[test]
fn put_and_delete() {
    let prev_kv = Some(pair("foo", "bar", [2, 6, 3]));
    let response = pb::PutResponse { header: header(7), prev_kv };
    check(&Answer::Put(&response), Format::Simple, "OK\nfoo\nbar\n");
    check(
        &Answer::Put(&response),
        Format::Json,
        "{\"header\":{\"cluster_id\":4741137254044468900,\"member_id\":16342170355004208570,\
         \"revision\":7,\"raft_term\":2},\"prev_kv\":{\"key\":\"Zm9v\",\"create_revision\":2,\
         \"mod_revision\":6,\"version\":3,\"value\":\"YmFy\"}}\n",
    );
    let response = pb::DeleteRangeResponse { header: header(9), deleted: 0, prev_kvs: Vec::new() };
    check(&Answer::Delete(&response), Format::Simple, "0\n");
    check(
        &Answer::Delete(&response),
        Format::Json,
        "{\"header\":{\"cluster_id\":4741137254044468900,\"member_id\":16342170355004208570,\
         \"revision\":9,\"raft_term\":2}}\n",
    );
}

#[test]
fn txn() {
    use pb::response_op::Response;
    let inner = |revision| Some(pb::ResponseHeader { revision, ..Default::default() });
    let kvs = vec![pair("t1", "over", [19, 22, 4])];
    let ops = [
        Response::ResponsePut(pb::PutResponse { header: inner(22), prev_kv: None }),
        Response::ResponseRange(pb::RangeResponse {
            header: inner(22),
            kvs,
            count: 1,
            ..Default::default()
        }),
        Response::ResponseDeleteRange(pb::DeleteRangeResponse {
            header: inner(22),
            ..Default::default()
        }),
    ];
    let responses = ops.map(|op| pb::ResponseOp { response: Some(op) }).into();
    let response = pb::TxnResponse { header: header(22), succeeded: true, responses };
    check(&Answer::Txn(&response), Format::Simple, "SUCCESS\n\nOK\n\nt1\nover\n\n0\n");
    check(
        &Answer::Txn(&response),
        Format::Json,
        "{\"header\":{\"cluster_id\":4741137254044468900,\"member_id\":16342170355004208570,\
         \"revision\":22,\"raft_term\":2},\"succeeded\":true,\"responses\":[{\"Response\":\
         {\"response_put\":{\"header\":{\"revision\":22}}}},{\"Response\":{\"response_range\":\
         {\"header\":{\"revision\":22},\"kvs\":[{\"key\":\"dDE=\",\"create_revision\":19,\
         \"mod_revision\":22,\"version\":4,\"value\":\"b3Zlcg==\"}],\"count\":1}}},{\"Response\":\
         {\"response_delete_range\":{\"header\":{\"revision\":22}}}}]}\n",
    );
}

#[test]
fn watch() {
    let event = Event {
        r#type: 1,
        kv: Some(KeyValue { key: "w1".into(), mod_revision: 36, ..Default::default() }),
        prev_kv: Some(pair("w1", "b", [34, 35, 2])),
    };
    let response =
        pb::WatchResponse { header: header(36), events: vec![event], ..Default::default() };
    check(&Answer::Watch(&response), Format::Simple, "DELETE\nw1\nb\nw1\n\n");
    check(
        &Answer::Watch(&response),
        Format::Json,
        "{\"Header\":{\"cluster_id\":4741137254044468900,\"member_id\":16342170355004208570,\
         \"revision\":36,\"raft_term\":2},\"Events\":[{\"type\":1,\"kv\":{\"key\":\"dzE=\",\
         \"mod_revision\":36},\"prev_kv\":{\"key\":\"dzE=\",\"create_revision\":34,\
         \"mod_revision\":35,\"version\":2,\"value\":\"Yg==\"}}],\"CompactRevision\":0,\
         \"Canceled\":false,\"Created\":false,\"CancelReason\":\"\"}\n",
    );
}

#[test]
fn leases() {
    let id = 8_483_270_936_808_333_369;
    let mut response = pb::LeaseTimeToLiveResponse {
        header: header(18),
        id,
        ttl: 999,
        granted_ttl: 1000,
        keys: vec!["lk".into()],
    };
    let text = "lease 75baa1f881db2039 granted with TTL(1000s), remaining(999s)";
    let with_keys = Answer::TimeToLive { response: &response, keys: true };
    check(&with_keys, Format::Simple, &format!("{text}, attached keys([lk])\n"));
    check(
        &with_keys,
        Format::Json,
        "{\"cluster_id\":4741137254044468900,\"member_id\":16342170355004208570,\"revision\":18,\
         \"raft_term\":2,\"id\":8483270936808333369,\"ttl\":999,\"granted-ttl\":1000,\
         \"keys\":[\"bGs=\"]}\n",
    );
    let without = Answer::TimeToLive { response: &response, keys: false };
    check(&without, Format::Simple, &format!("{text}\n"));
    (response.id, response.ttl, response.granted_ttl, response.keys) = (0x1234, -1, 0, Vec::new());
    let gone = Answer::TimeToLive { response: &response, keys: false };
    check(&gone, Format::Simple, "lease 0000000000001234 already expired\n");
    let granted = pb::LeaseGrantResponse { header: header(9), id, ttl: 100, error: String::new() };
    check(
        &Answer::Grant(&granted),
        Format::Simple,
        "lease 75baa1f881db2039 granted with TTL(100s)\n",
    );
}

fn members() -> pb::MemberListResponse {
    let member = |id, name: &str, peer: &str, client: &[&str], is_learner| pb::Member {
        id,
        name: name.to_owned(),
        peer_urls: vec![peer.to_owned()],
        client_urls: client.iter().map(ToString::to_string).collect(),
        is_learner,
    };
    let (peer, new) = ("http://127.0.0.1:33502", "http://127.0.0.1:33777");
    pb::MemberListResponse {
        header: header(0),
        members: vec![
            member(0x97bd_badc_8577_3a08, "a", peer, &["http://127.0.0.1:33501"], false),
            member(0xf784_4be8_f6e1_5477, "", new, &[], true),
        ],
    }
}

#[test]
fn member_list() {
    let response = members();
    let answer = Answer::MemberList(&response);
    check(
        &answer,
        Format::Simple,
        "97bdbadc85773a08, started, a, http://127.0.0.1:33502, http://127.0.0.1:33501, false\n\
         f7844be8f6e15477, unstarted, , http://127.0.0.1:33777, , true\n",
    );
    check(
        &answer,
        Format::Table,
        "\
+------------------+-----------+------+------------------------+------------------------+------------+
|        ID        |  STATUS   | NAME |       PEER ADDRS       |      CLIENT ADDRS      | IS LEARNER |
+------------------+-----------+------+------------------------+------------------------+------------+
| 97bdbadc85773a08 |   started |    a | http://127.0.0.1:33502 | http://127.0.0.1:33501 |      false |
| f7844be8f6e15477 | unstarted |      | http://127.0.0.1:33777 |                        |       true |
+------------------+-----------+------+------------------------+------------------------+------------+
",
    );
    assert_eq!(
        render(Format::Json, true, &answer),
        "{\"header\":{\"cluster_id\":\"41cbe73682b106a4\",\"member_id\":\"e2cb0d5a74f1f5ba\",\
         \"raft_term\":2},\"members\":[{\"ID\":\"97bdbadc85773a08\",\"name\":\"a\",\"peerURLs\":\
         [\"http://127.0.0.1:33502\"],\"clientURLs\":[\"http://127.0.0.1:33501\"]},\
         {\"ID\":\"f7844be8f6e15477\",\"peerURLs\":[\"http://127.0.0.1:33777\"],\
         \"isLearner\":true}]}\n",
    );
}

#[test]
fn member_add_tells_how_to_start_the_new_one() {
    let list = members();
    let response = pb::MemberAddResponse {
        header: header(0),
        member: list.members.last().cloned(),
        members: list.members,
    };
    let answer = Answer::MemberAdd { name: "l1", response: &response };
    check(
        &answer,
        Format::Simple,
        "Member f7844be8f6e15477 added as learner to cluster 41cbe73682b106a4\n\n\
         ETCD_NAME=\"l1\"\n\
         ETCD_INITIAL_CLUSTER=\"a=http://127.0.0.1:33502,l1=http://127.0.0.1:33777\"\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://127.0.0.1:33777\"\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
    );
    assert!(Printer::new(Format::Fields, false).render(&answer).is_none());
}

#[test]
fn endpoint_status() {
    let status = pb::StatusResponse {
        header: header(18),
        version: "3.7.1".to_owned(),
        storage_version: "3.7.0".to_owned(),
        db_size: 20_480,
        db_size_in_use: 16_384,
        db_size_quota: 2_147_483_648,
        leader: MEMBER,
        raft_index: 4,
        raft_term: 2,
        raft_applied_index: 4,
        downgrade_info: Some(pb::DowngradeInfo::default()),
        ..Default::default()
    };
    let all = [("127.0.0.1:2379".to_owned(), status)];
    check(
        &Answer::Status(&all),
        Format::Simple,
        "127.0.0.1:2379, e2cb0d5a74f1f5ba, 3.7.1, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, true, false, \
         2, 4, 4, , , false\n",
    );
    let json = render(Format::Json, false, &Answer::Status(&all));
    assert!(json.ends_with("\"dbSizeQuota\":2147483648,\"downgradeInfo\":{}}}]\n"));
}

#[test]
fn endpoint_health() {
    let check_of = |endpoint: &str, nanos, error: &str| Health {
        endpoint: endpoint.to_owned(),
        healthy: error.is_empty(),
        took: Duration::from_nanos(nanos),
        error: error.to_owned(),
    };
    let all = [
        check_of("127.0.0.1:33501", 2_323_096, ""),
        check_of("127.0.0.1:33599", 1_000_307_337, "context deadline exceeded"),
    ];
    let answer = Answer::Health(&all);
    check(
        &answer,
        Format::Table,
        "\
+-----------------+--------+--------------+---------------------------+
|    ENDPOINT     | HEALTH |     TOOK     |           ERROR           |
+-----------------+--------+--------------+---------------------------+
| 127.0.0.1:33501 |   true |   2.323096ms |                           |
| 127.0.0.1:33599 |  false | 1.000307337s | context deadline exceeded |
+-----------------+--------+--------------+---------------------------+
",
    );
    let rendered = Printer::new(Format::Simple, false).render(&answer).expect("supported");
    assert_eq!(
        (rendered.out, rendered.err),
        (
            b"127.0.0.1:33501 is healthy: successfully committed proposal: took = 2.323096ms\n"
                .to_vec(),
            b"127.0.0.1:33599 is unhealthy: failed to commit proposal: context deadline exceeded\n"
                .to_vec(),
        )
    );
}

#[test]
fn alarms_and_hashes() {
    let alarms = vec![pb::AlarmMember { member_id: MEMBER, alarm: 1 }];
    let response = pb::AlarmResponse { header: header(3), alarms };
    let answer = Answer::Alarms(&response);
    check(&answer, Format::Simple, "memberID:16342170355004208570 alarm:NOSPACE\n");
    let fields = render(Format::Fields, false, &answer);
    assert!(fields.ends_with("\"MemberID\" : 16342170355004208570\n\"AlarmType\" : NOSPACE\n\n"),);
    let hash = pb::HashKvResponse {
        header: header(18),
        hash: 2_924_032_036,
        compact_revision: 5,
        hash_revision: 18,
    };
    let all = [("127.0.0.1:33001".to_owned(), hash)];
    check(&Answer::HashKv(&all), Format::Simple, "127.0.0.1:33001, 2924032036, 18\n");
    let json = render(Format::Json, false, &Answer::HashKv(&all));
    let end = "\"hash\":2924032036,\"compact_revision\":5,\"hash_revision\":18}}]\n";
    assert!(json.ends_with(end));
}
