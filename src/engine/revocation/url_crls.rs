//! The CRLs of a policy that are fetched from a URL. The caller fetches them; they are parsed, and
//! written to the state directory, on the thread of `background`.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::background;
use crate::engine::Engine;
use crate::policy::{CrlUrl, Policy};
use crate::trust::crl::{LoadedCrl, UrlCrl};
use crate::Error;

/// Bytes of one part of a [`CrlBody`].
const PART: usize = 1 << 20;

/// The bytes of a CRL that is being fetched. They are kept in parts, because moving 100 MB to a
/// larger buffer would delay requests.
pub struct CrlBody {
    parts: Vec<Vec<u8>>,
    len: usize,
    max: usize,
}

impl CrlBody {
    /// An empty body of at most `max` bytes.
    pub fn new(max: usize) -> CrlBody {
        CrlBody {
            parts: Vec::new(),
            len: 0,
            max,
        }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the body would be over its limit.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.len = self.len.saturating_add(bytes.len());
        if self.len > self.max {
            return Err(Error::Misuse(format!("body is over {} bytes", self.max)));
        }
        while !bytes.is_empty() {
            if self.parts.last().is_none_or(|part| part.len() >= PART) {
                self.parts.push(Vec::with_capacity(PART));
            }
            let Some(part) = self.parts.last_mut() else {
                return Ok(());
            };
            let (now, later) = bytes.split_at(bytes.len().min(PART.saturating_sub(part.len())));
            part.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }
}

/// Where the bytes of a CRL are from.
pub enum CrlBytes {
    /// They were fetched. If the CRL is good, they are written to the file, if there is one.
    Fetched(CrlBody, Option<PathBuf>),
    /// A file that this or another worker wrote.
    File(PathBuf),
}

/// How far [`Engine::load_url_crl`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlCrlState {
    /// The caller must ask again later.
    Loading,
    /// The CRL is in use. Holds the reason why it was not written to its file.
    Loaded(Option<String>),
}

type LoadResult = Result<(LoadedCrl, Option<String>), String>;

/// Most parts of a body that are freed at a time.
const FREED_AT_ONCE: usize = 4;

/// Parts of bodies that are not needed any more. The event loop has allocated them, and frees a few
/// at a time: if the thread freed them all, it would lock the heap of the event loop while it returns
/// 100 MB to the system.
type UsedParts = Arc<Mutex<Vec<Vec<u8>>>>;

struct Job {
    /// The key of the settings of the CRL.
    key: String,
    result: Arc<Mutex<Option<LoadResult>>>,
}

/// CRLs that the thread loads.
#[derive(Default)]
pub(in crate::engine) struct UrlCrlJobs {
    jobs: Vec<Job>,
    used: UsedParts,
}

impl UrlCrlJobs {
    fn free_some(&self) {
        let mut used = self.used.lock();
        let keep = used.len().saturating_sub(FREED_AT_ONCE);
        let freed = used.split_off(keep);
        drop(used);
        drop(freed);
    }
}

impl Engine {
    /// Reads CRL number `index` of those that the policy in force fetches; `None` after the last.
    pub fn with_crl_url<T>(
        &self,
        index: usize,
        read: impl FnOnce(&CrlUrl) -> T,
    ) -> Result<Option<T>, Error> {
        let policy = self.policy()?;
        Ok(policy.crl_urls.get(index).map(read))
    }

    /// Loads CRL number `index` of the policy with this epoch from these bytes, and puts it in use
    /// on this worker. Without bytes it returns the state of a load that began before. With `wait`
    /// the CRL is loaded at once.
    ///
    /// # Errors
    /// Why it is not used; [`Error::NotFound`] when another policy is in force.
    pub fn load_url_crl(
        &self,
        index: usize,
        epoch: u64,
        bytes: Option<CrlBytes>,
        wait: bool,
    ) -> Result<UrlCrlState, Error> {
        if epoch != self.epoch() {
            return Err(Error::NotFound);
        }
        let policy = self.policy()?;
        let CrlUrl { crl, key, .. } = policy.crl_urls.get(index).ok_or(Error::NotFound)?;
        self.url_crl_jobs.borrow().free_some();
        if let Some(bytes) = bytes {
            if wait {
                return self.use_url_crl(crl, load(crl, bytes, &UsedParts::default()));
            }
            let (crl, output) = (crl.clone(), Arc::new(Mutex::new(None)));
            let mut jobs = self.url_crl_jobs.borrow_mut();
            jobs.jobs.retain(|job| job.key != *key);
            jobs.jobs.push(Job {
                key: key.clone(),
                result: output.clone(),
            });
            let used = jobs.used.clone();
            drop(jobs);
            let job = move || {
                let result = load(&crl, bytes, &used);
                *output.lock() = Some(result);
            };
            background::defer(job)?;
            return Ok(UrlCrlState::Loading);
        }
        let mut jobs = self.url_crl_jobs.borrow_mut();
        let position = jobs.jobs.iter().position(|job| job.key == *key);
        let position = position.ok_or(Error::NotFound)?;
        let result = jobs
            .jobs
            .get(position)
            .and_then(|job| job.result.lock().take());
        let Some(result) = result else {
            return Ok(UrlCrlState::Loading);
        };
        jobs.jobs.swap_remove(position);
        // The job is done, so nothing else needs them. Most have been freed while the CRL was parsed.
        jobs.used.lock().clear();
        drop(jobs);
        self.use_url_crl(crl, result)
    }

    fn use_url_crl(&self, crl: &UrlCrl, result: LoadResult) -> Result<UrlCrlState, Error> {
        let (loaded, unsaved) = result.map_err(Error::Misuse)?;
        if let Some(previous) = crl.replace(loaded) {
            background::free(previous);
        }
        // What was decided by the previous CRL is decided again.
        self.forget_statuses();
        Ok(UrlCrlState::Loaded(unsaved))
    }
}

/// Takes the CRLs that `old` has in use over into a policy that fetches the same ones.
pub(in crate::engine) fn adopt_url_crls(new: &Policy, old: &Policy) {
    for url in &new.crl_urls {
        let same = old
            .crl_urls
            .iter()
            .filter(|other| other.crl.url() == url.crl.url());
        for other in same {
            url.crl.adopt(&other.crl);
        }
    }
}

fn load(crl: &UrlCrl, bytes: CrlBytes, used: &UsedParts) -> LoadResult {
    match bytes {
        CrlBytes::Fetched(body, file) => {
            let bytes = body.parts.concat();
            used.lock().extend(body.parts);
            let loaded = crl.load(&bytes)?;
            let written = file.map(|file| write(&file, &bytes).map_err(|error| (file, error)));
            let unsaved = written
                .and_then(Result::err)
                .map(|(file, error)| format!("'{}' cannot be written: {error}", file.display()));
            Ok((loaded, unsaved))
        }
        CrlBytes::File(file) => {
            let failed =
                |error: std::io::Error| format!("'{}' cannot be read: {error}", file.display());
            let mut bytes = Vec::new();
            let limit = crl.max_bytes() as u64 + 1;
            let opened = fs::File::open(&file).map_err(failed)?;
            opened.take(limit).read_to_end(&mut bytes).map_err(failed)?;
            Ok((crl.load(&bytes)?, None))
        }
    }
}

/// Writes a file that only this user can read, whole or not at all.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = file.with_extension(format!("{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options
        .open(&new)
        .and_then(|mut output| output.write_all(bytes))
        .and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}
