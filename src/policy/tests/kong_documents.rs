//! Documents of `t/kong/documents/`, written as users of Kong have them: each loads or is refused
//! with the line that its head says.

use super::*;

#[test]
fn documents_of_kongs_users_load_or_fail_with_the_line_that_they_should() {
    let directory = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("t/kong/documents");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 20);
    let ca = ca_pem("CA").replace('\n', "\\n");
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let head = |mark: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(mark))
        };
        let loaded = Policy::from_yaml(text.replace("@CA", &ca).as_bytes(), &name);
        match (head("# error: "), loaded) {
            (None, Ok(policy)) => {
                assert_eq!(head("# loads"), Some(""), "{name}");
                let found = warnings(&policy);
                if let Some(expected) = head("# warning: ") {
                    let has = found.iter().any(|line| line.contains(expected));
                    assert!(has, "{name}: {found:#?}");
                }
            }
            (Some(expected), Err(errors)) => {
                assert_eq!(errors.len(), 1, "{name}: {errors:#?}");
                let error = errors[0].to_string();
                assert!(error.contains(expected), "{name}: {error}");
            }
            (_, loaded) => panic!("{name}: {:#?}", loaded.map(|policy| warnings(&policy))),
        }
    }
}
