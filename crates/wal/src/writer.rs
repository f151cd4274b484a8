//! Group commit: one thread, one write and one sync for everything that waits.
//!
//! Batching happens by waiting for the slower neighbour: while a sync runs, the next group fills.
//! There is no timer on the way of a batch that somebody waits for.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use etcdrs_platform::{Fs, fp};
use etcdrs_types::LogIndex;

use crate::error::{WriteError, WriteFailed};
use crate::options::Observer;
use crate::types::Batch;
use crate::wal::Wal;

/// A group is closed when it has this many bytes, so that one sync never waits for an endless
/// write.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// A commit index for which nobody waits is written with the next group, or after this time.
const COMMIT_DELAY: Duration = Duration::from_millis(100);

/// Called on the writer's thread when its batch is durable, or when it never will be. It must not
/// block: the next sync waits for it.
pub type Completion = Box<dyn FnOnce(Result<(), WriteError>) + Send + 'static>;

/// A cloneable handle of the thread that owns a log. The thread ends when [`Self::close`] is
/// called or the last handle is gone.
#[derive(Clone, Debug)]
pub struct Writer(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Result<(), WriteError>>>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    /// Who is woken in the thread's place, if there is none.
    hand: Option<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("queue", &self.queue).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Queue {
    items: Vec<Item>,
    /// Whether some item should not wait for another one.
    is_urgent: bool,
    state: State,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Running,
    Closing,
    Failed(WriteFailed),
}

impl Queue {
    /// Moves all items to `taken`, the next one last.
    fn give(&mut self, taken: &mut Vec<Item>) {
        self.is_urgent = false;
        std::mem::swap(&mut self.items, taken);
        taken.reverse();
    }
}

enum Item {
    Batch(Batch, Option<Completion>),
    Release(LogIndex),
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(batch, _) => f.debug_tuple("Batch").field(batch).finish_non_exhaustive(),
            Self::Release(index) => f.debug_tuple("Release").field(index).finish(),
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing is done under the lock that can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        match &self.hand {
            Some(wake) => wake(),
            None => self.work.notify_one(),
        }
    }
}

impl Writer {
    /// Starts the thread.
    pub fn spawn<F: Fs>(wal: Wal<F>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let service = Service::new(wal, Arc::clone(&shared));
        let thread =
            std::thread::Builder::new().name("wal".to_owned()).spawn(move || service.run())?;
        Ok(Self(Arc::new(Handle { shared, thread: Mutex::new(Some(thread)) })))
    }

    /// A writer without a thread: its work is done by calls of [`Hand`], for simulations in which
    /// nothing may depend on when a thread runs. `wake` is called, on the thread of the one who
    /// queued it, when there is work; it must not block.
    pub fn by_hand<F: Fs>(wal: Wal<F>, wake: impl Fn() + Send + Sync + 'static) -> (Self, Hand<F>) {
        let shared = Arc::new(Shared { hand: Some(Box::new(wake)), ..Shared::default() });
        let service = Service::new(wal, Arc::clone(&shared));
        (Self(Arc::new(Handle { shared, thread: Mutex::new(None) })), Hand(service))
    }

    /// Queues a batch. Batches are written in the order of the calls. `done` is called when
    /// everything up to this batch is durable (if nothing in the batch asks for a sync: when it is
    /// in the kernel), or with the error that ended the log; after that error every later call
    /// gets it at once, on the thread that calls.
    pub fn submit(&self, batch: Batch, done: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.push(Item::Batch(batch, Some(Box::new(done))));
    }

    /// Queues a batch for which nobody waits. A commit index alone does not even wake the thread:
    /// it rides along with the next group.
    pub fn submit_silent(&self, batch: Batch) {
        self.push(Item::Batch(batch, None));
    }

    /// Lets go of the segments that nobody needs to read from `index` on, after all batches
    /// queued before ([`Wal::release_before`]).
    pub fn release_before(&self, index: LogIndex) {
        self.push(Item::Release(index));
    }

