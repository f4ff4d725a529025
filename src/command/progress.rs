//! Progress on standard error, for work that takes long.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The time before the first report and between two of them, where people read them.
const TERMINAL: Duration = Duration::from_secs(2);

/// The same for a file or a pipe, which programs read too: a line only where work takes really long.
const FILE: Duration = Duration::from_secs(10);

/// The progress of a command.
pub(super) struct Progress {
    command: &'static str,
    start: Instant,
    next: Instant,
    interval: Duration,
}

impl Progress {
    pub(super) fn new(command: &'static str) -> Progress {
        let is_terminal = io::stderr().is_terminal();
        Progress::with_interval(command, if is_terminal { TERMINAL } else { FILE })
    }

    fn with_interval(command: &'static str, interval: Duration) -> Progress {
        let start = Instant::now();
        Progress {
            command,
            start,
            next: start + interval,
            interval,
        }
    }

    /// Reports that `done` of `all` `things` are done, if the last report was long ago.
    pub(super) fn report(&mut self, err: &mut dyn Write, done: usize, all: usize, things: &str) {
        if self.is_due() {
            self.write(err, &format!("{done} of {all} {things}"));
        }
    }

    /// The same where it is not known how many there are.
    pub(super) fn report_count(&mut self, err: &mut dyn Write, done: usize, things: &str) {
        if self.is_due() {
            self.write(err, &format!("{done} {things}"));
        }
    }

    /// Does work whose parts cannot be counted, and reports meanwhile from another thread `what` it
    /// is and how long the command has run. `what` is printable.
    pub(super) fn during<T>(
        &mut self,
        err: &mut (dyn Write + Send),
        what: &str,
        work: impl FnOnce() -> T,
    ) -> T {
        let (running, until_done) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let report = move || loop {
                let left = self.next.saturating_duration_since(Instant::now());
                match until_done.recv_timeout(left) {
                    Err(RecvTimeoutError::Timeout) => self.report_time(err, what),
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            };
            // Where no thread can be started, the work is done without reports.
            let _ = thread::Builder::new().spawn_scoped(scope, report);
            let found = work();
            drop(running);
            found
        })
    }

    fn report_time(&mut self, err: &mut dyn Write, what: &str) {
        if self.is_due() {
            let seconds = self.start.elapsed().as_secs();
            self.write(err, &format!("{what}, {seconds} seconds"));
        }
    }

    /// A report that cannot be written does not end the command.
    fn write(&self, err: &mut dyn Write, text: &str) {
        let _ = writeln!(err, "resty-mtls: {}: {text}", self.command);
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.interval;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard error that lets the work continue with its third line.
    struct Signal {
        text: Vec<u8>,
        sender: mpsc::Sender<()>,
    }

    impl Write for Signal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.text.extend_from_slice(bytes);
            if self.text.iter().filter(|byte| **byte == b'\n').count() == 3 {
                let _ = self.sender.send(());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn during_reports_until_the_work_is_done() {
        let (sender, receiver) = mpsc::channel();
        let text = Vec::new();
        let mut err = Signal { text, sender };
        let mut progress = Progress::with_interval("check", Duration::from_millis(1));
        let found = progress.during(&mut err, "reading the policy", || {
            receiver.recv().unwrap();
            7
        });
        assert_eq!(found, 7);
        let text = String::from_utf8(err.text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() >= 3, "{text}");
        for line in lines {
            assert_eq!(line, "resty-mtls: check: reading the policy, 0 seconds");
        }
    }

    #[test]
    fn during_is_silent_about_short_work() {
        let mut err = Vec::new();
        let mut progress = Progress::with_interval("check", Duration::from_secs(3600));
        assert_eq!(progress.during(&mut err, "reading", || 7), 7);
        progress.report(&mut err, 1, 2, "cases");
        progress.report_count(&mut err, 1, "lines");
        assert_eq!(err, b"");
    }

    #[test]
    #[should_panic(expected = "of the work")]
    fn during_passes_a_panic_on() {
        let mut progress = Progress::with_interval("check", Duration::from_secs(3600));
        progress.during(&mut Vec::new(), "reading", || panic!("of the work"));
    }
}
