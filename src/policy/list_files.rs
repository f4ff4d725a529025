//! The files of `client-cert-lists`. A file that changes is read again and replaces the list in
//! memory, without another policy: policies that name the same file share its list.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::files::Stamp;
use super::memory_limit;
use crate::text::quoted;
use crate::trust::lists::{List, ListError};

/// The lists in the memory of this process, by path.
static LISTS: Mutex<Option<HashMap<PathBuf, Arc<ListFile>>>> = Mutex::new(None);
/// Changes when a list is replaced in this process.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// Changes when a list is replaced: a decision that was made at another generation is not used.
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Acquire)
}

/// The lists that apply to a route.
#[derive(Debug, Default)]
pub struct Lists {
    /// A certificate on one of these is refused.
    pub deny: Vec<Arc<ListFile>>,
    /// If not empty, a certificate on none of these is refused.
    pub allow: Vec<Arc<ListFile>>,
}

/// What happened to a list, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListEvent {
    /// It was replaced.
    InForce(String),
    /// It was not.
    Failed(String),
}

struct State {
    list: Arc<List>,
    /// The file before it was read; `None` if `stat` failed.
    stamp: Option<Stamp>,
    /// The state of a file that could not be read.
    failed: Option<Option<Stamp>>,
    /// The process that has read the list, or has found that the file is the one that was read.
    process: u32,
    /// How often the list was replaced.
    replacements: u64,
    /// The process that is reading the file.
    reader: Option<u32>,
    error: Option<String>,
    event: Option<ListEvent>,
}

/// A file and the list that was last read from it.
pub struct ListFile {
    path: PathBuf,
    /// As the policy names it.
    name: String,
    state: Mutex<State>,
}

impl std::fmt::Debug for ListFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.path)
    }
}

impl ListFile {
    /// The list of a file, read if it is not in memory or has changed. With `keep`, a list in memory
    /// stays in force if the file cannot be read now; the watch logs why.
    ///
    /// # Errors
    /// When the file cannot be read and there is no list to keep.
    pub fn open(path: &Path, name: &str, keep: bool) -> Result<Arc<ListFile>, ListError> {
        let known = {
            let mut lists = LISTS.lock();
            let lists = lists.get_or_insert_with(HashMap::new);
            lists.retain(|known, file| known == path || Arc::strong_count(file) > 1);
            lists.get(path).cloned()
        };
        if let Some(file) = known {
            let (unchanged, inherited) = {
                let state = file.state.lock();
                let unchanged = state.stamp.is_some() && state.stamp == Stamp::of(path);
                (unchanged, state.process != process::id())
            };
            match unchanged {
                true if inherited => file.state.lock().process = process::id(),
                true => {}
                false => {
                    let read = file.refresh();
                    if !keep {
                        read?;
                    }
                }
            }
            return Ok(file);
        }
        let stamp = Stamp::of(path);
        let file = Arc::new(ListFile {
            path: path.to_owned(),
            name: name.to_owned(),
            state: Mutex::new(State {
                list: Arc::new(read(path)?),
                stamp,
                failed: None,
                process: process::id(),
                replacements: 0,
                reader: None,
                error: None,
                event: None,
            }),
        });
        let mut lists = LISTS.lock();
        lists
            .get_or_insert_with(HashMap::new)
            .insert(path.to_owned(), file.clone());
        Ok(file)
    }

    /// As the policy names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The list in force. `None` in a process that has inherited a list whose file has changed
    /// since, until it has read the file: other workers may have a newer list.
    pub fn list(&self) -> Option<Arc<List>> {
        let state = self.state.lock();
        (state.process == process::id()).then(|| state.list.clone())
    }

    /// The list in force, whoever has read it.
    pub fn last_list(&self) -> Arc<List> {
        self.state.lock().list.clone()
    }

    /// How often the list in force has replaced another one.
    pub fn replacements(&self) -> u64 {
        self.state.lock().replacements
    }

    /// When the file was modified from which the list in force was read, in seconds since the epoch.
    pub fn modified(&self) -> Option<i64> {
        self.state.lock().stamp.map(|stamp| stamp.modified())
    }

    /// Why the file cannot be read as it is now.
    pub fn error(&self) -> Option<String> {
        self.state.lock().error.clone()
    }

    /// What happened since the last call.
    pub fn take_event(&self) -> Option<ListEvent> {
        self.state.lock().event.take()
    }

    /// Whether the file must be read again, because it has changed, and has not changed any more for
    /// `settle`. Then call [`ListFile::reread`].
    pub fn must_be_read(&self, settle: Duration) -> bool {
        let now = Stamp::of(&self.path);
        let mut state = self.state.lock();
        let inherited = state.process != process::id();
        if now == state.stamp {
            state.process = process::id();
            // A file that is as it was read needs no error.
            if state.failed.take().is_some() {
                state.error = None;
            }
            return false;
        }
        if state.reader == Some(process::id()) {
            return false;
        }
        if inherited && !is_permitted(&self.path) {
            // No worker can read it, so none has a newer list.
            state.process = process::id();
            state.failed = None;
        }
        let settled = now.is_none_or(|stamp| stamp.is_older(settle));
        // A process without a list does not wait.
        if state.failed == Some(now) || !(settled || inherited) {
            return false;
        }
        state.reader = Some(process::id());
        true
    }

