//! Another policy for a worker that goes on serving: compiled by a thread beside it, put in force
//! between two requests, and the old one freed by that thread again.
//!
//! The thread lives as long as the worker, once it is needed: a new one for each reload would leave
//! a heap of its own behind each time. What it allocates goes back to it to be freed, down to the
//! last box. It locks its heap to give memory back to the system, which takes a tenth of a second
//! for a large policy, and the event loop must not wait for that lock.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use openssl::error::ErrorStack;

use super::node::{digest_of, key_of, Documents, Node, Published, StateFile, WorkerState};
use super::Engine;
use crate::openssl_ext::thread;
use crate::policy::{
    has_end_marker, is_beginning, Account, Diagnostic, FileChange, FileName, FileWatch, Files,
    Policy, Protection,
};
use crate::text::hex;
use crate::text::quoted;
use crate::trust::crl;
use crate::Error;

/// Shown by `ps -L` and debuggers; the kernel takes 15 characters.
const THREAD_NAME: &str = "mtls-policy";
/// A change of the watched files counts once it is so old.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a worker may serve a policy that is not the one in force any more, beyond the interval of its
/// watch, while it compiles that.
const CATCH_UP: Duration = Duration::from_secs(10);
/// A watch that has not looked for this long beyond its interval is dead.
const OVERDUE: Duration = Duration::from_secs(10);

/// How long a worker that ends waits for the thread.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// A policy of fewer bytes than that leaves too little behind to lock a heap for.
const LARGE: usize = 1 << 20;

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Text of a caller.
    Text {
        /// YAML or JSON.
        text: Arc<[u8]>,
        /// Stands for a file name in messages.
        label: String,
    },
}

impl Origin {
    fn compile(&self, files: &mut Files) -> Result<Policy, Error> {
        let policy = match self {
            Origin::File(path) => Policy::from_file_with(path, files),
            Origin::Text { text, label } => Policy::from_yaml_with(text, label, files),
        };
        policy.map_err(refusal)
    }

    /// Stands for a document that is large enough to end a worker, as long as it stays as it is.
    fn attempt_key(&self) -> Option<u64> {
        match self {
            Origin::File(path) => {
                use std::os::unix::fs::MetadataExt;
                let found = std::fs::metadata(path).ok()?;
                let state = (found.len(), found.ino(), found.mtime(), found.mtime_nsec());
                (found.len() > LARGE as u64)
                    .then(|| key_of(format!("{} {state:?}", path.display()).as_bytes()))
            }
            Origin::Text { text, .. } => (text.len() > LARGE).then(|| key_of(text)),
        }
    }

    /// What the policy was compiled from.
    fn documents(&self, files: &mut Files) -> Documents {
        let mut contents = files.take_contents();
        let label = match self {
            Origin::File(_) => None,
            Origin::Text { text, label } => {
                contents.insert(0, (PathBuf::from(label), text.to_vec()));
                Some(label.clone())
            }
        };
        Documents {
            label,
            files: contents,
        }
    }

    fn is_large(&self, files: &Files) -> bool {
        let text = match self {
            Origin::File(_) => 0,
            Origin::Text { text, .. } => text.len(),
        };
        text.saturating_add(files.bytes_read()) > LARGE
    }

    fn label(&self) -> String {
        match self {
            Origin::File(path) => FileName(&path.to_string_lossy()).to_string(),
            Origin::Text { label, .. } => quoted(label.as_bytes()),
        }
    }
}

/// A path of any length on one line.
fn quoted_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.escape_debug().to_string()
}

/// What was compiled, until it is taken out of the box.
struct Compiled {
    policy: Option<Policy>,
    files: Option<Files>,
    /// Where it comes from, if not from where the order said.
    origin: Option<Origin>,
    /// Its place among all that was read on this node.
    standing: Standing,
    /// What else the log should say.
    note: Option<String>,
}

/// Which of the policies of this node a worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// When it was read, see [`Node::next_order`]; 0 without a node.
    order: u64,
    /// When it was put in force, see [`Node::epoch`]; 0 when that has not happened yet.
    pub(super) epoch: u64,
    /// SHA-256 of its documents.
    digest: [u8; 32],
}

/// One line an error.
fn refusal(diagnostics: Vec<Diagnostic>) -> Error {
    let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    Error::Policy(lines.join("\n"))
}

/// What became of an order.
enum Outcome {
    Compiled(Box<Compiled>),
    Same(Files),
    /// A later one is compiled.
    Superseded,
    Unsettled,
    Failed(Error, Files),
}

/// Where the thread leaves the outcome for whoever ordered.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    abandoned: bool,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody still wants it.
    fn fill(&self, outcome: Outcome) -> bool {
        let mut state = self.state();
        if !state.abandoned {
            state.outcome = Some(outcome);
            self.filled.notify_all();
        }
        !state.abandoned
    }

    fn take(&self, wait: Duration) -> Option<Outcome> {
        let empty = |state: &mut State| state.outcome.is_none();
        let waited = self.filled.wait_timeout_while(self.state(), wait, empty);
        waited
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .outcome
            .take()
    }
}

/// A policy to compile.
struct Job {
    origin: Origin,
    source: Source,
    node: Option<Arc<Node>>,
    state_file: Option<Arc<StateFile>>,
    /// What the policy in force demands of requests, which this one must not lose.
    protection: Option<Arc<Protection>>,
    slot: Arc<Slot>,
    /// The same one for all orders of an engine.
    engine: Arc<()>,
}

/// What to read.
enum Source {
    /// The origin, whatever it holds.
    Origin,
    /// The origin, if it holds something else than these files did.
    Changed(Arc<Files>),
    /// The documents in force on this node.
    Node,
}

/// What the thread is told to do.
enum Order {
    Compile(Box<Job>),
    Retire(Box<Policy>),
    Free(Box<dyn Any + Send>),
    /// Writes the documents in force to the state directory.
    Persist(Arc<Node>, Arc<StateFile>),
    /// After a reload: what compiling took and the old policy left.
    ReleaseMemory,
    Stop,
}

/// The thread of this worker.
struct Builder {
    orders: Sender<Order>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// A fork has no part of it.
    process: u32,
}

thread_local! {
    static BUILDER: RefCell<Option<Builder>> = const { RefCell::new(None) };
}

