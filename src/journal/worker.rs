//! The queue and the thread of an embedded backend.
//!
//! Everything that waits in the queue goes to the backend at once: that is the group commit.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use super::error::JournalError;
use super::request::Request;
use super::{Batch, Journal, Limits, News, OnBatch, Outcome, Ticket};

/// How often an idle journal looks whether others have changed it.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What carries requests out.
pub(super) trait Backend: Send {
    /// Carries out all of the requests, in order; an answer for each. If none can be carried out now, they are given
    /// back with the reason.
    fn carry_out(&mut self, requests: Vec<Request>) -> Result<Vec<Outcome>, Away>;

    /// How large what it stores may be.
    fn limits() -> Limits;

    /// What others have done to the journal since this was asked last.
    fn news(&mut self) -> News;

    /// Does what can be done after the answers were given.
    fn tidy(&mut self) {}
}

/// Requests that cannot be carried out now, and why.
pub(super) struct Away(pub(super) Vec<Request>, pub(super) JournalError);

/// An open journal that has a thread of its own.
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: ThreadId,
    limits: Limits,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    // Of the requests in the queue and of those that are being carried out.
    bytes: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    requests: Vec<(Ticket, Request)>,
    closing: bool,
}

enum Turn {
    Work(Vec<(Ticket, Request)>),
    Look,
    End,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start<B: Backend + 'static>(backend: B, on_batch: OnBatch) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let run = move || Loop { shared: theirs, backend: Some(backend), on_batch, looked: Instant::now() }.run();
        let thread = thread::Builder::new().name("treadle-journal".into()).spawn(run)?;
        let thread_id = thread.thread().id();
        Ok(Self { shared, thread: Mutex::new(Some(thread)), thread_id, limits: B::limits() })
    }
}

impl Journal for Worker {
    fn submit(&self, requests: Vec<(Ticket, Request)>) -> Result<(), JournalError> {
        if requests.is_empty() {
            return Ok(());
        }
        let bytes = requests.iter().map(|(_, request)| request.bytes()).sum();
        let mut queue = self.shared.queue();
        if queue.closing {
            return Err(JournalError::Closed);
        }
        let was_empty = queue.requests.is_empty();
        if was_empty {
            queue.requests = requests;
        } else {
            queue.requests.extend(requests);
        }
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        drop(queue);
        if was_empty {
            self.shared.wake.notify_one();
        }
        failpoint!("journal.queued");
        Ok(())
    }

    fn queued_bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn close(&self) {
        self.shared.queue().closing = true;
        self.shared.wake.notify_one();
        // The listener of a batch may close the journal, but its thread cannot wait for itself.
        if thread::current().id() == self.thread_id {
            return;
        }
        // The lock is held while waiting: a second call to close returns only when the files are closed.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Turn {
        let mut queue = self.queue();
        if queue.requests.is_empty() && !queue.closing {
            queue = self.wake.wait_timeout(queue, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        match mem::take(&mut queue.requests) {
            requests if !requests.is_empty() => Turn::Work(requests),
            _ if queue.closing => Turn::End,
            _ => Turn::Look,
        }
    }
}

struct Loop<B> {
    shared: Arc<Shared>,
    // Gone once it has panicked: what it holds cannot be trusted any more.
    backend: Option<B>,
    on_batch: OnBatch,
    looked: Instant,
}

impl<B: Backend> Loop<B> {
    fn run(mut self) {
        loop {
            match self.shared.next() {
                Turn::Work(requests) => self.work(requests),
                Turn::Look => self.look(),
                Turn::End => {
                    failpoint!("journal.closing");
                    drop(self);
                    failpoint!("journal.closed");
                    return;
                }
            }
        }
    }

    fn work(&mut self, requests: Vec<(Ticket, Request)>) {
        failpoint!("journal.batch_taken");
        let bytes: usize = requests.iter().map(|(_, request)| request.bytes()).sum();
        let (tickets, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let mut own = News::default();
        requests.iter().for_each(|request| own |= News::of(request));
        let mut batch = Batch::default();
        match self.guarded(|backend| backend.carry_out(requests)) {
            Ok(Ok(answers)) => {
                batch.answers = tickets.into_iter().zip(answers).collect();
                batch.news = own;
            }
            Ok(Err(Away(requests, error))) => {
                let returned = tickets.into_iter().zip(requests);
                batch.returned = returned.map(|(ticket, request)| (ticket, request, error.clone())).collect();
            }
            Err(error) => batch.answers = tickets.into_iter().map(|ticket| (ticket, Err(error.clone()))).collect(),
        }
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.looked.elapsed() >= LOOK_EVERY {
            batch.news |= self.news();
        }
        self.tell(batch);
        failpoint!("journal.batch_told");
        let _ = self.guarded(B::tidy);
    }

    fn look(&mut self) {
        let news = self.news();
        if news.is_any() {
            self.tell(Batch { news, ..Batch::default() });
        }
    }

    fn news(&mut self) -> News {
        self.looked = Instant::now();
        self.guarded(B::news).unwrap_or_default()
    }

    // A panic must not end the thread: every ticket is answered.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut B) -> T) -> Result<T, JournalError> {
        let Some(backend) = &mut self.backend else {
            return Err(JournalError::Panicked("it had panicked before".into()));
        };
        catch_unwind(AssertUnwindSafe(|| call(backend))).map_err(|panic| {
            self.backend = None;
            JournalError::Panicked(message(&*panic))
        })
    }

    fn tell(&self, batch: Batch) {
        // A listener may panic; the next batch is told all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.on_batch)(batch)));
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
