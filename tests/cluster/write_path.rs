//! The way of a request into the log and back, and what the log is for.

use std::collections::BTreeSet;

use etcdrs_tests::pb::response_op::Response;

use crate::support::*;

/// W01: each client's write is one entry, wherever it comes in; what changes nothing is one too,
/// and a read is none.
#[tokio::test]
async fn w_01_each_write_is_one_entry() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    for at in [leader, cluster.follower().await] {
        let mut c = cluster.clients(at).await;
        c.range(get("a")).await;
        let mut last = c.status().await.raft_index;
        for step in 0..8 {
            let is_write = step != 4;
            match step {
                0 => drop(c.put("a", "1").await),
                1 => drop(c.txn(then(vec![put("b", "1").op(), delete("a").op()])).await),
                2 => drop(c.delete(delete("nothing")).await),
                3 => drop(c.grant(100 + at as i64, 600).await),
                4 => drop(c.range(get("b")).await),
                5 => drop(c.try_revoke(100 + at as i64).await.unwrap()),
                6 => expect_error(c.try_revoke(99).await.map(drop), errors::LEASE_NOT_FOUND),
                _ => {
                    let request = pb::PutRequest { lease: 12345, ..put("l", "v") };
                    expect_error(c.try_put(request).await, errors::LEASE_NOT_FOUND);
                }
            }
            let now = c.status().await.raft_index;
            assert_eq!(now, last + u64::from(is_write), "step {step} through member {at}");
            last = now;
        }
    }
}

/// W03: ten thousand requests at once, through a leader and a follower: each gets its own answer.
#[tokio::test]
async fn w_03_ten_thousand_answers_reach_their_callers() {
    const COUNT: usize = 10_000;
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let through = [cluster.clients(leader).await, cluster.clients(cluster.follower().await).await];
    let calls = (0..COUNT).map(|n| {
        let mut c = through[n % 2].clone();
        async move {
            let (key, value) = (format!("k{n:05}"), format!("v{n}"));
            let request = then(vec![put(key.clone(), value.clone()).op(), get(key).op()]);
            let answer = c.txn(request).await;
            let Some(Response::ResponseRange(found)) = &answer.responses[1].response else {
                panic!("{answer:?}");
            };
            assert_eq!(found.kvs[0].value, value);
            assert_eq!(found.kvs[0].mod_revision, answer.header.as_ref().unwrap().revision);
            found.kvs[0].mod_revision
        }
    });
    let revisions: BTreeSet<i64> =
        futures_util::future::join_all(calls).await.into_iter().collect();
    assert_eq!(revisions.len(), COUNT, "each has a revision of its own");
    assert_eq!(revisions.last(), Some(&(COUNT as i64 + 1)));
    cluster.wait_equal(&[0, 1, 2]).await;
}

/// R43: a snapshot comes when more entries than the count were applied since the last one.
#[tokio::test]
async fn r_43_a_snapshot_follows_count_and_one_entries() {
    let cluster = Shape::new().size(1).flag("snapshot-count", 20).start().await;
    let mut clients = cluster.clients(0).await;
    let folder = cluster.places[0].data_dir.join("member").join("snap");
    let indexes = || {
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.filter_map(|name| Some(name.to_str()?.strip_suffix(".snap")?.to_owned()));
        let index = |name: String| u64::from_str_radix(name.split_once('-')?.1, 16).ok();
        names.filter_map(index).collect::<BTreeSet<u64>>()
    };
    for count in 1..=3 {
        // One at a time: what is applied together is looked at together.
        let due = 21 * count;
        while clients.status().await.raft_applied_index < due {
            clients.put("k", "v").await;
        }
        let made = || async { indexes().contains(&due).then_some(()) };
        eventually("the snapshot is written", made).await;
    }
    assert_eq!(indexes(), BTreeSet::from([21, 42, 63]));
}

/// R46: the log on disk is for the next start: reads, writes and members that lag never look there.
#[tokio::test]
async fn r_46_nobody_reads_the_log_while_it_runs() {
    let mut cluster = Cluster::start().await;
    cluster.move_leader(0).await;
    let mut clients = cluster.clients(0).await;
    fill(&clients, "before", 50).await;
    cluster.members[2].kill();
    fill(&clients, "k", 200).await;
    let folder = cluster.places[0].data_dir.join("member").join("wal");
    for file in std::fs::read_dir(folder).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_eq!(clients.range(range("k", "l")).await.count, 200);
    let old = clients.range(pb::RangeRequest { revision: 20, ..range("b", "c") }).await;
    assert_eq!(old.kvs.len(), 19);
    fill(&clients, "later", 50).await;
    // The leader has what this one lacks in memory.
    cluster.members[2].restart().await;
    cluster.wait_equal(&[0, 1, 2]).await;
    assert!(clients.put("last", "v").await.header.is_some());
    cluster.move_leader(2).await;
}

/// T18, T34: a start adds each of the others once, whatever its log says of them.
#[tokio::test]
async fn t_34_a_restart_adds_each_peer_once() {
    let mut cluster = Cluster::start().await;
    let at = cluster.follower().await;
    let others: Vec<usize> = cluster.others(at);
    let near = cluster.clients(others[0]).await;
    fill(&near, "k", 50).await;
    for round in 0..2 {
        if round == 0 {
            cluster.members[at].kill();
        } else {
            cluster.members[at].terminate().await;
        }
        cluster.members[at].restart().await;
        cluster.wait_equal(&[0, 1, 2]).await;
        let log = cluster.members[at].log().text();
        for other in &others {
            let id = format!("{:x}", cluster.id(*other).await);
            for text in ["\"added remote peer\"", "\"started remote peer\""] {
                let told = log.lines().filter(|line| line.contains(text) && line.contains(&id));
                assert_eq!(told.count(), 1, "{text} {id}");
            }
        }
    }
}

/// T04, T30: a member that hangs is inactive for the others within their read time-out, which is
/// told once, and active again when it goes on.
#[tokio::test]
async fn t_04_t_30_a_member_that_hangs_is_inactive() {
    let cluster = Cluster::start().await;
    if cluster.members[0].flavour() == Flavour::Etcd35 {
        // It says nothing of the kind for more than a minute.
        return;
    }
    cluster.move_leader(0).await;
    let id = format!("{:x}", cluster.id(2).await);
    let log = cluster.members[0].log();
    let count = |text: &str| {
        let log = log.text();
        log.lines().filter(|line| line.contains(text) && line.contains(&id)).count()
    };
    let before = count("peer became active");
    assert_eq!(count("peer became inactive"), 0);
    cluster.members[2].pause();
    let inactive = || async { (count("peer became inactive") == 1).then_some(()) };
    eventually("the others find that it hangs", inactive).await;
    cluster.clients(0).await.put("k", "v").await;
    cluster.members[2].resume();
    let active = || async { (count("peer became active") > before).then_some(()) };
    eventually("it is active again", active).await;
    cluster.wait_equal(&[0, 1, 2]).await;
}