    /// How many batches wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.shared.queue().items.len()
    }

    /// The error that ended the log, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<WriteFailed> {
        match &self.0.shared.queue().state {
            State::Failed(failed) => Some(failed.clone()),
            State::Running | State::Closing => None,
        }
    }

    /// Writes what is queued, syncs, ends the thread and lets go of the log. Later calls of any
    /// handle get an error. Without a thread it is [`Hand::is_closing`] that turns true.
    pub fn close(&self) -> Result<(), WriteError> {
        self.0.begin_close();
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread.map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(ended("writer thread panicked").into()),
            None => self.failure().map_or(Ok(()), |failed| Err(failed.into())),
        }
    }

    fn push(&self, item: Item) {
        let mut queue = self.0.shared.queue();
        let refusal = match &queue.state {
            State::Running => None,
            State::Closing => Some(ended("closed")),
            State::Failed(failed) => Some(failed.clone()),
        };
        if let Some(failed) = refusal {
            drop(queue);
            item.refuse(&failed);
            return;
        }
        let is_urgent = item.is_urgent();
        queue.items.push(item);
        let wakes = is_urgent && !queue.is_urgent;
        // An idle thread sleeps without a limit; the first item of any kind sets one.
        let is_first = queue.items.len() == 1;
        queue.is_urgent |= is_urgent;
        drop(queue);
        if wakes || is_first {
            self.0.shared.wake();
        }
    }
}

impl Handle {
    fn begin_close(&self) {
        let mut queue = self.shared.queue();
        if let State::Running = queue.state {
            queue.state = State::Closing;
        }
        drop(queue);
        self.shared.wake();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.begin_close();
    }
}

impl Item {
    fn is_urgent(&self) -> bool {
        match self {
            Self::Batch(batch, done) => {
                done.is_some()
                    || !batch.entries.is_empty()
                    || batch.vote.is_some()
                    || batch.mark.is_some()
            }
            Self::Release(_) => false,
        }
    }

    fn refuse(self, failed: &WriteFailed) {
        if let Self::Batch(_, Some(done)) = self {
            done(Err(failed.clone().into()));
        }
    }
}

fn ended(operation: &'static str) -> WriteFailed {
    let source = io::Error::other("the writer has ended");
    WriteFailed { operation, source: Arc::new(source) }
}

/// The thread's side. Whatever ends it, everyone who waits gets an answer.
struct Service<F: Fs> {
    /// Present until the end.
    wal: Option<Wal<F>>,
    shared: Arc<Shared>,
    observer: Arc<dyn Observer>,
    /// Taken from the queue, the next one last.
    taken: Vec<Item>,
    group: Group,
}

/// Batches whose records wait for the same sync.
#[derive(Default)]
struct Group {
    waiting: VecDeque<(Completion, Result<(), WriteError>)>,
    batches: usize,
    entries: usize,
    bytes: usize,
}

impl<F: Fs> Service<F> {
    fn new(wal: Wal<F>, shared: Arc<Shared>) -> Self {
        let observer = Arc::clone(&wal.options().observer);
        Self { wal: Some(wal), shared, observer, taken: Vec::new(), group: Group::default() }
    }

    fn run(mut self) -> Result<(), WriteError> {
        while self.take() {
            self.write_taken()?;
            self.finish_group()?;
        }
        self.close()
    }

    fn close(mut self) -> Result<(), WriteError> {
        fp!("wal-writer-closing");
        match self.wal.take() {
            Some(wal) => wal.close(),
            None => Ok(()),
        }
    }