    /// Reads the file again after [`ListFile::must_be_read`]. The old list is freed here.
    pub fn reread(&self) {
        struct Reading<'f>(&'f ListFile);
        impl Drop for Reading<'_> {
            fn drop(&mut self) {
                self.0.state.lock().reader = None;
            }
        }
        let _reading = Reading(self);
        let _ = self.refresh();
    }

    /// Whether the file is being read, and this process has no list meanwhile.
    pub fn is_awaited(&self) -> bool {
        let state = self.state.lock();
        state.reader == Some(process::id()) && state.process != process::id()
    }

    /// Reads the file, and replaces the list in force by its content. Returns the old list, to be
    /// freed where that does not delay requests.
    ///
    /// # Errors
    /// When the file cannot be read; then the old list stays in force.
    pub fn refresh(&self) -> Result<Arc<List>, ListError> {
        let stamp = Stamp::of(&self.path);
        let result = read(&self.path);
        let unsettled = Stamp::of(&self.path) != stamp;
        let mut state = self.state.lock();
        let result = result.and_then(|list| {
            if list.is_of_empty_file() && !state.list.is_empty() {
                // As a program leaves it that could not write it.
                let why = "the file is empty, expected at least a line with a comment";
                return Err(ListError::File(why.to_owned()));
            }
            Ok(list)
        });
        match result {
            // It is read again at the next check.
            _ if unsettled => Err(ListError::File("it is being written".to_owned())),
            Ok(list) => {
                state.event = Some(ListEvent::InForce(format!(
                    "'{}': {} entries",
                    quoted(self.name.as_bytes()),
                    list.len()
                )));
                state.stamp = stamp;
                state.failed = None;
                state.error = None;
                state.process = process::id();
                state.replacements += 1;
                let old = std::mem::replace(&mut state.list, Arc::new(list));
                GENERATION.fetch_add(1, Ordering::AcqRel);
                Ok(old)
            }
            Err(error) => {
                let why = format!("'{}': {error}", quoted(self.name.as_bytes()));
                state.failed = Some(stamp);
                state.error = Some(why.clone());
                state.event = Some(ListEvent::Failed(why));
                Err(error)
            }
        }
    }
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    // Without O_NONBLOCK, opening a named pipe blocks until another process opens it for writing.
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
}

fn is_permitted(path: &Path) -> bool {
    match open(path) {
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
        Ok(_) => true,
    }
}

fn read(path: &Path) -> Result<List, ListError> {
    let failed = |error: io::Error| ListError::File(error.to_string());
    let file = open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(ListError::File("is not a regular file".to_owned()));
    }
    memory_limit::check(found.len()).map_err(failed)?;
    List::read(&mut BufReader::with_capacity(1 << 16, file), found.len())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("resty-mtls-{name}-{}", process::id()));
            Scratch(path)
        }

        fn write(&self, text: &str) {
            fs::write(&self.0, text).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn entries(count: usize) -> String {
        (0..count).map(|n| format!("sha256 {n:064x}\n")).collect()
    }

    fn wait_until_read(file: &ListFile) -> bool {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(5) {
            if file.must_be_read(Duration::from_millis(20)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    #[test]
    fn refresh_replaces_the_list_and_keeps_it_when_the_file_is_bad() {
        let scratch = Scratch::new("lists");
        scratch.write(&entries(2));
        let file = ListFile::open(&scratch.0, "a.list", false).unwrap();
        assert!(Arc::ptr_eq(
            &file,
            &ListFile::open(&scratch.0, "a.list", false).unwrap()
        ));
        assert!(!file.must_be_read(Duration::ZERO));
        let before = generation();
        scratch.write(&entries(3));
        assert!(wait_until_read(&file));
        // It counts as being read.
        assert!(!file.must_be_read(Duration::ZERO));
        file.reread();
        assert_eq!(file.list().unwrap().len(), 3);
        assert!(generation() > before);
        assert_eq!(
            file.take_event(),
            Some(ListEvent::InForce("'a.list': 3 entries".to_owned()))
        );
        assert_eq!(file.take_event(), None);
        for (text, why) in [
            ("sha256 00\n", "line 1: '00' is not a SHA-256 digest"),
            (
                "",
                "cannot be read: the file is empty, expected at least a line",
            ),
        ] {
            scratch.write(text);
            assert!(wait_until_read(&file));
            file.reread();
            assert_eq!(file.list().unwrap().len(), 3);
            assert!(file.error().unwrap().contains(why), "{:?}", file.error());
            assert!(matches!(file.take_event(), Some(ListEvent::Failed(_))));
            // The same bad file is not read again.
            assert!(!file.must_be_read(Duration::ZERO));
            assert!(ListFile::open(&scratch.0, "a.list", false).is_err());
            assert!(ListFile::open(&scratch.0, "a.list", true).is_ok());
        }
        fs::remove_file(&scratch.0).unwrap();
        assert!(file.must_be_read(Duration::ZERO));
        file.reread();
        assert_eq!(file.list().unwrap().len(), 3);
        scratch.write("# nobody\n");
        assert!(wait_until_read(&file));
        file.reread();
        assert_eq!(file.list().unwrap().len(), 0);
        assert_eq!(file.error(), None);
    }

    #[test]
    fn list_of_another_process_counts_only_while_the_file_is_the_same() {
        let scratch = Scratch::new("inherited-list");
        scratch.write(&entries(2));
        let file = ListFile::open(&scratch.0, "a.list", false).unwrap();
        file.state.lock().process = 1;
        assert!(file.list().is_none());
        assert!(!file.must_be_read(Duration::ZERO));
        assert!(file.list().is_some());
        file.state.lock().process = 1;
        scratch.write(&entries(3));
        assert!(file.must_be_read(Duration::from_secs(100)));
        assert!(file.is_awaited() && file.list().is_none());
        file.reread();
        assert_eq!(file.list().unwrap().len(), 3);
        file.state.lock().process = 1;
        scratch.write("bad\n");
        assert!(file.must_be_read(Duration::ZERO));
        file.reread();
        assert!(file.list().is_none() && !file.is_awaited());
    }
}
