//! CA certificates in files and directories.

use std::fs;
use std::path::{Path as FilePath, PathBuf};

use super::*;

/// A directory that is removed at the end of the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let name = format!("resty-mtls-ca-files-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Compiles a policy file with these entries of `ca_certificates` and an `mtls-auth` that
    /// trusts the first one and sends its CA names under a.test.
    fn compile(&self, entries: &[String], files: &mut Files) -> Result<Policy, Vec<String>> {
        self.write("policy.yaml", &document(entries));
        let policy = Policy::from_file_with(&self.0.join("policy.yaml"), files);
        policy.map_err(|errors| self.shown(&errors))
    }

    fn shown(&self, found: &[Diagnostic]) -> Vec<String> {
        let file = format!("{}/policy.yaml:", self.0.display());
        let lines = found.iter().map(ToString::to_string);
        lines.map(|line| line.replace(&file, "")).collect()
    }

    fn errors(&self, entries: &[String]) -> Vec<String> {
        match self.compile(entries, &mut Files::default()) {
            Ok(_) => panic!("no error: {entries:?}"),
            Err(errors) => errors,
        }
    }

    fn policy(&self, entries: &[String]) -> Policy {
        let policy = self.compile(entries, &mut Files::default());
        policy.unwrap_or_else(|errors| panic!("{errors:#?}"))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn document(entries: &[String]) -> String {
    format!(
        "_format_version: '3.0'\nca_certificates:\n{}routes:\n- name: a\n  snis: [a.test]\n  \
         plugins:\n  - name: mtls-auth\n    config: {{ca_certificates: [{ID_A}], send_ca_dn: true, \
         skip_consumer_lookup: true}}\n",
        entries.concat()
    )
}

fn file(path: &str) -> String {
    format!("- {{id: {ID_A}, file: '{path}'}}\n")
}

fn directory(path: &str) -> String {
    format!("- {{id: {ID_A}, directory: '{path}'}}\n")
}

fn store(policy: &Policy) -> Vec<String> {
    let store = &plan(policy, "a").auth.as_ref().unwrap().store;
    store.cas().iter().map(|ca| ca.subject()).collect()
}

#[test]
fn ca_file_has_every_certificate_of_a_bundle() {
    let dir = Dir::new("bundle");
    let bundle = format!(
        "# Clients\n{}\nsecond\n{}",
        ca_pem("CA A"),
        ca_pem("CA B").replace('\n', "\r\n")
    );
    dir.write("cas/clients.pem", &bundle);
    let policy = dir.policy(&[file("cas/clients.pem")]);
    assert_eq!(store(&policy), ["CN=CA A", "CN=CA B"]);
    assert_eq!(ca_names_len(&policy, "a.test"), Some(2));
    assert_eq!(warnings(&policy), [""; 0]);
    // The same certificates in the document are the same policy, and may be in both.
    let inline = |id: &str, pem: &str| format!("- {{id: {id}, cert: {pem:?}}}\n");
    let (a, b) = bundle.split_once("second\n").unwrap();
    let b = b.replace('\r', "");
    dir.write("one.pem", a);
    let one = dir.policy(&[file("one.pem")]);
    assert_eq!(dir.policy(&[inline(ID_A, a)]).digest, one.digest);
    let both = dir.policy(&[file("cas/clients.pem"), inline(ID_B, &b)]);
    assert_eq!(store(&both).len(), 2);
    assert_eq!(both.digest, policy.digest);
    let both = dir.policy(&[
        file("cas/clients.pem"),
        inline(ID_B, &b),
        format!("- {{id: {ID_C}, file: one.pem}}\n"),
    ]);
    assert_eq!(store(&both).len(), 2);
}

#[test]
fn ca_directory_has_the_certificates_of_its_files() {
    let dir = Dir::new("directory");
    dir.write("cas/b.crt", &ca_pem("CA B"));
    dir.write(
        "cas/a.PEM",
        &format!("{}{}", ca_pem("CA A"), ca_pem("CA C")),
    );
    let again = fs::read_to_string(dir.0.join("cas/b.crt")).unwrap();
    dir.write("cas/c.pem", &again);
    dir.write("cas/README", "x");
    dir.write("cas/.hidden.pem", "x");
    dir.write("cas/..data/x.pem", "x");
    dir.write("cas/0a1b2c3d.0", &again);
    let policy = dir.policy(&[directory("cas")]);
    assert_eq!(store(&policy), ["CN=CA A", "CN=CA C", "CN=CA B"]);
    assert_eq!(
        dir.shown(&policy.warnings),
        [
            "3:57: warning: ca_certificates[0].directory: 'cas/README' is not read, expected a \
             name that ends with one of .pem, .crt, .cer, .cert, .der, .p7b, .p7c"
        ]
    );
}

#[test]
fn ca_file_errors_name_file_and_line() {
    let dir = Dir::new("errors");
    let leaf = pem("leaf", false, -1, 30);
    let a = ca_pem("CA A");
    let lines = a.lines().count();
    dir.write("leaf.pem", &format!("{a}{leaf}"));
    dir.write("bad.pem", &format!("{a}-----BEGIN CERTIFICATE-----\n?\n"));
    dir.write("text.pem", "hello\n");
    dir.write("cas/leaf.pem", &leaf);
    fs::create_dir(dir.0.join("empty")).unwrap();
    for (entry, expected) in [
        (
            file("leaf.pem"),
            format!(
                "3:52: ca_certificates[0].file: 'leaf.pem', line {}: {}",
                lines + 1,
                Error::NotCa("CN=leaf".to_owned())
            ),
        ),
        (
            file("bad.pem"),
            format!(
                "3:52: ca_certificates[0].file: 'bad.pem', line {}: '?' is not base64",
                lines + 2
            ),
        ),
        (
            file("text.pem"),
            "3:52: ca_certificates[0].file: 'text.pem': 'hello' is neither PEM nor DER, expected \
             '-----BEGIN CERTIFICATE-----'"
                .to_owned(),
        ),
        (
            file("no.pem"),
            "3:52: ca_certificates[0].file: 'no.pem': cannot be read: No such file or directory \
             (os error 2)"
                .to_owned(),
        ),
        (
            file("cas"),
            "3:52: ca_certificates[0].file: 'cas': cannot be read: Is a directory (os error 21)"
                .to_owned(),
        ),
        (
            directory("cas"),
            format!(
                "3:57: ca_certificates[0].directory: 'cas/leaf.pem', line 1: {}",
                Error::NotCa("CN=leaf".to_owned())
            ),
        ),
        (
            directory("empty"),
            "3:57: ca_certificates[0].directory: 'empty': has no file of certificates, expected \
             one whose name ends with one of .pem, .crt, .cer, .cert, .der, .p7b, .p7c"
                .to_owned(),
        ),
        (
            directory("leaf.pem"),
            "3:57: ca_certificates[0].directory: 'leaf.pem': cannot be read: Not a directory (os \
             error 20)"
                .to_owned(),
        ),
        (
            file(""),
            "3:52: ca_certificates[0].file: '', expected a path".to_owned(),
        ),
        (
            format!("- {{id: {ID_A}, file: a.pem, cert: x}}\n"),
            "3:3: ca_certificates[0]: has several of 'cert', 'file' and 'directory', expected one"
                .to_owned(),
        ),
        (
            format!("- {{id: {ID_A}, file: leaf.pem, cert_digest: aa}}\n"),
            "3:75: ca_certificates[0].cert_digest: without 'cert', expected none: the files may \
             change"
                .to_owned(),
        ),
    ] {
        let found = dir.errors(std::slice::from_ref(&entry));
        assert!(found.contains(&expected), "{entry}: {found:#?}");
    }
    // A policy that is not a file has no directory.
    assert_eq!(
        errors(&document(&[file("leaf.pem")])),
        ["p:3:52: ca_certificates[0].file: 'leaf.pem': a relative path in a policy that is not a \
          file, expected an absolute path"]
    );
    dir.write("a.pem", &a);
    let absolute = document(&[file(&dir.0.join("a.pem").to_string_lossy())]);
    assert_eq!(store(&policy(&absolute)), ["CN=CA A"]);
}

#[test]
fn ca_file_certificates_that_expired_or_end_soon_are_warned_about() {
    let dir = Dir::new("ends");
    let old = pem("old", true, -3, -2);
    let lines = old.lines().count();
    dir.write(
        "a.pem",
        &format!("{old}{}{}", pem("soon", true, -1, 12), ca_pem("good")),
    );
    let policy = dir.policy(&[file("a.pem")]);
    let found = dir.shown(&policy.warnings);
    assert_eq!(found.len(), 2, "{found:?}");
    let start =
        "3:52: warning: ca_certificates[0].file: 'a.pem', line 1: the CA 'CN=old' expired on ";
    assert!(found[0].starts_with(start), "{found:?}");
    let start = format!(
        "3:52: warning: ca_certificates[0].file: 'a.pem', line {}: the CA 'CN=soon' ends on ",
        lines + 1
    );
    assert!(found[1].starts_with(&start) && found[1].contains(" GMT, in 1"));
    // The name of an expired CA is not sent.
    assert_eq!(ca_names_len(&policy, "a.test"), Some(2));
    let ends: Vec<_> = policy.cas.iter().map(|ca| ca.id.as_deref()).collect();
    assert_eq!(ends, [Some(ID_A); 3]);
}

#[test]
fn ca_files_are_watched_and_kept_with_the_documents() {
    let dir = Dir::new("watched");
    dir.write("cas/a.pem", &ca_pem("CA A"));
    let mut files = Files::keeping_contents();
    let before = dir.compile(&[directory("cas")], &mut files).unwrap();
    assert!(files.stamps_unchanged());
    assert!(files.reread_if_unchanged(1 << 20).is_some());
    let contents = files.take_contents();
    let names: Vec<_> = contents
        .iter()
        .map(|(path, _)| path.strip_prefix(&dir.0).unwrap())
        .collect();
    assert_eq!(
        names,
        ["policy.yaml", "cas", "cas/a.pem"].map(FilePath::new)
    );

    // From the kept contents the same policy is compiled, whatever the directory has by now.
    dir.write("cas/b.pem", &ca_pem("CA B"));
    assert!(!files.stamps_unchanged());
    assert!(files.reread_if_unchanged(1 << 20).is_none());
    let kept = Policy::from_file_with(
        &dir.0.join("policy.yaml"),
        &mut Files::from_contents(contents),
    );
    assert_eq!(kept.map_err(|_| ()).unwrap().digest, before.digest);
    assert_ne!(dir.policy(&[directory("cas")]).digest, before.digest);
}

#[test]
fn ca_file_of_a_credential_must_have_one_ca() {
    let dir = Dir::new("credential");
    dir.write("two.pem", &format!("{}{}", ca_pem("CA A"), ca_pem("CA B")));
    dir.write("one.pem", &ca_pem("CA A"));
    let with = |name: &str| {
        let consumers = format!(
            "consumers: [{{username: ann, mtls_auth_credentials: [{{subject_name: a.test, \
             ca_certificate: {ID_A}}}]}}]\n"
        );
        dir.write("policy.yaml", &(document(&[file(name)]) + &consumers));
        Policy::from_file(&dir.0.join("policy.yaml")).map_err(|errors| dir.shown(&errors))
    };
    assert!(with("one.pem").is_ok());
    let errors = with("two.pem").err().unwrap();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].ends_with(&format!(
            ".ca_certificate: the entry '{ID_A}' of 'ca_certificates' has several CAs, expected \
             one, of which it may have several certificates"
        )),
        "{errors:?}"
    );
}