impl Builder {
    fn start() -> Result<Builder, Error> {
        let (orders, received) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let thread = thread::spawn(THREAD_NAME, move || work(&received, &stop))
            .map_err(|error| Error::Misuse(format!("cannot start a thread: {error}")))?;
        Ok(Builder {
            orders,
            stopping,
            thread: Some(thread),
            process: process::id(),
        })
    }

    /// # Errors
    /// The order, when there is no thread for it.
    fn tell(order: Order, start: bool) -> Result<(), (Option<Error>, Order)> {
        let told = BUILDER.try_with(|builder| {
            let mut builder = builder.borrow_mut();
            let here = |builder: &Builder| builder.process == process::id();
            if start && !builder.as_ref().is_some_and(here) {
                match Builder::start() {
                    Ok(new) => *builder = Some(new),
                    Err(error) => return Err((Some(error), order)),
                }
            }
            match builder.as_ref().filter(|builder| here(builder)) {
                Some(builder) => builder.orders.send(order).map_err(|back| (None, back.0)),
                None => Err((None, order)),
            }
        });
        // The worker ends: what is left is freed with it.
        told.unwrap_or(Ok(()))
    }
}

impl Drop for Builder {
    /// Waits for the thread: the process must not end around it, which takes OpenSSL away. One that
    /// a disk or a network file system holds up calls none of that.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if self.process == process::id() {
            self.stopping.store(true, Ordering::Relaxed);
            let _ = self.orders.send(Order::Stop);
            let since = Instant::now();
            while !thread.is_finished() {
                if since.elapsed() > STOP_WAIT {
                    std::mem::forget(thread);
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = thread.join();
        } else {
            std::mem::forget(thread);
        }
    }
}

fn work(orders: &Receiver<Order>, stopping: &AtomicBool) {
    let mut large = false;
    let mut release = false;
    let mut jobs = Vec::new();
    loop {
        // All that was told comes before the next policy, lest those to free pile up meanwhile.
        let order = if jobs.is_empty() && !release {
            orders.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            orders.try_recv()
        };
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        match order {
            Ok(Order::Compile(job)) => jobs.push(*job),
            Ok(Order::Retire(policy)) => {
                let _ = catch_unwind(AssertUnwindSafe(|| policy.retire()));
            }
            Ok(Order::Free(rest)) => drop(rest),
            Ok(Order::Persist(node, state_file)) => {
                // What fails here is said when the next policy is put in force.
                let _ = state_file.write_in_force(&node);
            }
            Ok(Order::ReleaseMemory) => release = true,
            Err(TryRecvError::Empty) => match jobs.pop() {
                Some(job) => compile(job, &mut jobs, &mut large),
                None => {
                    release = false;
                    if std::mem::take(&mut large) {
                        thread::release_memory_after_a_pause();
                    }
                }
            },
            Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return,
        }
        ErrorStack::get();
    }
}

/// Compiles the job that was ordered last; once it is good, `earlier` ones are for nothing.
fn compile(job: Job, earlier: &mut Vec<Job>, large: &mut bool) {
    if job.slot.state().abandoned {
        return;
    }
    let compile = || outcome(&job, large);
    let lost = |_| Outcome::Failed(Error::Panic, Files::default());
    let outcome = catch_unwind(AssertUnwindSafe(compile)).unwrap_or_else(lost);
    let good = matches!(outcome, Outcome::Compiled(_));
    if job.slot.fill(outcome) && good {
        earlier.retain(|other| {
            let superseded = Arc::ptr_eq(&other.engine, &job.engine);
            if superseded {
                other.slot.fill(Outcome::Superseded);
            }
            !superseded
        });
    }
}

fn outcome(job: &Job, large: &mut bool) -> Outcome {
    let node = job.node.as_deref();
    let (origin, mut files, mut standing) = match &job.source {
        Source::Node => {
            let Some((documents, epoch, order)) = node.and_then(Node::documents) else {
                let error =
                    "the documents of the policy in force on this node are not kept".to_owned();
                return Outcome::Failed(Error::Policy(error), Files::default());
            };
            let standing = Standing {
                order,
                epoch,
                digest: digest_of(&documents),
            };
            let (origin, files) = replayed(documents);
            (origin, files, standing)
        }
        source => {
            // Before the bytes: what another worker reads later is newer.
            let standing = Standing {
                order: node.map_or(0, Node::next_order),
                ..Standing::default()
            };
            if let Source::Changed(files) = source {
                if let Some(files) = files.reread_if_unchanged(crl::MAX_FILE) {
                    return Outcome::Same(files);
                }
            }
            (job.origin.clone(), Files::for_reload(), standing)
        }
    };
    let attempt = match (node, origin.attempt_key()) {
        (Some(node), Some(key)) => match node.attempt(key) {
            Ok(attempt) => Some(attempt),
            Err(deaths) => {
                let error = format!(
                    "{}: not compiled, since {deaths} workers died while they did; it is tried again \
                     when it changes",
                    origin.label()
                );
                return Outcome::Failed(Error::Policy(error), Files::default());
            }
        },
        _ => None,
    };
    let policy = origin.compile(&mut files);
    drop(attempt);
    *large |= origin.is_large(&files);
    // Somebody writes at this moment, and half a policy may look like a good one.
    if matches!(job.source, Source::Changed(_)) && !files.stamps_unchanged() {
        return Outcome::Unsettled;
    }
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => return Outcome::Failed(error, files),
    };
    let mut note = None;
    if !matches!(job.source, Source::Node) {
        let documents = origin.documents(&mut files);
        if let Some(why) = refused(job, &documents, &policy) {
            let error = format!("{}: {why}", origin.label());
            return Outcome::Failed(Error::Policy(error), files);
        }
        standing.digest = digest_of(&documents);
        if let Some(node) = node {
            let renew = matches!(job.source, Source::Origin);
            let (published, kept) = node.put_in_force(standing.order, &documents, renew, now());
            match published {
                Published::InForce(epoch) => standing.epoch = epoch,
                Published::Superseded => return Outcome::Superseded,
            }
            let written = job.state_file.as_ref().map(|file| match kept {
                true => file.write_in_force(node),
                false => file.write(&documents),
            });
            note = match written {
                Some(Err(error)) => Some(format!("not written to the state directory: {error}")),
                _ if !kept => {
                    Some("its documents are too large to be kept for later workers".to_owned())
                }
                _ => None,
            };
        }
    }
    Outcome::Compiled(Box::new(Compiled {
        origin: matches!(job.source, Source::Node).then_some(origin),
        policy: Some(policy),
        files: Some(files),
        standing,
        note,
    }))
}

