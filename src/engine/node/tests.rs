use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::lock::LOCK_WAIT;
use super::*;

fn documents(content: &str) -> Documents {
    Documents {
        label: None,
        files: vec![(PathBuf::from("/p"), content.as_bytes().to_vec())],
    }
}

fn put(node: &Node, order: u64, content: &str) -> Published {
    let documents = documents(content);
    assert!(node.keep(order, &documents));
    node.publish(order, &documents_digest(&documents), false, 1)
}

#[test]
fn put_in_force_by_many_workers_at_once_keeps_the_documents() {
    let node = Node::new().unwrap();
    for round in 0..20 {
        let documents = documents(&format!("policy {round}"));
        let start = std::sync::Barrier::new(16);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    let order = node.next_order();
                    let (published, kept) = node.put_in_force(order, &documents, false, 1);
                    assert_eq!(published, Published::InForce(round + 1));
                    assert!(kept);
                });
            }
        });
        assert_eq!(
            node.documents().map(|(found, ..)| found),
            Some(documents.clone())
        );
    }
}

#[test]
fn decode_reads_what_encode_wrote_and_refuses_truncated_bytes() {
    let documents = Documents {
        label: Some("policy table".to_owned()),
        files: vec![("/a".into(), b"one".to_vec()), ("/b".into(), Vec::new())],
    };
    let bytes = documents.encode();
    assert_eq!(Documents::decode(&bytes), Some(documents));
    // A cut between two files decodes as fewer files; readers compare the digest as well.
    let whole = [bytes.len(), 8 + 12 + 8 + 2 + 8 + 3, 8 + 12];
    for len in 0..bytes.len() {
        assert_eq!(
            Documents::decode(&bytes[..len]).is_some(),
            whole.contains(&len),
            "{len}"
        );
    }
    let mut huge = bytes.clone();
    huge[..8].fill(0xff);
    assert_eq!(Documents::decode(&huge), None);
}

#[test]
fn publish_keeps_the_newest_and_its_documents() {
    let node = Node::new().unwrap();
    assert_eq!((node.epoch(), node.documents()), (0, None));
    let [one, two, three] = [(); 3].map(|()| node.next_order());
    assert_eq!(put(&node, two, "two"), Published::InForce(1));
    assert_eq!(put(&node, one, "one"), Published::Superseded);
    assert_eq!(node.documents(), Some((documents("two"), 1, two)));
    // The same content, read later, is the same policy.
    assert_eq!(put(&node, three, "two"), Published::InForce(1));
    let digest = documents_digest(&documents("two"));
    assert_eq!(node.in_force(), Some((1, three, digest)));
    assert_eq!(put(&node, two, "two"), Published::InForce(1));
    assert_eq!(node.in_force(), Some((1, three, digest)));
    // With `renew`, it is put in force again.
    let four = node.next_order();
    assert_eq!(node.publish(four, &digest, true, 9), Published::InForce(2));
    assert_eq!(node.since(), 9);
    assert_eq!(node.documents(), Some((documents("two"), 2, four)));
}

#[test]
fn publish_without_kept_documents_leaves_none_rather_than_older_ones() {
    let node = Node::new().unwrap();
    let order = node.next_order();
    put(&node, order, "one");
    let next = node.next_order();
    assert_eq!(
        node.publish(next, &documents_digest(&documents("two")), false, 1),
        Published::InForce(2)
    );
    assert_eq!(node.documents(), None);
    let huge = vec![0; MAX_KEPT + 1];
    assert!(!node.keep_encoded(node.next_order(), &huge));
}

#[test]
fn keep_overwrites_neither_the_version_in_force_nor_the_last_ones() {
    let node = Node::new().unwrap();
    let order = node.next_order();
    put(&node, order, "in force");
    let staged: Vec<_> = (0..VERSIONS + 3)
        .map(|i| {
            let order = node.next_order();
            assert!(node.keep(order, &documents(&format!("staged {i}"))));
            order
        })
        .collect();
    assert_eq!(node.documents().unwrap().0, documents("in force"));
    let (last, content) = (staged.len() - 2, format!("staged {}", staged.len() - 2));
    node.publish(
        staged[last],
        &documents_digest(&documents(&content)),
        false,
        1,
    );
    assert_eq!(node.documents().unwrap().0, documents(&content));
}

