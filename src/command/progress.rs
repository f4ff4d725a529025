//! Progress on standard error, for work that takes long.

use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Work that takes no longer is not reported.
const QUIET: Duration = Duration::from_secs(2);

/// The time between two reports.
const INTERVAL: Duration = Duration::from_secs(2);

/// The progress of a command.
pub(super) struct Progress {
    command: &'static str,
    next: Instant,
}

impl Progress {
    pub(super) fn new(command: &'static str) -> Progress {
        Progress {
            command,
            next: Instant::now() + QUIET,
        }
    }

    /// Reports that `done` of `all` `things` are done, if the last report was long ago.
    pub(super) fn report(
        &mut self,
        err: &mut dyn Write,
        done: usize,
        all: usize,
        things: &str,
    ) -> io::Result<()> {
        match self.is_due() {
            true => writeln!(
                err,
                "resty-mtls: {}: {done} of {all} {things}",
                self.command
            ),
            false => Ok(()),
        }
    }

    /// The same where it is not known how many there are.
    pub(super) fn report_count(
        &mut self,
        err: &mut dyn Write,
        done: usize,
        things: &str,
    ) -> io::Result<()> {
        match self.is_due() {
            true => writeln!(err, "resty-mtls: {}: {done} {things}", self.command),
            false => Ok(()),
        }
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.next;
        if is_due {
            self.next = now + INTERVAL;
        }
        is_due
    }
}