/// Where documents came from, and the files as they were.
fn replayed(documents: Documents) -> (Origin, Files) {
    let Documents { label, mut files } = documents;
    let origin = match label {
        Some(label) => {
            let text = match files.is_empty() {
                true => Vec::new(),
                false => files.remove(0).1,
            };
            Origin::Text {
                text: text.into(),
                label,
            }
        }
        None => Origin::File(
            files
                .first()
                .map(|(path, _)| path.clone())
                .unwrap_or_default(),
        ),
    };
    (origin, Files::from_contents(files))
}

/// Why a policy that is good by itself must not replace the one in force.
fn refused(job: &Job, documents: &Documents, policy: &Policy) -> Option<String> {
    let protection = job.protection.as_ref()?;
    let before = job.node.as_ref().and_then(|node| node.documents());
    let before = before
        .map(|(documents, ..)| documents.files)
        .unwrap_or_default();
    let mut files = documents.files.iter();
    let (path, document) = files.next()?;
    let same = |path: &Path| before.iter().find(|(known, _)| known == path);
    for (path, content) in files {
        let before = same(path).map(|(_, before)| before.as_slice());
        if before.is_some_and(|before| is_beginning(content, before)) {
            return Some(format!(
                "refused, since '{}' is the beginning of what is in force, as if it were cut; where that \
                 is meant, reload by HUP",
                quoted(path.to_string_lossy().as_bytes())
            ));
        }
    }
    let before = same(path).map(|(_, before)| before.as_slice());
    if before.is_some_and(has_end_marker) && !has_end_marker(document) {
        return Some(
            "refused, since the document in force ends with a line '...' and this one does not, as if it \
             were cut; where that is meant, reload by HUP"
                .to_owned(),
        );
    }
    let cut =
        before.is_some_and(|before| is_beginning(document, before)) && !has_end_marker(document);
    protection.refusal(policy, cut)
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Frees a policy, beside the worker if there is a thread for it.
fn retire(policy: Box<Policy>) {
    if let Err((_, Order::Retire(policy))) = Builder::tell(Order::Retire(policy), false) {
        policy.retire();
    }
}

/// Frees what the thread made, there.
pub(crate) fn free(rest: impl Any + Send) {
    // Without a thread it is freed with the order.
    let _ = Builder::tell(Order::Free(Box::new(rest)), false);
}

/// A policy that is being compiled. Dropping it calls the reload off.
pub struct Reload {
    slot: Arc<Slot>,
    origin: Origin,
    number: u64,
    /// What was in force when it was ordered.
    since: u64,
}

impl Drop for Reload {
    fn drop(&mut self) {
        let mut state = self.slot.state();
        state.abandoned = true;
        let outcome = state.outcome.take();
        drop(state);
        if let Some(Outcome::Compiled(mut compiled)) = outcome {
            if let Some(policy) = compiled.policy.take() {
                retire(Box::new(policy));
            }
            free(compiled);
        }
    }
}

/// How far a reload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not compiled yet.
    Building,
    /// In force, with what changed in words for the log, and in a second line what went wrong besides.
    InForce(String),
    /// The files hold what is in force already.
    Same,
    /// A reload that was ordered later is in force already, or compiled.
    Superseded,
    /// The files were changed while they were read.
    Unsettled,
}

/// What an engine knows of the files of its policy.
#[derive(Default)]
pub(super) struct Watching {
    /// What tells this engine from others.
    identity: Arc<()>,
    every: Duration,
    /// Where the policy in force comes from, with the files as they were.
    source: Option<(Origin, Arc<Files>)>,
    /// What differs from the last attempt, good or bad.
    watch: FileWatch,
    /// Of the one who looks.
    token: u32,
    looked: Option<(u32, Instant)>,
    orders: u64,
    installed: u64,
    /// When that was, in seconds since 1970.
    since: u64,
    last_error: Option<String>,
    /// The order that `last_error` is of.
    judged: u64,
}

impl Watching {
    fn next(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    fn judge(&mut self, number: u64, error: Option<String>) {
        if number >= self.judged {
            self.judged = number;
            self.last_error = error;
        }
    }

    /// Between two looks; without a watch on files there is still the node's policy.
    fn interval(&self) -> Duration {
        match self.every.is_zero() {
            true => Duration::from_secs(1),
            false => self.every,
        }
    }

    fn is_of(&self, origin: &Origin) -> bool {
        self.source
            .as_ref()
            .is_some_and(|(known, _)| known == origin)
    }

    fn from(&mut self, origin: &Origin, files: Arc<Files>) {
        // Text is only needed again for the sake of files it names.
        let source = match (origin, files.is_empty()) {
            (Origin::Text { .. }, true) => None,
            _ => Some((origin.clone(), files.clone())),
        };
        free(std::mem::replace(&mut self.source, source));
        free(self.watch.set_baseline(files));
    }
}

impl Engine {
    /// Compiles a policy here and now, and puts it in force.
    ///
    /// # Errors
    /// Everything that is wrong with it; then the policy before stays in force.
    pub fn load(&self, origin: Origin) -> Result<(), Error> {
        self.load_from(origin, Files::keeping_contents(), None)
    }

    /// The same with the documents that the state directory holds: those that were in force last.
    ///
    /// # Errors
    /// Without a state directory, when it holds none, and as [`Engine::load`].
    pub fn load_last_good(&self) -> Result<(), Error> {
        let state_file = self.state_file.borrow().clone().ok_or(Error::NotFound)?;
        let documents = state_file.read().map_err(|error| {
            Error::Policy(format!("'{}': {error}", state_file.path().display()))
        })?;
        let (origin, files) = replayed(documents.clone());
        self.load_from(origin, files, Some(documents))
    }

