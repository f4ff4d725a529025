//! CRLs that were fetched, each parsed and verified once per worker. A CRL of more than
//! [`PARSED_HERE`] bytes is parsed on the thread of `background`, and freed there.

use std::sync::Arc;

use openssl::sha::{sha256, Sha256};
use openssl::x509::X509;
use parking_lot::Mutex;

use crate::background;
use crate::cache::Cache;
use crate::certificate;
use crate::trust::crl::{self, Crl};

/// Longest CRL in bytes that is parsed in the event loop, which takes some milliseconds.
const PARSED_HERE: usize = 128 * 1024;
/// Bytes at each end of a longer CRL in DER that identify it. The last ones are its signature, and
/// hashing all of a long one would delay requests.
const ENDS: usize = 4096;
/// Most CRLs in the cache, and most bytes of memory for them; one alone may need more.
const MAX_CRLS: usize = 256;
const MAX_MEMORY: usize = 128 << 20;
/// Most CRLs that are parsed or wait for it. Further ones wait with the caller.
const MAX_PARSING: usize = 4;

/// Identifies the bytes of a CRL and its issuer.
type Key = [u8; 32];

/// A CRL that is freed on the thread of `background`.
struct Kept(Option<Arc<Crl>>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(crl) = self.0.take() {
            background::free(crl);
        }
    }
}

/// What [`Crl::load`] returns.
type Loaded = Result<Arc<Crl>, String>;

struct Parsing {
    key: Key,
    /// Set when the thread has ended.
    result: Arc<Mutex<Option<Loaded>>>,
}

/// A CRL in [`FetchedCrls`].
pub(super) enum Fetched {
    Ready(Arc<Crl>),
    /// The caller must ask again later.
    Parsing,
}

/// The fetched CRLs of a worker.
pub(in crate::engine) struct FetchedCrls {
    kept: Cache<Key, Kept>,
    parsing: Vec<Parsing>,
}

impl Default for FetchedCrls {
    fn default() -> FetchedCrls {
        FetchedCrls {
            kept: Cache::with_weight(MAX_CRLS, MAX_MEMORY),
            parsing: Vec::new(),
        }
    }
}

impl FetchedCrls {
    /// The CRL of at most `max` bytes that `issuer` signed.
    ///
    /// # Errors
    /// The reason why it is none, once for each time that it was parsed.
    pub(super) fn get(
        &mut self,
        bytes: &[u8],
        issuer: &X509,
        max: usize,
    ) -> Result<Fetched, String> {
        if bytes.len() > max {
            return Err(crl::over_the_limit(bytes.len(), max));
        }
        let key = key(bytes, issuer)?;
        self.collect();
        if let Some((_, Kept(Some(crl)))) = self.kept.find(&key) {
            return Ok(Fetched::Ready(crl.clone()));
        }
        if bytes.len() <= PARSED_HERE || background::start().is_err() {
            return self
                .keep(key, Crl::load(bytes, issuer, max).map(Arc::new))
                .map(Fetched::Ready);
        }
        if let Some(index) = self.parsing.iter().position(|job| job.key == key) {
            let ended = self
                .parsing
                .get(index)
                .and_then(|job| job.result.lock().take());
            let Some(result) = ended else {
                return Ok(Fetched::Parsing);
            };
            self.parsing.swap_remove(index);
            return self.keep(key, result).map(Fetched::Ready);
        }
        // Failures that were not requested again make room.
        if self.parsing.len() >= MAX_PARSING {
            self.parsing.retain(|job| job.result.lock().is_none());
        }
        if self.parsing.len() < MAX_PARSING {
            self.start(key, bytes.to_vec(), issuer.clone(), max);
        }
        Ok(Fetched::Parsing)
    }

    fn start(&mut self, key: Key, bytes: Vec<u8>, issuer: X509, max: usize) {
        let result = Arc::new(Mutex::new(None));
        let output = result.clone();
        let job = move || {
            let crl = Crl::load(&bytes, &issuer, max).map(Arc::new);
            *output.lock() = Some(crl);
        };
        if background::defer(job).is_ok() {
            self.parsing.push(Parsing { key, result });
        }
    }

    /// Moves the CRLs that have been parsed into the cache.
    fn collect(&mut self) {
        let kept = &mut self.kept;
        self.parsing.retain(|job| {
            let mut result = job.result.lock();
            if !matches!(*result, Some(Ok(_))) {
                return true;
            }
            if let Some(Ok(crl)) = result.take() {
                let memory = crl.memory();
                kept.insert_weighted(job.key, Kept(Some(crl)), memory);
            }
            false
        });
    }

