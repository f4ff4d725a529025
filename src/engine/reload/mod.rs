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

use super::node::{
    documents_digest, short_digest, Documents, Node, Published, StateFile, WorkerState,
};
use super::Engine;
use crate::background;
use crate::openssl_ext::thread;
use crate::policy::{
    has_end_marker, is_file_truncation, is_truncation, split_list, Account, Diagnostic, FileChange,
    FileName, FileWatch, Files, Policy, Protection,
};
use crate::text::{hex, quoted};
use crate::trust::crl;
use crate::Error;

/// A change of the watched files takes effect when it is this old.
const SETTLE_TIME: Duration = Duration::from_millis(500);
/// How long a worker may serve an older policy, beyond the interval of its watch, while it compiles
/// the one in force.
const CATCH_UP: Duration = Duration::from_secs(10);
/// A watch has stopped when it has not checked the files for this long beyond its interval.
const OVERDUE: Duration = Duration::from_secs(10);
/// Free memory is returned to the system after a policy of more bytes than this.
const LARGE_POLICY: usize = 1 << 20;

/// The source of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// A file.
    File(PathBuf),
    /// A document that the caller passes as text.
    Text {
        /// YAML or JSON.
        text: Arc<[u8]>,
        /// Used in place of a file name in messages.
        label: String,
    },
}

impl PolicySource {
    fn compile(&self, files: &mut Files) -> Result<Policy, Error> {
        let policy = match self {
            PolicySource::File(path) => Policy::from_file_with(path, files),
            PolicySource::Text { text, label } => Policy::from_yaml_with(text, label, files),
        };
        policy.map_err(policy_error)
    }

    /// A key for the present content of a document that is large enough for its compilation to end
    /// a worker; `None` for a small one.
    fn attempt_key(&self) -> Option<u64> {
        match self {
            PolicySource::File(path) => {
                use std::os::unix::fs::MetadataExt;
                let found = std::fs::metadata(path).ok()?;
                let state = (found.len(), found.ino(), found.mtime(), found.mtime_nsec());
                (found.len() > LARGE_POLICY as u64)
                    .then(|| short_digest(format!("{} {state:?}", path.display()).as_bytes()))
            }
            PolicySource::Text { text, .. } => {
                (text.len() > LARGE_POLICY).then(|| short_digest(text))
            }
        }
    }

    /// The documents that the policy was compiled from.
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
        text.saturating_add(files.bytes_read()) > LARGE_POLICY
    }

    fn label(&self) -> String {
        match self {
            PolicySource::File(path) => {
                let paths = split_list(path).unwrap_or_else(|| vec![path.clone()]);
                let names = paths
                    .iter()
                    .map(|path| FileName(&path.to_string_lossy()).to_string());
                names.collect::<Vec<_>>().join(", ")
            }
            PolicySource::Text { label, .. } => quoted(label.as_bytes()),
        }
    }
}

/// A path of any length on one line.
fn quoted_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.escape_debug().to_string()
}

/// A compiled policy.
struct Compiled {
    policy: Option<Policy>,
    files: Option<Files>,
    /// Its source, if that is not the source of the job.
    source: Option<PolicySource>,
    /// Its version among all policies that were read on this node.
    version: PolicyVersion,
    /// What else to log.
    note: Option<String>,
}

/// Identifies a policy among those of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyVersion {
    /// Its position in the order of reading, see [`Node::next_order`]; 0 without a node.
    order: u64,
    /// Its position in the order of coming into force, see [`Node::epoch`]; 0 before that.
    pub(super) epoch: u64,
    /// SHA-256 of its documents.
    digest: [u8; 32],
}

/// One line per error.
fn policy_error(diagnostics: Vec<Diagnostic>) -> Error {
    let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    Error::Policy(lines.join("\n"))
}

/// The result of a job.
enum CompileResult {
    Compiled(Box<Compiled>),
    Same(Files),
    /// A later policy was compiled.
    Superseded,
    Unsettled,
    Failed(Error, Files),
}

/// Passes the result of a job from the background thread to the worker.
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
    /// Returns whether the reload was not dropped.
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

