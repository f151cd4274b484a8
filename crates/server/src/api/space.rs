//! Room on the disk: writes stop before the log or the database would fail for lack of it.
//!
//! A file in each directory that the member writes to keeps a reserve. When less than as much
//! again is free, this member refuses what lets data grow, raises NOSPACE for the cluster, and
//! gives the reserve up: deletes, compaction and the flushes behind them go on out of it. There is
//! room again when the reserve fits in anew with as much beside it; the alarm stays until an
//! operator disarms it, as in etcd.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcdrs_apply::{Alarm, AlarmKind, has_put};
use etcdrs_platform::{File as _, Fs, Open, OsFs};
use etcdrs_proto::etcdserverpb as pb;
use prost::Message as _;
use tonic::Status;

use crate::api::dispatch::decode;
use crate::api::{Api, Request, status};

/// Name of the file that keeps the reserve.
const RESERVE: &str = "reserve";
/// Between two looks at the disk while there is plenty of room.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks when it may run out soon.
const LOOK_OFTEN: Duration = Duration::from_millis(50);
/// With this many times the reserve free, it takes longer than [`LOOK`] to fill the disk.
const PLENTY: u64 = 8;
const FILE_PERMISSIONS: u32 = 0o600;

/// What the services need to know about room.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// This member's disk has too little.
    short: AtomicBool,
    /// It has, or an alarm is raised: growth has to be looked at.
    guarded: AtomicBool,
}

/// What a look at the disk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// More than is needed soon.
    Plenty,
    /// Enough for now.
    Some,
    /// Only the reserve, if that.
    Short,
}

/// Keeps a reserve in some directories.
#[derive(Clone, Debug)]
pub(crate) struct Keeper<F: Fs = OsFs> {
    fs: F,
    directories: Vec<PathBuf>,
    bytes: u64,
}

impl<F: Fs> Keeper<F> {
    /// Keeps `bytes` in each of `directories`, which exist when they are looked at.
    pub(crate) fn new(fs: F, directories: Vec<PathBuf>, bytes: u64) -> Self {
        Self { fs, directories, bytes }
    }

    /// Measures, and makes the reserve where it is missing and fits.
    pub(crate) fn look(&self) -> io::Result<Room> {
        let mut room = Room::Plenty;
        for directory in &self.directories {
            let mut free = self.fs.free_bytes(directory)?;
            if !self.is_kept(directory)? {
                if free < 2 * self.bytes {
                    return Ok(Room::Short);
                }
                self.make(directory)?;
                free = self.fs.free_bytes(directory)?;
            }
            if free < self.bytes {
                return Ok(Room::Short);
            }
            if free < PLENTY * self.bytes {
                room = Room::Some;
            }
        }
        Ok(room)
    }

    /// Gives the reserve up where it is needed.
    pub(crate) fn release(&self) -> io::Result<()> {
        for directory in &self.directories {
            let kept = self.fs.exists(&directory.join(RESERVE))?;
            // With nothing to keep, what an earlier start kept is not wanted any more.
            if kept && (self.bytes == 0 || self.fs.free_bytes(directory)? < self.bytes) {
                self.fs.remove_file(&directory.join(RESERVE))?;
            }
        }
        Ok(())
    }