    fn keep(&mut self, key: Key, crl: Result<Arc<Crl>, String>) -> Result<Arc<Crl>, String> {
        let crl = crl?;
        let memory = crl.memory();
        self.kept
            .insert_weighted(key, Kept(Some(crl.clone())), memory);
        Ok(crl)
    }
}

fn key(bytes: &[u8], issuer: &X509) -> Result<Key, String> {
    let issuer = certificate::sha256(issuer).map_err(|error| error.to_string())?;
    let mut hasher = Sha256::new();
    hasher.update(&issuer);
    hasher.update(&bytes.len().to_be_bytes());
    let is_long = bytes.len() > PARSED_HERE && crl::is_der(bytes);
    match (bytes.first_chunk::<ENDS>(), bytes.last_chunk::<ENDS>()) {
        (Some(first), Some(last)) if is_long => {
            hasher.update(first);
            hasher.update(last);
        }
        _ => hasher.update(&sha256(bytes)),
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::trust::test_ca::TestCa;

    const MAX: usize = 1 << 20;

    /// A CA with a CRL that is parsed on the thread.
    fn large_crl() -> (TestCa, Vec<u8>) {
        let ca = TestCa::new();
        let numbers = (0..4000).map(|number| (0x40_u128 << 120) + number);
        ca.add_serials_to_database(numbers.map(|number| format!("{number:032X}")));
        let bytes = ca.crl("", &[]);
        assert!(bytes.len() > PARSED_HERE && bytes.len() < MAX);
        (ca, bytes)
    }

    fn await_result(crls: &mut FetchedCrls, bytes: &[u8], ca: &TestCa) -> Result<(), String> {
        let since = Instant::now();
        loop {
            match crls.get(bytes, &ca.x509, MAX)? {
                Fetched::Ready(_) => return Ok(()),
                Fetched::Parsing => assert!(since.elapsed() < Duration::from_secs(20)),
            }
            sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn get_small_crl_is_ready_at_once() {
        let ca = TestCa::new();
        let bytes = ca.crl("", &[]);
        let mut crls = FetchedCrls::default();
        for _ in 0..2 {
            assert!(matches!(
                crls.get(&bytes, &ca.x509, MAX),
                Ok(Fetched::Ready(_))
            ));
        }
        assert_eq!(crls.kept.len(), 1);
        let refused = crls.get(&bytes, &ca.x509, 10).map(|_| ());
        let expected = format!("CRL of {} bytes is over the limit of 10", bytes.len());
        assert_eq!(refused, Err(expected));
    }

    #[test]
    fn get_large_crl_is_parsed_once_on_the_thread() {
        let (ca, bytes) = large_crl();
        let mut crls = FetchedCrls::default();
        assert!(matches!(
            crls.get(&bytes, &ca.x509, MAX),
            Ok(Fetched::Parsing)
        ));
        await_result(&mut crls, &bytes, &ca).unwrap();
        assert!(matches!(
            crls.get(&bytes, &ca.x509, MAX),
            Ok(Fetched::Ready(_))
        ));
        // For another issuer of the same name it is another CRL.
        let other = TestCa::new();
        assert!(matches!(
            crls.get(&bytes, &other.x509, MAX),
            Ok(Fetched::Parsing)
        ));
        assert_eq!(crls.kept.len(), 1);
    }

    #[test]
    fn get_failure_is_returned_once_and_tried_again() {
        let (ca, bytes) = large_crl();
        let mut changed = bytes.clone();
        // In an entry, so that the key is that of the unchanged CRL.
        let middle = bytes.len() / 2;
        changed[middle] ^= 1;
        let mut crls = FetchedCrls::default();
        assert!(await_result(&mut crls, &changed, &ca).is_err());
        assert!(crls.parsing.is_empty());
        await_result(&mut crls, &bytes, &ca).unwrap();
    }

    #[test]
    fn get_more_than_can_be_parsed_waits() {
        let (ca, bytes) = large_crl();
        let others: Vec<TestCa> = (0..MAX_PARSING).map(|_| TestCa::new()).collect();
        let mut crls = FetchedCrls::default();
        for other in &others {
            let result = crls.get(&bytes, &other.x509, MAX);
            assert!(matches!(result, Ok(Fetched::Parsing)));
        }
        await_result(&mut crls, &bytes, &ca).unwrap();
        assert!(crls.parsing.len() <= MAX_PARSING);
    }
}