    fn load_from(
        &self,
        origin: Origin,
        mut files: Files,
        documents: Option<Documents>,
    ) -> Result<(), Error> {
        let number = self.watching.borrow_mut().next();
        let node = self.node.borrow().clone();
        let order = node.as_ref().map_or(0, |node| node.next_order());
        let policy = origin.compile(&mut files);
        let large = origin.is_large(&files);
        let outcome = match policy {
            Ok(policy) => {
                let mut standing = Standing {
                    order,
                    ..Standing::default()
                };
                if let Some(node) = node {
                    let documents = documents.unwrap_or_else(|| origin.documents(&mut files));
                    standing.digest = digest_of(&documents);
                    node.keep(order, &documents);
                }
                Outcome::Compiled(Box::new(Compiled {
                    policy: Some(policy),
                    files: Some(files),
                    origin: None,
                    standing,
                    note: None,
                }))
            }
            Err(error) => Outcome::Failed(error, files),
        };
        let progress = self.settle_reload(outcome, &origin, number, 0);
        if large {
            // Before a fork, lest every worker starts with what compiling took.
            thread::release_memory();
        }
        progress.map(drop)
    }

    /// What keeps an account from reading the files of the policy, one line each: workers, which
    /// read them again when they change, are not who read them at the start.
    pub fn unreadable_by(&self, user: &str, account: &Account) -> Vec<String> {
        let watching = self.watching.borrow();
        let files = watching.source.as_ref().map(|(_, files)| files);
        let found = files.map_or(Vec::new(), |files| files.unreadable_by(account));
        let shown = |path: &Path| quoted_path(path);
        let user = quoted(user.as_bytes());
        found
            .iter()
            .map(|(path, obstacle)| {
                let why = match std::fs::canonicalize(path).is_ok_and(|real| real == *obstacle) {
                    true => String::new(),
                    false => format!(" in {}", shown(obstacle)),
                };
                format!(
                    "{}: the workers' user '{user}' has no permission to read it{why}, so a change \
                     will not be put in force without HUP; expected for example mode 0640 and a group \
                     that the user is in",
                    shown(path)
                )
            })
            .collect()
    }

    /// Has a policy compiled beside the worker; [`Engine::poll`] puts it in force.
    ///
    /// # Errors
    /// When there cannot be a thread.
    pub fn reload(&self, origin: Origin) -> Result<Reload, Error> {
        self.order(origin, Source::Origin)
    }

    /// Has the policy in force compiled anew if its files hold something else by now.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is from no file.
    pub fn reload_changed(&self) -> Result<Reload, Error> {
        let source = self.watching.borrow().source.clone();
        let (origin, files) = source.ok_or(Error::NotFound)?;
        self.order(origin, Source::Changed(files))
    }

    /// Has the documents compiled that are in force on this node.
    ///
    /// # Errors
    /// As [`Engine::reload`].
    pub fn reload_from_node(&self) -> Result<Reload, Error> {
        let origin = Origin::Text {
            text: Arc::from([]),
            label: "policy in force on this node".to_owned(),
        };
        self.order(origin, Source::Node)
    }

    fn order(&self, origin: Origin, source: Source) -> Result<Reload, Error> {
        let protection = self.policy().ok().map(|policy| policy.protection.clone());
        let mut watching = self.watching.borrow_mut();
        let reload = Reload {
            slot: Arc::default(),
            origin: origin.clone(),
            number: watching.next(),
            since: watching.installed,
        };
        let slot = reload.slot.clone();
        let job = Job {
            origin,
            source,
            node: self.node.borrow().clone(),
            state_file: self.state_file.borrow().clone(),
            protection,
            slot,
            engine: watching.identity.clone(),
        };
        drop(watching);
        match Builder::tell(Order::Compile(Box::new(job)), true) {
            Ok(()) => Ok(reload),
            Err((error, _)) => Err(error.unwrap_or(Error::Panic)),
        }
    }

    /// Puts the policy in force once it is compiled. Waits for it at most this long, and the worker
    /// with it.
    ///
    /// # Errors
    /// Everything that is wrong with it; then the policy before stays in force.
    pub fn poll(&self, reload: &Reload, wait: Duration) -> Result<Progress, Error> {
        match reload.slot.take(wait) {
            None => Ok(Progress::Building),
            Some(outcome) => {
                let progress =
                    self.settle_reload(outcome, &reload.origin, reload.number, reload.since);
                // Not before the event loop has taken what was compiled.
                let _ = Builder::tell(Order::ReleaseMemory, false);
                progress
            }
        }
    }

    fn settle_reload(
        &self,
        outcome: Outcome,
        origin: &Origin,
        number: u64,
        since: u64,
    ) -> Result<Progress, Error> {
        let mut watching = self.watching.borrow_mut();
        match outcome {
            Outcome::Unsettled => Ok(Progress::Unsettled),
            Outcome::Superseded => Ok(Progress::Superseded),
            Outcome::Same(files) => {
                // They hold what was in force when this was ordered.
                if watching.installed != since {
                    free(files);
                    return Ok(Progress::Unsettled);
                }
                free(watching.watch.set_baseline(files.into()));
                watching.judge(number, None);
                Ok(Progress::Same)
            }
            Outcome::Failed(error, files) => {
                // The same bad files are not tried again, unless another moment may find them good.
                if number > watching.installed && watching.is_of(origin) && !files.is_transient() {
                    free(watching.watch.set_baseline(files.into()));
                } else {
                    free(files);
                }
                watching.judge(number, Some(error.to_string()));
                Err(error)
            }
            Outcome::Compiled(mut compiled) => {
                let (policy, files) = (compiled.policy.take(), compiled.files.take());
                let (from, note) = (compiled.origin.take(), compiled.note.take());
                let standing = compiled.standing;
                free(compiled);
                let (Some(policy), Some(files)) = (policy, files) else {
                    return Err(Error::Panic);
                };
                if number < watching.installed {
                    retire(Box::new(policy));
                    free(files);
                    return Ok(Progress::Superseded);
                }
                let origin = from.as_ref().unwrap_or(origin);
                watching.installed = number;
                watching.since = now();
                watching.judge(number, None);
                watching.from(origin, files.into());
                drop(watching);
                let mut what = self.swap(policy, origin, standing);
                if let Some(note) = note {
                    what = format!("{what}\n{note}");
                }
                Ok(Progress::InForce(what))
            }
        }
    }

