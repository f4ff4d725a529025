use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use openssl::x509::X509;

use super::*;
use crate::engine::reload::{PolicySource, ReloadProgress};
use crate::testing::{self, issue, Issued, NOW};
use crate::text::hex;
use crate::trust::{CaCertificate, TrustStore, VerifyOptions};

/// An engine with a spool in a new directory.
fn engine(name: &str, max_certificates: u64) -> (Engine, PathBuf) {
    let name = format!("certificate-spool-{name}-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&directory);
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700).create(&directory).unwrap();
    let engine = Engine::default();
    engine
        .set_certificate_spool(&directory, max_certificates, 1 << 20)
        .unwrap();
    metrics::take();
    (engine, directory)
}

fn certificate(leaf: &Issued, sent: &Issued) -> Certificate {
    let sent = testing::stack(&[&sent.x509]);
    Certificate::new(leaf.x509.clone(), sent).unwrap()
}

fn file_of(directory: &Path, certificate: &Certificate) -> PathBuf {
    directory.join(format!("{}.pem", hex(&certificate.digests().leaf)))
}

/// Stops the thread that writes, as a disk that hangs would, until something is sent.
fn hang() -> mpsc::Sender<()> {
    let (hold, held) = mpsc::channel();
    background::run_apart(move || {
        let _ = held.recv();
    })
    .unwrap();
    hold
}

fn wait_until_written(engine: &Engine) {
    let (sender, receiver) = mpsc::channel();
    // Runs behind what was queued before.
    background::run_apart(move || sender.send(()).unwrap()).unwrap();
    receiver.recv_timeout(Duration::from_secs(20)).unwrap();
    let spool = engine.certificate_spool.borrow();
    assert!(spool.as_ref().unwrap().state.lock().waiting.is_empty());
}

fn warnings(engine: &Engine) -> Vec<String> {
    let mut texts = Vec::new();
    while engine
        .certificate_spool_warning(|text| {
            texts.push(text.to_owned());
            Ok(())
        })
        .is_ok()
    {}
    texts
}

/// Written, present, full, dropped, failed.
fn counts(engine: &Engine) -> [u64; 5] {
    let _ = engine.certificate_spool_warning(|_| Err(Error::NotFound));
    let counts = metrics::take();
    std::array::from_fn(|index| counts[Event::SpoolWritten as usize + index])
}

