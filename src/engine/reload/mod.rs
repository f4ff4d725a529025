//! A reload: another policy is compiled on the background thread while the worker serves the one in
//! force, is put in force between two requests, and the old one is freed on that thread.

mod job;
mod node_policy;
mod source;
mod watch;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::node::{documents_digest, Documents, StateFile};
use super::Engine;
use crate::background;
use crate::openssl_ext::thread;
use crate::policy::{Account, FileWatch, Files, Policy};
use crate::text::{hex, quoted};
use crate::Error;

use job::{
    compile, release_memory_when_idle, CompileInput, CompileJob, CompileResult, Compiled,
    ResultSlot,
};
use source::from_documents;
pub use source::PolicySource;

/// A path of any length on one line.
fn quoted_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.escape_debug().to_string()
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
        if let Some(CompileResult::Compiled(mut compiled)) = self.slot.abandon() {
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

    /// What an account has no permission for, one line each: the files of the policy, which the
    /// master reads at the start, possibly as root, and the workers when they change; and the state
    /// directory, to which the workers write.
    pub fn missing_permissions(&self, user: &str, account: &Account) -> Vec<String> {
        let reload_state = self.reload_state.borrow();
        let files = reload_state.current.as_ref().map(|(_, files)| files);
        let mut found = files.map_or(Vec::new(), |files| files.unreadable_by(account));
        let policy = self.policy().ok();
        let lists = policy.iter().flat_map(|policy| &policy.lists);
        found.extend(lists.filter_map(|file| Some((file.path(), account.obstacle(file.path())?))));
        let shown = |path: &Path| quoted_path(path);
        let user = quoted(user.as_bytes());
        let mut lines: Vec<String> = found
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
            .collect();
        let state_file = self.state_file.borrow();
        let directory = state_file.as_ref().map(|file| file.directory());
        if let Some(directory) =
            directory.filter(|path| account.obstacle_to_writing(path).is_some())
        {
            lines.push(format!(
                "state_dir: {}: the workers' user '{user}' has no permission to write to it, so \
                 nothing will outlive a restart; expected that user as its owner, and mode 0700",
                shown(directory)
            ));
        }
        lines
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

    /// When this worker put its policy in force, in seconds since 1970.
    pub fn in_force_since(&self) -> u64 {
        self.reload_state.borrow().since
    }

    /// The errors of the last reload, if it failed.
    pub fn last_error(&self) -> Option<String> {
        self.reload_state.borrow().last_error.clone()
    }
}

#[cfg(test)]
mod tests;
