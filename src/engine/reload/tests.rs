use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::mpsc::{self, Receiver};

use super::*;
use crate::engine::node::Node;
use crate::policy::FileChange;

const LONG: Duration = Duration::from_secs(20);
const GOOD: &str = "_format_version: '3.0'\nroutes: [{name: a}]\n";
const BETTER: &str = "_format_version: '3.0'\nroutes: [{name: a}, {name: b}]\n";
const BAD: &str = "_format_version: '3.0'\nrutes: []\n";

/// A policy file with an engine that has loaded it and watches it.
struct Worker {
    path: PathBuf,
    engine: Engine,
    token: u32,
}

impl Worker {
    fn new(name: &str, text: &str) -> Worker {
        let file = format!("resty-mtls-reload-{}-{name}.yaml", process::id());
        let path = std::env::temp_dir().join(file);
        fs::write(&path, text).unwrap();
        let engine = Engine::default();
        engine.load(PolicySource::File(path.clone())).unwrap();
        engine.set_watch(Duration::from_millis(1));
        let token = engine.start_watch().unwrap();
        Worker {
            path,
            engine,
            token,
        }
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
        let since = Instant::now();
        while self.look() != FileChange::Settled {
            assert!(since.elapsed() < LONG);
            std::thread::yield_now();
        }
    }

    fn look(&self) -> FileChange {
        self.engine.check_watch(self.token).unwrap()
    }