#[test]
fn pinned_certificates_are_read_from_files_and_need_no_ca() {
    let dir = Dir::new("pinned");
    let partner = pem("partner", false, -1, 30);
    dir.write("partners.pem", &format!("# Partners\n{partner}"));
    dir.write("old.pem", &pem("old", false, -3, -2));
    dir.write("bad.pem", "x");
    let compile = |fields: &str| {
        let text = format!(
            "_format_version: '3.0'\nroutes:\n- name: a\n  snis: [a.test]\n  plugins:\n  - name: \
             mtls-auth\n    config: {{skip_consumer_lookup: true, {fields}}}\n"
        );
        dir.write("policy.yaml", &text);
        Policy::from_file(&dir.0.join("policy.yaml")).map_err(|errors| dir.shown(&errors))
    };
    let of = |fields: &str| compile(fields).unwrap_or_else(|errors| panic!("{errors:?}"));
    let policy = of("pinned_certificates: [partners.pem], send_ca_dn: true");
    let auth = plan(&policy, "a").auth.as_ref().unwrap();
    assert_eq!((auth.store.pinned().len(), auth.store.cas().len()), (1, 0));
    // The name of its issuer is sent.
    assert_eq!(ca_names_len(&policy, "a.test"), Some(1));
    assert_eq!(warnings(&policy), [""; 0]);
    let empty = of("ca_certificates: [], pinned_certificates: [partners.pem], send_ca_dn: true");
    assert_eq!(empty.digest, policy.digest);
    let two = of("pinned_certificates: [partners.pem, old.pem], send_ca_dn: true");
    assert_ne!(two.digest, policy.digest);
    let context = |policy: &Policy| {
        *policy
            .certificate_request(Some(b"a.test"))
            .unwrap()
            .session_id_context()
    };
    assert_ne!(context(&two), context(&policy));
    let found = dir.shown(&two.warnings);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains(".pinned_certificates[1]: 'old.pem', line 1: 'CN=old' expired on "),
        "{found:?}"
    );
    for (fields, expected) in [
        (
            "pinned_certificates: []",
            "config: the required field 'ca_certificates' is missing",
        ),
        (
            "pinned_certificates: [bad.pem]",
            "config.pinned_certificates[0]: 'bad.pem': 'x' is neither PEM nor DER, expected \
             '-----BEGIN CERTIFICATE-----'",
        ),
        (
            "pinned_certificates: ['']",
            "config.pinned_certificates[0]: '', expected the path of a file of certificates",
        ),
    ] {
        let errors = compile(fields).err().unwrap();
        assert!(
            errors.len() == 1 && errors[0].ends_with(expected),
            "{errors:?}"
        );
    }
    // No CA, so no holder of a DNS name is let in.
    of("pinned_certificates: [partners.pem], client_auth_eku: any");
}
