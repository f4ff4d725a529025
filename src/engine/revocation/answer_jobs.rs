//! Large answers in the state directory: they are written and read on the thread of `background`,
//! since hashing and copying them would delay requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::background;
use crate::engine::node::StateFile;
use crate::engine::Engine;
use crate::Error;

/// Longest answer in bytes that is written and read in the event loop, in less than a millisecond.
const AT_ONCE: usize = 128 * 1024;
/// Most bytes of answers that wait to be written.
const MAX_WAITING: usize = 512 << 20;
/// Most answers that are read at a time. Further ones wait with the caller.
const MAX_READS: usize = 4;
/// How long a worker that ends waits for the answer that is being written.
const STOP_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Answer {
    file: Arc<StateFile>,
    content: Arc<[Vec<u8>; 2]>,
    is_evidence: bool,
}

impl Answer {
    fn len(&self) -> usize {
        self.content.iter().map(Vec::len).sum()
    }
}

/// Answers to be written, shared with the thread.
#[derive(Default)]
struct Writes {
    /// The newest one of each key.
    waiting: HashMap<String, Answer>,
    /// The one that is being written.
    current: Option<(String, Answer)>,
    error: Option<String>,
}

impl Writes {
    fn find(&self, key: &str) -> Option<&Answer> {
        let current = self.current.as_ref().filter(|(other, _)| other == key);
        self.waiting
            .get(key)
            .or_else(|| current.map(|(_, answer)| answer))
    }
}

/// The result of a read; `None` while it is going on.
type ReadResult = Arc<Mutex<Option<Option<Vec<u8>>>>>;

/// The answers that the thread writes and reads.
#[derive(Default)]
pub(in crate::engine) struct AnswerJobs {
    writes: Arc<Mutex<Writes>>,
    reads: Vec<(String, ReadResult)>,
}

/// An answer that is read from the state directory.
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerRead {
    /// Its content.
    Ready(Vec<u8>),
    /// The caller must ask again later.
    Reading,
}

impl Drop for AnswerJobs {
    /// Writes the evidence that waits, because a worker that ends runs no deferred task: the next
    /// one must find what is revoked.
    fn drop(&mut self) {
        let since = Instant::now();
        // An older answer of the same key must not be written last.
        while self.writes.lock().current.is_some() && since.elapsed() < STOP_WAIT {
            std::thread::sleep(Duration::from_millis(1));
        }
        let waiting = std::mem::take(&mut self.writes.lock().waiting);
        for (key, answer) in waiting.iter().filter(|(_, answer)| answer.is_evidence) {
            let _ = write(key, answer);
        }
    }
}

fn write(key: &str, answer: &Answer) -> Result<(), Error> {
    let [head, bytes] = &*answer.content;
    let files = answer.file.answers();
    files
        .write(key, &[head, bytes], answer.is_evidence)
        .map_err(|error| Error::Misuse(error.to_string()))
}

impl Engine {
    /// Keeps a signed answer in the state directory, in two parts. A large one is written later, and
    /// [`Engine::answer_write_error`] returns an error about that. [`Error::NotFound`] without a
    /// directory.
    ///
    /// # Errors
    /// Those of the system calls, and when too many answers wait to be written.
    pub fn write_answer(
        &self,
        key: &str,
        head: &[u8],
        bytes: &[u8],
        is_evidence: bool,
    ) -> Result<(), Error> {
        let file = self.state_file.borrow().clone().ok_or(Error::NotFound)?;
        let jobs = self.answer_jobs.borrow();
        let mut writes = jobs.writes.lock();
        let is_small = bytes.len() <= AT_ONCE && writes.find(key).is_none();
        let answer = Answer {
            file,
            content: Arc::new([head.to_vec(), bytes.to_vec()]),
            is_evidence,
        };
        if is_small || background::start().is_err() {
            drop(writes);
            return write(key, &answer);
        }
        let waiting: usize = writes.waiting.values().map(Answer::len).sum();
        if waiting.saturating_add(answer.len()) > MAX_WAITING {
            let why = "too many answers wait to be written".to_owned();
            return Err(Error::Misuse(why));
        }
        writes.waiting.insert(key.to_owned(), answer);
        drop(writes);
        let (writes, key) = (jobs.writes.clone(), key.to_owned());
        background::defer(move || {
            // One that was given later may have been written by an earlier job.
            let Some(answer) = ({
                let mut writes = writes.lock();
                let answer = writes.waiting.remove(&key);
                writes.current = answer.clone().map(|answer| (key.clone(), answer));
                answer
            }) else {
                return;
            };
            let result = write(&key, &answer);
            let mut writes = writes.lock();
            writes.current = None;
            if let Err(error) = result {
                writes.error = Some(error.to_string());
            }
        })
    }

    /// Why an answer could not be written, once for each time.
    pub fn answer_write_error(&self) -> Option<String> {
        let jobs = self.answer_jobs.borrow();
        let error = jobs.writes.lock().error.take();
        error
    }