/// A policy to compile on the background thread.
struct CompileJob {
    source: PolicySource,
    input: CompileInput,
    node: Option<Arc<Node>>,
    state_file: Option<Arc<StateFile>>,
    /// What the policy in force requires of requests; the new one must not require less.
    protection: Option<Arc<Protection>>,
    slot: Arc<ResultSlot>,
    number: u64,
    /// The highest number of a job of this engine that compiled: earlier ones are superseded.
    compiled: Arc<AtomicU64>,
}

/// What a job reads.
enum CompileInput {
    /// The source, changed or not.
    Source,
    /// The source, if its content differs from these files.
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
    let result = catch_unwind(AssertUnwindSafe(|| run(job))).unwrap_or_else(lost);
    let good = matches!(result, CompileResult::Compiled(_));
    if job.slot.fill(result) && good {
        job.compiled.fetch_max(job.number, Ordering::AcqRel);
    }
}

/// Returns free memory to the system once nothing else is left to do: that of compiling a large
/// policy and that of the old policy.
fn release_memory_when_idle() {
    background::when_idle(|| {
        if COMPILED_LARGE.take() {
            thread::release_memory_after_a_pause();
        }
    });
}

fn run(job: &CompileJob) -> CompileResult {
    let node = job.node.as_deref();
    let (source, mut files, mut version) = match &job.input {
        CompileInput::Node => {
            let Some((documents, epoch, order)) = node.and_then(Node::documents) else {
                let error =
                    "the documents of the policy in force on this node are not kept".to_owned();
                return CompileResult::Failed(Error::Policy(error), Files::default());
            };
            let version = PolicyVersion {
                order,
                epoch,
                digest: documents_digest(&documents),
            };
            let (source, files) = from_documents(documents);
            (source, files, version)
        }
        input => {
            // The order is taken before the bytes are read: what another worker reads later is
            // newer.
            let version = PolicyVersion {
                order: node.map_or(0, Node::next_order),
                ..PolicyVersion::default()
            };
            if let CompileInput::IfChanged(files) = input {
                if let Some(files) = files.reread_if_unchanged(crl::LARGEST) {
                    return CompileResult::Same(files);
                }
            }
            (job.source.clone(), Files::for_reload(), version)
        }
    };
    let directory = job.state_file.as_ref().map(|file| file.directory());
    files = files.with_state_directory(directory);
    let attempt = match (node, source.attempt_key()) {
        (Some(node), Some(key)) => match node.attempt(key) {
            Ok(attempt) => Some(attempt),
            Err(crashes) => {
                let error = format!(
                    "{}: not compiled, since {crashes} workers died while they did; it is tried again \
                     when it changes",
                    source.label()
                );
                return CompileResult::Failed(Error::Policy(error), Files::default());
            }
        },
        _ => None,
    };
    let policy = source.compile(&mut files);
    drop(attempt);
    if source.is_large(&files) {
        COMPILED_LARGE.set(true);
    }
    // The files are being written, and a part of a policy may be a valid policy.
    if matches!(job.input, CompileInput::IfChanged(_)) && !files.stamps_unchanged() {
        return CompileResult::Unsettled;
    }
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => return CompileResult::Failed(error, files),
    };
    let mut note = None;
    if !matches!(job.input, CompileInput::Node) {
        let documents = source.documents(&mut files);
        if let Some(why) = replacement_refusal(job, &documents, &policy) {
            let error = format!("{}: {why}", source.label());
            return CompileResult::Failed(Error::Policy(error), files);
        }
        version.digest = documents_digest(&documents);
        if let Some(node) = node {
            let renew = matches!(job.input, CompileInput::Source);
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
        source: matches!(job.input, CompileInput::Node).then_some(source),
        policy: Some(policy),
        files: Some(files),
        version,
        note,
    }))
}