    fn is_kept(&self, directory: &Path) -> io::Result<bool> {
        match self.fs.stat(&directory.join(RESERVE)) {
            Ok(stat) => Ok(stat.len >= self.bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Space is set aside, not written. Nothing is synced: a lost reserve is made again.
    fn make(&self, directory: &Path) -> io::Result<()> {
        let path = directory.join(RESERVE);
        let made = self
            .fs
            .open(&path, Open::Create(FILE_PERMISSIONS))
            .and_then(|file| file.allocate(self.bytes));
        made.inspect_err(|_| {
            // The error of the allocation is the one that counts.
            let _ = self.fs.remove_file(&path);
        })
    }
}

impl Api {
    /// Refuses what lets data grow while room is short here, or NOSPACE is raised by anybody
    /// (AL-04): refused at apply it would still have grown every member's log.
    pub(crate) async fn check_space(&self, kind: Request, body: &[u8]) -> Result<(), Status> {
        if !self.space.guarded.load(Ordering::Acquire) {
            return Ok(());
        }
        let grows = match kind {
            Request::Put | Request::LeaseGrant => true,
            Request::Txn => has_put(&decode(&Bytes::copy_from_slice(body))?),
            _ => false,
        };
        if !grows {
            return Ok(());
        }
        if self.space.short.load(Ordering::Acquire) {
            return Err(status::no_space());
        }
        // It may have been disarmed through another member just now.
        self.barrier().await?;
        let raised = self.state.alarms().iter().any(|alarm| alarm.kind == AlarmKind::NoSpace);
        if raised { Err(status::no_space()) } else { Ok(()) }
    }

    /// Looks at the disk for as long as the server runs.
    pub(crate) async fn watch_space(self, keeper: Keeper) {
        if keeper.bytes == 0 {
            return;
        }
        loop {
            let pause = match self.look_at_space(&keeper).await {
                Ok(Room::Plenty) => LOOK,
                Ok(Room::Some | Room::Short) => LOOK_OFTEN,
                Err(error) => {
                    tracing::warn!(%error, "could not look after the room on the disk");
                    LOOK
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn look_at_space(&self, keeper: &Keeper) -> io::Result<Room> {
        let looking = keeper.clone();
        let room = tokio::task::spawn_blocking(move || looking.look()).await??;
        let short = room == Room::Short;
        let was_short = self.space.short.swap(short, Ordering::AcqRel);
        let alarms = self.state.alarms();
        let raised = alarms.iter().any(|alarm| alarm.kind == AlarmKind::NoSpace);
        self.space.guarded.store(short || raised, Ordering::Release);
        if !short {
            if was_short {
                tracing::info!("there is room on the disk again");
            }
            return Ok(room);
        }
        let (reserve_bytes, directories) = (keeper.bytes, &keeper.directories);
        if !was_short {
            tracing::error!(
                reserve_bytes,
                ?directories,
                "the disk is nearly full; refusing writes until there is room"
            );
        }
        let alarm = Alarm { member: self.raft.member(), kind: AlarmKind::NoSpace };
        if !alarms.contains(&alarm) {
            self.raise(alarm).await;
        }
        let releasing = keeper.clone();
        tokio::task::spawn_blocking(move || releasing.release()).await??;
        Ok(room)
    }

    /// A failure is tried again with the next look.
    async fn raise(&self, alarm: Alarm) {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id: alarm.member.0,
            alarm: alarm.kind.to_wire(),
        };
        match self.propose(Request::Alarm, &request.encode_to_vec()).await {
            Ok(_) => tracing::warn!(member_id = %alarm.member, "raised the alarm NOSPACE"),
            Err(status) => {
                tracing::warn!(error = status.message(), "could not raise the alarm NOSPACE");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use etcdrs_platform::SimFs;

    use super::*;

    #[test]
    fn the_reserve_is_kept_given_up_and_made_again() {
        let fs = SimFs::seeded(1);
        let root = Path::new("/");
        let keeper = Keeper::new(fs.clone(), vec![root.to_owned()], 100);
        fs.set_capacity(10_000);
        assert_eq!(keeper.look().unwrap(), Room::Plenty);
        assert_eq!(fs.free_bytes(root).unwrap(), 9_900);
        let file = fs.open(Path::new("/data"), Open::Create(0o600)).unwrap();
        file.set_len(9_500).unwrap();
        assert_eq!(keeper.look().unwrap(), Room::Some);
        keeper.release().unwrap();
        assert_eq!(fs.free_bytes(root).unwrap(), 400, "nothing is given up while there is room");
        file.set_len(9_850).unwrap();
        assert_eq!(keeper.look().unwrap(), Room::Short);
        keeper.release().unwrap();
        assert_eq!(fs.free_bytes(root).unwrap(), 150);
        assert_eq!(keeper.look().unwrap(), Room::Short, "the reserve is no room for writes");
        file.set_len(9_800).unwrap();
        assert_eq!(keeper.look().unwrap(), Room::Some);
        assert_eq!(fs.free_bytes(root).unwrap(), 100);
    }
}