    /// Reads an answer of [`Engine::write_answer`]; `None` if there is none, or it is damaged.
    pub fn read_answer(&self, key: &str) -> Option<AnswerRead> {
        let file = self.state_file.borrow().clone()?;
        let mut jobs = self.answer_jobs.borrow_mut();
        if let Some(answer) = jobs.writes.lock().find(key) {
            return Some(AnswerRead::Ready(answer.content.concat()));
        }
        if let Some(index) = jobs.reads.iter().position(|(other, _)| other == key) {
            let ended = jobs
                .reads
                .get(index)
                .and_then(|(_, result)| result.lock().take());
            let Some(content) = ended else {
                return Some(AnswerRead::Reading);
            };
            jobs.reads.swap_remove(index);
            return content.map(AnswerRead::Ready);
        }
        let len = file.answers().len(key)?;
        if len <= AT_ONCE as u64 || background::start().is_err() {
            return file.answers().read(key).ok().map(AnswerRead::Ready);
        }
        // Results that were not requested again make room.
        if jobs.reads.len() >= MAX_READS {
            jobs.reads.retain(|(_, result)| result.lock().is_none());
        }
        if jobs.reads.len() < MAX_READS {
            let result = ReadResult::default();
            jobs.reads.push((key.to_owned(), result.clone()));
            let owned = key.to_owned();
            let job = move || {
                let content = file.answers().read(&owned).ok();
                *result.lock() = Some(content);
            };
            if background::defer(job).is_err() {
                jobs.reads.retain(|(other, _)| other != key);
                return None;
            }
        }
        Some(AnswerRead::Reading)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;

    fn engine(directory: &Path) -> Engine {
        use std::os::unix::fs::DirBuilderExt;
        let _ = std::fs::remove_dir_all(directory);
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).create(directory).unwrap();
        let engine = Engine::default();
        let file = StateFile::new(directory, b"p").unwrap();
        *engine.state_file.borrow_mut() = Some(Arc::new(file));
        engine
    }

    fn read(engine: &Engine, key: &str) -> Option<Vec<u8>> {
        let since = Instant::now();
        loop {
            match engine.read_answer(key)? {
                AnswerRead::Ready(content) => return Some(content),
                AnswerRead::Reading => assert!(since.elapsed() < Duration::from_secs(20)),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait_until_written(engine: &Engine) {
        let is_busy = || {
            let jobs = engine.answer_jobs.borrow();
            let writes = jobs.writes.lock();
            !writes.waiting.is_empty() || writes.current.is_some()
        };
        let since = Instant::now();
        while is_busy() {
            assert!(since.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn read_answer_returns_what_was_written_last_also_while_it_is_being_written() {
        let directory = std::env::temp_dir().join(format!("answer-jobs-{}", std::process::id()));
        let engine = engine(&directory);
        assert_eq!(engine.read_answer("ab"), None);
        let large = |octet: u8| vec![octet; 3 * AT_ONCE];
        for octet in 0..20 {
            let bytes = large(octet);
            engine.write_answer("ab", b"head", &bytes, true).unwrap();
            let expected = [b"head", &*bytes].concat();
            assert_eq!(read(&engine, "ab"), Some(expected));
        }
        // A small one does not overtake a large one.
        engine.write_answer("ab", b"", &large(9), true).unwrap();
        engine.write_answer("ab", b"", b"small", false).unwrap();
        assert_eq!(read(&engine, "ab").unwrap(), b"small");
        wait_until_written(&engine);
        assert_eq!(read(&engine, "ab").unwrap(), b"small");
        engine.write_answer("ab", b"", &large(7), true).unwrap();
        wait_until_written(&engine);
        assert_eq!(read(&engine, "ab"), Some(large(7)));
        assert_eq!(engine.answer_write_error(), None);
        std::fs::remove_dir_all(&directory).unwrap();
        engine.write_answer("ab", b"", &large(8), true).unwrap();
        wait_until_written(&engine);
        assert!(engine.answer_write_error().is_some());
        assert_eq!(engine.answer_write_error(), None);
        assert_eq!(engine.read_answer("ab"), None);
    }

    #[test]
    fn drop_writes_the_evidence_that_waits() {
        let directory = std::env::temp_dir().join(format!("answer-drop-{}", std::process::id()));
        let engine = engine(&directory);
        let large = vec![7; 3 * AT_ONCE];
        engine.write_answer("ab", b"", &large, true).unwrap();
        wait_until_written(&engine);
        let (hold, held) = mpsc::channel::<()>();
        background::run(move || {
            let _ = held.recv();
        });
        let newer = vec![8; 3 * AT_ONCE];
        engine.write_answer("ab", b"head", &newer, true).unwrap();
        engine.write_answer("cd", b"", &newer, false).unwrap();
        drop(engine);
        let file = StateFile::new(&directory, b"p").unwrap();
        let read = |key| file.answers().read(key).ok();
        assert_eq!(read("ab"), Some([b"head", &*newer].concat()));
        assert_eq!(read("cd"), None);
        hold.send(()).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
