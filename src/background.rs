//! A thread of the worker, separate from its event loop, that runs closures: large values are
//! compiled, parsed and freed there. A second one writes what nothing waits for, so that a disk that
//! hangs stops no policy.
//!
//! A thread starts when it is first needed and runs until the worker ends, because every new
//! thread gets a heap (malloc arena) that remains after the thread. Everything that the thread
//! allocates is also freed on the thread: returning memory to the system locks the heap for a tenth
//! of a second with large structures, and the event loop must not wait for that lock.

use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::Arc;
use std::thread::{JoinHandle, LocalKey};
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;

use crate::openssl_ext::thread;
use crate::Error;

/// Shown by `ps -L` and debuggers; the kernel keeps 15 characters.
pub(crate) const THREAD_NAME: &str = "mtls-policy";
/// The name of the thread of [`run_apart`].
const WRITER_NAME: &str = "mtls-writer";
/// How long a worker that ends waits for the thread.
const STOP_WAIT: Duration = Duration::from_secs(10);

type Task = Box<dyn FnOnce() + Send>;

enum Message {
    /// Runs before all deferred tasks, in the order of submission.
    Run(Task),
    /// Runs when no other message waits, the latest first.
    Defer(Task),
    /// Runs when nothing else is left, once for any number of them.
    Idle(Task),
    Stop,
}

struct Thread {
    messages: Sender<Message>,
    stopping: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
    /// The process that started the thread. A forked child has the memory but not the thread.
    process: u32,
}

/// A thread of this process, once it is started.
type Slot = LocalKey<RefCell<Option<Thread>>>;

thread_local! {
    static THREAD: RefCell<Option<Thread>> = const { RefCell::new(None) };
    /// The thread of [`run_apart`].
    static WRITER: RefCell<Option<Thread>> = const { RefCell::new(None) };
}

impl Thread {
    fn start(name: &str) -> Result<Thread, Error> {
        let (messages, received) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let handle = thread::spawn(name, move || work(&received, &stop))
            .map_err(|error| Error::Misuse(format!("cannot start a thread: {error}")))?;
        Ok(Thread {
            messages,
            stopping,
            handle: Some(handle),
            process: process::id(),
        })
    }

    fn is_of_this_process(&self) -> bool {
        self.process == process::id()
    }
}

