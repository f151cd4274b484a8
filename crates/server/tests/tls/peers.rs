//! TLS between members.
#![expect(clippy::unwrap_used, reason = "a helper of tests, where a panic is the report")]

use etcdrs_tls::ClientTlsInfo;

use crate::harness::{Member, Setup, member, strict_member, works};
use crate::pki::{Leaf, Pki};

/// Starts three members with these flags on each, and waits until they serve.
async fn cluster(setups: &[Setup]) -> Vec<Member> {
    let initial: Vec<String> =
        setups.iter().enumerate().map(|(n, setup)| format!("m{n}={}", setup.peer)).collect();
    let initial = initial.join(",");
    let mut members: Vec<Member> = setups
        .iter()
        .enumerate()
        .map(|(n, setup)| setup.spawn_named(&format!("m{n}"), Some(&initial)))
        .collect();
    for member in &mut members {
        member.logs("ready to serve client requests").await;
    }
    members
}

/// Each member takes writes, which two have to agree on, and reads what the others wrote.
async fn all_work(members: &[Member]) {
    for member in members {
        let client = member.client(&ClientTlsInfo::default()).await;
        works(&client).await.unwrap_or_else(|error| panic!("{error}\n{}", member.log()));
        assert_eq!(client.member_list(true).await.unwrap().members.len(), members.len());
    }
}

/// U14, U61: certificates that name the members' address are taken on both sides.
#[tokio::test]
async fn u14_u61_three_members_agree_over_tls() {
    let pki = Pki::new();
    let setups: Vec<Setup> = (0..3)
        .map(|n| {
            let info = strict_member(&pki, &format!("m{n}"), &member());
            let setup = Setup::with("http", "https").tls("peer-", &info);
            setup.flag("peer-cert-allowed-cn", "member")
        })
        .collect();
    let members = cluster(&setups).await;
    all_work(&members).await;
    for member in &members {
        assert!(!member.log().contains("rejected connection"), "{}", member.log());
    }
}

#[tokio::test]
async fn three_members_agree_over_tls_of_their_own_making() {
    let setup = || Setup::with("http", "https").flag("peer-auto-tls", true);
    let members = cluster(&[setup(), setup(), setup()]).await;
    all_work(&members).await;
    for member in &members {
        assert!(member.dir().join("data/fixtures/peer/key.pem").exists());
    }
}

/// T07.
#[tokio::test]
async fn t07_three_members_agree_over_unix_sockets() {
    let pki = Pki::new();
    let sockets = tempfile::tempdir().unwrap();
    let schemes = ["unix", "unixs", "unixs"];
    let setups: Vec<Setup> = schemes
        .iter()
        .enumerate()
        .map(|(n, scheme)| {
            // A certificate names the socket by its file.
            let name = ["a.sock", "b.sock", "c.sock"][n];
            let leaf = Leaf { names: vec![name], ..member() };
            let info = strict_member(&pki, name, &leaf);
            let mut setup = Setup::with("http", "http").tls("peer-", &info);
            setup.peer = format!("{scheme}://{}/{name}", sockets.path().display());
            setup
        })
        .collect();
    all_work(&cluster(&setups).await).await;
}

/// A member whose certificate the others do not want is kept out; they go on, and take it when it
/// has got a good one, without anybody's restart.
#[tokio::test]
async fn a_member_that_is_not_wanted_disturbs_nobody() {
    let (pki, other) = (Pki::new(), Pki::new());
    let setup = |name: &str, leaf: &Leaf| {
        let info = strict_member(&pki, name, leaf);
        let setup = Setup::with("http", "https").tls("peer-", &info);
        setup.flag("peer-cert-allowed-cn", "member")
    };
    let bad = Leaf { common_name: "other", ..member() };
    let setups = [setup("m0", &member()), setup("m1", &member()), setup("m2", &bad)];
    let initial: Vec<String> =
        setups.iter().enumerate().map(|(n, setup)| format!("m{n}={}", setup.peer)).collect();
    let initial = initial.join(",");
    let mut good: Vec<Member> =
        (0..2).map(|n| setups[n].spawn_named(&format!("m{n}"), Some(&initial))).collect();
    for member in &mut good {
        member.logs("ready to serve client requests").await;
    }
    let mut third = setups[2].spawn_named("m2", Some(&initial));
    good[0].logs("rejected connection on peer endpoint").await;
    good[0].logs("client certificate authentication failed").await;
    for member in &good {
        works(&member.client(&ClientTlsInfo::default()).await).await.unwrap();
    }
    assert!(!third.log().contains("ready to serve"), "{}", third.log());
    // Of the wrong CA it is not wanted either.
    let stranger = other.sign(&member());
    pki.write("m2.crt", stranger.0);
    pki.write("m2.key", stranger.1);
    good[1].logs("x509: certificate signed by unknown authority").await;
    pki.issue("m2", &member());
    third.logs("ready to serve client requests").await;
    works(&third.client(&ClientTlsInfo::default()).await).await.unwrap();
}

/// U14: a wrong CA is told, and nothing falls over.
#[tokio::test]
async fn u14_a_peer_of_another_ca_is_not_trusted() {
    let (pki, other) = (Pki::new(), Pki::new());
    let setup = |pki: &Pki| {
        let info = strict_member(pki, "member", &member());
        Setup::with("http", "https").tls("peer-", &info)
    };
    let setups = [setup(&pki), setup(&other)];
    let initial = format!("m0={},m1={}", setups[0].peer, setups[1].peer);
    let mut members = [0, 1].map(|n| setups[n].spawn_named(&format!("m{n}"), Some(&initial)));
    for member in &mut members {
        member.logs("x509: certificate signed by unknown authority").await;
        assert!(!member.log().contains("ready to serve"), "{}", member.log());
    }
}
