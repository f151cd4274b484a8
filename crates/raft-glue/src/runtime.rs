//! What openraft and the node run on: tokio, with blocking work and randomness that a simulation
//! can take into its own hands.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use etcdrs_platform::{Clock, Fs, Random as _, SystemClock, ThreadRandom};
use etcdrs_wal::{Hand, Wal, Writer};
use openraft::OptionalSend;
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_tokio::{
    TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime, TokioWatch,
};
use rand_core::TryRng;
use tokio::sync::Notify;

/// What a node stands on.
#[derive(Clone)]
pub struct Platform<F: Fs> {
    /// The file system of the log and the `.snap` files.
    pub fs: F,
    /// Measures contacts between members.
    pub clock: Arc<dyn Clock>,
    /// Where work runs that blocks.
    pub threads: Threads,
}

impl<F: Fs> Platform<F> {
    /// The machine's clock and threads.
    pub fn real(fs: F) -> Self {
        Self { fs, clock: Arc::new(SystemClock::new()), threads: Threads::Real }
    }
}

/// Where work runs that blocks.
#[derive(Clone)]
pub enum Threads {
    /// On tokio's pool, and the log's writer on a thread of its own.
    Real,
    /// There are none: all work is done by the tasks themselves, in an order that depends on
    /// nothing outside. For simulations, on a runtime of one thread and with a paused clock.
    None {
        /// How long the next sync of the log takes.
        sync_takes: Arc<dyn Fn() -> Duration + Send + Sync>,
    },
}

impl Threads {
    /// Carries out work that blocks.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Real => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
            Self::None { .. } => Ok(work()),
        }
    }

    /// Starts the log's writer.
    pub(crate) fn write<F: Fs>(&self, log: Wal<F>) -> io::Result<Writer> {
        let Self::None { sync_takes } = self else { return Writer::spawn(log) };
        let work = Arc::new(Notify::new());
        let wake = Arc::clone(&work);
        let (writer, hand) = Writer::by_hand(log, move || wake.notify_one());
        tokio::spawn(write_by_hand(hand, work, Arc::clone(sync_takes)));
        Ok(writer)
    }
}

async fn write_by_hand<F: Fs>(
    mut hand: Hand<F>,
    work: Arc<Notify>,
    sync_takes: Arc<dyn Fn() -> Duration + Send + Sync>,
) {
    loop {
        match hand.write() {
            Ok(true) => {
                tokio::time::sleep(sync_takes()).await;
                if hand.sync().is_err() {
                    return;
                }
            }
            Ok(false) if hand.is_closing() => break,
            Ok(false) => work.notified().await,
            // Who waits was told.
            Err(_) => return,
        }
    }
    if let Err(error) = hand.close() {
        tracing::error!(%error, "could not close the log");
    }
}

/// Tokio; random numbers come from this project's own door.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

/// [`ThreadRandom`] as openraft wants it.
pub(crate) struct Draw;

impl AsyncRuntime for Runtime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = Draw;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Draw {
        Draw
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

impl TryRng for Draw {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let [_, _, _, _, upper @ ..] = ThreadRandom.next_u64().to_le_bytes();
        Ok(u32::from_le_bytes(upper))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(ThreadRandom.next_u64())
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        ThreadRandom.fill(into);
        Ok(())
    }
}