    /// Waits for items; `false` when the writer closes and nothing is left.
    fn take(&mut self) -> bool {
        let mut queue = self.shared.queue();
        while !queue.is_urgent && matches!(queue.state, State::Running) {
            if queue.items.is_empty() {
                queue = self.shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.shared.work.wait_timeout(queue, COMMIT_DELAY);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = again;
            if timeout.timed_out() {
                break;
            }
        }
        queue.give(&mut self.taken);
        drop(queue);
        !self.taken.is_empty()
    }

    /// Writes what was taken; only a group that has grown too long is synced.
    fn write_taken(&mut self) -> Result<(), WriteError> {
        while let Some(item) = self.taken.pop() {
            let Some(wal) = &mut self.wal else { break };
            match item {
                Item::Release(index) => wal.release_before(index),
                Item::Batch(batch, done) => {
                    let outcome = wal.append(&batch);
                    let is_final = matches!(outcome, Err(WriteError::Failed(_)));
                    self.group.add(&batch, done, outcome);
                    if is_final || self.group.bytes >= GROUP_BYTES_MAX {
                        self.finish_group()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn finish_group(&mut self) -> Result<(), WriteError> {
        let Some(wal) = &mut self.wal else { return Ok(()) };
        let failure = match wal.sync() {
            Ok(_) => None,
            Err(WriteError::Failed(failed)) => Some(failed),
            Err(refused @ WriteError::Refused(_)) => return Err(refused),
        };
        self.observer.grouped(self.group.batches, self.group.entries);
        (self.group.batches, self.group.entries, self.group.bytes) = (0, 0, 0);
        if let Some(failed) = &failure {
            // Before any answer, so that whoever reacts to one finds the writer closed.
            self.shared.queue().state = State::Failed(failed.clone());
        }
        // One by one: should a callback panic, the others still get an answer when `self` goes.
        while let Some((done, outcome)) = self.group.waiting.pop_front() {
            match &failure {
                None => done(outcome),
                Some(failed) => done(Err(failed.clone().into())),
            }
        }
        failure.map_or(Ok(()), |failed| Err(failed.into()))
    }
}

/// The work of a [`Writer`] that has no thread.
pub struct Hand<F: Fs>(Service<F>);

impl<F: Fs> Hand<F> {
    /// Writes everything that is queued; `false` if nothing is.
    ///
    /// # Errors
    ///
    /// [`WriteError`] ends the log, as it would end the thread.
    pub fn write(&mut self) -> Result<bool, WriteError> {
        let mut queue = self.0.shared.queue();
        queue.give(&mut self.0.taken);
        drop(queue);
        let some = !self.0.taken.is_empty();
        self.0.write_taken()?;
        Ok(some)
    }

    /// Syncs what was written and tells those who wait.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.0.finish_group()
    }

    /// Whether the writer was closed, or nobody holds it any more.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        !matches!(self.0.shared.queue().state, State::Running)
    }

    /// Lets go of the log, after what was written last was synced.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn close(self) -> Result<(), WriteError> {
        self.0.close()
    }
}

impl<F: Fs> fmt::Debug for Hand<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hand").field(&self.0.shared).finish()
    }
}

impl Group {
    fn add(&mut self, batch: &Batch, done: Option<Completion>, outcome: Result<(), WriteError>) {
        self.batches += 1;
        self.entries += batch.entries.len();
        self.bytes += batch.approximate_bytes();
        match done {
            Some(done) => self.waiting.push_back((done, outcome)),
            None => {
                if let Err(error) = outcome {
                    tracing::error!(%error, "a WAL batch for which nobody waits was not written");
                }
            }
        }
    }
}

impl<F: Fs> Drop for Service<F> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        let failed = match &queue.state {
            State::Failed(failed) => failed.clone(),
            State::Closing if !std::thread::panicking() => ended("closed"),
            State::Closing | State::Running => ended("writer thread panicked"),
        };
        queue.state = State::Failed(failed.clone());
        let left = std::mem::take(&mut queue.items);
        drop(queue);
        while let Some((done, _)) = self.group.waiting.pop_front() {
            done(Err(failed.clone().into()));
        }
        while let Some(item) = self.taken.pop() {
            item.refuse(&failed);
        }
        left.into_iter().for_each(|item| item.refuse(&failed));
    }
}

#[cfg(test)]
mod tests;