    fn routes(&self) -> usize {
        self.engine.policy().unwrap().routes.len()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn text(text: &str) -> PolicySource {
    PolicySource::Text {
        text: text.as_bytes().into(),
        label: "text".to_owned(),
    }
}

fn in_force(progress: Result<ReloadProgress, Error>) -> String {
    match progress {
        Ok(ReloadProgress::InForce(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn reload_puts_the_new_policy_in_force() {
    let worker = Worker::new("force", GOOD);
    let before = worker.engine.epoch();
    fs::write(&worker.path, BETTER).unwrap();
    let reload = worker
        .engine
        .reload(PolicySource::File(worker.path.clone()))
        .unwrap();
    assert_eq!((worker.routes(), worker.engine.epoch()), (1, before));
    let digest = |engine: &Engine| hex(&engine.policy().unwrap().digest);
    let old = digest(&worker.engine);
    let what = in_force(worker.engine.poll(&reload, LONG));
    assert_eq!((worker.routes(), worker.engine.epoch()), (2, before + 1));
    assert_eq!(
        what,
        format!(
            "epoch {before} -> {}, digest {old} -> {}, {}",
            before + 1,
            digest(&worker.engine),
            worker.path.display()
        )
    );
    assert_eq!(
        worker.engine.poll(&reload, Duration::ZERO).unwrap(),
        ReloadProgress::Building
    );
}

#[test]
fn reload_bad_policy_changes_nothing_and_is_tried_once() {
    let worker = Worker::new("bad", GOOD);
    let before = worker.engine.epoch();
    worker.write(BAD);
    let reload = worker.engine.reload_changed().unwrap();
    let error = worker.engine.poll(&reload, LONG).unwrap_err().to_string();
    assert!(error.ends_with(":2:1: unknown field 'rutes', did you mean 'routes'?"));
    assert_eq!(worker.engine.last_error(), Some(error));
    assert_eq!((worker.routes(), worker.engine.epoch()), (1, before));
    assert_eq!(worker.look(), FileChange::None);

    worker.write(GOOD);
    let reload = worker.engine.reload_changed().unwrap();
    assert_eq!(worker.engine.poll(&reload, LONG), Ok(ReloadProgress::Same));
    assert_eq!(worker.engine.last_error(), None);
    assert_eq!(worker.engine.epoch(), before);

    worker.write(BETTER);
    let reload = worker.engine.reload_changed().unwrap();
    in_force(worker.engine.poll(&reload, LONG));
    assert_eq!((worker.routes(), worker.look()), (2, FileChange::None));
}

#[test]
fn reload_started_earlier_never_replaces_a_later_one() {
    let worker = Worker::new("order", GOOD);
    let first = worker.engine.reload(text(GOOD)).unwrap();
    let second = worker.engine.reload(text(BETTER)).unwrap();
    in_force(worker.engine.poll(&second, LONG));
    assert_eq!(
        worker.engine.poll(&first, LONG),
        Ok(ReloadProgress::Superseded)
    );
    assert_eq!(worker.routes(), 2);
    // A policy that is not from a file is not watched.
    assert_eq!(worker.look(), FileChange::None);
    assert_eq!(worker.engine.reload_changed().err(), Some(Error::NotFound));
}

#[test]
fn reload_many_at_once_compile_the_last_good_one() {
    let worker = Worker::new("many", GOOD);
    let (hold, held) = mpsc::channel::<()>();
    struct BlockedUntil(Receiver<()>);
    impl Drop for BlockedUntil {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }
    drop(worker.engine.reload(text(GOOD)).unwrap());
    background::free(BlockedUntil(held));
    let reload = |what| worker.engine.reload(text(what)).unwrap();
    let (first, second, third) = (reload(GOOD), reload(BETTER), reload(BAD));
    drop(reload(GOOD));
    // A reload of another engine.
    let other = Engine::default();
    let theirs = other.reload(text(GOOD)).unwrap();
    hold.send(()).unwrap();
    in_force(other.poll(&theirs, LONG));
    let error = worker.engine.poll(&third, LONG).unwrap_err().to_string();
    assert_eq!(
        worker.engine.poll(&first, LONG),
        Ok(ReloadProgress::Superseded)
    );
    in_force(worker.engine.poll(&second, LONG));
    assert_eq!(worker.routes(), 2);
    assert_eq!(worker.engine.last_error(), Some(error));
}

#[test]
fn reload_same_or_failed_does_not_affect_a_policy_loaded_meanwhile() {
    let worker = Worker::new("another", GOOD);
    fs::write(&worker.path, GOOD).unwrap();
    let same = worker.engine.reload_changed().unwrap();
    fs::write(&worker.path, BAD).unwrap();
    let failed = worker
        .engine
        .reload(PolicySource::File(worker.path.clone()))
        .unwrap();
    worker.engine.load(text(BETTER)).unwrap();
    let progress = worker.engine.poll(&same, LONG);
    assert!(
        !matches!(progress, Ok(ReloadProgress::Same)),
        "{progress:?}"
    );
    assert!(worker.engine.poll(&failed, LONG).is_err());
    assert_eq!(worker.engine.last_error(), None);
    // Text is not watched.
    fs::write(&worker.path, BETTER).unwrap();
    assert_eq!(worker.look(), FileChange::None);
}

#[test]
fn reload_dropped_is_cancelled() {
    let worker = Worker::new("drop", GOOD);
    drop(worker.engine.reload(text(BETTER)).unwrap());
    let after = worker.engine.reload(text(GOOD)).unwrap();
    in_force(worker.engine.poll(&after, LONG));
    assert_eq!(worker.routes(), 1);
}

#[test]
fn check_watch_sees_changes_of_files_that_a_policy_names() {
    let dir = std::env::temp_dir().join(format!("resty-mtls-crl-{}", process::id()));
    fs::create_dir_all(&dir).unwrap();
    let crl = dir.join("no.crl");
    let policy = format!(
        "_format_version: '3.0'\nplugins: [{{name: mtls-auth, config: {{ca_certificates: [], \
         skip_consumer_lookup: true, revocation_check_mode: STRICT, crls: ['{}']}}}}]\n",
        crl.display()
    );
    let worker = Worker::new("crl", GOOD);
    worker.write(&policy);
    let reload = worker.engine.reload_changed().unwrap();
    let error = worker.engine.poll(&reload, LONG).unwrap_err().to_string();
    assert!(error.contains("no.crl': cannot be read"), "{error}");
    // Only the CRL is created.
    assert_eq!(worker.look(), FileChange::None);
    fs::write(&crl, "no CRL").unwrap();
    assert_ne!(worker.look(), FileChange::None);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn start_watch_admits_one_watcher_and_a_newer_one_replaces_a_dead_one() {
    let worker = Worker::new("token", GOOD);
    assert_eq!(worker.engine.start_watch(), None);
    worker.engine.reload_state.borrow_mut().last_check = None;
    let token = worker.engine.start_watch().unwrap();
    assert_eq!(
        worker.engine.check_watch(worker.token),
        Err(Error::NotFound)
    );
    assert_eq!(worker.engine.check_watch(token), Ok(FileChange::None));
    worker.engine.set_watch(Duration::ZERO);
    fs::write(&worker.path, BETTER).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(worker.engine.check_watch(token), Ok(FileChange::None));
}

#[test]
fn thread_takes_no_signals_of_the_process() {
    let threads = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks
            .filter_map(|task| {
                let status = fs::read_to_string(task.path().join("status")).ok()?;
                status.contains(background::THREAD_NAME).then_some(status)
            })
            .collect::<Vec<_>>()
    };
    std::thread::spawn(move || {
        let worker = Worker::new("signals", GOOD);
        let reload = worker.engine.reload(text(BETTER)).unwrap();
        in_force(worker.engine.poll(&reload, LONG));
        let threads = threads();
        assert!(!threads.is_empty());
        for status in threads {
            let line = status
                .lines()
                .find(|line| line.starts_with("SigBlk:"))
                .unwrap();
            let blocked = u64::from_str_radix(line[7..].trim(), 16).unwrap();
            for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGCHLD, libc::SIGALRM] {
                assert_ne!(blocked & 1 << (signal - 1), 0, "{signal}");
            }
        }
    })
    .join()
    .unwrap();
}

fn with_node(engine: &Engine, node: &Arc<Node>) {
    engine.join(node.clone());
}

/// An engine of a worker: it joined the node, inherited a loaded policy, and has started its watch.
fn started(node: &Arc<Node>, text: &str) -> Engine {
    let engine = Engine::default();
    with_node(&engine, node);
    engine.load(self::text(text)).unwrap();
    engine.start_watch().unwrap();
    engine
}

fn text_routes(engine: &Engine) -> usize {
    engine.policy().unwrap().routes.len()
}

#[test]
fn engine_that_is_behind_catches_up_from_the_node() {
    let node = Arc::new(Node::new().unwrap());
    let first = started(&node, GOOD);
    let second = started(&node, GOOD);
    assert_eq!((first.node_epoch(), second.node_epoch()), (1, 1));
    let reload = first.reload(text(BETTER)).unwrap();
    in_force(first.poll(&reload, LONG));
    assert_eq!((first.node_epoch(), first.is_behind()), (2, false));
    assert!(second.is_behind() && !second.must_not_serve());
    let reload = second.reload_from_node().unwrap();
    in_force(second.poll(&reload, LONG));
    assert_eq!((text_routes(&second), second.node_epoch()), (2, 2));
    assert!(!second.is_behind());
    // The same content, put in force again, needs no compilation.
    let reload = first.reload(text(BETTER)).unwrap();
    in_force(first.poll(&reload, LONG));
    assert_eq!(first.node_epoch(), 3);
    assert!(!second.is_behind());
    assert_eq!(second.node_epoch(), 3);
}

#[test]
fn engine_of_a_respawned_worker_is_unavailable_until_it_has_caught_up() {
    let node = Arc::new(Node::new().unwrap());
    let master = Engine::default();
    with_node(&master, &node);
    master.load(text(GOOD)).unwrap();
    let running = started(&node, BETTER);
    assert_eq!(running.node_epoch(), 1);
    // As after a fork.
    master.start_watch().unwrap();
    assert!(master.must_not_serve());
    let decision = master.access(None, 0, b"a.test", 0).unwrap();
    assert_eq!(decision.outcome, crate::decision::Outcome::Unavailable);
    let reload = master.reload_from_node().unwrap();
    in_force(master.poll(&reload, LONG));
    let decision = master.access(None, 0, b"a.test", 0).unwrap();
    assert_eq!(decision.outcome, crate::decision::Outcome::Pass);
    assert_eq!(text_routes(&master), 2);
}

#[test]
fn engine_that_cannot_catch_up_must_not_serve() {
    let node = Arc::new(Node::new().unwrap());
    let worker = started(&node, GOOD);
    let order = node.next_order();
    node.publish(order, &[1; 32], false, 1);
    assert!(worker.is_behind() && !worker.must_not_serve());
    let reload = worker.reload_from_node().unwrap();
    let error = worker.poll(&reload, LONG).unwrap_err().to_string();
    assert_eq!(
        error,
        "the documents of the policy in force on this node are not kept"
    );
    worker.set_unavailable();
    assert!(worker.must_not_serve());
    let reload = worker.reload(text(BETTER)).unwrap();
    in_force(worker.poll(&reload, LONG));
    assert!(!worker.is_behind() && !worker.must_not_serve());
}

/// Policies in various layouts: routes before plugins, nested, JSON, consumers and lists last.
fn real_policies() -> Vec<(&'static str, String)> {
    let pem = |indent: &str| {
        let ca = crate::testing::issue("CA", None, true, 60, &[]);
        let pem = String::from_utf8(ca.x509.to_pem().unwrap()).unwrap();
        pem.lines()
            .map(|line| format!("{indent}{line}\n"))
            .collect::<String>()
    };
    const ID: &str = "6a1f0c5e-3f0b-4c0a-9a58-0d4a1e2b7c11";
    let ca = |cert: &str| format!("ca_certificates:\n- id: {ID}\n  cert: |\n{cert}");
    let flat = format!(
        "_format_version: '3.0'\n{}routes:\n- name: a\n  snis: [a.test]\n- name: b\n  snis:\n  - b.test\n  \
         - c.test\nplugins:\n- name: mtls-auth\n  route: a\n  config:\n    ca_certificates: [{ID}]\n    \
         skip_consumer_lookup: true\n    revocation_check_mode: SKIP\n- name: mtls-auth\n  route: b\n  config:\n    \
         ca_certificates:\n    - {ID}\n    skip_consumer_lookup: true\n- name: client-cert-acl\n  route: b\n  config:\n    \
         deny:\n    - san.dns: x.test\n    - san.dns: y.test\n",
        ca(&pem("    "))
    );
    let nested = format!(
        "_format_version: '3.0'\n{}services:\n- name: s\n  plugins:\n  - name: mtls-auth\n    config:\n      \
         ca_certificates: [{ID}]\n      skip_consumer_lookup: true\n  routes:\n  - name: a\n    plugins:\n    - name: \
         client-cert-acl\n      config:\n        allow:\n        - san.dns: good.test\n  - name: b\n    plugins:\n    - name: \
         tls-handshake-modifier\n  - name: c\n",
        ca(&pem("    "))
    );
    let groups = format!(
        "_format_version: '3.0'\n{}routes:\n- name: a\nplugins:\n- name: mtls-auth\n  config:\n    \
         ca_certificates: [{ID}]\n- name: acl\n  config:\n    deny: [banned]\nconsumers:\n- username: x\n  \
         mtls_auth_credentials:\n  - subject_name: x.test\n  acls:\n  - group: banned\n- username: y\n  acls:\n  - group: banned\n",
        ca(&pem("    "))
    );
    let global = format!(
        "_format_version: '3.0'\nroutes:\n- name: a\n- name: b\n{}plugins:\n- name: mtls-auth\n  config:\n    \
         ca_certificates: [{ID}]\n    skip_consumer_lookup: true\n- name: openid-connect\n  route: b\n  config:\n    issuer: \
         https://issuer.test\n    auth_methods: [bearer]\n    audience_required: [me]\n    proof_of_possession_mtls: strict\n...\n",
        ca(&pem("    "))
    );
    let cert = pem("").replace('\n', "\\n");
    let json = format!(
        "{{\"_format_version\": \"3.0\",\n\"routes\": [{{\"name\": \"a\"}},\n{{\"name\": \"b\"}}],\n\"ca_certificates\": \
         [{{\"id\": \"{ID}\", \"cert\": \"{cert}\"}}],\n\"plugins\": [\n{{\"name\": \"mtls-auth\", \"config\": \
         {{\"ca_certificates\": [\"{ID}\"],\n\"skip_consumer_lookup\": true}}}}\n]}}\n"
    );
    vec![
        ("flat", flat),
        ("nested", nested),
        ("groups", groups),
        ("global", global),
        ("json", json),
    ]
}

/// Lengths to which a document is cut: each line end, and many bytes between.
fn cuts(document: &str) -> Vec<usize> {
    let lines = document.match_indices('\n').map(|(at, _)| at + 1);
    let step = (document.len() / 1000).max(1);
    let mut cuts: Vec<usize> = lines.chain((0..document.len()).step_by(step)).collect();
    cuts.retain(|cut| *cut < document.len());
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

#[test]
fn reload_of_a_truncated_document_never_removes_protection() {
    let mut accepted = 0;
    for (name, document) in real_policies() {
        let node = Arc::new(Node::new().unwrap());
        let path =
            std::env::temp_dir().join(format!("resty-mtls-cut-{}-{name}.yaml", process::id()));
        fs::write(&path, &document).unwrap();
        let engine = Engine::default();
        with_node(&engine, &node);
        engine.load(PolicySource::File(path.clone())).unwrap();
        engine.start_watch().unwrap();
        let whole = engine.policy().unwrap();
        let demanded: Vec<(&str, Option<u64>)> = whole
            .routes
            .routes()
            .map(|route| (route, whole.protection.digest(route)))
            .collect();
        for cut in cuts(&document) {
            fs::write(&path, &document[..cut]).unwrap();
            let reload = engine.reload(PolicySource::File(path.clone())).unwrap();
            if engine.poll(&reload, LONG).is_err() {
                continue;
            }
            accepted += 1;
            let policy = engine.policy().unwrap();
            for (route, digest) in &demanded {
                if policy.plan(Some(route)).is_some() {
                    let what = format!("{name} at {cut}, route {route}");
                    assert_eq!(policy.protection.digest(route), *digest, "{what}");
                    let plan = policy.plan(Some(route)).unwrap();
                    let decided = |engine: &Engine, plan| {
                        engine.access(None, plan, b"a.test", 0).unwrap().outcome
                    };
                    assert_ne!(
                        decided(&engine, plan),
                        crate::decision::Outcome::Pass,
                        "{what}"
                    );
                }
            }
            // A reload by HUP puts the whole document in force again.
            fs::write(&path, &document).unwrap();
            engine.load(PolicySource::File(path.clone())).unwrap();
            engine.publish_inherited_policy();
        }
        fs::remove_file(&path).unwrap();
    }
    // A document without the routes at its end is accepted.
    assert!(accepted > 0);
}

#[test]
fn reload_without_the_end_marker_is_refused() {
    let node = Arc::new(Node::new().unwrap());
    let engine = started(&node, &format!("{BETTER}...\n"));
    let reload = engine.reload(text(BETTER)).unwrap();
    let error = engine.poll(&reload, LONG).unwrap_err().to_string();
    assert_eq!(
        error,
        "text: refused, since the document in force ends with a line '...' and this one does not, \
         as if it were cut; where that is meant, reload by HUP"
    );
    let reload = engine.reload(text(&format!("{GOOD}...\n"))).unwrap();
    in_force(engine.poll(&reload, LONG));
    assert_eq!(text_routes(&engine), 1);
}