impl Drop for Thread {
    /// Waits for the thread: if the process ended meanwhile, OpenSSL would be unloaded under it. A
    /// thread that is blocked by a disk or a network file system does not call OpenSSL, so the wait
    /// is bounded.
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        if self.is_of_this_process() {
            self.stopping.store(true, Ordering::Relaxed);
            let _ = self.messages.send(Message::Stop);
            let since = Instant::now();
            while !handle.is_finished() {
                if since.elapsed() > STOP_WAIT {
                    std::mem::forget(handle);
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = handle.join();
        } else {
            std::mem::forget(handle);
        }
    }
}

/// Starts the thread of this process if there is none yet.
///
/// # Errors
/// When the system refuses another thread.
pub(crate) fn start() -> Result<(), Error> {
    start_in(&THREAD, THREAD_NAME)
}

fn start_in(slot: &'static Slot, name: &str) -> Result<(), Error> {
    let started = slot.try_with(|thread| {
        let mut thread = thread.borrow_mut();
        if !thread.as_ref().is_some_and(Thread::is_of_this_process) {
            *thread = Some(Thread::start(name)?);
        }
        Ok(())
    });
    // The worker ends, and needs no thread any more.
    started.unwrap_or(Ok(()))
}

/// Returns the message when there is no thread to receive it.
fn send(slot: &'static Slot, message: Message) -> Option<Message> {
    let sent = slot.try_with(|thread| {
        let thread = thread.borrow();
        match thread.as_ref().filter(|thread| thread.is_of_this_process()) {
            Some(thread) => thread.messages.send(message).err().map(|error| error.0),
            None => Some(message),
        }
    });
    // The worker ends: the message is dropped.
    sent.unwrap_or(None)
}

/// The result of [`send`] to a thread that was started.
fn received(unsent: Option<Message>) -> Result<(), Error> {
    match unsent {
        None => Ok(()),
        Some(_) => Err(Error::Panic),
    }
}

/// Runs a task on the thread as soon as it is free, or here when there is no thread.
pub(crate) fn run(task: impl FnOnce() + Send + 'static) {
    if let Some(Message::Run(task)) = send(&THREAD, Message::Run(Box::new(task))) {
        task();
    }
}

/// Frees a value on the thread, or here when there is no thread.
pub(crate) fn free(value: impl Send + 'static) {
    run(move || drop(value));
}

/// Runs a task on the thread once no task of [`run`] waits. Of several deferred tasks, the latest
/// runs first.
///
/// # Errors
/// When the thread does not run and cannot be started.
pub(crate) fn defer(task: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    start()?;
    received(send(&THREAD, Message::Defer(Box::new(task))))
}

/// Runs a task on a thread of its own, which starts with the first one, in the order of submission.
/// Such a task may never end: nothing but other tasks of this function waits for it.
///
/// # Errors
/// As [`defer`].
pub(crate) fn run_apart(task: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    start_in(&WRITER, WRITER_NAME)?;
    received(send(&WRITER, Message::Run(Box::new(task))))
}

/// Runs a task on the thread, if there is one, once no other task is left. Only the latest of
/// several such tasks runs.
pub(crate) fn when_idle(task: impl FnOnce() + Send + 'static) {
    let _ = send(&THREAD, Message::Idle(Box::new(task)));
}

fn work(messages: &Receiver<Message>, stopping: &AtomicBool) {
    let mut deferred: Vec<Task> = Vec::new();
    let mut idle: Option<Task> = None;
    let run = |task: Task| {
        let _ = catch_unwind(AssertUnwindSafe(task));
        // A later call of OpenSSL must not find the errors of this task.
        ErrorStack::get();
    };
    loop {
        // The queue is drained before a deferred task starts, so that what it holds to be freed
        // does not pile up during a long task.
        let message = if deferred.is_empty() && idle.is_none() {
            messages.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            messages.try_recv()
        };
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        match message {
            Ok(Message::Run(task)) => run(task),
            Ok(Message::Defer(task)) => deferred.push(task),
            Ok(Message::Idle(task)) => idle = Some(task),
            Err(TryRecvError::Empty) => {
                if let Some(task) = deferred.pop().or_else(|| idle.take()) {
                    run(task);
                }
            }
            Ok(Message::Stop) | Err(TryRecvError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(20);

    #[test]
    fn run_without_a_thread_runs_here() {
        let here = std::thread::current().id();
        let (sender, receiver) = mpsc::channel();
        run(move || sender.send(std::thread::current().id()).unwrap());
        assert_eq!(receiver.recv_timeout(WAIT), Ok(here));
    }

    #[test]
    fn tasks_run_before_deferred_ones_and_idle_ones_last() {
        let (hold, held) = mpsc::channel::<()>();
        let (sender, receiver) = mpsc::channel();
        let send = |number: u32| {
            let sender = sender.clone();
            move || sender.send(number).unwrap()
        };
        start().unwrap();
        run(move || {
            let _ = held.recv();
        });
        when_idle(send(9));
        when_idle(send(5));
        defer(send(4)).unwrap();
        defer(send(3)).unwrap();
        run(send(1));
        run(send(2));
        hold.send(()).unwrap();
        let order = [(); 5].map(|()| receiver.recv_timeout(WAIT).unwrap());
        assert_eq!(order, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn run_apart_delays_no_other_task_and_keeps_the_order_of_its_own() {
        let (hold, held) = mpsc::channel::<()>();
        let (sender, receiver) = mpsc::channel();
        let send = |number: u32| {
            let sender = sender.clone();
            move || sender.send(number).unwrap()
        };
        run_apart(move || {
            let _ = held.recv();
        })
        .unwrap();
        run_apart(send(4)).unwrap();
        run_apart(send(5)).unwrap();
        start().unwrap();
        when_idle(send(3));
        assert_eq!(receiver.recv_timeout(WAIT), Ok(3));
        run(send(1));
        assert_eq!(receiver.recv_timeout(WAIT), Ok(1));
        defer(send(2)).unwrap();
        assert_eq!(receiver.recv_timeout(WAIT), Ok(2));
        hold.send(()).unwrap();
        let order = [(); 2].map(|()| receiver.recv_timeout(WAIT).unwrap());
        assert_eq!(order, [4, 5]);
    }

    #[test]
    fn run_after_a_task_that_panicked_still_runs() {
        start().unwrap();
        run(|| panic!("a task"));
        let (sender, receiver) = mpsc::channel();
        run(move || sender.send(()).unwrap());
        assert_eq!(receiver.recv_timeout(WAIT), Ok(()));
    }
}
