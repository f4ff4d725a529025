//! The certificate spool: certificates of clients that this worker has verified for the first time,
//! written to a directory for `resty-mtls replay --certs`.
//!
//! Only what a CA of the policy has signed is written, or a client could fill the spool with
//! certificates of its own making. The access phase copies the certificate to a bounded queue; the
//! thread of [`background::run_apart`] writes it, so that a disk that hangs stops no reload.

mod files;

use std::path::Path;
use std::sync::Arc;

use openssl::x509::X509Ref;
use parking_lot::Mutex;

use super::Engine;
use crate::background;
use crate::certificate::signed_content::ca_id;
use crate::certificate::Certificate;
use crate::metrics::{self, Event};
use crate::Error;

pub use files::SpoolUsage;
use files::{SpoolFiles, Written};

/// Most certificates that wait to be written, and their bytes with their chains.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Most bytes of DER that are kept of what a client sent with its certificate: two intermediates of
/// ML-DSA-87. A client may send 100 KB of anything, and a few hundred such clients fill the spool.
const MAX_SENT: usize = 16 * 1024;
/// Most warnings that wait to be logged.
const MAX_WARNINGS: usize = 16;

/// A certificate with its chain, leaf first.
struct Presented {
    /// SHA-256 of the leaf's DER.
    sha256: [u8; 32],
    ders: Vec<Vec<u8>>,
}

impl Presented {
    /// A certificate whose verified chain has these CAs ([`ca_id`]). Of what was sent with it over
    /// [`MAX_SENT`], those that are a part of that chain come first.
    fn of(certificate: &Certificate, cas: &[[u8; 32]]) -> Result<Presented, Error> {
        let mut ders = vec![certificate.der()?];
        let sent: Vec<_> = certificate.intermediates().iter().collect();
        let der = |one: &&X509Ref| one.to_der();
        let mut sent_ders = sent.iter().map(der).collect::<Result<Vec<_>, _>>()?;
        if sent_ders.iter().map(Vec::len).sum::<usize>() > MAX_SENT {
            let is_unused = |one: &X509Ref| !ca_id(one).is_ok_and(|id| cas.contains(&id));
            let mut ordered: Vec<_> = sent.into_iter().map(is_unused).zip(sent_ders).collect();
            ordered.sort_by_key(|(is_unused, _)| *is_unused);
            sent_ders = ordered.into_iter().map(|(_, der)| der).collect();
            let mut kept = 0;
            sent_ders.retain(|der| {
                let fits = kept + der.len() <= MAX_SENT;
                kept += if fits { der.len() } else { 0 };
                fits
            });
        }
        ders.append(&mut sent_ders);
        Ok(Presented {
            sha256: certificate.digests().leaf,
            ders,
        })
    }

    fn len(&self) -> usize {
        self.ders.iter().map(Vec::len).sum()
    }
}

/// What happened to certificates since it was counted last.
#[derive(Clone, Copy, Default)]
struct Counts {
    written: u64,
    present: u64,
    full: u64,
    dropped: u64,
    failed: u64,
}

#[derive(Default)]
struct State {
    waiting: Vec<Presented>,
    waiting_bytes: usize,
    /// Whether the thread has a task to write what waits.
    is_scheduled: bool,
    usage: SpoolUsage,
    counts: Counts,
    /// Warnings that are not logged yet.
    warnings: Vec<String>,
    /// The last warning; `None` once a certificate was written after it.
    warned: Option<String>,
}

impl State {
    fn warn(&mut self, text: String) {
        if self.warned.as_ref() != Some(&text) && self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(text.clone());
            self.warned = Some(text);
        }
    }
}

/// A spool and what waits for it. No lock is held during a system call.
pub(super) struct CertificateSpool {
    files: SpoolFiles,
    state: Mutex<State>,
}

impl CertificateSpool {
    /// Queues a certificate. Nothing that fails here concerns the request.
    fn push(self: &Arc<CertificateSpool>, certificate: &Certificate, cas: &[[u8; 32]]) {
        let Ok(presented) = Presented::of(certificate, cas) else {
            self.state.lock().counts.dropped += 1;
            return;
        };
        let mut state = self.state.lock();
        let bytes = state.waiting_bytes.saturating_add(presented.len());
        if state.waiting.len() >= MAX_WAITING || bytes > MAX_WAITING_BYTES {
            state.counts.dropped += 1;
            return;
        }
        state.waiting.push(presented);
        state.waiting_bytes = bytes;
        if std::mem::replace(&mut state.is_scheduled, true) {
            return;
        }
        drop(state);
        let spool = self.clone();
        // A disk may hang, and no policy must wait for it.
        if background::run_apart(move || spool.write_waiting()).is_err() {
            let dropped = self.take_waiting().len();
            self.state.lock().counts.dropped += dropped as u64;
        }
    }

