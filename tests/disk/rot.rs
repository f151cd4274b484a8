//! Files that rot: a member with a flipped byte gives the right data, or refuses to start, or ends
//! with a text that names the file. It never serves what is damaged.
//!
//! Every kind of flip in every kind of file is `crates/backend/tests/damage.rs`; here a whole
//! member meets a sample of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcdrs_tests::client::Clients;
use etcdrs_tests::random::Random;
use etcdrs_tests::request::range;
use etcdrs_tests::server::{Server, Setup};

const KEYS: u64 = 200;
const FLIPS: usize = 120;
/// For an end that has to come by itself.
const END: Duration = Duration::from_secs(20);

type Found = Vec<(Vec<u8>, Vec<u8>, i64)>;

/// Newest values, and older ones at some revisions: those are read from files alone.
async fn read_all(c: &mut Clients) -> Result<Found, tonic::Status> {
    let mut found = Vec::new();
    for revision in [0, KEYS as i64 / 2, KEYS as i64 + 1, KEYS as i64 * 2] {
        let request = etcdrs_tests::pb::RangeRequest { revision, ..range("k/", "k0") };
        let kvs = c.try_range(request).await?.kvs;
        found.extend(kvs.into_iter().map(|kv| (kv.key.into(), kv.value.into(), kv.mod_revision)));
    }
    Ok(found)
}

/// A stopped member with three versions of each key, flushed.
async fn stopped(random: &mut Random) -> Server {
    let mut server = Setup::new().flag("snapshot-count", 100).start().await;
    let mut c = server.clients().await;
    for at in 0..3 * KEYS {
        // Not compressible, or all of it would be one block.
        let value: String = (0..20).map(|_| format!("{:016x}", random.word())).collect();
        c.put(format!("k/{:04}", at % KEYS), value).await;
    }
    server.terminate().await;
    server
}

/// Files of the database by kind: tables, manifest, pointer.
fn kinds(data_dir: &Path) -> Vec<Vec<PathBuf>> {
    let entries = fs::read_dir(data_dir.join("member/snap/db")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let of = |wanted: fn(&str) -> bool| {
        let name = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
        files.iter().filter(|file| wanted(&name(file))).cloned().collect::<Vec<_>>()
    };
    vec![
        of(|name| name.ends_with(".sst")),
        of(|name| name.starts_with("MANIFEST")),
        of(|name| name == "CURRENT"),
    ]
}

fn copy(from: &Path, to: &Path) {
    let mut copy = std::process::Command::new("cp");
    copy.args(["-r", "--sparse=always"]).arg(from).arg(to);
    assert!(copy.status().unwrap().success());
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x41;
    fs::write(file, bytes).unwrap();
}

/// Starts the member; false if it ended instead, which it may do shortly after it began to serve.
async fn starts(server: &mut Server) -> bool {
    server.begin_restart().unwrap();
    let log = server.log().clone();
    let is_ready = tokio::select! {
        ready = server.wait_ready() => ready.is_ok(),
        _ = log.wait_closed(END) => false,
    };
    if !is_ready {
        assert!(!server.wait_exit().await.success());
    }
    is_ready
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_is_refused_or_harmless() {
    let mut random = Random::new(1);
    let mut server = stopped(&mut random).await;
    let original = tempfile::tempdir().unwrap();
    let saved = original.path().join("data");
    copy(server.data_dir(), &saved);
    server.restart().await;
    let want = read_all(&mut server.clients().await).await.unwrap();
    server.terminate().await;
    // Nothing but the flips is what makes the difference.
    fs::remove_dir_all(server.data_dir()).unwrap();
    copy(&saved, server.data_dir());
    server.restart().await;
    assert!(read_all(&mut server.clients().await).await.unwrap() == want);
    server.kill();
    let (mut right, mut refused, mut ended) = (0, 0, 0);
    for round in 0..FLIPS {
        fs::remove_dir_all(server.data_dir()).unwrap();
        copy(&saved, server.data_dir());
        let kinds = kinds(server.data_dir());
        // Most of the bytes are in tables, most of the meaning in the others.
        let kind = &kinds[[0, 0, 1, 2][round % 4]];
        let file = &kind[random.below(kind.len() as u64) as usize];
        let at = random.below(fs::metadata(file).unwrap().len()) as usize;
        let name = file.file_name().unwrap().to_str().unwrap();
        flip(file, at);
        if !starts(&mut server).await {
            let log = server.log().text();
            let directory = file.parent().unwrap().to_str().unwrap();
            assert!(log.contains(name) || log.contains(directory), "{name} byte {at}:\n{log}");
            if log.contains("the database is damaged") {
                ended += 1;
            } else {
                assert!(log.contains("failed to start"), "{log}");
                refused += 1;
            }
            continue;
        }
        // It may end by itself just now: values are read into memory after a start.
        let read = match Clients::try_connect(&server.endpoint()).await {
            Ok(mut c) => read_all(&mut c).await,
            Err(error) => Err(tonic::Status::unavailable(error.to_string())),
        };
        match read {
            Ok(found) => {
                assert!(found == want, "{name} byte {at}: other data");
                right += 1;
                server.kill();
            }
            Err(_) => {
                server.wait_exit().await;
                let log = server.log().text();
                assert!(log.contains("the database is damaged") && log.contains(name), "{log}");
                ended += 1;
            }
        }
    }
    println!("{FLIPS} flips: {right} with the right data, {refused} refused, {ended} ended");
}

/// A block that no start reads rots while the member runs: the read that meets it is an error, and
/// the member ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_rots_at_run_time_ends_the_member() {
    let mut random = Random::new(2);
    let mut server = stopped(&mut random).await;
    server.restart().await;
    let mut c = server.clients().await;
    let newest = c.range(range("k/", "k0")).await;
    // Old versions of this size are nowhere but in tables, and no start reads them.
    for table in &kinds(server.data_dir())[0] {
        let length = fs::metadata(table).unwrap().len() as usize;
        if length > 16_000 {
            (0..length * 3 / 4).step_by(1000).for_each(|at| flip(table, at));
        }
    }
    // What is in memory is right and may still be served; the rest never is.
    match c.try_range(range("k/", "k0")).await {
        Ok(found) => assert_eq!(found.kvs, newest.kvs),
        Err(status) => println!("{status}"),
    }
    let mut refused = None;
    for revision in 2..=(2 * KEYS as i64) {
        let whole = etcdrs_tests::pb::RangeRequest { revision, ..range("k/", "k0") };
        if let Err(status) = c.try_range(whole).await {
            refused = Some(status);
            break;
        }
    }
    println!("{}", refused.expect("damage is met"));
    assert!(server.log().wait_for(&["the database is damaged"], END).await);
    let status = server.wait_exit().await;
    assert!(!status.success());
    let log = server.log().text();
    assert!(log.contains("Corruption") && log.contains(".sst"), "{log}");
}

/// The pointer to a database that was received from a leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_pointer_to_the_database_is_refused() {
    let mut random = Random::new(3);
    let mut server = stopped(&mut random).await;
    let pointer = server.data_dir().join("member/snap/CURRENT-DB");
    // As an installation leaves it, with one bit of its checksum wrong.
    fs::write(&pointer, "db-0000000000000100 00000000\n").unwrap();
    assert!(!starts(&mut server).await);
    assert!(server.log().text().contains("CURRENT-DB"), "{}", server.log().text());
    fs::remove_file(&pointer).unwrap();
    server.restart().await;
    server.clients().await.put("k", "v").await;
}