    /// Puts a policy in force; what that changes, for the log.
    fn swap(&self, policy: Policy, origin: &Origin, standing: Standing) -> String {
        let was = self.policy().ok().map(|policy| policy.digest);
        let (before, digest) = (self.node_epoch(), policy.digest);
        self.standing.set(standing);
        self.behind_since.set(None);
        if let Some(old) = self.install(policy) {
            retire(Box::new(old));
        }
        format!(
            "epoch {before} -> {}, digest {} -> {}, {}",
            self.node_epoch(),
            was.map_or("none".to_owned(), |was| hex(&was)),
            hex(&digest),
            origin.label(),
        )
    }

    /// Makes this engine one of those that share `node`. Call it before the policy is loaded.
    pub fn join(&self, node: Arc<Node>) {
        *self.node.borrow_mut() = Some(node);
    }

    /// Has the documents in force written to `directory`, for the next start. `source` names the policy.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn set_state_directory(&self, directory: &Path, source: &[u8]) -> Result<(), Error> {
        let file = StateFile::new(directory, source).map_err(Error::Misuse)?;
        *self.state_file.borrow_mut() = Some(Arc::new(file));
        Ok(())
    }

    /// The epoch of the policy that this worker serves: the node's number of it, or without a node, how many
    /// there have been here.
    pub fn node_epoch(&self) -> u64 {
        match self.node.borrow().is_some() {
            true => self.standing.get().epoch,
            false => self.epoch(),
        }
    }

    /// Since when this worker has served its policy, in seconds since 1970.
    pub fn in_force_since(&self) -> u64 {
        self.watching.borrow().since
    }

    /// First work of a worker: puts the policy that the master read in force on the node, unless a newer one
    /// is.
    fn enter(&self) {
        let node = self.node.borrow().clone();
        let Some(node) = node else {
            return;
        };
        let mut standing = self.standing.get();
        let published = node.publish(standing.order, &standing.digest, false, now());
        if let Published::InForce(epoch) = published {
            if standing.epoch != epoch {
                standing.epoch = epoch;
                self.standing.set(standing);
                if let Some(state_file) = self.state_file.borrow().clone() {
                    let _ = Builder::tell(Order::Persist(node, state_file), true);
                }
            }
            return;
        }
        // What this worker has was replaced before it started: it must not serve that even once.
        self.behind_since.set(Some(None));
    }

    /// Whether another policy is in force on this node than the one that this worker has. The same one, put
    /// in force anew, is caught up with here.
    pub fn is_behind(&self) -> bool {
        let node = self.node.borrow();
        let Some(node) = node.as_ref() else {
            return false;
        };
        let epoch = node.epoch();
        let standing = self.standing.get();
        if epoch == standing.epoch || epoch == 0 {
            return false;
        }
        match node.in_force() {
            Some((epoch, order, digest)) if digest == standing.digest => {
                self.standing.set(Standing {
                    order,
                    epoch,
                    digest,
                });
                self.behind_since.set(None);
                false
            }
            _ => true,
        }
    }

    /// The same, once that has been so for longer than a worker needs to catch up.
    pub(super) fn is_left_behind(&self) -> bool {
        if !self.is_behind() {
            return false;
        }
        match self.behind_since.get() {
            Some(None) => true,
            Some(Some(since)) => {
                let interval = self.watching.borrow().interval();
                since.elapsed() > interval.saturating_add(CATCH_UP)
            }
            None => {
                self.behind_since.set(Some(Some(Instant::now())));
                false
            }
        }
    }

    /// Says that this worker cannot get the policy in force: from now on it answers 503.
    pub fn cannot_follow(&self) {
        if self.is_behind() {
            self.behind_since.set(Some(None));
        }
    }

    /// Reports the state of this worker to the node.
    pub fn report(&self, worker: usize) {
        if let Some(node) = &*self.node.borrow() {
            let watching = self.watching.borrow();
            node.report(
                worker,
                WorkerState {
                    process: process::id(),
                    epoch: self.standing.get().epoch,
                    since: watching.since,
                    failed: watching.last_error.is_some(),
                },
            );
        }
    }

    /// What a worker reported.
    pub fn worker_state(&self, worker: usize) -> Option<WorkerState> {
        self.node.borrow().as_ref()?.worker(worker)
    }

    /// The epoch in force on this node and since when, in seconds since 1970.
    pub fn node_state(&self) -> Option<(u64, u64)> {
        let node = self.node.borrow();
        let node = node.as_ref()?;
        Some((node.epoch(), node.since()))
    }

    /// The errors of the last reload, if it failed.
    pub fn last_error(&self) -> Option<String> {
        self.watching.borrow().last_error.clone()
    }

    /// Has the files of the policy watched at this interval; zero: not at all.
    pub fn set_watch(&self, every: Duration) {
        self.watching.borrow_mut().every = every;
    }

    /// The interval at which to look at the files; zero: not at all.
    pub fn watch_interval(&self) -> Duration {
        self.watching.borrow().every
    }

    /// Makes the caller the one who looks, in this process: `None` when another one does already.
    pub fn start_watch(&self) -> Option<u32> {
        let mut watching = self.watching.borrow_mut();
        let overdue = watching
            .interval()
            .saturating_mul(3)
            .saturating_add(OVERDUE);
        let alive = watching.looked.is_some_and(|(process, looked)| {
            process == process::id() && looked.elapsed() < overdue
        });
        if alive {
            return None;
        }
        let started = watching
            .looked
            .replace((process::id(), Instant::now()))
            .is_some_and(|(process, _)| process == process::id());
        watching.token = watching.token.wrapping_add(1);
        let token = watching.token;
        drop(watching);
        if !started {
            self.enter();
        }
        Some(token)
    }

