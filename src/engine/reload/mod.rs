//! A reload: another policy is compiled on the background thread while the worker serves the one in
//! force, is put in force between two requests, and the old one is freed on that thread.

use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::node::{digest_of, key_of, Documents, Node, Published, StateFile, WorkerState};
use super::Engine;
use crate::background;
use crate::openssl_ext::thread;
use crate::policy::{
    has_end_marker, is_truncation, Account, Diagnostic, FileChange, FileName, FileWatch, Files,
    Policy, Protection,
};
use crate::text::{hex, quoted};
use crate::trust::crl;
use crate::Error;

/// A change of the watched files counts once it is so old.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a worker may serve a policy that is not the one in force any more, beyond the interval
/// of its watch, while it compiles that.
const CATCH_UP: Duration = Duration::from_secs(10);
/// A watch that has not looked for this long beyond its interval is dead.
const OVERDUE: Duration = Duration::from_secs(10);
/// A policy of fewer bytes than that leaves too little behind to lock a heap for.
const LARGE: usize = 1 << 20;

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
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

impl PolicySource {
    fn compile(&self, files: &mut Files) -> Result<Policy, Error> {
        let policy = match self {
            PolicySource::File(path) => Policy::from_file_with(path, files),
            PolicySource::Text { text, label } => Policy::from_yaml_with(text, label, files),
        };
        policy.map_err(refusal)
    }

    /// Stands for a document that is large enough to end a worker, as long as it stays as it is.
    fn attempt_key(&self) -> Option<u64> {
        match self {
            PolicySource::File(path) => {
                use std::os::unix::fs::MetadataExt;
                let found = std::fs::metadata(path).ok()?;
                let state = (found.len(), found.ino(), found.mtime(), found.mtime_nsec());
                (found.len() > LARGE as u64)
                    .then(|| key_of(format!("{} {state:?}", path.display()).as_bytes()))
            }
            PolicySource::Text { text, .. } => (text.len() > LARGE).then(|| key_of(text)),
        }
    }