#[test]
fn verdict_spools_what_it_verifies_with_what_was_sent_and_nothing_else() {
    let (engine, directory) = engine("verdict", 10);
    let ca = issue("CA", None, true, 60, &[]);
    let other = issue("other CA", None, true, 60, &[]);
    let trusted_ca = Arc::new(CaCertificate::from_x509(ca.x509.clone()).unwrap());
    let store =
        TrustStore::new(std::slice::from_ref(&trusted_ca), VerifyOptions::default()).unwrap();
    let trusted = certificate(&issue("a", Some(&ca), false, 60, &[]), &other);
    let untrusted = certificate(&issue("b", Some(&other), false, 60, &[]), &other);
    let expired = certificate(&issue("c", Some(&ca), false, -60, &[]), &other);
    for client in [&trusted, &untrusted, &expired, &trusted] {
        engine.verdict(None, &store, client, NOW).unwrap();
    }
    wait_until_written(&engine);
    let file = file_of(&directory, &trusted);
    assert_eq!(fs::read(file).unwrap(), trusted.chain_pem().unwrap());
    assert_eq!(engine.certificate_spool_usage().unwrap().certificates, 1);
    assert_eq!(counts(&engine), [1, 0, 0, 0, 0]);
    assert_eq!(counts(&engine), [0; 5]);
    // Another worker or policy verifies it again.
    engine.spool_certificate(&trusted, &[]);
    wait_until_written(&engine);
    assert_eq!(counts(&engine), [0, 1, 0, 0, 0]);
    assert_eq!(warnings(&engine), [""; 0]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn spool_over_its_bound_warns_once_and_again_after_there_was_room() {
    let (engine, directory) = engine("bound", 1);
    let ca = issue("CA", None, true, 60, &[]);
    let clients: Vec<_> = (0..4)
        .map(|number| certificate(&issue(&format!("{number}"), Some(&ca), false, 60, &[]), &ca))
        .collect();
    let spool = |number: usize| {
        engine.spool_certificate(&clients[number], &[]);
        wait_until_written(&engine);
    };
    let text = format!(
        "certificate_spool: '{}' has reached max_certificates (1): further certificates are not \
         written",
        directory.display()
    );
    spool(0);
    assert_eq!(warnings(&engine), [""; 0]);
    spool(1);
    assert_eq!(warnings(&engine), [text.as_str()]);
    spool(2);
    assert_eq!(warnings(&engine), [""; 0]);
    assert_eq!(counts(&engine), [1, 0, 2, 0, 0]);
    let first = file_of(&directory, &clients[0]);
    assert!(first.exists());
    std::thread::sleep(Duration::from_millis(20));
    fs::remove_file(first).unwrap();
    spool(2);
    spool(3);
    assert_eq!(warnings(&engine), [text]);
    assert_eq!(counts(&engine), [1, 0, 1, 0, 0]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn spool_without_its_directory_warns_once_and_goes_on_when_it_is_there_again() {
    let (engine, directory) = engine("gone", 10);
    let ca = issue("CA", None, true, 60, &[]);
    let client = certificate(&ca, &ca);
    fs::remove_dir_all(&directory).unwrap();
    for _ in 0..2 {
        engine.spool_certificate(&client, &[]);
        wait_until_written(&engine);
    }
    assert_eq!(
        warnings(&engine),
        [format!(
            "certificate_spool: '{}': No such file or directory (os error 2): certificates are \
             not written",
            directory.display()
        )]
    );
    assert_eq!(counts(&engine), [0, 0, 0, 0, 2]);
    fs::create_dir(&directory).unwrap();
    engine.spool_certificate(&client, &[]);
    wait_until_written(&engine);
    assert_eq!(counts(&engine), [1, 0, 0, 0, 0]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn push_drops_what_has_no_room_without_waiting() {
    let (engine, directory) = engine("queue", 10);
    let hold = hang();
    let ca = issue("CA", None, true, 60, &[]);
    let client = certificate(&ca, &ca);
    let since = Instant::now();
    for _ in 0..MAX_WAITING + 3 {
        engine.spool_certificate(&client, &[]);
    }
    assert!(since.elapsed() < Duration::from_secs(10));
    assert_eq!(counts(&engine), [0, 0, 0, 3, 0]);
    hold.send(()).unwrap();
    wait_until_written(&engine);
    assert_eq!(counts(&engine), [1, MAX_WAITING as u64 - 1, 0, 0, 0]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn reload_is_in_force_while_a_write_hangs() {
    let (engine, directory) = engine("hang", 10);
    let policy = |names: &str| PolicySource::Text {
        text: format!("_format_version: '3.0'\nroutes: [{names}]\n")
            .into_bytes()
            .into(),
        label: "p".into(),
    };
    engine.load(policy("{name: a}")).unwrap();
    let hold = hang();
    let ca = issue("CA", None, true, 60, &[]);
    engine.spool_certificate(&certificate(&ca, &ca), &[]);
    let reload = engine.reload(policy("{name: a}, {name: b}")).unwrap();
    let progress = engine.poll(&reload, Duration::from_secs(20));
    let is_in_force = matches!(progress, Ok(ReloadProgress::InForce(_)));
    assert!(is_in_force, "{progress:?}");
    assert_eq!(engine.policy().unwrap().routes.len(), 2);
    assert_eq!(counts(&engine), [0; 5]);
    hold.send(()).unwrap();
    wait_until_written(&engine);
    assert_eq!(counts(&engine), [1, 0, 0, 0, 0]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn spool_keeps_the_intermediates_of_the_verified_chain_first_and_no_more_than_its_bound() {
    let (engine, directory) = engine("sent", 10);
    let ca = issue("CA", None, true, 60, &[]);
    let intermediate = issue("intermediate", Some(&ca), true, 60, &[]);
    let client = issue("a", Some(&intermediate), false, 60, &[]);
    let junk = issue("junk", None, true, 60, &[]);
    let mut sent = vec![&junk.x509; 100];
    sent.push(&intermediate.x509);
    let client = Certificate::new(client.x509, testing::stack(&sent)).unwrap();
    assert!(client.der_len() > 2 * MAX_SENT);
    let trusted = Arc::new(CaCertificate::from_x509(ca.x509.clone()).unwrap());
    let store = TrustStore::new(&[trusted], VerifyOptions::default()).unwrap();
    let verdict = engine.verdict(None, &store, &client, NOW).unwrap();
    assert!(verdict.is_success());
    wait_until_written(&engine);
    let text = fs::read(file_of(&directory, &client)).unwrap();
    let written = X509::stack_from_pem(&text).unwrap();
    let der = |certificate: &X509| certificate.to_der().unwrap();
    let kept: Vec<_> = written.iter().skip(1).map(der).collect();
    assert_eq!(kept[0], der(&intermediate.x509));
    let (kept_len, junk) = (kept.concat().len(), der(&junk.x509));
    assert!(kept_len <= MAX_SENT && kept_len + junk.len() > MAX_SENT);
    assert!(kept[1..].iter().all(|kept| *kept == junk));
    fs::remove_dir_all(directory).unwrap();
}
