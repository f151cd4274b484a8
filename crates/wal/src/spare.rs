//! The next segment, made ready while the current one fills.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use etcdrs_platform::{File, Fs, Open, fp};

use crate::options::{Options, Prepare};
use crate::segment::FILE_PERMISSIONS;

/// How much is zeroed between two pauses.
const STEP_BYTES: u64 = 1 << 20;
/// How much is zeroed between two syncs, so that no sync has much to write.
const SYNC_EVERY_BYTES: u64 = 4 << 20;
static ZEROS: [u8; STEP_BYTES as usize] = [0; STEP_BYTES as usize];

/// A file that is to become a segment: locked, of full length, all zeros.
#[derive(Debug)]
pub(crate) struct Spare<F: Fs> {
    pub(crate) file: F::File,
    pub(crate) path: PathBuf,
}

/// Makes spares, one ahead of need.
#[derive(Debug)]
pub(crate) struct Spares<F: Fs> {
    fs: F,
    dir: PathBuf,
    options: Options,
    worker: Option<Worker<F>>,
}

#[derive(Debug)]
struct Worker<F: Fs> {
    /// 0 or 1: the name of the file that it makes.
    number: u8,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Spare<F>>>,
}

impl<F: Fs> Spares<F> {
    pub(crate) fn new(fs: F, dir: &Path, options: Options) -> Self {
        Self { fs, dir: dir.to_owned(), options, worker: None }
    }

    /// Starts to make one in the background, if that is wanted and not under way.
    pub(crate) fn prepare(&mut self) {
        let Prepare::ZeroFill { bytes_per_second } = self.options.prepare else { return };
        if self.worker.is_some() {
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let path = self.path(0);
        let (fs, bytes, stopped) = (self.fs.clone(), self.options.segment_bytes, Arc::clone(&stop));
        let make = move || {
            let spare = reserve(&fs, path, bytes)?;
            zero_fill(&spare.file, bytes, Some(bytes_per_second), &stopped)?;
            Ok(spare)
        };
        // Without a thread the cut reserves space itself, which is slower and no less safe.
        match std::thread::Builder::new().name("wal-prepare".to_owned()).spawn(make) {
            Ok(thread) => self.worker = Some(Worker { number: 0, stop, thread }),
            Err(error) => tracing::warn!(%error, "cannot prepare WAL segments in the background"),
        }
    }

    /// The spare that is ready, or one made on the spot.
    pub(crate) fn take(&mut self) -> io::Result<Spare<F>> {
        if self.worker.as_ref().is_some_and(|worker| worker.thread.is_finished()) {
            let worker = self.worker.take().expect("there is one, as just seen");
            match worker.thread.join() {
                Ok(Ok(spare)) => return Ok(spare),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot prepare a WAL segment");
                    self.options.observer.prepare_failed(&error);
                }
                Err(_) => tracing::error!("the thread that prepares WAL segments panicked"),
            }
        }
        let number = self.worker.as_ref().map_or(0, |worker| 1 - worker.number);
        reserve(&self.fs, self.path(number), self.options.segment_bytes)
    }

    fn path(&self, number: u8) -> PathBuf {
        self.dir.join(format!("{number}.tmp"))
    }
}

impl<F: Fs> Drop for Spares<F> {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop.store(true, Ordering::Relaxed);
            // It ends after one step; its file is a leftover that the next start writes over.
            let _ = worker.thread.join();
        }
    }
}

/// A locked file of full length, its space reserved where the file system can do that.
pub(crate) fn reserve<F: Fs>(fs: &F, path: PathBuf, bytes: u64) -> io::Result<Spare<F>> {
    fp!("wal-before-reserve", |_| Err(io::ErrorKind::StorageFull.into()));
    let file = fs.open(&path, Open::Create(FILE_PERMISSIONS))?;
    file.try_lock()?;
    file.allocate(bytes)?;
    Ok(Spare { file, path })
}

/// Writes zeros over the whole file and syncs it, at `bytes_per_second` if given.
pub(crate) fn zero_fill<F: File>(
    file: &F,
    bytes: u64,
    bytes_per_second: Option<u64>,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut at = 0;
    while at < bytes {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = (bytes - at).min(STEP_BYTES);
        file.write_at(&ZEROS[..usize::try_from(n).expect("a step is small")], at)?;
        at += n;
        if let Some(pace) = bytes_per_second {
            if at.is_multiple_of(SYNC_EVERY_BYTES) {
                file.sync_data()?;
            }
            etcdrs_platform::thread::sleep(Duration::from_micros(n * 1_000_000 / pace.max(1)));
        }
    }
    file.sync_all()
}