#[test]
fn publish_after_a_writer_died_writes_everything_again() {
    let node = Node::new().unwrap();
    let order = node.next_order();
    put(&node, order, "one");
    node.set(CHANGING, 1);
    node.set_digest(DIGEST, &documents_digest(&documents("two")));
    assert_eq!(node.in_force(), None);
    let next = node.next_order();
    assert_eq!(put(&node, next, "two"), Published::InForce(2));
    assert_eq!(node.in_force().map(|(epoch, ..)| epoch), Some(2));
    assert_eq!(node.documents().unwrap().0, documents("two"));
}

#[test]
fn lock_of_a_process_that_died_is_taken() {
    let node = Node::new().unwrap();
    node.set(LOCK, u64::from(u32::MAX));
    let since = Instant::now();
    let order = node.next_order();
    put(&node, order, "one");
    assert!(since.elapsed() < LOCK_WAIT);
    assert_eq!(node.get(LOCK), 0);
}

#[test]
fn attempt_is_refused_after_two_workers_died_compiling_the_same_document() {
    let node = Node::new().unwrap();
    let dies = |key: u64| {
        std::mem::forget(node.attempt(key).unwrap());
        // As if this process had ended.
        let index = (0..MAX_ATTEMPTS)
            .map(|index| ATTEMPT + index * ATTEMPT_WORDS)
            .find(|index| node.get(*index) == u64::from(process::id()))
            .unwrap();
        node.set(index, u64::from(u32::MAX));
    };
    drop(node.attempt(7).unwrap());
    dies(7);
    dies(7);
    assert_eq!(node.attempt(7).err(), Some(2));
    assert!(node.attempt(8).is_ok());
    assert_eq!(node.attempt(7).err(), Some(2));
    // Only the last document that killed a worker is counted.
    dies(8);
    assert!(node.attempt(7).is_ok());
}

#[test]
fn worker_that_ended_is_not_shown() {
    let node = Node::new().unwrap();
    let state = WorkerState {
        process: process::id(),
        epoch: 3,
        since: 4,
        failed: true,
    };
    node.report(1, state);
    node.report(MAX_WORKERS, state);
    assert_eq!(node.worker(1), Some(state));
    assert_eq!((node.worker(0), node.worker(MAX_WORKERS)), (None, None));
    let gone = WorkerState {
        process: u32::MAX,
        ..state
    };
    node.report(1, gone);
    assert_eq!(node.worker(1), None);
}

#[test]
fn state_file_does_not_keep_an_older_policy_when_a_write_fails() {
    let directory = std::env::temp_dir().join(format!("resty-mtls-state-full-{}", process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    let file = StateFile::new(&directory, b"p").unwrap();
    let node = Node::new().unwrap();
    let put = |content| {
        node.put_in_force(node.next_order(), &documents(content), false, 1);
        file.write_in_force(&node)
    };
    put("one").unwrap();
    assert_eq!(file.read().unwrap(), documents("one"));
    // Where the new file would be written: the number counts all writes of the process.
    let obstacles = (0..2000).map(|number| {
        let name = format!(".policy-{}-{number}.new", process::id());
        directory.join(name)
    });
    for obstacle in obstacles.clone() {
        fs::create_dir(obstacle).unwrap();
    }
    assert_eq!(put("two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(file.read().unwrap_err().kind(), io::ErrorKind::NotFound);
    for obstacle in obstacles {
        fs::remove_dir(obstacle).unwrap();
    }
    put("three").unwrap();
    assert_eq!(file.read().unwrap(), documents("three"));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn state_file_reads_what_was_written_and_refuses_damaged_files() {
    let directory = std::env::temp_dir().join(format!("resty-mtls-state-{}", process::id()));
    let _ = fs::remove_dir_all(&directory);
    assert!(StateFile::new(&directory, b"p").is_err());
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let why = StateFile::new(&directory, b"p").unwrap_err();
    assert!(why.ends_with(
        "has mode 0755, expected 0700: a user who can write there can replace the policy"
    ));
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    let file = StateFile::new(&directory, b"p").unwrap();
    assert_ne!(file, StateFile::new(&directory, b"q").unwrap());
    assert_eq!(file.read().unwrap_err().kind(), io::ErrorKind::NotFound);
    file.write(&documents("one")).unwrap();
    file.write(&documents("two")).unwrap();
    assert_eq!(file.read().unwrap(), documents("two"));
    let mode = fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    let bytes = fs::read(file.path()).unwrap();
    for len in 0..bytes.len() {
        fs::write(file.path(), &bytes[..len]).unwrap();
        assert!(file.read().is_err(), "{len}");
    }
    fs::remove_dir_all(&directory).unwrap();
}
