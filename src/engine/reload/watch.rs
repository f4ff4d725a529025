//! The watch on the files of a policy, one in each worker.

use std::process;
use std::time::{Duration, Instant};

use super::super::Engine;
use crate::policy::FileChange;
use crate::Error;

/// A change of the watched files takes effect when it is this old.
const SETTLE_TIME: Duration = Duration::from_millis(500);
/// A watch has stopped when it has not checked the files for this long beyond its interval.
const OVERDUE: Duration = Duration::from_secs(10);

impl Engine {
    /// Whether this process is a worker, whose watch has started.
    pub(in crate::engine) fn is_watched(&self) -> bool {
        let last_check = self.reload_state.borrow().last_check;
        last_check.is_some_and(|(process, _)| process == process::id())
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