    fn take_waiting(&self) -> Vec<Presented> {
        let mut state = self.state.lock();
        state.is_scheduled = false;
        state.waiting_bytes = 0;
        std::mem::take(&mut state.waiting)
    }

    /// Writes what waits. Runs on a thread of its own.
    fn write_waiting(&self) {
        let waiting = self.take_waiting();
        let shown = self.files.directory().display();
        let mut counts = Counts::default();
        let mut warning = None;
        let mut warn = |counts: &mut Counts, failed: u64, error: std::io::Error| {
            counts.failed += failed;
            warning = Some(format!(
                "certificate_spool: '{shown}': {error}: certificates are not written"
            ));
        };
        let mut usage = None;
        match self.files.lock() {
            Err(error) => warn(&mut counts, waiting.len() as u64, error),
            Ok(mut locked) => {
                let mut full = None;
                for presented in &waiting {
                    match locked.write(&presented.sha256, &presented.ders) {
                        Ok(Written::New) => counts.written += 1,
                        Ok(Written::Present) => counts.present += 1,
                        Ok(Written::Full(bound)) => {
                            counts.full += 1;
                            full = Some(bound);
                        }
                        Err(error) => warn(&mut counts, 1, error),
                    }
                }
                if let Some(bound) = full {
                    let max = self.files.bound(bound);
                    warning = Some(format!(
                        "certificate_spool: '{shown}' has reached {bound} ({max}): further \
                         certificates are not written"
                    ));
                }
                usage = Some(locked.finish());
            }
        }
        let mut state = self.state.lock();
        state.usage = usage.unwrap_or(state.usage);
        let all = &mut state.counts;
        all.written += counts.written;
        all.present += counts.present;
        all.full += counts.full;
        all.failed += counts.failed;
        if counts.written > 0 {
            state.warned = None;
        }
        if let Some(text) = warning {
            state.warn(text);
        }
    }
}

impl Engine {
    /// Writes certificates that are verified for the first time to a directory, of which at most so
    /// many files and bytes may be there.
    ///
    /// # Errors
    /// When the directory cannot be used: it must exist, and no other user may use it.
    pub fn set_certificate_spool(
        &self,
        directory: &Path,
        max_certificates: u64,
        max_bytes: u64,
    ) -> Result<(), Error> {
        let (files, usage) =
            SpoolFiles::new(directory, max_certificates, max_bytes).map_err(Error::Misuse)?;
        let state = State {
            usage,
            ..State::default()
        };
        *self.certificate_spool.borrow_mut() = Some(Arc::new(CertificateSpool {
            files,
            state: Mutex::new(state),
        }));
        Ok(())
    }

    /// Queues a certificate whose chain was just verified for the spool, if there is one; `cas` are
    /// those of the chain.
    pub(super) fn spool_certificate(&self, certificate: &Certificate, cas: &[[u8; 32]]) {
        if let Some(spool) = &*self.certificate_spool.borrow() {
            spool.push(certificate, cas);
        }
    }

    /// What is in the spool, as this worker found it when it last wrote; `None` without a spool.
    pub fn certificate_spool_usage(&self) -> Option<SpoolUsage> {
        let spool = self.certificate_spool.borrow();
        let usage = spool.as_ref()?.state.lock().usage;
        Some(usage)
    }

    /// Counts what happened to certificates as events of this thread, and writes a warning about the
    /// spool, if there is one; one warning per call, and one for each reason.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no other; an error of `write`, after which the next call
    /// writes the same warning.
    pub fn certificate_spool_warning(
        &self,
        write: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let spool = self.certificate_spool.borrow();
        let mut state = spool.as_ref().ok_or(Error::NotFound)?.state.lock();
        let counts = std::mem::take(&mut state.counts);
        for (event, times) in [
            (Event::SpoolWritten, counts.written),
            (Event::SpoolPresent, counts.present),
            (Event::SpoolFull, counts.full),
            (Event::SpoolDropped, counts.dropped),
            (Event::SpoolFailed, counts.failed),
        ] {
            metrics::add(event, times);
        }
        write(state.warnings.first().ok_or(Error::NotFound)?)?;
        state.warnings.remove(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