    /// Whether the files of the policy have changed. [`Engine::reload_changed`] goes on from there.
    ///
    /// # Errors
    /// [`Error::NotFound`] when somebody else looks by now.
    pub fn look(&self, token: u32) -> Result<FileChange, Error> {
        let mut watching = self.watching.borrow_mut();
        if token != watching.token {
            return Err(Error::NotFound);
        }
        watching.looked = Some((process::id(), Instant::now()));
        if watching.every.is_zero() {
            return Ok(FileChange::None);
        }
        let settle = SETTLE.min(watching.every);
        Ok(watching.watch.check(settle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(20);
    const GOOD: &str = "_format_version: '3.0'\nroutes: [{name: a}]\n";
    const BETTER: &str = "_format_version: '3.0'\nroutes: [{name: a}, {name: b}]\n";
    const BAD: &str = "_format_version: '3.0'\nrutes: []\n";

    /// A policy file with an engine that has loaded it, and looks.
    struct Worker {
        path: PathBuf,
        engine: Engine,
        token: u32,
    }

    impl Worker {
        fn new(name: &str, text: &str) -> Worker {
            let file = format!("resty-mtls-reload-{}-{name}.yaml", process::id());
            let path = std::env::temp_dir().join(file);
            fs::write(&path, text).unwrap();
            let engine = Engine::default();
            engine.load(Origin::File(path.clone())).unwrap();
            engine.set_watch(Duration::from_millis(1));
            let token = engine.start_watch().unwrap();
            Worker {
                path,
                engine,
                token,
            }
        }

        fn write(&self, text: &str) {
            fs::write(&self.path, text).unwrap();
            let since = Instant::now();
            while self.look() != FileChange::Settled {
                assert!(since.elapsed() < LONG);
                std::thread::yield_now();
            }
        }

        fn look(&self) -> FileChange {
            self.engine.look(self.token).unwrap()
        }

        fn routes(&self) -> usize {
            self.engine.policy().unwrap().routes.len()
        }
    }

    impl Drop for Worker {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn text(text: &str) -> Origin {
        Origin::Text {
            text: text.as_bytes().into(),
            label: "text".to_owned(),
        }
    }

    fn in_force(progress: Result<Progress, Error>) -> String {
        match progress {
            Ok(Progress::InForce(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reload_puts_the_new_policy_in_force() {
        let worker = Worker::new("force", GOOD);
        let before = worker.engine.epoch();
        fs::write(&worker.path, BETTER).unwrap();
        let reload = worker
            .engine
            .reload(Origin::File(worker.path.clone()))
            .unwrap();
        assert_eq!((worker.routes(), worker.engine.epoch()), (1, before));
        let digest = |engine: &Engine| hex(&engine.policy().unwrap().digest);
        let old = digest(&worker.engine);
        let what = in_force(worker.engine.poll(&reload, LONG));
        assert_eq!((worker.routes(), worker.engine.epoch()), (2, before + 1));
        assert_eq!(
            what,
            format!(
                "epoch {before} -> {}, digest {old} -> {}, {}",
                before + 1,
                digest(&worker.engine),
                worker.path.display()
            )
        );
        assert_eq!(
            worker.engine.poll(&reload, Duration::ZERO).unwrap(),
            Progress::Building
        );
    }

    #[test]
    fn reload_bad_policy_changes_nothing_and_is_tried_once() {
        let worker = Worker::new("bad", GOOD);
        let before = worker.engine.epoch();
        worker.write(BAD);
        let reload = worker.engine.reload_changed().unwrap();
        let error = worker.engine.poll(&reload, LONG).unwrap_err().to_string();
        assert!(error.ends_with(":2:1: unknown field 'rutes', did you mean 'routes'?"));
        assert_eq!(worker.engine.last_error(), Some(error));
        assert_eq!((worker.routes(), worker.engine.epoch()), (1, before));
        assert_eq!(worker.look(), FileChange::None);

        worker.write(GOOD);
        let reload = worker.engine.reload_changed().unwrap();
        assert_eq!(worker.engine.poll(&reload, LONG), Ok(Progress::Same));
        assert_eq!(worker.engine.last_error(), None);
        assert_eq!(worker.engine.epoch(), before);

        worker.write(BETTER);
        let reload = worker.engine.reload_changed().unwrap();
        in_force(worker.engine.poll(&reload, LONG));
        assert_eq!((worker.routes(), worker.look()), (2, FileChange::None));
    }

    #[test]
    fn reload_ordered_earlier_never_replaces_a_later_one() {
        let worker = Worker::new("order", GOOD);
        let first = worker.engine.reload(text(GOOD)).unwrap();
        let second = worker.engine.reload(text(BETTER)).unwrap();
        in_force(worker.engine.poll(&second, LONG));
        assert_eq!(worker.engine.poll(&first, LONG), Ok(Progress::Superseded));
        assert_eq!(worker.routes(), 2);
        // A policy that is from no file is not watched.
        assert_eq!(worker.look(), FileChange::None);
        assert_eq!(worker.engine.reload_changed().err(), Some(Error::NotFound));
    }

    #[test]
    fn reload_many_at_once_compile_the_last_good_one() {
        let worker = Worker::new("many", GOOD);
        let (hold, held) = mpsc::channel::<()>();
        struct Held(Receiver<()>);
        impl Drop for Held {
            fn drop(&mut self) {
                let _ = self.0.recv();
            }
        }
        drop(worker.engine.reload(text(GOOD)).unwrap());
        free(Held(held));
        let reload = |what| worker.engine.reload(text(what)).unwrap();
        let (first, second, third) = (reload(GOOD), reload(BETTER), reload(BAD));
        drop(reload(GOOD));
        // Of another engine.
        let other = Engine::default();
        let theirs = other.reload(text(GOOD)).unwrap();
        hold.send(()).unwrap();
        in_force(other.poll(&theirs, LONG));
        let error = worker.engine.poll(&third, LONG).unwrap_err().to_string();
        assert_eq!(worker.engine.poll(&first, LONG), Ok(Progress::Superseded));
        in_force(worker.engine.poll(&second, LONG));
        assert_eq!(worker.routes(), 2);
        assert_eq!(worker.engine.last_error(), Some(error));
    }

    #[test]
    fn reload_same_or_failed_says_nothing_of_another_policy() {
        let worker = Worker::new("another", GOOD);
        fs::write(&worker.path, GOOD).unwrap();
        let same = worker.engine.reload_changed().unwrap();
        fs::write(&worker.path, BAD).unwrap();
        let failed = worker
            .engine
            .reload(Origin::File(worker.path.clone()))
            .unwrap();
        worker.engine.load(text(BETTER)).unwrap();
        let progress = worker.engine.poll(&same, LONG);
        assert!(!matches!(progress, Ok(Progress::Same)), "{progress:?}");
        assert!(worker.engine.poll(&failed, LONG).is_err());
        assert_eq!(worker.engine.last_error(), None);
        // Text is not watched.
        fs::write(&worker.path, BETTER).unwrap();
        assert_eq!(worker.look(), FileChange::None);
    }

    #[test]
    fn reload_dropped_is_called_off() {
        let worker = Worker::new("drop", GOOD);
        drop(worker.engine.reload(text(BETTER)).unwrap());
        let after = worker.engine.reload(text(GOOD)).unwrap();
        in_force(worker.engine.poll(&after, LONG));
        assert_eq!(worker.routes(), 1);
    }

    #[test]
    fn look_files_that_a_policy_names_are_watched_too() {
        let dir = std::env::temp_dir().join(format!("resty-mtls-crl-{}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        let crl = dir.join("no.crl");
        let policy = format!(
            "_format_version: '3.0'\nplugins: [{{name: mtls-auth, config: {{ca_certificates: [], \
             skip_consumer_lookup: true, revocation_check_mode: STRICT, crls: ['{}']}}}}]\n",
            crl.display()
        );
        let worker = Worker::new("crl", GOOD);
        worker.write(&policy);
        let reload = worker.engine.reload_changed().unwrap();
        let error = worker.engine.poll(&reload, LONG).unwrap_err().to_string();
        assert!(error.contains("no.crl': cannot be read"), "{error}");
        // Only the CRL comes into being.
        assert_eq!(worker.look(), FileChange::None);
        fs::write(&crl, "no CRL").unwrap();
        assert_ne!(worker.look(), FileChange::None);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn start_watch_one_looks_and_a_newer_one_replaces_it() {
        let worker = Worker::new("token", GOOD);
        assert_eq!(worker.engine.start_watch(), None);
        worker.engine.watching.borrow_mut().looked = None;
        let token = worker.engine.start_watch().unwrap();
        assert_eq!(worker.engine.look(worker.token), Err(Error::NotFound));
        assert_eq!(worker.engine.look(token), Ok(FileChange::None));
        worker.engine.set_watch(Duration::ZERO);
        fs::write(&worker.path, BETTER).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(worker.engine.look(token), Ok(FileChange::None));
    }

    #[test]
    fn thread_takes_no_signals_of_the_process() {
        let threads = || {
            let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
            tasks
                .filter_map(|task| {
                    let status = fs::read_to_string(task.path().join("status")).ok()?;
                    status.contains(THREAD_NAME).then_some(status)
                })
                .collect::<Vec<_>>()
        };
        std::thread::spawn(move || {
            let worker = Worker::new("signals", GOOD);
            let reload = worker.engine.reload(text(BETTER)).unwrap();
            in_force(worker.engine.poll(&reload, LONG));
            let threads = threads();
            assert!(!threads.is_empty());
            for status in threads {
                let line = status
                    .lines()
                    .find(|line| line.starts_with("SigBlk:"))
                    .unwrap();
                let blocked = u64::from_str_radix(line[7..].trim(), 16).unwrap();
                for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGCHLD, libc::SIGALRM] {
                    assert_ne!(blocked & 1 << (signal - 1), 0, "{signal}");
                }
            }
        })
        .join()
        .unwrap();
    }

    fn with_node(engine: &Engine, node: &Arc<Node>) {
        engine.join(node.clone());
    }

    /// An engine of a worker: joined, loaded as in the master, and at its first work.
    fn entered(node: &Arc<Node>, text: &str) -> Engine {
        let engine = Engine::default();
        with_node(&engine, node);
        engine.load(self::text(text)).unwrap();
        engine.start_watch().unwrap();
        engine
    }

    fn text_routes(engine: &Engine) -> usize {
        engine.policy().unwrap().routes.len()
    }

    #[test]
    fn engine_that_is_behind_catches_up_from_the_node() {
        let node = Arc::new(Node::new().unwrap());
        let first = entered(&node, GOOD);
        let second = entered(&node, GOOD);
        assert_eq!((first.node_epoch(), second.node_epoch()), (1, 1));
        let reload = first.reload(text(BETTER)).unwrap();
        in_force(first.poll(&reload, LONG));
        assert_eq!((first.node_epoch(), first.is_behind()), (2, false));
        assert!(second.is_behind() && !second.is_left_behind());
        let reload = second.reload_from_node().unwrap();
        in_force(second.poll(&reload, LONG));
        assert_eq!((text_routes(&second), second.node_epoch()), (2, 2));
        assert!(!second.is_behind());
        // The same content anew is nothing to compile.
        let reload = first.reload(text(BETTER)).unwrap();
        in_force(first.poll(&reload, LONG));
        assert_eq!(first.node_epoch(), 3);
        assert!(!second.is_behind());
        assert_eq!(second.node_epoch(), 3);
    }

    #[test]
    fn engine_of_a_respawned_worker_decides_nothing_before_it_has_caught_up() {
        let node = Arc::new(Node::new().unwrap());
        let master = Engine::default();
        with_node(&master, &node);
        master.load(text(GOOD)).unwrap();
        let running = entered(&node, BETTER);
        assert_eq!(running.node_epoch(), 1);
        // As after a fork.
        master.start_watch().unwrap();
        assert!(master.is_left_behind());
        let answer = master.access(None, 0, b"a.test", 0).unwrap();
        assert_eq!(answer.decision, super::super::Decision::Unavailable);
        let reload = master.reload_from_node().unwrap();
        in_force(master.poll(&reload, LONG));
        let answer = master.access(None, 0, b"a.test", 0).unwrap();
        assert_eq!(answer.decision, super::super::Decision::Pass);
        assert_eq!(text_routes(&master), 2);
    }

    #[test]
    fn engine_that_cannot_catch_up_is_left_behind() {
        let node = Arc::new(Node::new().unwrap());
        let worker = entered(&node, GOOD);
        let order = node.next_order();
        node.publish(order, &[1; 32], false, 1);
        assert!(worker.is_behind() && !worker.is_left_behind());
        let reload = worker.reload_from_node().unwrap();
        let error = worker.poll(&reload, LONG).unwrap_err().to_string();
        assert_eq!(
            error,
            "the documents of the policy in force on this node are not kept"
        );
        worker.cannot_follow();
        assert!(worker.is_left_behind());
        let reload = worker.reload(text(BETTER)).unwrap();
        in_force(worker.poll(&reload, LONG));
        assert!(!worker.is_behind() && !worker.is_left_behind());
    }

    /// Policies as people write them: routes before plugins, nested, JSON, consumers and lists last.
    fn real_policies() -> Vec<(&'static str, String)> {
        let pem = |indent: &str| {
            let ca = crate::testing::issue("CA", None, true, 60, &[]);
            let pem = String::from_utf8(ca.x509.to_pem().unwrap()).unwrap();
            pem.lines()
                .map(|line| format!("{indent}{line}\n"))
                .collect::<String>()
        };
        const ID: &str = "6a1f0c5e-3f0b-4c0a-9a58-0d4a1e2b7c11";
        let ca = |cert: &str| format!("ca_certificates:\n- id: {ID}\n  cert: |\n{cert}");
        let flat = format!(
            "_format_version: '3.0'\n{}routes:\n- name: a\n  snis: [a.test]\n- name: b\n  snis:\n  - b.test\n  \
             - c.test\nplugins:\n- name: mtls-auth\n  route: a\n  config:\n    ca_certificates: [{ID}]\n    \
             skip_consumer_lookup: true\n    revocation_check_mode: SKIP\n- name: mtls-auth\n  route: b\n  config:\n    \
             ca_certificates:\n    - {ID}\n    skip_consumer_lookup: true\n- name: client-cert-acl\n  route: b\n  config:\n    \
             deny:\n    - san.dns: x.test\n    - san.dns: y.test\n",
            ca(&pem("    "))
        );
        let nested = format!(
            "_format_version: '3.0'\n{}services:\n- name: s\n  plugins:\n  - name: mtls-auth\n    config:\n      \
             ca_certificates: [{ID}]\n      skip_consumer_lookup: true\n  routes:\n  - name: a\n    plugins:\n    - name: \
             client-cert-acl\n      config:\n        allow:\n        - san.dns: good.test\n  - name: b\n    plugins:\n    - name: \
             tls-handshake-modifier\n  - name: c\n",
            ca(&pem("    "))
        );
        let groups = format!(
            "_format_version: '3.0'\n{}routes:\n- name: a\nplugins:\n- name: mtls-auth\n  config:\n    \
             ca_certificates: [{ID}]\n- name: acl\n  config:\n    deny: [banned]\nconsumers:\n- username: x\n  \
             mtls_auth_credentials:\n  - subject_name: x.test\n  acls:\n  - group: banned\n- username: y\n  acls:\n  - group: banned\n",
            ca(&pem("    "))
        );
        let global = format!(
            "_format_version: '3.0'\nroutes:\n- name: a\n- name: b\n{}plugins:\n- name: mtls-auth\n  config:\n    \
             ca_certificates: [{ID}]\n    skip_consumer_lookup: true\n- name: openid-connect\n  route: b\n  config:\n    issuer: \
             https://issuer.test\n    auth_methods: [bearer]\n    audience_required: [me]\n    proof_of_possession_mtls: strict\n...\n",
            ca(&pem("    "))
        );
        let cert = pem("").replace('\n', "\\n");
        let json = format!(
            "{{\"_format_version\": \"3.0\",\n\"routes\": [{{\"name\": \"a\"}},\n{{\"name\": \"b\"}}],\n\"ca_certificates\": \
             [{{\"id\": \"{ID}\", \"cert\": \"{cert}\"}}],\n\"plugins\": [\n{{\"name\": \"mtls-auth\", \"config\": \
             {{\"ca_certificates\": [\"{ID}\"],\n\"skip_consumer_lookup\": true}}}}\n]}}\n"
        );
        vec![
            ("flat", flat),
            ("nested", nested),
            ("groups", groups),
            ("global", global),
            ("json", json),
        ]
    }

    /// Where a document is cut: at each line, and at many bytes within.
    fn cuts(document: &str) -> Vec<usize> {
        let lines = document.match_indices('\n').map(|(at, _)| at + 1);
        let step = (document.len() / 1000).max(1);
        let mut cuts: Vec<usize> = lines.chain((0..document.len()).step_by(step)).collect();
        cuts.retain(|cut| *cut < document.len());
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    #[test]
    fn reload_of_a_document_that_is_cut_anywhere_opens_nothing() {
        let mut accepted = 0;
        for (name, document) in real_policies() {
            let node = Arc::new(Node::new().unwrap());
            let path =
                std::env::temp_dir().join(format!("resty-mtls-cut-{}-{name}.yaml", process::id()));
            fs::write(&path, &document).unwrap();
            let engine = Engine::default();
            with_node(&engine, &node);
            engine.load(Origin::File(path.clone())).unwrap();
            engine.start_watch().unwrap();
            let whole = engine.policy().unwrap();
            let demanded: Vec<(&str, Option<u64>)> = whole
                .routes
                .routes()
                .map(|route| (route, whole.protection.digest(route)))
                .collect();
            for cut in cuts(&document) {
                fs::write(&path, &document[..cut]).unwrap();
                let reload = engine.reload(Origin::File(path.clone())).unwrap();
                if engine.poll(&reload, LONG).is_err() {
                    continue;
                }
                accepted += 1;
                let policy = engine.policy().unwrap();
                for (route, digest) in &demanded {
                    if policy.plan(Some(route)).is_some() {
                        let what = format!("{name} at {cut}, route {route}");
                        assert_eq!(policy.protection.digest(route), *digest, "{what}");
                        let plan = policy.plan(Some(route)).unwrap();
                        let decided = |engine: &Engine, plan| {
                            engine.access(None, plan, b"a.test", 0).unwrap().decision
                        };
                        assert_ne!(
                            decided(&engine, plan),
                            super::super::Decision::Pass,
                            "{what}"
                        );
                    }
                }
                // Back to the whole: a reload by HUP.
                fs::write(&path, &document).unwrap();
                engine.load(Origin::File(path.clone())).unwrap();
                engine.enter();
            }
            fs::remove_file(&path).unwrap();
        }
        // Routes at the end may go.
        assert!(accepted > 0);
    }

    #[test]
    fn reload_without_the_end_marker_is_refused() {
        let node = Arc::new(Node::new().unwrap());
        let engine = entered(&node, &format!("{BETTER}...\n"));
        let reload = engine.reload(text(BETTER)).unwrap();
        let error = engine.poll(&reload, LONG).unwrap_err().to_string();
        assert_eq!(
            error,
            "text: refused, since the document in force ends with a line '...' and this one does not, \
             as if it were cut; where that is meant, reload by HUP"
        );
        let reload = engine.reload(text(&format!("{GOOD}...\n"))).unwrap();
        in_force(engine.poll(&reload, LONG));
        assert_eq!(text_routes(&engine), 1);
    }
}