/// The source of documents, and their files with the content they had.
fn from_documents(documents: Documents) -> (PolicySource, Files) {
    let Documents { label, mut files } = documents;
    let source = match label {
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
    (source, Files::from_contents(files))
}

/// Why a valid policy must not replace the one in force.
fn replacement_refusal(job: &CompileJob, documents: &Documents, policy: &Policy) -> Option<String> {
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
        if before.is_some_and(|before| is_file_truncation(content, before)) {
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

/// A policy that is being compiled. Dropping it cancels the reload.
pub struct Reload {
    slot: Arc<ResultSlot>,
    source: PolicySource,
    number: u64,
    /// The number of the policy in force when the reload was started.
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

/// The progress of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadProgress {
    /// Not compiled yet.
    Building,
    /// In force. The text describes the change for the log, with a second line if there was
    /// also a problem.
    InForce(String),
    /// The files have the same content as the policy in force.
    Same,
    /// A reload that was started later is in force or compiled already.
    Superseded,
    /// The files were changed while they were read.
    Unsettled,
}

/// The state of the reloads of an engine and of the watch on its files.
#[derive(Default)]
pub(super) struct ReloadState {
    /// The highest number of a reload that compiled on the background thread.
    compiled: Arc<AtomicU64>,
    every: Duration,
    /// The source of the policy in force, with its files as they were read.
    current: Option<(PolicySource, Arc<Files>)>,
    /// Detects changes since the last attempt, successful or not.
    watch: FileWatch,
    /// The token of the current watcher.
    token: u32,
    last_check: Option<(u32, Instant)>,
    orders: u64,
    installed: u64,
    /// When that policy was put in force, in seconds since 1970.
    since: u64,
    last_error: Option<String>,
    /// The number of the reload that `last_error` is from.
    last_result: u64,
}

impl ReloadState {
    fn next(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    fn record_result(&mut self, number: u64, error: Option<String>) {
        if number >= self.last_result {
            self.last_result = number;
            self.last_error = error;
        }
    }

    /// Time between two checks; without a watch on files, the policy of the node is still checked.
    fn interval(&self) -> Duration {
        match self.every.is_zero() {
            true => Duration::from_secs(1),
            false => self.every,
        }
    }

    fn is_of(&self, source: &PolicySource) -> bool {
        self.current
            .as_ref()
            .is_some_and(|(known, _)| known == source)
    }

    fn set_current(&mut self, source: &PolicySource, files: Arc<Files>) {
        // A text is read again only when files that it names change.
        let current = match (source, files.is_empty()) {
            (PolicySource::Text { .. }, true) => None,
            _ => Some((source.clone(), files.clone())),
        };
        background::free(std::mem::replace(&mut self.current, current));
        background::free(self.watch.set_baseline(files));
    }
}

impl Engine {
    /// Compiles a policy and puts it in force, without the background thread.
    ///
    /// # Errors
    /// All errors of the policy; then the previous one stays in force.
    pub fn load(&self, source: PolicySource) -> Result<(), Error> {
        self.load_from(source, Files::keeping_contents(), None)
    }

    /// [`Engine::load`] with the documents in the state directory, which were in force last.
    ///
    /// # Errors
    /// Without a state directory or documents in it, and as [`Engine::load`].
    pub fn load_last_good(&self) -> Result<(), Error> {
        let state_file = self.state_file.borrow().clone().ok_or(Error::NotFound)?;
        let documents = state_file.read().map_err(|error| {
            Error::Policy(format!("'{}': {error}", state_file.path().display()))
        })?;
        let (source, files) = from_documents(documents.clone());
        self.load_from(source, files, Some(documents))
    }

    fn load_from(
        &self,
        source: PolicySource,
        mut files: Files,
        documents: Option<Documents>,
    ) -> Result<(), Error> {
        let number = self.reload_state.borrow_mut().next();
        let node = self.node.borrow().clone();
        let order = node.as_ref().map_or(0, |node| node.next_order());
        let state_file = self.state_file.borrow().clone();
        files = files.with_state_directory(state_file.as_ref().map(|file| file.directory()));
        let policy = source.compile(&mut files);
        let large = source.is_large(&files);
        let outcome = match policy {
            Ok(policy) => {
                let mut version = PolicyVersion {
                    order,
                    ..PolicyVersion::default()
                };
                if let Some(node) = node {
                    let documents = documents.unwrap_or_else(|| source.documents(&mut files));
                    version.digest = documents_digest(&documents);
                    node.keep(order, &documents);
                }
                CompileResult::Compiled(Box::new(Compiled {
                    policy: Some(policy),
                    files: Some(files),
                    source: None,
                    version,
                    note: None,
                }))
            }
            Err(error) => CompileResult::Failed(error, files),
        };
        let progress = self.finish_reload(outcome, &source, number, 0);
        if large {
            // This runs before a fork: otherwise every worker would start with the memory that
            // compiling took.
            thread::release_memory();
        }
        progress.map(drop)
    }

    /// Which files of the policy an account cannot read and why, one line each. The master reads
    /// them at the start, possibly as root, and the workers when they change.
    pub fn unreadable_by(&self, user: &str, account: &Account) -> Vec<String> {
        let reload_state = self.reload_state.borrow();
        let files = reload_state.current.as_ref().map(|(_, files)| files);
        let mut found = files.map_or(Vec::new(), |files| files.unreadable_by(account));
        let policy = self.policy().ok();
        let lists = policy.iter().flat_map(|policy| &policy.lists);
        found.extend(lists.filter_map(|file| Some((file.path(), account.obstacle(file.path())?))));
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

    /// Starts to compile a policy on the background thread; [`Engine::poll`] puts it in force.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn reload(&self, source: PolicySource) -> Result<Reload, Error> {
        self.start_reload(source, CompileInput::Source)
    }

    /// Starts to compile the policy in force again if the content of its files has changed.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not from a file.
    pub fn reload_changed(&self) -> Result<Reload, Error> {
        let current = self.reload_state.borrow().current.clone();
        let (source, files) = current.ok_or(Error::NotFound)?;
        self.start_reload(source, CompileInput::IfChanged(files))
    }

    /// Starts to compile the documents that are in force on this node.
    ///
    /// # Errors
    /// As [`Engine::reload`].
    pub fn reload_from_node(&self) -> Result<Reload, Error> {
        let source = PolicySource::Text {
            text: Arc::from([]),
            label: "policy in force on this node".to_owned(),
        };
        self.start_reload(source, CompileInput::Node)
    }

    fn start_reload(&self, source: PolicySource, input: CompileInput) -> Result<Reload, Error> {
        let protection = self.policy().ok().map(|policy| policy.protection.clone());
        let mut reload_state = self.reload_state.borrow_mut();
        let reload = Reload {
            slot: Arc::default(),
            source: source.clone(),
            number: reload_state.next(),
            since: reload_state.installed,
        };
        let slot = reload.slot.clone();
        let job = CompileJob {
            source,
            input,
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

    /// Puts the policy in force if it is compiled. Waits for that at most this long, which blocks
    /// the worker.
    ///
    /// # Errors
    /// All errors of the policy; then the previous one stays in force.
    pub fn poll(&self, reload: &Reload, wait: Duration) -> Result<ReloadProgress, Error> {
        match reload.slot.take(wait) {
            None => Ok(ReloadProgress::Building),
            Some(outcome) => {
                let progress =
                    self.finish_reload(outcome, &reload.source, reload.number, reload.since);
                // Only now, after the event loop has taken the compiled policy.
                release_memory_when_idle();
                progress
            }
        }
    }

    fn finish_reload(
        &self,
        outcome: CompileResult,
        source: &PolicySource,
        number: u64,
        since: u64,
    ) -> Result<ReloadProgress, Error> {
        let mut reload_state = self.reload_state.borrow_mut();
        match outcome {
            CompileResult::Unsettled => Ok(ReloadProgress::Unsettled),
            CompileResult::Superseded => Ok(ReloadProgress::Superseded),
            CompileResult::Same(files) => {
                // The files have the content that was in force when the reload was started.
                if reload_state.installed != since {
                    background::free(files);
                    return Ok(ReloadProgress::Unsettled);
                }
                background::free(reload_state.watch.set_baseline(files.into()));
                reload_state.record_result(number, None);
                Ok(ReloadProgress::Same)
            }
            CompileResult::Failed(error, files) => {
                // The same bad files are not tried again, unless the error may be transient.
                if number > reload_state.installed
                    && reload_state.is_of(source)
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
                let (from, note) = (compiled.source.take(), compiled.note.take());
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
                let source = from.as_ref().unwrap_or(source);
                reload_state.installed = number;
                reload_state.since = now();
                reload_state.record_result(number, None);
                reload_state.set_current(source, files.into());
                drop(reload_state);
                let mut what = self.replace_policy(policy, source, version);
                if let Some(note) = note {
                    what = format!("{what}\n{note}");
                }
                Ok(ReloadProgress::InForce(what))
            }
        }
    }

    /// Puts a policy in force and describes the change for the log.
    fn replace_policy(
        &self,
        policy: Policy,
        source: &PolicySource,
        version: PolicyVersion,
    ) -> String {
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
            source.label(),
        )
    }

    /// Makes this engine share `node` with others. Call it before the policy is loaded.
    pub fn join(&self, node: Arc<Node>) {
        *self.node.borrow_mut() = Some(node);
    }

    /// Keeps the documents in force in `directory` for the next start. `source` identifies the
    /// policy.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn set_state_directory(&self, directory: &Path, source: &[u8]) -> Result<(), Error> {
        let file = StateFile::new(directory, source).map_err(Error::Misuse)?;
        *self.state_file.borrow_mut() = Some(Arc::new(file));
        self.restore_blocks(now() as i64)
    }

    /// Whether this process is a worker, whose watch has started.
    pub(super) fn is_watched(&self) -> bool {
        let last_check = self.reload_state.borrow().last_check;
        last_check.is_some_and(|(process, _)| process == process::id())
    }

    /// The epoch of the policy that this worker serves: that of the node, or without a node the one
    /// of this engine.
    pub fn node_epoch(&self) -> u64 {
        match self.node.borrow().is_some() {
            true => self.version.get().epoch,
            false => self.epoch(),
        }
    }

    /// When this worker put its policy in force, in seconds since 1970.
    pub fn in_force_since(&self) -> u64 {
        self.reload_state.borrow().since
    }

    /// Runs once at the start of a worker: puts the policy that it inherited from the master in
    /// force on the node, unless a newer one is.
    fn publish_inherited_policy(&self) {
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
        // The inherited policy was replaced before this worker started: it must not serve even one
        // request.
        self.behind_since.set(Some(None));
    }

    /// Whether the policy in force on this node differs from that of this worker. If the same
    /// policy was put in force again, the worker takes over its epoch here.
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

    /// Whether this worker has been behind for longer than it needs to catch up.
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

    /// Records that this worker cannot obtain the policy in force: from now on it responds with
    /// 503.
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

    /// The state that a worker reported.
    pub fn worker_state(&self, worker: usize) -> Option<WorkerState> {
        self.node.borrow().as_ref()?.worker(worker)
    }

    /// The epoch in force on this node, and when it was put in force, in seconds since 1970.
    pub fn node_state(&self) -> Option<(u64, u64)> {
        let node = self.node.borrow();
        let node = node.as_ref()?;
        Some((node.epoch(), node.since()))
    }

    /// The errors of the last reload, if it failed.
    pub fn last_error(&self) -> Option<String> {
        self.reload_state.borrow().last_error.clone()
    }

    /// Sets the interval of the watch on the files of the policy; zero: no watch.
    pub fn set_watch(&self, every: Duration) {
        self.reload_state.borrow_mut().every = every;
    }

    /// The interval of the watch on files; zero: no watch.
    pub fn watch_interval(&self) -> Duration {
        self.reload_state.borrow().every
    }

    /// Makes the caller the watcher of this process; `None` when there is a live one already.
    pub fn start_watch(&self) -> Option<u32> {
        let mut reload_state = self.reload_state.borrow_mut();
        let overdue = reload_state
            .interval()
            .saturating_mul(3)
            .saturating_add(OVERDUE);
        let alive = reload_state.last_check.is_some_and(|(process, checked)| {
            process == process::id() && checked.elapsed() < overdue
        });
        if alive {
            return None;
        }
        let started = reload_state
            .last_check
            .replace((process::id(), Instant::now()))
            .is_some_and(|(process, _)| process == process::id());
        reload_state.token = reload_state.token.wrapping_add(1);
        let token = reload_state.token;
        drop(reload_state);
        if !started {
            self.publish_inherited_policy();
        }
        Some(token)
    }

    /// Whether the files of the policy have changed; then call [`Engine::reload_changed`].
    ///
    /// # Errors
    /// [`Error::NotFound`] when another watcher has replaced this one.
    pub fn check_watch(&self, token: u32) -> Result<FileChange, Error> {
        let mut reload_state = self.reload_state.borrow_mut();
        if token != reload_state.token {
            return Err(Error::NotFound);
        }
        reload_state.last_check = Some((process::id(), Instant::now()));
        if reload_state.every.is_zero() {
            return Ok(FileChange::None);
        }
        let settle = SETTLE_TIME.min(reload_state.every);
        Ok(reload_state.watch.check(settle))
    }
}

#[cfg(test)]
mod tests;
