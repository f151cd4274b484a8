//! Changes of the membership: what is allowed, what is refused, and with which words.

use crate::support::*;

/// Members without the strict checks, which would refuse earlier and with other words.
async fn lenient() -> Cluster {
    Shape::new().flag("strict-reconfig-check", false).start().await
}

/// MB-02, row 100: URLs are looked at by the member that is asked.
#[tokio::test]
async fn mb_02_row_100_urls_of_new_members_are_checked() {
    let cluster = Cluster::start().await;
    for at in 0..3 {
        let mut clients = cluster.clients(at).await;
        let none = pb::MemberAddRequest::default();
        expect_error(clients.try_member_add(none).await, errors::MEMBER_BAD_URLS);
        for url in ["", "127.0.0.1:1", "http://127.0.0.1", "ftp://127.0.0.1:1", "http://a:1/path"] {
            let answer = clients.try_member_add(add_request(url, false)).await;
            expect_error(answer, errors::MEMBER_BAD_URLS);
        }
        assert_eq!(clients.members().await.len(), 3);
    }
}

/// MB-02, MB-10, row 100: what the answer of an addition holds.
#[tokio::test]
async fn mb_02_mb_10_row_100_an_added_member_is_listed_at_once_without_a_name() {
    let cluster = lenient().await;
    let follower = cluster.follower().await;
    let mut clients = cluster.clients(follower).await;
    clients.put("a", "1").await;
    let peer_urls = vec!["http://127.0.0.1:2".to_owned(), "http://127.0.0.1:1".to_owned()];
    let request = pb::MemberAddRequest { peer_urls, is_learner: true };
    let answer = clients.try_member_add(request).await.unwrap();
    let header = answer.header.unwrap();
    assert_eq!((header.revision, header.member_id), (0, cluster.id(follower).await));
    let member = answer.member.unwrap();
    assert_eq!(member.peer_urls, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
    assert!(member.name.is_empty() && member.client_urls.is_empty() && member.is_learner);
    assert_eq!(answer.members.len(), 4);
    assert!(answer.members.contains(&member));
    assert!(answer.members.is_sorted_by_key(|member| member.id), "{:?}", answer.members);
}

/// MB-03, MB-06, MB-07, MB-09, row 101: refusals, by whichever member is asked.
#[tokio::test]
async fn mb_03_row_101_duplicates_and_unknown_ids_are_refused() {
    let cluster = lenient().await;
    let leader = cluster.leader().await;
    let voter = cluster.id(leader).await;
    let used = cluster.places[0].peer_url();
    let learner_url = "http://127.0.0.1:1";
    let mut first = cluster.clients(leader).await;
    let learner = first.try_member_add(add_request(learner_url, true)).await.unwrap();
    let learner = learner.member.unwrap().id;
    let gone = first.try_member_add(add_request("http://127.0.0.1:2", false)).await.unwrap();
    let gone = gone.member.unwrap().id;
    first.try_member_remove(gone).await.unwrap();
    for at in 0..3 {
        let mut c = cluster.clients(at).await;
        for is_learner in [false, true] {
            let twice = c.try_member_add(add_request(&used, is_learner)).await;
            expect_error(twice, errors::PEER_URL_EXISTS);
        }
        let second = c.try_member_add(add_request("http://127.0.0.1:3", true)).await;
        expect_error(second, errors::TOO_MANY_LEARNERS);
        let taken = c.try_member_update(learner, vec![used.clone()]).await;
        expect_error(taken, errors::PEER_URL_EXISTS);
        for id in [gone, 12345] {
            expect_error(c.try_member_remove(id).await, errors::MEMBER_NOT_FOUND);
            // A follower of etcd 3.5.1 asks again until its time is over.
            if at == leader || cluster.members[at].flavour() == Flavour::Current {
                expect_error(c.try_member_promote(id).await, errors::MEMBER_NOT_FOUND);
            }
            let update = c.try_member_update(id, vec![learner_url.to_owned()]).await;
            expect_error(update, errors::MEMBER_NOT_FOUND);
        }
        expect_error(c.try_member_promote(voter).await, errors::MEMBER_NOT_LEARNER);
        expect_error(c.try_member_promote(learner).await, errors::LEARNER_NOT_READY);
    }
    let mut last = cluster.clients(cluster.follower().await).await;
    last.try_member_remove(learner).await.unwrap();
    expect_error(first.try_member_promote(learner).await, errors::MEMBER_NOT_FOUND);
    assert_eq!(last.try_member_list(true).await.unwrap().members.len(), 3);
}

/// MB-04, MB-05, rows 102 and 103: members that never started do not carry a majority.
#[tokio::test]
async fn mb_04_rows_102_103_not_enough_started_members() {
    let cluster = Shape::new().size(2).start().await;
    let mut clients = cluster.clients(0).await;
    let first = eventually("the link is up for five seconds", || {
        let mut clients = clients.clone();
        async move { clients.try_member_add(add_request("http://127.0.0.1:1", false)).await.ok() }
    });
    let unstarted = first.await.member.unwrap().id;
    for at in 0..2 {
        let mut c = cluster.clients(at).await;
        let second = c.try_member_add(add_request("http://127.0.0.1:2", false)).await;
        expect_error(second, errors::NOT_ENOUGH_STARTED);
        let started = cluster.id(1).await;
        expect_error(c.try_member_remove(started).await, errors::NOT_ENOUGH_STARTED);
    }
    clients.try_member_remove(unstarted).await.unwrap();
    clients.put("a", "1").await;
}

/// MB-04, MB-05, rows 102 and 103: members that cannot be reached do not carry a majority.
#[tokio::test]
async fn mb_05_rows_102_103_an_unhealthy_cluster_changes_only_by_removing_the_dead() {
    let mut cluster = Cluster::start().await;
    let place = cluster.new_place();
    let learner = cluster.add(0, place, true).await;
    let ids = [cluster.id(0).await, cluster.id(1).await, cluster.id(2).await];
    let mut clients = cluster.clients(0).await;
    // A learner may always be removed.
    clients.try_member_remove(learner).await.unwrap();
    cluster.members[2].kill();
    cluster.leader_among(&[0, 1]).await;
    let refused = || async {
        let mut unhealthy = 0;
        for at in 0..2 {
            let mut c = cluster.clients(at).await;
            match c.try_member_add(add_request("http://127.0.0.1:1", false)).await {
                Err(status) if status.message() == errors::UNHEALTHY.1 => unhealthy += 1,
                Err(status) if is_passing(&status) => {}
                other => panic!("{other:?}"),
            }
        }
        (unhealthy == 2).then_some(())
    };
    eventually("both say that the cluster is unhealthy", refused).await;
    for at in 0..2 {
        let mut c = cluster.clients(at).await;
        expect_error(c.try_member_remove(ids[1 - at]).await, errors::UNHEALTHY);
    }
    clients.try_member_remove(ids[2]).await.unwrap();
    assert_eq!(clients.try_member_list(true).await.unwrap().members.len(), 2);
    clients.put("a", "1").await;
}

/// MB-06, row 104, T32: a member moves to another address, told through a follower.
#[tokio::test]
async fn mb_06_row_104_t_32_a_member_moves_to_another_peer_url() {
    let mut cluster = Cluster::start().await;
    cluster.move_leader(0).await;
    let id = cluster.id(2).await;
    cluster.members[2].terminate().await;
    let new = format!("http://127.0.0.1:{}", etcdrs_tests::server::free_port());
    let mut clients = cluster.clients(1).await;
    let answer = clients.try_member_update(id, vec![new.clone()]).await.unwrap();
    let told = answer.members.iter().find(|member| member.id == id).unwrap();
    assert_eq!((&told.name[..], &told.peer_urls[..]), ("m2", &[new.clone()][..]));
    assert!(!told.is_learner && !told.client_urls.is_empty(), "only the URLs change: {told:?}");
    clients.put("a", "1").await;
    cluster.members[2].add_flag("listen-peer-urls", &new);
    cluster.members[2].restart().await;
    cluster.wait_equal(&[0, 1, 2]).await;
    for at in 0..3 {
        let told = cluster.clients(at).await.members().await;
        assert_eq!(told.iter().find(|member| member.id == id).unwrap().peer_urls, [&new[..]]);
    }
}

/// MB-07, row 105: a learner is added and promoted through followers, and then votes.
#[tokio::test]
async fn mb_07_row_105_a_learner_is_promoted_through_a_follower() {
    let mut cluster = Cluster::start().await;
    let follower = cluster.follower().await;
    let place = cluster.new_place();
    let id = cluster.add(follower, place, true).await;
    cluster.start_joining(place).await;
    assert_eq!(cluster.id(place).await, id);
    let mut clients = cluster.clients(follower).await;
    let promoted = eventually("the learner is in step", || {
        let mut clients = clients.clone();
        async move {
            match clients.try_member_promote(id).await {
                Ok(answer) => Some(answer.members),
                Err(status) => {
                    let known = [errors::LEARNER_NOT_READY.1, errors::UNHEALTHY.1];
                    assert!(known.contains(&status.message()), "{status:?}");
                    None
                }
            }
        }
    });
    let promoted = promoted.await;
    assert!(promoted.len() == 4 && promoted.iter().all(|member| !member.is_learner));
    expect_error(clients.try_member_promote(id).await, errors::MEMBER_NOT_LEARNER);
    cluster.members[place].wait_ready().await.unwrap();
    cluster.move_leader(place).await;
    cluster.clients(place).await.put("a", "1").await;
    cluster.wait_equal(&[0, 1, 2, 3]).await;
}

/// MB-08, row 106: both lists, by id.
#[tokio::test]
async fn mb_08_row_106_lists_are_sorted_and_equal_on_every_member() {
    let cluster = Cluster::start().await;
    let mut lists = Vec::new();
    for at in 0..3 {
        for linearizable in [false, true] {
            let answer = cluster.clients(at).await.try_member_list(linearizable).await.unwrap();
            assert_eq!(answer.header.unwrap().revision, 0);
            lists.push(answer.members);
        }
    }
    assert!(lists[0].is_sorted_by_key(|member| member.id) && lists[0].len() == 3);
    assert!(lists.iter().all(|list| *list == lists[0]), "{lists:?}");
}

/// MB-04, row 102: a cluster of one grows. The second member counts as soon as it is added, before
/// it was ever started.
#[tokio::test]
async fn mb_04_row_102_one_member_becomes_three() {
    let mut cluster = Shape::new().size(1).start().await;
    let mut clients = cluster.clients(0).await;
    fill(&clients, "k", 20).await;
    let place = cluster.new_place();
    let request = add_request(&cluster.places[place].peer_url(), false);
    let answer = clients.try_member_add(request).await.unwrap();
    assert_eq!(answer.members.len(), 2);
    assert!(answer.members.iter().all(|member| !member.is_learner));
    assert_eq!(clients.members().await, answer.members);
    cluster.start_joining(place).await;
    cluster.members[place].wait_ready().await.unwrap();
    cluster.wait_equal(&[0, 1]).await;
    cluster.move_leader(place).await;
    let third = cluster.join(false).await;
    cluster.members[third].wait_ready().await.unwrap();
    cluster.move_leader(third).await;
    clients.put("a", "1").await;
    cluster.wait_equal(&[0, 1, 2]).await;
}

/// MB-04, U23: what was added is known after a restart, and may begin then.
#[tokio::test]
async fn mb_04_u_23_an_addition_survives_a_kill_before_the_new_member_begins() {
    let mut cluster = Shape::new().size(1).start().await;
    let clients = cluster.clients(0).await;
    fill(&clients, "k", 20).await;
    let place = cluster.new_place();
    let id = cluster.add(0, place, false).await;
    cluster.members[0].kill();
    // etcd waits for the second member now, so nobody waits for the first alone.
    cluster.members[0].begin_restart().unwrap();
    let port = cluster.members[0].peer_port();
    let known = || async {
        let list = etcdrs_tests::http::get(port, "/members").await.ok()?;
        list.body.contains(&cluster.places[place].peer_url()).then_some(())
    };
    eventually("the log is applied again", known).await;
    cluster.start_joining(place).await;
    cluster.wait_ready().await;
    assert_eq!(cluster.id(place).await, id);
    cluster.move_leader(place).await;
    cluster.clients(place).await.put("a", "1").await;
    cluster.wait_equal(&[0, 1]).await;
}

/// MB-05, R44: the leader removes itself; it stops, the others go on.
#[tokio::test]
async fn mb_05_r_44_a_removed_leader_stops_itself() {
    let mut cluster = lenient().await;
    let leader = cluster.leader().await;
    let id = cluster.id(leader).await;
    let answer = cluster.clients(leader).await.try_member_remove(id).await.unwrap();
    assert!(answer.members.iter().all(|member| member.id != id) && answer.members.len() == 2);
    let end = cluster.members[leader].wait_exit().await;
    assert!(end.success(), "{end:?}");
    let log = cluster.members[leader].log().text();
    for line in [
        "the member has been permanently removed from the cluster",
        "data-dir used by this member must be removed",
    ] {
        assert!(log.contains(line), "{line}");
    }
    let rest = cluster.others(leader);
    let next = cluster.leader_among(&rest).await;
    cluster.clients(next).await.put("a", "1").await;
    cluster.wait_equal(&rest).await;
}

/// T12, R27: a member that was away while it was removed is told by its peers, and ends.
#[tokio::test]
async fn t_12_r_27_a_removed_member_that_was_away_is_refused_and_ends() {
    let mut cluster = lenient().await;
    let away = cluster.follower().await;
    let id = cluster.id(away).await;
    cluster.members[away].terminate().await;
    let rest = cluster.others(away);
    cluster.leader_among(&rest).await;
    cluster.clients(rest[0]).await.try_member_remove(id).await.unwrap();
    cluster.members[away].begin_restart().unwrap();
    let end = cluster.members[away].wait_exit().await;
    assert!(end.success(), "{end:?}");
    let log = cluster.members[away].log().text();
    for line in
        ["server error", "permanently removed", "data-dir used by this member must be removed"]
    {
        assert!(log.contains(line), "{line}");
    }
    cluster.clients(rest[1]).await.put("a", "1").await;
    cluster.wait_equal(&rest).await;
}
