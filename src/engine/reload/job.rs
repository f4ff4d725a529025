//! What the background thread does for a reload: it reads and compiles a policy, and puts it in force
//! on the node.

use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::super::node::{documents_digest, Documents, Node, Published, StateFile};
use super::source::{from_documents, PolicySource};
use super::{now, PolicyVersion};
use crate::background;
use crate::openssl_ext::thread;
use crate::policy::{has_end_marker, is_file_truncation, is_truncation, Files, Policy, Protection};
use crate::text::quoted;
use crate::trust::crl;
use crate::Error;

/// A compiled policy.
pub(super) struct Compiled {
    pub(super) policy: Option<Policy>,
    pub(super) files: Option<Files>,
    /// Its source, if that is not the source of the job.
    pub(super) source: Option<PolicySource>,
    /// Its version among all policies that were read on this node.
    pub(super) version: PolicyVersion,
    /// What else to log.
    pub(super) note: Option<String>,
}

/// The result of a job.
pub(super) enum CompileResult {
    Compiled(Box<Compiled>),
    Same(Files),
    /// A later policy was compiled.
    Superseded,
    Unsettled,
    Failed(Error, Files),
}

/// Passes the result of a job from the background thread to the worker.
#[derive(Default)]
pub(super) struct ResultSlot {
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

    pub(super) fn take(&self, wait: Duration) -> Option<CompileResult> {
        let empty = |state: &mut SlotState| state.outcome.is_none();
        let mut state = self.state.lock();
        self.filled.wait_while_for(&mut state, empty, wait);
        state.outcome.take()
    }

    /// Ends the wait for the result, and returns it if there is one.
    pub(super) fn abandon(&self) -> Option<CompileResult> {
        let mut state = self.state.lock();
        state.abandoned = true;
        state.outcome.take()
    }
}

/// A policy to compile on the background thread.
pub(super) struct CompileJob {
    pub(super) source: PolicySource,
    pub(super) input: CompileInput,
    pub(super) node: Option<Arc<Node>>,
    pub(super) state_file: Option<Arc<StateFile>>,
    /// What the policy in force requires of requests; the new one must not require less.
    pub(super) protection: Option<Arc<Protection>>,
    pub(super) slot: Arc<ResultSlot>,
    pub(super) number: u64,
    /// The highest number of a job of this engine that compiled: earlier ones are superseded.
    pub(super) compiled: Arc<AtomicU64>,
}

/// What a job reads.
pub(super) enum CompileInput {
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
pub(super) fn compile(job: &CompileJob) {
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
pub(super) fn release_memory_when_idle() {
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
