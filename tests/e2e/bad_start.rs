//! Starts that must be refused with a clear text and a non-zero exit code, and damaged files.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use etcdrs_tests::difference::Difference;
use etcdrs_tests::request::range;
use etcdrs_tests::server::{Server, Setup, free_port};
use etcdrs_tests::target::Flavour;

/// Starts a process that has to give up, and returns its log.
pub(crate) async fn refused(setup: Setup) -> String {
    let mut server = setup.spawn().unwrap();
    let status = server.wait_exit().await;
    let log = server.log().text();
    assert!(!status.success(), "it ended with success:\n{log}");
    assert!(status.code().is_some(), "it was killed by a signal: {status:?}\n{log}");
    log
}

#[tokio::test]
async fn client_port_in_use() {
    let s = Server::start().await;
    let log = refused(Setup::new().ports(s.client_port(), free_port())).await;
    let expected =
        format!("listen tcp 127.0.0.1:{}: bind: address already in use", s.client_port());
    assert!(log.contains(&expected), "{log}");
    s.clients().await.put("a", "still here").await;
}

#[tokio::test]
async fn peer_port_in_use() {
    let s = Server::start().await;
    let log = refused(Setup::new().ports(free_port(), s.peer_port())).await;
    let expected = format!("listen tcp 127.0.0.1:{}: bind: address already in use", s.peer_port());
    assert!(log.contains(&expected), "{log}");
}

#[tokio::test]
async fn second_server_on_the_same_folder() {
    let s = Server::start().await;
    if Difference::SecondServerWaits.applies(s.flavour()) {
        return;
    }
    let mut c = s.clients().await;
    c.put("a", "1").await;
    let log = refused(Setup::new().data_dir(s.data_dir())).await;
    assert!(log.contains("lock"), "{log}");
    assert_eq!(c.put("a", "2").await.header.unwrap().revision, 3);
}

/// Tests may run as root, whom no permission stops; a file where a folder should be stops all.
#[tokio::test]
async fn unwritable_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.join("data"), PathBuf::from("/proc/etcd-rs-test")] {
        let log = refused(Setup::new().data_dir(&path)).await;
        assert!(log.contains(path.to_str().unwrap()), "{log}");
    }
}

#[tokio::test]
async fn unknown_flag() {
    let log = refused(Setup::new().flag("no-such-flag", 1)).await;
    assert!(log.contains("no-such-flag"), "{log}");
}

/// A stopped server with 300 keys and, because of its low snapshot count, several snapshots.
async fn stopped_with_data() -> Server {
    let mut s = Setup::new().flag("snapshot-count", 50).start().await;
    let mut c = s.clients().await;
    for at in 0..300 {
        c.put(format!("k/{at:04}"), Bytes::from(vec![b'v'; 300])).await;
    }
    s.terminate().await;
    s
}

/// The newest file of a kind below `member/`.
fn newest(data_dir: &Path, folder: &str, extension: &str) -> PathBuf {
    let entries = fs::read_dir(data_dir.join("member").join(folder)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let of_kind = files.filter(|path| path.extension().is_some_and(|e| e == extension));
    of_kind.max().unwrap_or_else(|| panic!("no .{extension} file in {folder}"))
}

#[tokio::test]
async fn damaged_snapshot_file_is_set_aside() {
    let mut s = stopped_with_data().await;
    let file = newest(s.data_dir(), "snap", "snap");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&file, &bytes).unwrap();
    if Difference::StartsAtDamagedSnapshot.applies(s.flavour()) {
        return;
    }
    s.restart().await;
    let mut c = s.clients().await;
    assert_eq!(c.range(range("k/", "k0")).await.count, 300, "nothing is lost");
    let broken = file.with_extension("snap.broken");
    assert!(broken.exists(), "{} was not set aside", file.display());
    assert_eq!(c.put("after", "1").await.header.unwrap().revision, 302);
}

#[tokio::test]
async fn damaged_log_is_refused() {
    let mut s = stopped_with_data().await;
    let file = newest(s.data_dir(), "wal", "wal");
    let bytes = fs::read(&file).unwrap();
    let needle: &[u8] = b"k/0250";
    let at = bytes.windows(needle.len()).position(|window| window == needle);
    let mut damaged = bytes.clone();
    damaged[at.expect("the log holds what was written") + 20] ^= 1;
    fs::write(&file, &damaged).unwrap();
    s.begin_restart().unwrap();
    let status = s.wait_exit().await;
    let log = s.log().text();
    assert!(!status.success() && status.code().is_some(), "{status:?}\n{log}");
    assert!(log.contains("crc"), "{log}");
    fs::write(&file, &bytes).unwrap();
    s.restart().await;
    assert_eq!(s.clients().await.range(range("k/", "k0")).await.count, 300, "it was not touched");
}

#[tokio::test]
async fn torn_end_of_the_log_is_repaired() {
    let mut s = stopped_with_data().await;
    // What a crash in the middle of a write leaves: the length of a record and zeros.
    let file = newest(s.data_dir(), "wal", "wal");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = end.next_multiple_of(8);
    bytes[end..end + 8].copy_from_slice(&64u64.to_le_bytes());
    fs::write(&file, &bytes).unwrap();
    s.restart().await;
    let mut c = s.clients().await;
    assert_eq!(c.range(range("k/", "k0")).await.count, 300, "nothing acknowledged is lost");
    c.put("after", "1").await;
}

/// The server either has everything again or says why it does not start; it never hangs, panics,
/// or serves less than it acknowledged.
async fn all_or_refusal(mut s: Server) {
    match s.try_restart().await {
        Ok(()) => assert_eq!(s.clients().await.range(range("k/", "k0")).await.count, 300),
        Err(_) => {
            let status = s.wait_exit().await;
            let log = s.log().text();
            assert!(!status.success() && status.code().is_some(), "{status:?}\n{log}");
        }
    }
}

#[tokio::test]
async fn log_folder_is_gone() {
    let s = stopped_with_data().await;
    if s.flavour() == Flavour::Etcd35 {
        return; // It takes the folder for a new member's.
    }
    fs::remove_dir_all(s.data_dir().join("member/wal")).unwrap();
    all_or_refusal(s).await;
}

#[tokio::test]
async fn database_is_gone() {
    let s = stopped_with_data().await;
    let database = s.data_dir().join("member/snap/db");
    if database.is_dir() {
        fs::remove_dir_all(database).unwrap();
    } else {
        return; // 3.5.1 starts with an empty store behind its log; 3.6 refuses.
    }
    all_or_refusal(s).await;
}

#[tokio::test]
async fn log_is_cut_below_what_was_acknowledged() {
    let s = stopped_with_data().await;
    if s.flavour() == Flavour::Etcd35 {
        return; // It repairs the tail and goes on with less.
    }
    let file = newest(s.data_dir(), "wal", "wal");
    fs::File::options().write(true).open(file).unwrap().set_len(2000).unwrap();
    all_or_refusal(s).await;
}
