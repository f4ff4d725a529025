//! The policy in force on the node, which a worker must not be behind.

use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::node::{Node, Published, WorkerState};
use super::super::Engine;
use super::{now, PolicyVersion};
use crate::background;

/// How long a worker may serve an older policy, beyond the interval of its watch, while it compiles
/// the one in force.
const CATCH_UP: Duration = Duration::from_secs(10);

impl Engine {
    /// Makes this engine share `node` with others. Call it before the policy is loaded.
    pub fn join(&self, node: Arc<Node>) {
        *self.node.borrow_mut() = Some(node);
    }

    /// The epoch of the policy that this worker serves: that of the node, or without a node the one
    /// of this engine.
    pub fn node_epoch(&self) -> u64 {
        match self.node.borrow().is_some() {
            true => self.version.get().epoch,
            false => self.epoch(),
        }
    }

    /// Runs once at the start of a worker: puts the policy that it inherited from the master in
    /// force on the node, unless a newer one is.
    pub(super) fn publish_inherited_policy(&self) {
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
    pub(in crate::engine) fn must_not_serve(&self) -> bool {
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
}
