use super::*;

/// Returns the tree in a compact notation, or the errors.
fn read_text(text: &str) -> Result<String, Vec<String>> {
    let mut report = Report::new("p");
    let node = read(text, 0, &mut report);
    match report.finish() {
        Ok(_) => Ok(node.map_or(String::new(), |node| show(&node))),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

fn show(node: &Node<'_>) -> String {
    match &node.value {
        Value::Scalar { text, plain: true } => text.to_string(),
        Value::Scalar { text, plain: false } => format!("{text:?}"),
        Value::List(items) => {
            format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "))
        }
        Value::Map(entries) => {
            let entry =
                |(key, value): &(Key<'_>, Node<'_>)| format!("{}:{}", &*key.text, show(value));
            format!(
                "{{{}}}",
                entries.iter().map(entry).collect::<Vec<_>>().join(" ")
            )
        }
    }
}

/// Returns the errors. The tree is not shown, because one that should have been refused may be
/// infinite.
fn refusal(text: &str) -> String {
    let mut report = Report::new("p");
    read(text, 0, &mut report);
    let errors = report.finish().unwrap_err();
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn scalar(text: &str, plain: bool) -> Node<'_> {
    let value = Value::Scalar {
        text: Text::Borrowed(text),
        plain,
    };
    Node {
        position: Position::default(),
        value,
    }
}

#[test]
fn read_yaml_and_json_give_the_same_tree() {
    let tree = r#"{"a":["x" 1 true null] "b":"l1\nl2\n"}"#.replace("\"a\"", "a");
    let tree = tree.replace("\"b\"", "b");
    for text in [
        "a: ['x', 1, true, null]\nb: |\n  l1\n  l2\n",
        "\u{feff}# a comment\r\na:\r\n- \"x\"\r\n- 1\r\n- true\r\n- null\r\nb: \"l1\\nl2\\n\"\r\n",
        "{\n\t\"a\": [\n\t\t\"\\u0078\",\n\t\t1, true, null],\n\t\"b\": \"l1\\nl2\\n\"\n}\n",
    ] {
        assert_eq!(read_text(text), Ok(tree.clone()), "{text}");
    }
}

#[test]
fn read_json_string_longer_than_a_key_may_be_is_read() {
    let long = "x".repeat(5000);
    let text = format!("{{\"a\": \"{long}\", \"b\": [\"{long}\"]}}");
    assert_eq!(
        read_text(&text),
        Ok(format!("{{a:\"{long}\" b:[\"{long}\"]}}"))
    );
}

#[test]
fn read_returns_positions_of_keys_and_values() {
    let mut report = Report::new("p");
    let root = read("\u{feff}a: é\r\nb:\n  - {c: d}\n", 0, &mut report).unwrap();
    let Value::Map(entries) = &root.value else {
        panic!("{root:?}");
    };
    let position = |position: Position| (position.line, position.column);
    let (a, b) = (&entries[0], &entries[1]);
    assert_eq!(
        (position(a.0.position), position(a.1.position)),
        ((1, 1), (1, 4))
    );
    assert_eq!(position(b.0.position), (2, 1));
    let Value::List(items) = &b.1.value else {
        panic!("{b:?}");
    };
    assert_eq!(position(items[0].position), (3, 5));
}

#[test]
fn read_alias_is_replaced_by_its_anchor() {
    assert_eq!(
        read_text("a: &x [1, &y z]\nb: *x\nc: {d: *y}\n"),
        Ok("{a:[1 z] b:[1 z] c:{d:z}}".into())
    );
    assert_eq!(
        refusal("a: *x\n"),
        "p:1:4: not valid YAML: while parsing node, found unknown anchor"
    );
    assert_eq!(
        refusal("a: &x [*x]\n"),
        "p:1:8: an alias is inside its own anchor"
    );
}

#[test]
fn read_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..=20 {
        let j = i - 1;
        text += &format!("a{i}: &a{i} [*a{j}, *a{j}, *a{j}, *a{j}, *a{j}, *a{j}, *a{j}]\n");
    }
    assert_eq!(
        refusal(&text),
        "p:8:15: more than 4000000 values, aliases expanded"
    );
}

#[test]
fn read_nesting_over_the_limit_is_refused() {
    let deep = |n: usize| format!("{}x{}", "[".repeat(n), "]".repeat(n));
    assert_eq!(read_text(&deep(32)), Ok(deep(32)));
    assert_eq!(refusal(&deep(33)), "p:1:33: nested deeper than 32 levels");
    assert_eq!(
        refusal(&deep(100_000)),
        "p:1:256: nested deeper than 32 levels"
    );

    // Aliases of aliases nest deeply in a text that does not.
    let mut text = "- &a0 [x]\n".to_owned();
    for i in 1..100_000 {
        text += &format!("- &a{i} [*a{}]\n", i - 1);
    }
    assert_eq!(
        refusal(&text),
        "p:32:9: nested deeper than 32 levels, aliases expanded"
    );
}

#[test]
fn read_duplicate_keys_are_all_reported() {
    assert_eq!(
        refusal("a: 1\nb:\n- c: 1\n  d: 2\n  c: 3\na: 4\n"),
        "p:5:3: b[0]: the key 'c' is given twice\np:6:1: the key 'a' is given twice"
    );
    let keys: String = (0..40).map(|i| format!("k{}: x\n", i % 38)).collect();
    assert_eq!(
        refusal(&keys),
        "p:39:1: the key 'k0' is given twice\np:40:1: the key 'k1' is given twice"
    );
}

#[test]
fn read_merge_key_adds_the_keys_that_are_not_given() {
    assert_eq!(
        read_text("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 0}\n"),
        Ok("{a:{x:1 y:2} b:{y:3 z:4} c:{x:0 y:2 z:4}}".into())
    );
    assert_eq!(read_text("{\"<<\": 1}"), Ok("{<<:1}".into()));
    assert_eq!(
        refusal("<<: 1\n"),
        "p:1:1: '<<' takes a mapping or a list of mappings"
    );
    let wide: Vec<_> = (0..1001).map(|i| format!("k{i}: 0")).collect();
    assert_eq!(
        refusal(&format!("a: &a {{{}}}\nb: {{<<: *a}}\n", wide.join(", "))),
        "p:2:5: '<<' makes more than 1000 keys"
    );
}

#[test]
fn read_tags_of_the_core_schema_only() {
    assert_eq!(
        read_text("a: !!str 3.0\nb: !!map {}\nc: !!int 3\n"),
        Ok("{a:\"3.0\" b:{} c:3}".into())
    );
    assert_eq!(
        refusal("a:\n- !secret x\n- !!seq y\n"),
        "p:2:11: a[0]: the YAML tag '!secret' is not supported here, expected none\n\
         p:3:9: a[1]: the YAML tag 'tag:yaml.org,2002:seq' is not supported here, expected none"
    );
    assert_eq!(
        refusal("- [x]\n- a: [x, y, {b: [x, [!s z]]}]\n  c: {d: [[x], !t y]}\n"),
        "p:2:25: [1].a[2].b[1][0]: the YAML tag '!s' is not supported here, expected none\n\
         p:3:19: [1].c.d[1]: the YAML tag '!t' is not supported here, expected none"
    );
}

#[test]
fn read_empty_and_malformed_documents_are_refused() {
    let empty = "p:1:1: the document is empty, expected a mapping with '_format_version'";
    for text in ["", "# nothing\n", "---\n", "null\n"] {
        assert_eq!(refusal(text), empty, "{text:?}");
    }
    for (text, error) in [
        (
            "a: 1\n---\nb: 2\n",
            "p:2:1: a second YAML document starts here, expected one",
        ),
        ("? [a]\n: b\n", "p:1:3: a key must be text"),
        (
            "a: [1, 2\nb: 3\n",
            "p:2:2: not valid YAML: illegal placement of ':' indicator",
        ),
        ("a: \"b", "p:1:4: not valid YAML: unclosed quote"),
        (
            "a: b: c\n",
            "p:1:5: not valid YAML: mapping values are not allowed in this context; perhaps this \
             line is indented deeper than the one above, the '-' of a list has no blank after \
             it, or a text with ': ' has no quotes",
        ),
        (
            "a:\n\tb: c\n",
            "p:2:2: not valid YAML: tabs disallowed within this context (block indentation); \
             expected blanks, as tabs do not indent in YAML",
        ),
        (
            "- a: b\n\tc: d\n",
            "p:1:6: not valid YAML: while scanning a plain scalar, found a tab; perhaps the \
             line below begins with it, expected blanks, as tabs do not indent in YAML",
        ),
        (
            "a:\n  b: [c]\n d: e\n",
            "p:3:2: not valid YAML: while parsing a block mapping, did not find expected key; \
             perhaps this line is indented otherwise than the lines above",
        ),
        (
            "a: b\nc:d\n",
            "p:2:1: not valid YAML: simple key expected ':'; perhaps the ':' of a name has no \
             blank after it",
        ),
    ] {
        assert_eq!(refusal(text), error, "{text:?}");
    }
}

#[test]
fn as_bool_reads_plain_yaml_1_1_booleans() {
    for (text, value) in [
        ("true", Some(true)),
        ("No", Some(false)),
        ("on", Some(true)),
        ("y", None),
        ("1", None),
    ] {
        assert_eq!(scalar(text, true).as_bool(), value, "{text}");
        assert_eq!(scalar(text, false).as_bool(), None, "{text}");
    }
}

#[test]
fn as_number_reads_plain_finite_numbers() {
    for (text, value) in [
        ("10", Some(10.0)),
        ("-1", Some(-1.0)),
        ("3.0", Some(3.0)),
        (".5", Some(0.5)),
        ("1e3", Some(1000.0)),
        ("1e999", None),
        ("inf", None),
        ("nan", None),
        ("10.0.0.1", None),
        ("-", None),
        ("1x", None),
    ] {
        assert_eq!(scalar(text, true).as_number(), value, "{text}");
        assert_eq!(scalar(text, false).as_number(), None, "{text}");
    }
}
