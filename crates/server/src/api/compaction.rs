//! The worker that removes what compactions made unreachable.

use std::sync::Arc;
use std::time::Duration;

use etcdrs_mvcc::{Progress, Reader};
use etcdrs_platform::fp;
use tokio::sync::{Notify, watch};

use crate::metrics::Metrics;

/// How often the worker looks for a job by itself.
const LOOK: Duration = Duration::from_secs(1);

/// Wakes the worker and follows its work. Cloneable.
#[derive(Clone)]
pub(crate) struct Compactor {
    wake: Arc<Notify>,
    /// Rounds that have ended; a round takes every job there is when it starts.
    idle: watch::Receiver<bool>,
    busy: Arc<watch::Sender<bool>>,
}

/// Pace of the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Revisions removed in one slice.
    pub(crate) batch: usize,
    /// Pause between two slices.
    pub(crate) pause: Duration,
}

impl Compactor {
    /// Starts the worker; it takes up what a crash interrupted.
    pub(crate) fn spawn(reader: Reader, pace: Pace, metrics: Metrics) -> Self {
        let (busy, idle) = watch::channel(false);
        let compactor = Self { wake: Arc::new(Notify::new()), idle, busy: Arc::new(busy) };
        tokio::spawn(work(reader, pace, metrics, compactor.clone()));
        compactor.wake();
        compactor
    }

    /// Tells the worker that there may be a job.
    pub(crate) fn wake(&self) {
        self.busy.send_replace(true);
        self.wake.notify_one();
    }

    /// Returns when no job is left.
    pub(crate) async fn finished(&self) {
        let mut busy = self.idle.clone();
        // The worker ends only with the server, and then nobody waits.
        let _ = busy.wait_for(|busy| !*busy).await;
    }
}

async fn work(reader: Reader, pace: Pace, metrics: Metrics, compactor: Compactor) {
    loop {
        tokio::select! {
            () = compactor.wake.notified() => {}
            // A compaction that was asked of another member comes through the log alone.
            () = tokio::time::sleep(LOOK) => {}
        }
        while let Some(mut job) = reader.compaction_job() {
            let revision = job.revision();
            compactor.busy.send_replace(true);
            loop {
                // A slice is short, but its locks and writes do not belong on an async worker.
                let removed_before = job.removed();
                let slice = tokio::task::spawn_blocking(move || {
                    fp!("compact-before-batch");
                    let result = job.step(pace.batch);
                    fp!("compact-after-batch");
                    (job, result)
                });
                let Ok((back, result)) = slice.await else { return };
                job = back;
                metrics.compacted_keys.inc_by(job.removed() - removed_before);
                match result {
                    Ok(Progress::More) => {}
                    Ok(Progress::Finished { .. }) => break,
                    Err(error) => {
                        tracing::error!(%error, revision, "could not compact");
                        compactor.busy.send_replace(false);
                        return;
                    }
                }
                tokio::time::sleep(pace.pause).await;
            }
            fp!("compact-after-finish");
            metrics.compactions.inc();
            tracing::info!(compact_revision = revision, "finished scheduled compaction");
        }
        compactor.busy.send_replace(false);
    }
}
