//! A full disk under log and database: writes stop with NOSPACE before anything fails, the rest
//! goes on out of the kept reserve, and the member recovers when there is room.
//!
//! The disk is a tmpfs of a fixed size; growing it is what an operator does who adds space.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use etcdrs_tests::client::{Clients, limited};
use etcdrs_tests::pb;
use etcdrs_tests::request::{delete_range, put, range};
use etcdrs_tests::server::{Server, Setup};
use rustix::mount::{MountFlags, UnmountFlags};
use tonic::{Code, Status};

const MIB: u64 = 1 << 20;
/// Two segments of the log, the reserve twice, and some room for data.
const DISK: u64 = 256 * MIB;
const RESERVE: u64 = 32 * MIB;
const VALUE_BYTES: usize = 256 << 10;
const TEXT: &str = "etcdserver: mvcc: database space exceeded";

/// A mounted tmpfs.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("etcdrs-full-").tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={DISK}")).unwrap();
        rustix::mount::mount(
            "etcdrs-full",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .map_err(|error| format!("a tmpfs cannot be mounted: {error}"))?;
        Ok(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn grow(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        let mount = Command::new("mount").args(["-o", &size]).arg(self.path()).status().unwrap();
        assert!(mount.success());
    }

    /// Takes all space but `left` away, as another program on the same disk would.
    fn fill(&self, left: u64) {
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let file = std::fs::File::create(self.path().join("somebody-else")).unwrap();
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, free - left).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(), UnmountFlags::DETACH);
    }
}

fn disk() -> Option<SmallDisk> {
    SmallDisk::new().inspect_err(|reason| println!("a full disk is not tested: {reason}")).ok()
}

fn setup(disk: &SmallDisk, reserve: u64) -> Setup {
    // Many small flushes rather than one that needs all at once.
    Setup::new()
        .data_dir(&disk.path().join("data"))
        .flag("disk-reserve-bytes", reserve)
        .flag("memory-budget", 64 * MIB)
        .flag("snapshot-count", 100)
}

fn value(at: usize) -> Bytes {
    // Not compressible, or the database would never fill.
    let mut random = etcdrs_tests::random::Random::new(at as u64);
    (0..VALUE_BYTES / 8).flat_map(|_| random.word().to_be_bytes()).collect()
}

/// Puts until one is refused: how many were acknowledged, and the refusal.
async fn fill_up(c: &mut Clients) -> (usize, Status) {
    for at in 0.. {
        if let Err(status) = c.try_put(put(format!("k/{at:05}"), value(at))).await {
            return (at, status);
        }
    }
    unreachable!("a disk is finite");
}

async fn alarms(c: &mut Clients, action: i32, member_id: u64) -> Vec<pb::AlarmMember> {
    let alarm = i32::from(member_id != 0);
    let request = pb::AlarmRequest { action, member_id, alarm };
    limited(c.maintenance.alarm(request)).await.unwrap().alarms
}

/// A member with an alarm serves, and is not healthy.
async fn restart(server: &mut Server) {
    server.begin_restart().unwrap();
    server.wait_serving().await.unwrap();
}

/// Waits for the alarm, which follows the first refusal.
async fn raised(c: &mut Clients) -> pb::AlarmMember {
    for _ in 0..1000 {
        if let Some(alarm) = alarms(c, 0, 0).await.pop() {
            return alarm;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no alarm");
}

async fn all_there(c: &mut Clients, keys: std::ops::Range<usize>) {
    for at in keys {
        let key = format!("k/{at:05}");
        assert_eq!(c.get(key.clone()).await.unwrap().value, value(at), "{key}");
    }
}

/// Disarms until writes are taken: there may be room only after the database's own compaction.
async fn writable_again(c: &mut Clients, member: u64) {
    for _ in 0..500 {
        alarms(c, 2, member).await;
        match c.try_put(put("after", "1")).await {
            Ok(_) => return,
            Err(status) => assert_eq!(status.message(), TEXT),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("writes are never taken again");
}

async fn refuses_growth(c: &mut Clients) {
    use etcdrs_tests::request::{IntoOp as _, delete, then};
    let refused = [
        c.try_put(put("x", "1")).await.map(drop).unwrap_err(),
        c.try_grant(7, 100).await.map(drop).unwrap_err(),
        c.try_txn(then(vec![put("x", "1").op()])).await.map(drop).unwrap_err(),
    ];
    for status in refused {
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, TEXT));
    }
    c.txn(then(vec![delete("nothing").op()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_stop_out_of_a_reserve_and_come_back() {
    let Some(disk) = disk() else { return };
    let mut server = setup(&disk, RESERVE).start().await;
    let mut c = server.clients().await;
    let (count, status) = fill_up(&mut c).await;
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, TEXT));
    let alarm = raised(&mut c).await;
    assert_eq!(alarm.alarm, 1, "NOSPACE");
    refuses_growth(&mut c).await;
    all_there(&mut c, 0..count).await;
    println!("{count} values of {VALUE_BYTES} bytes on a disk of {DISK}");
    // A restart on the full disk loses nothing, and refuses as before.
    server.terminate().await;
    restart(&mut server).await;
    let mut c = server.clients().await;
    refuses_growth(&mut c).await;
    all_there(&mut c, 0..count).await;
    // Deletes and compaction make room out of the reserve.
    let kept = count / 8;
    c.delete(delete_range(format!("k/{kept:05}"), "k0")).await;
    let revision = c.revision().await;
    c.compact(revision).await;
    limited(c.maintenance.defragment(pb::DefragmentRequest {})).await.unwrap();
    writable_again(&mut c, alarm.member_id).await;
    assert_eq!(alarms(&mut c, 0, 0).await, []);
    assert_eq!(c.range(range("k/", "k0")).await.count, kept as i64);
    server.kill();
    server.restart().await;
    let mut c = server.clients().await;
    all_there(&mut c, 0..kept).await;
    assert!(c.get("after").await.is_some());
}

/// Somebody else takes nearly everything at once: the reserve is what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_fills_the_disk() {
    let Some(disk) = disk() else { return };
    let mut server = setup(&disk, RESERVE).start().await;
    let mut c = server.clients().await;
    for at in 0..40 {
        c.put(format!("k/{at:05}"), value(at)).await;
    }
    disk.fill(MIB);
    let alarm = raised(&mut c).await;
    refuses_growth(&mut c).await;
    server.kill();
    restart(&mut server).await;
    let mut c = server.clients().await;
    all_there(&mut c, 0..40).await;
    c.delete(delete_range("k/00020", "k0")).await;
    let revision = c.revision().await;
    c.compact(revision).await;
    std::fs::remove_file(disk.path().join("somebody-else")).unwrap();
    writable_again(&mut c, alarm.member_id).await;
    all_there(&mut c, 0..20).await;
}

/// Without a reserve the log or the database meets the end of the disk: the process ends, and
/// nothing that it acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_reserve_the_process_ends_and_loses_nothing() {
    let Some(disk) = disk() else { return };
    let mut server: Server = setup(&disk, 0).start().await;
    let mut c = server.clients().await;
    let (count, _) = fill_up(&mut c).await;
    let status = server.wait_exit().await;
    assert!(!status.success());
    let log = server.log().text();
    assert!(log.contains("No space left on device"), "{log}");
    disk.grow(4 * DISK);
    server.restart().await;
    all_there(&mut server.clients().await, 0..count).await;
}