    /// What the policy was compiled from.
    fn documents(&self, files: &mut Files) -> Documents {
        let mut contents = files.take_contents();
        let label = match self {
            PolicySource::File(_) => None,
            PolicySource::Text { text, label } => {
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
            PolicySource::File(_) => 0,
            PolicySource::Text { text, .. } => text.len(),
        };
        text.saturating_add(files.bytes_read()) > LARGE
    }

    fn label(&self) -> String {
        match self {
            PolicySource::File(path) => FileName(&path.to_string_lossy()).to_string(),
            PolicySource::Text { label, .. } => quoted(label.as_bytes()),
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
    origin: Option<PolicySource>,
    /// Its slot among all that was read on this node.
    version: PolicyVersion,
    /// What else the log should say.
    note: Option<String>,
}

/// Which of the policies of this node a worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyVersion {
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
enum CompileResult {
    Compiled(Box<Compiled>),
    Same(Files),
    /// A later one is compiled.
    Superseded,
    Unsettled,
    Failed(Error, Files),
}

/// Where the thread leaves the outcome for whoever ordered.
#[derive(Default)]
struct ResultSlot {
    state: Mutex<SlotState>,
    filled: Condvar,
}

#[derive(Default)]
struct SlotState {
    outcome: Option<CompileResult>,
    abandoned: bool,
}

impl ResultSlot {
    /// Whether anybody still wants it.
    fn fill(&self, outcome: CompileResult) -> bool {
        let mut state = self.state.lock();
        if !state.abandoned {
            state.outcome = Some(outcome);
            self.filled.notify_all();
        }
        !state.abandoned
    }

    fn take(&self, wait: Duration) -> Option<CompileResult> {
        let empty = |state: &mut SlotState| state.outcome.is_none();
        let mut state = self.state.lock();
        self.filled.wait_while_for(&mut state, empty, wait);
        state.outcome.take()
    }
}

/// A policy to compile.
struct CompileJob {
    origin: PolicySource,
    source: CompileInput,
    node: Option<Arc<Node>>,
    state_file: Option<Arc<StateFile>>,
    /// What the policy in force demands of requests, which this one must not lose.
    protection: Option<Arc<Protection>>,
    slot: Arc<ResultSlot>,
    number: u64,
    /// The highest number of a job of this engine that compiled: earlier ones are superseded.
    compiled: Arc<AtomicU64>,
}

/// What to read.
enum CompileInput {
    /// The origin, whatever it holds.
    Source,
    /// The origin, if it holds something else than these files did.
    IfChanged(Arc<Files>),
    /// The documents in force on this node.
    Node,
}

thread_local! {
    /// Whether the background thread compiled a large policy since it last released memory.
    static COMPILED_LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Runs on the background thread.
fn compile(job: &CompileJob) {
    if job.slot.state.lock().abandoned {
        return;
    }
    if job.number < job.compiled.load(Ordering::Acquire) {
        job.slot.fill(CompileResult::Superseded);
        return;
    }
    let lost = |_| CompileResult::Failed(Error::Panic, Files::default());
    let outcome = catch_unwind(AssertUnwindSafe(|| outcome(job))).unwrap_or_else(lost);
    let good = matches!(outcome, CompileResult::Compiled(_));
    if job.slot.fill(outcome) && good {
        job.compiled.fetch_max(job.number, Ordering::AcqRel);
    }
}

/// Gives memory back to the system once nothing else is left to do: what compiling a large policy
/// took and what the old policy left.
fn release_memory_when_idle() {
    background::when_idle(|| {
        if COMPILED_LARGE.take() {
            thread::release_memory_after_a_pause();
        }
    });
}

fn outcome(job: &CompileJob) -> CompileResult {
    let node = job.node.as_deref();
    let (origin, mut files, mut version) = match &job.source {
        CompileInput::Node => {
            let Some((documents, epoch, order)) = node.and_then(Node::documents) else {
                let error =
                    "the documents of the policy in force on this node are not kept".to_owned();
                return CompileResult::Failed(Error::Policy(error), Files::default());
            };
            let version = PolicyVersion {
                order,
                epoch,
                digest: digest_of(&documents),
            };
            let (origin, files) = replayed(documents);
            (origin, files, version)
        }
        source => {
            // Before the bytes: what another worker reads later is newer.
            let version = PolicyVersion {
                order: node.map_or(0, Node::next_order),
                ..PolicyVersion::default()
            };
            if let CompileInput::IfChanged(files) = source {
                if let Some(files) = files.reread_if_unchanged(crl::MAX_FILE) {
                    return CompileResult::Same(files);
                }
            }
            (job.origin.clone(), Files::for_reload(), version)
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
                return CompileResult::Failed(Error::Policy(error), Files::default());
            }
        },
        _ => None,
    };
    let policy = origin.compile(&mut files);
    drop(attempt);
    if origin.is_large(&files) {
        COMPILED_LARGE.set(true);
    }
    // Somebody writes at this moment, and half a policy may look like a good one.
    if matches!(job.source, CompileInput::IfChanged(_)) && !files.stamps_unchanged() {
        return CompileResult::Unsettled;
    }
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => return CompileResult::Failed(error, files),
    };
    let mut note = None;
    if !matches!(job.source, CompileInput::Node) {
        let documents = origin.documents(&mut files);
        if let Some(why) = refused(job, &documents, &policy) {
            let error = format!("{}: {why}", origin.label());
            return CompileResult::Failed(Error::Policy(error), files);
        }
        version.digest = digest_of(&documents);
        if let Some(node) = node {
            let renew = matches!(job.source, CompileInput::Source);
            let (published, kept) = node.put_in_force(version.order, &documents, renew, now());
            match published {
                Published::InForce(epoch) => version.epoch = epoch,
                Published::Superseded => return CompileResult::Superseded,
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
    CompileResult::Compiled(Box::new(Compiled {
        origin: matches!(job.source, CompileInput::Node).then_some(origin),
        policy: Some(policy),
        files: Some(files),
        version,
        note,
    }))
}

/// Where documents came from, and the files as they were.
fn replayed(documents: Documents) -> (PolicySource, Files) {
    let Documents { label, mut files } = documents;
    let origin = match label {
        Some(label) => {
            let text = match files.is_empty() {
                true => Vec::new(),
                false => files.remove(0).1,
            };
            PolicySource::Text {
                text: text.into(),
                label,
            }
        }
        None => PolicySource::File(
            files
                .first()
                .map(|(path, _)| path.clone())
                .unwrap_or_default(),
        ),
    };
    (origin, Files::from_contents(files))
}

/// Why a policy that is good by itself must not replace the one in force.
fn refused(job: &CompileJob, documents: &Documents, policy: &Policy) -> Option<String> {
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
        if before.is_some_and(|before| is_truncation(content, before)) {
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
        before.is_some_and(|before| is_truncation(document, before)) && !has_end_marker(document);
    protection.refusal(policy, cut)
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Frees a policy on the background thread, or here when there is none.
fn retire(policy: Policy) {
    background::run(move || policy.retire());
}

/// A policy that is being compiled. Dropping it calls the reload off.
pub struct Reload {
    slot: Arc<ResultSlot>,
    origin: PolicySource,
    number: u64,
    /// What was in force when it was ordered.
    since: u64,
}

impl Drop for Reload {
    fn drop(&mut self) {
        let mut state = self.slot.state.lock();
        state.abandoned = true;
        let outcome = state.outcome.take();
        drop(state);
        if let Some(CompileResult::Compiled(mut compiled)) = outcome {
            if let Some(policy) = compiled.policy.take() {
                retire(policy);
            }
            background::free(compiled);
        }
    }
}

/// How far a reload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadProgress {
    /// Not compiled yet.
    Building,
    /// In force, with what changed in words for the log, and in a second line what went wrong
    /// besides.
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
pub(super) struct ReloadState {
    /// The highest number of a reload that compiled on the background thread.
    compiled: Arc<AtomicU64>,
    every: Duration,
    /// Where the policy in force comes from, with the files as they were.
    source: Option<(PolicySource, Arc<Files>)>,
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

impl ReloadState {
    fn next(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    fn record_result(&mut self, number: u64, error: Option<String>) {
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

    fn is_of(&self, origin: &PolicySource) -> bool {
        self.source
            .as_ref()
            .is_some_and(|(known, _)| known == origin)
    }

    fn from(&mut self, origin: &PolicySource, files: Arc<Files>) {
        // Text is only needed again for the sake of files it names.
        let source = match (origin, files.is_empty()) {
            (PolicySource::Text { .. }, true) => None,
            _ => Some((origin.clone(), files.clone())),
        };
        background::free(std::mem::replace(&mut self.source, source));
        background::free(self.watch.set_baseline(files));
    }
}

impl Engine {
    /// Compiles a policy here and now, and puts it in force.
    ///
    /// # Errors
    /// Everything that is wrong with it; then the policy before stays in force.
    pub fn load(&self, origin: PolicySource) -> Result<(), Error> {
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
        origin: PolicySource,
        mut files: Files,
        documents: Option<Documents>,
    ) -> Result<(), Error> {
        let number = self.reload_state.borrow_mut().next();
        let node = self.node.borrow().clone();
        let order = node.as_ref().map_or(0, |node| node.next_order());
        let policy = origin.compile(&mut files);
        let large = origin.is_large(&files);
        let outcome = match policy {
            Ok(policy) => {
                let mut version = PolicyVersion {
                    order,
                    ..PolicyVersion::default()
                };
                if let Some(node) = node {
                    let documents = documents.unwrap_or_else(|| origin.documents(&mut files));
                    version.digest = digest_of(&documents);
                    node.keep(order, &documents);
                }
                CompileResult::Compiled(Box::new(Compiled {
                    policy: Some(policy),
                    files: Some(files),
                    origin: None,
                    version,
                    note: None,
                }))
            }
            Err(error) => CompileResult::Failed(error, files),
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
        let reload_state = self.reload_state.borrow();
        let files = reload_state.source.as_ref().map(|(_, files)| files);
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
    pub fn reload(&self, origin: PolicySource) -> Result<Reload, Error> {
        self.order(origin, CompileInput::Source)
    }

    /// Has the policy in force compiled anew if its files hold something else by now.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is from no file.
    pub fn reload_changed(&self) -> Result<Reload, Error> {
        let source = self.reload_state.borrow().source.clone();
        let (origin, files) = source.ok_or(Error::NotFound)?;
        self.order(origin, CompileInput::IfChanged(files))
    }

    /// Has the documents compiled that are in force on this node.
    ///
    /// # Errors
    /// As [`Engine::reload`].
    pub fn reload_from_node(&self) -> Result<Reload, Error> {
        let origin = PolicySource::Text {
            text: Arc::from([]),
            label: "policy in force on this node".to_owned(),
        };
        self.order(origin, CompileInput::Node)
    }

    fn order(&self, origin: PolicySource, source: CompileInput) -> Result<Reload, Error> {
        let protection = self.policy().ok().map(|policy| policy.protection.clone());
        let mut reload_state = self.reload_state.borrow_mut();
        let reload = Reload {
            slot: Arc::default(),
            origin: origin.clone(),
            number: reload_state.next(),
            since: reload_state.installed,
        };
        let slot = reload.slot.clone();
        let job = CompileJob {
            origin,
            source,
            node: self.node.borrow().clone(),
            state_file: self.state_file.borrow().clone(),
            protection,
            slot,
            number: reload.number,
            compiled: reload_state.compiled.clone(),
        };
        drop(reload_state);
        background::defer(move || compile(&job))?;
        Ok(reload)
    }

    /// Puts the policy in force once it is compiled. Waits for it at most this long, and the worker
    /// with it.
    ///
    /// # Errors
    /// Everything that is wrong with it; then the policy before stays in force.
    pub fn poll(&self, reload: &Reload, wait: Duration) -> Result<ReloadProgress, Error> {
        match reload.slot.take(wait) {
            None => Ok(ReloadProgress::Building),
            Some(outcome) => {
                let progress =
                    self.settle_reload(outcome, &reload.origin, reload.number, reload.since);
                // Not before the event loop has taken what was compiled.
                release_memory_when_idle();
                progress
            }
        }
    }

    fn settle_reload(
        &self,
        outcome: CompileResult,
        origin: &PolicySource,
        number: u64,
        since: u64,
    ) -> Result<ReloadProgress, Error> {
        let mut reload_state = self.reload_state.borrow_mut();
        match outcome {
            CompileResult::Unsettled => Ok(ReloadProgress::Unsettled),
            CompileResult::Superseded => Ok(ReloadProgress::Superseded),
            CompileResult::Same(files) => {
                // They hold what was in force when this was ordered.
                if reload_state.installed != since {
                    background::free(files);
                    return Ok(ReloadProgress::Unsettled);
                }
                background::free(reload_state.watch.set_baseline(files.into()));
                reload_state.record_result(number, None);
                Ok(ReloadProgress::Same)
            }
            CompileResult::Failed(error, files) => {
                // The same bad files are not tried again, unless another moment may find them good.
                if number > reload_state.installed
                    && reload_state.is_of(origin)
                    && !files.is_transient()
                {
                    background::free(reload_state.watch.set_baseline(files.into()));
                } else {
                    background::free(files);
                }
                reload_state.record_result(number, Some(error.to_string()));
                Err(error)
            }
            CompileResult::Compiled(mut compiled) => {
                let (policy, files) = (compiled.policy.take(), compiled.files.take());
                let (from, note) = (compiled.origin.take(), compiled.note.take());
                let version = compiled.version;
                background::free(compiled);
                let (Some(policy), Some(files)) = (policy, files) else {
                    return Err(Error::Panic);
                };
                if number < reload_state.installed {
                    retire(policy);
                    background::free(files);
                    return Ok(ReloadProgress::Superseded);
                }
                let origin = from.as_ref().unwrap_or(origin);
                reload_state.installed = number;
                reload_state.since = now();
                reload_state.record_result(number, None);
                reload_state.from(origin, files.into());
                drop(reload_state);
                let mut what = self.swap(policy, origin, version);
                if let Some(note) = note {
                    what = format!("{what}\n{note}");
                }
                Ok(ReloadProgress::InForce(what))
            }
        }
    }

    /// Puts a policy in force; what that changes, for the log.
    fn swap(&self, policy: Policy, origin: &PolicySource, version: PolicyVersion) -> String {
        let was = self.policy().ok().map(|policy| policy.digest);
        let (before, digest) = (self.node_epoch(), policy.digest);
        self.version.set(version);
        self.behind_since.set(None);
        if let Some(old) = self.install(policy) {
            retire(old);
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

    /// Has the documents in force written to `directory`, for the next start. `source` names the
    /// policy.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn set_state_directory(&self, directory: &Path, source: &[u8]) -> Result<(), Error> {
        let file = StateFile::new(directory, source).map_err(Error::Misuse)?;
        *self.state_file.borrow_mut() = Some(Arc::new(file));
        Ok(())
    }

    /// The epoch of the policy that this worker serves: the node's number of it, or without a node,
    /// how many there have been here.
    pub fn node_epoch(&self) -> u64 {
        match self.node.borrow().is_some() {
            true => self.version.get().epoch,
            false => self.epoch(),
        }
    }

    /// Since when this worker has served its policy, in seconds since 1970.
    pub fn in_force_since(&self) -> u64 {
        self.reload_state.borrow().since
    }

    /// First work of a worker: puts the policy that the master read in force on the node, unless a
    /// newer one is.
    fn enter(&self) {
        let node = self.node.borrow().clone();
        let Some(node) = node else {
            return;
        };
        let mut version = self.version.get();
        let published = node.publish(version.order, &version.digest, false, now());
        if let Published::InForce(epoch) = published {
            if version.epoch != epoch {
                version.epoch = epoch;
                self.version.set(version);
                if let Some(state_file) = self.state_file.borrow().clone() {
                    if background::start().is_ok() {
                        // A failure is reported when the next policy is put in force.
                        background::run(move || drop(state_file.write_in_force(&node)));
                    }
                }
            }
            return;
        }
        // What this worker has was replaced before it started: it must not serve that even once.
        self.behind_since.set(Some(None));
    }

    /// Whether another policy is in force on this node than the one that this worker has. The same
    /// one, put in force anew, is caught up with here.
    pub fn is_behind(&self) -> bool {
        let node = self.node.borrow();
        let Some(node) = node.as_ref() else {
            return false;
        };
        let epoch = node.epoch();
        let version = self.version.get();
        if epoch == version.epoch || epoch == 0 {
            return false;
        }
        match node.in_force() {
            Some((epoch, order, digest)) if digest == version.digest => {
                self.version.set(PolicyVersion {
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
    pub(super) fn must_not_serve(&self) -> bool {
        if !self.is_behind() {
            return false;
        }
        match self.behind_since.get() {
            Some(None) => true,
            Some(Some(since)) => {
                let interval = self.reload_state.borrow().interval();
                since.elapsed() > interval.saturating_add(CATCH_UP)
            }
            None => {
                self.behind_since.set(Some(Some(Instant::now())));
                false
            }
        }
    }

    /// Says that this worker cannot get the policy in force: from now on it answers 503.
    pub fn set_unavailable(&self) {
        if self.is_behind() {
            self.behind_since.set(Some(None));
        }
    }

    /// Reports the state of this worker to the node.
    pub fn report(&self, worker: usize) {
        if let Some(node) = &*self.node.borrow() {
            let reload_state = self.reload_state.borrow();
            node.report(
                worker,
                WorkerState {
                    process: process::id(),
                    epoch: self.version.get().epoch,
                    since: reload_state.since,
                    failed: reload_state.last_error.is_some(),
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
        self.reload_state.borrow().last_error.clone()
    }

    /// Has the files of the policy watched at this interval; zero: not at all.
    pub fn set_watch(&self, every: Duration) {
        self.reload_state.borrow_mut().every = every;
    }

    /// The interval at which to look at the files; zero: not at all.
    pub fn watch_interval(&self) -> Duration {
        self.reload_state.borrow().every
    }

    /// Makes the caller the one who looks, in this process: `None` when another one does already.
    pub fn start_watch(&self) -> Option<u32> {
        let mut reload_state = self.reload_state.borrow_mut();
        let overdue = reload_state
            .interval()
            .saturating_mul(3)
            .saturating_add(OVERDUE);
        let alive = reload_state.looked.is_some_and(|(process, looked)| {
            process == process::id() && looked.elapsed() < overdue
        });
        if alive {
            return None;
        }
        let started = reload_state
            .looked
            .replace((process::id(), Instant::now()))
            .is_some_and(|(process, _)| process == process::id());
        reload_state.token = reload_state.token.wrapping_add(1);
        let token = reload_state.token;
        drop(reload_state);
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
        let mut reload_state = self.reload_state.borrow_mut();
        if token != reload_state.token {
            return Err(Error::NotFound);
        }
        reload_state.looked = Some((process::id(), Instant::now()));
        if reload_state.every.is_zero() {
            return Ok(FileChange::None);
        }
        let settle = SETTLE.min(reload_state.every);
        Ok(reload_state.watch.check(settle))
    }
}

#[cfg(test)]
mod tests;
