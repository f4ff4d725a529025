//! A policy in several files of one directory.

use super::*;

struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str, files: &[(&str, &str)]) -> Directory {
        let path = std::env::temp_dir().join(format!("rmtls-dir-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            std::fs::write(path.join(name), text).unwrap();
        }
        Directory(path)
    }

    /// The errors, without the name of the directory.
    fn errors(&self) -> Vec<String> {
        let errors = Policy::from_file(&self.0).err().unwrap();
        let prefix = format!("{}/", self.0.display());
        errors
            .iter()
            .map(|error| error.to_string().replace(&prefix, ""))
            .collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn from_file_directory_is_one_policy_of_all_its_files() {
    let cas = format!(
        "_format_version: '3.0'\nca_certificates:\n{}",
        ca_entry(ID_A, &ca_pem("CA A"))
    );
    let routes = format!(
        "{{\"_format_version\": \"3.0\", \"routes\": [{{\"name\": \"r\", \"service\": \"s\", \
         \"plugins\": [{{\"name\": \"mtls-auth\", \"config\": {{\"skip_consumer_lookup\": true, \
         \"ca_certificates\": [\"{ID_A}\"]}}}}]}}]}}"
    );
    let services = "_format_version: '3.0'\nservices:\n- name: s\n";
    let directory = Directory::new(
        "merge",
        &[
            ("b-routes.json", &routes),
            ("c-services.yml", services),
            ("d-cas.yaml", &cas),
            ("notes.txt", "not a policy"),
        ],
    );
    let mut files = Files::keeping_contents();
    let policy = Policy::from_file_with(&directory.0, &mut files).unwrap();
    let plan = policy.plan(Some("r")).unwrap();
    assert!(policy.plans[plan].auth.is_some());
    let name = directory.0.join("b-routes.json");
    assert_eq!(
        warnings(&policy),
        [format!(
            "{}:1:39: warning: routes[0]: has no snis, so every TLS handshake requests a client \
             certificate",
            name.display()
        )]
    );
    // The listing and the three files are kept, and are enough to compile the policy again.
    let contents = files.take_contents();
    assert_eq!(contents.len(), 4);
    let kept = Policy::from_file_with(&directory.0, &mut Files::from_contents(contents));
    assert_eq!(kept.unwrap().digest, policy.digest);
}

#[test]
fn from_file_directory_names_the_file_in_which_something_was_given_first() {
    let text = format!(
        "_format_version: '3.0'\nca_certificates:\n{}trust_domains:\n- {{name: a, \
         ca_certificates: [{ID_A}]}}\n",
        ca_entry(ID_A, &ca_pem("CA A"))
    );
    let with_credential = |consumer| {
        format!(
            "{text}consumers:\n- username: {consumer}\n  mtls_auth_credentials: \
             [{{subject_name: x}}]\n"
        )
    };
    let files = [with_credential("c"), with_credential("d")];
    let directory = Directory::new("twice", &[("a.yaml", &files[0]), ("b.yaml", &files[1])]);
    let line = |key: &str| 1 + text.lines().position(|line| line.starts_with(key)).unwrap();
    let (cas, domains) = (line("ca_certificates"), line("trust_domains"));
    let first = directory.errors().into_iter().map(|error| {
        let (_, first) = error.split_once("a.yaml:").expect(&error);
        first.replace(", expected it once", "")
    });
    assert_eq!(
        first.collect::<Vec<_>>(),
        [
            format!("{}: ca_certificates[0]", cas + 1),
            format!("{}: ca_certificates[0]", cas + 1),
            format!("{}: trust_domains[0]", domains + 1),
            format!("{}: consumers[0].mtls_auth_credentials[0]", domains + 4),
        ]
    );
}

#[test]
fn from_file_directory_errors_name_file_and_line() {
    std::env::set_var("DECK_TWO_LINES", "a:\n  b");
    let route = "_format_version: '3.0'\nroutes:\n- name: r\n";
    let directory = Directory::new(
        "errors",
        &[
            ("a.yaml", "_format_version: '3.0'\n# ${{ env \"X\" }}\n_comment: \"x ${{ env \"DECK_TWO_LINES\" | indent 2 }}\"\nroutes:\n- name: q\n"),
            ("b.yaml", route),
            ("c.yaml", "\n_format_version: '2.1'\nroutes:\n- name: r\n- nam: s\n"),
        ],
    );
    assert_eq!(
        directory.errors(),
        [
            "c.yaml:2:18: _format_version: '2.1' in one file and '3.0' in another, expected one \
             version",
            "c.yaml:4:3: routes[0].name: the name 'r' of a route is given twice, first at \
             b.yaml:3: routes[0]",
            "c.yaml:5:3: routes[1]: unknown field 'nam', did you mean 'name'?",
        ]
    );
    let directory = Directory::new("empty", &[("a.txt", "")]);
    assert_eq!(
        Policy::from_file(&directory.0).err().unwrap()[0].message,
        "has no file of a policy, expected .yaml, .yml or .json"
    );
    let broken = Directory::new("broken", &[("a.yaml", route), ("b.yaml", "a: [\n")]);
    assert_eq!(
        broken.errors(),
        ["b.yaml:1:4: not valid YAML: unclosed bracket '['"]
    );
}

#[test]
fn from_file_list_is_one_policy_of_files_and_directories() {
    let cas = format!(
        "_format_version: '3.0'\nca_certificates:\n{}",
        ca_entry(ID_A, &ca_pem("CA A"))
    );
    let one = Directory::new("list-one", &[("cas.yaml", &cas)]);
    let routes = format!(
        "_format_version: '3.0'\nroutes:\n- name: r\n  plugins:\n  - name: mtls-auth\n    config: \
         {{ca_certificates: [{ID_A}], skip_consumer_lookup: true{{}}}}\n"
    );
    let two = Directory::new("list-two", &[("routes.yaml", &routes.replace("{}", ""))]);
    let list = join_list([&*one.0, &*two.0.join("routes.yaml")]);
    let mut files = Files::keeping_contents();
    let policy = Policy::from_file_with(&list, &mut files).unwrap();
    assert!(policy.plans[policy.plan(Some("r")).unwrap()].auth.is_some());
    let contents = files.take_contents();
    assert_eq!(contents[0].0, list);
    let kept = Policy::from_file_with(&list, &mut Files::from_contents(contents));
    assert_eq!(kept.unwrap().digest, policy.digest);
    let missing = join_list([&*one.0, &*two.0.join("missing.yaml")]);
    let errors = Policy::from_file(&missing).err().unwrap();
    assert_eq!(
        errors[0].message,
        "cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn from_file_list_takes_paths_relative_to_the_file_in_which_they_are() {
    let cas = |id: &str| {
        format!("_format_version: '3.0'\nca_certificates:\n- {{id: {id}, file: ca.pem}}\n")
    };
    // Equal plugins with files of the same name
    let route = |name: &str| {
        format!(
            "routes:\n- name: {name}\n  plugins:\n  - name: mtls-auth\n    config: \
             {{ca_certificates: [{ID_A}], skip_consumer_lookup: true, pinned_certificates: \
             [pinned.pem]}}\n  - {{name: client-cert-lists, config: {{deny: [a.list]}}}}\n"
        )
    };
    let directory = |name: &str, id: &str, cn: &str, serial: &str| {
        Directory::new(
            &format!("relative-{name}"),
            &[
                ("policy.yaml", &(cas(id) + &route(name))),
                ("ca.pem", &ca_pem(cn)),
                ("pinned.pem", &pem(name, false, -1, 60)),
                ("a.list", &format!("sha256 {}\n", serial.repeat(32))),
            ],
        )
    };
    let one = directory("one", ID_A, "CA A", "01");
    let two = directory("two", ID_B, "CA B", "02");
    let list = join_list([&*one.0.join("policy.yaml"), &*two.0]);
    let mut files = Files::keeping_contents();
    let policy = Policy::from_file_with(&list, &mut files).unwrap();
    let of = |route: &str| policy.plans[policy.plan(Some(route)).unwrap()].clone();
    let [one_plan, two_plan] = ["one", "two"].map(of);
    let digest = |plan: &Plan| *plan.auth.as_ref().unwrap().store.digest();
    assert_ne!(digest(&one_plan), digest(&two_plan));
    assert_eq!(policy.lists.len(), 2);
    assert_eq!(policy.cas.len(), 2);
    let read = files.take_contents();
    for directory in [&one, &two] {
        for name in ["ca.pem", "pinned.pem"] {
            let path = directory.0.join(name);
            assert!(read.iter().any(|(read, _)| *read == path), "{path:?}");
        }
    }
    // The error names the file in which the path is.
    let errors = {
        std::fs::remove_file(two.0.join("a.list")).unwrap();
        Policy::from_file(&list).err().unwrap()
    };
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].file.ends_with("policy.yaml"), "{errors:?}");
    assert!(errors[0].message.contains("a.list"), "{errors:?}");
}
