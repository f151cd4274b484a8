//! A mounted [`Disk`] whose power can be cut: a FUSE file system.
//!
//! Nothing is cached by the kernel: every write and every sync of the server under test comes here
//! before it returns. While the power is off, everything answers EIO.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etcdrs_tests::random::Random;
use fuser::{
    AccessFlags, BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType,
    Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use rustix::mount::UnmountFlags;
use tokio::sync::Notify;

use crate::volatile::{Disk, Ino, Loss, Refused};

/// Nothing is remembered by the kernel: a cut may change anything.
const TTL: Duration = Duration::ZERO;
const BLOCK_BYTES: u32 = 4096;
/// Free blocks told to whoever asks; memory is the limit.
const BLOCKS: u64 = 1 << 24;
const KEEP_SIZE: i32 = 1;

struct State {
    disk: Disk,
    powered: bool,
    /// Changes and syncs until the power goes by itself.
    left: Option<u64>,
}

/// A file system that loses what was not synced. Unmounted when dropped.
pub(crate) struct Mount {
    state: Arc<Mutex<State>>,
    off: Arc<Notify>,
    // Before the directory that it is mounted on.
    _session: BackgroundSession,
    directory: tempfile::TempDir,
}

impl Mount {
    /// Mounts an empty disk; the error says why that cannot be done here.
    pub(crate) fn new() -> Result<Self, String> {
        if !Path::new("/dev/fuse").exists() {
            return Err("there is no /dev/fuse".into());
        }
        let directory = tempfile::Builder::new().prefix("etcdrs-disk-").tempdir().unwrap();
        let state = Arc::new(Mutex::new(State { disk: Disk::new(), powered: true, left: None }));
        let off = Arc::new(Notify::new());
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("etcdrs-disk".into())];
        let session = fuser::spawn_mount(
            Volume { state: state.clone(), off: off.clone() },
            directory.path(),
            &config,
        )
        .map_err(|error| format!("FUSE cannot be mounted: {error}"))?;
        Ok(Self { state, off, _session: session, directory })
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().to_path_buf()
    }

    /// Cuts the power after this many more changes and syncs: nothing can be read or written then.
    pub(crate) fn power_off_after(&self, steps: u64) {
        lock(&self.state).left = Some(steps);
    }

    /// Cuts the power now.
    pub(crate) fn power_off(&self) {
        lock(&self.state).powered = false;
    }

    /// Waits until the power is off.
    pub(crate) async fn is_off(&self) {
        loop {
            let changed = self.off.notified();
            if !lock(&self.state).powered {
                return;
            }
            changed.await;
        }
    }

    /// Loses what chance takes of what was not synced, and switches the power on.
    pub(crate) fn power_on(&self, random: &mut Random) -> Loss {
        let mut state = lock(&self.state);
        assert!(!state.powered, "the power is on");
        state.left = None;
        let loss = state.disk.cut(random);
        state.powered = true;
        loss
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A process that just ended may have files open for a moment longer; the session's own
        // attempt then finds nothing to do.
        let _ = rustix::mount::unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

/// The kernel's side.
struct Volume {
    state: Arc<Mutex<State>>,
    off: Arc<Notify>,
}

impl Volume {
    fn with<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T, Refused>) -> Result<T, Errno> {
        let mut state = lock(&self.state);
        if !state.powered {
            return Err(Errno::EIO);
        }
        work(&mut state.disk).map_err(|refused| match refused {
            Refused::Missing => Errno::ENOENT,
            Refused::NotEmpty => Errno::ENOTEMPTY,
            Refused::Kind => Errno::EINVAL,
        })
    }

    /// As [`Self::with`] for what changes or syncs something, which may be the last step.
    fn change<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T, Refused>) -> Result<T, Errno> {
        {
            let mut state = lock(&self.state);
            if let Some(left) = &mut state.left {
                if *left == 0 {
                    state.powered = false;
                    self.off.notify_one();
                } else {
                    *left -= 1;
                }
            }
        }
        self.with(work)
    }

    fn entry(&self, reply: ReplyEntry, work: impl FnOnce(&mut Disk) -> Result<Ino, Refused>) {
        let done = self.change(|disk| {
            let ino = work(disk)?;
            Ok((ino, disk.length(ino)?))
        });
        match done {
            Ok((ino, length)) => reply.entry(&TTL, &attributes(ino, length), Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn empty(&self, reply: ReplyEmpty, work: impl FnOnce(&mut Disk) -> Result<(), Refused>) {
        match self.change(work) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}

fn attributes(ino: Ino, length: Option<u64>) -> FileAttr {
    let is_file = length.is_some();
    let size = length.unwrap_or(u64::from(BLOCK_BYTES));
    FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_file { FileType::RegularFile } else { FileType::Directory },
        perm: if is_file { 0o600 } else { 0o700 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: BLOCK_BYTES,
    }
}

impl Filesystem for Volume {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.with(|disk| {
            let ino = disk.lookup(parent.0, name)?;
            Ok((ino, disk.length(ino)?))
        });
        match found {
            Ok((ino, length)) => reply.entry(&TTL, &attributes(ino, length), Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(|disk| disk.length(ino.0)) {
            Ok(length) => reply.attr(&TTL, &attributes(ino.0, length)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self.with(|disk| {
            if let Some(size) = size {
                disk.set_length(ino.0, size)?;
            }
            disk.length(ino.0)
        });
        match done {
            Ok(length) => reply.attr(&TTL, &attributes(ino.0, length)),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        self.entry(reply, |disk| disk.make_directory(parent.0, name));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |disk| disk.remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |disk| disk.remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.empty(reply, |disk| disk.rename((parent.0, name), (new_parent.0, new_name)));
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.entry(reply, |disk| disk.link(ino.0, new_parent.0, new_name).map(|()| ino.0));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.change(|disk| disk.create(parent.0, name)) {
            Ok(ino) => reply.created(
                &TTL,
                &attributes(ino, Some(0)),
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        const TRUNCATE: i32 = 0o1000;
        let done = self.with(|disk| match flags.0 & TRUNCATE {
            0 => disk.length(ino.0).map(|_| ()),
            _ => disk.set_length(ino.0, 0),
        });
        match done {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.with(|disk| disk.read(ino.0, offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.change(|disk| disk.write(ino.0, offset, data)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(reply, |disk| disk.sync(ino.0));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(reply, |disk| disk.sync(ino.0));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.with(|disk| {
            let names = disk.names(ino.0)?.clone();
            let kinds = names.into_iter().map(|(name, child)| {
                let is_file = matches!(disk.length(child), Ok(Some(_)));
                (child, if is_file { FileType::RegularFile } else { FileType::Directory }, name)
            });
            Ok(kinds.collect::<Vec<_>>())
        });
        match listed {
            Ok(list) => {
                let rest = list.into_iter().enumerate().skip(offset as usize);
                for (at, (child, kind, name)) in rest {
                    if reply.add(INodeNo(child), at as u64 + 1, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK_BYTES, 255, BLOCK_BYTES);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match mode {
            0 => self.empty(reply, |disk| {
                let now = disk.length(ino.0)?.ok_or(Refused::Kind)?;
                disk.set_length(ino.0, now.max(offset + length))
            }),
            KEEP_SIZE => reply.ok(),
            _ => reply.error(Errno::EOPNOTSUPP),
        }
    }
}
