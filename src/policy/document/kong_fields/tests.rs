use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{json, Map, Value};

use super::table::kong_fields;
use crate::policy::document::{
    acl, header_cert_auth, mtls_auth, openid_connect, tls_handshake_modifier, tls_metadata_headers,
};
use crate::policy::tests::{ca_pem, ID_A};
use crate::policy::Policy;

const PLUGINS: [&str; 6] = [
    "acl",
    "header-cert-auth",
    "mtls-auth",
    "openid-connect",
    "tls-handshake-modifier",
    "tls-metadata-headers",
];

/// Kong's schemas: those in `t/kong/fields/`, and all that the project has notes of.
fn schemas() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = fs::read_dir(root.join("t/kong/fields"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.push(root.join("../shared/facts/kong-fields.json"));
    let texts = paths.iter().filter_map(|path| {
        let text = fs::read(path).ok()?;
        Some((
            path.to_string_lossy().into_owned(),
            serde_json::from_slice(&text).unwrap(),
        ))
    });
    texts.collect()
}

fn number(version: &str) -> (u32, u32) {
    let (major, minor) = version.split_once('.').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

/// The default of a field in a version; `None` if the version does not have the field.
fn default_in(field: &Value, version: &str) -> Option<Value> {
    let range = field["in"].as_str().unwrap();
    let (first, last) = range.split_once("..").unwrap_or((range, range));
    if !(number(first)..=number(last)).contains(&number(version)) {
        return None;
    }
    let Some(Value::Object(by_version)) = field.get("default") else {
        return Some(field.get("default").cloned().unwrap_or(Value::Null));
    };
    let mut defaults: Vec<_> = by_version
        .iter()
        .filter_map(|(key, value)| Some((number(key.strip_prefix("since ")?), value)))
        .filter(|(since, _)| *since <= number(version))
        .collect();
    defaults.sort_by_key(|(since, _)| *since);
    defaults.last().map(|(_, value)| (*value).clone())
}

/// What a plugin needs at least.
fn required(plugin: &str) -> Map<String, Value> {
    let config = match plugin {
        "acl" => json!({"allow": ["ops"]}),
        "header-cert-auth" => json!({"ca_certificates": [ID_A], "certificate_header_name": "X-C",
            "certificate_header_format": "base64_encoded"}),
        "mtls-auth" => json!({"ca_certificates": [ID_A]}),
        "openid-connect" => json!({"issuer": "https://idp.example", "auth_methods": ["bearer"]}),
        _ => json!({}),
    };
    config.as_object().unwrap().clone()
}

/// Sets a field of a configuration, which may be nested, unless it is required there.
fn set(config: &mut Map<String, Value>, name: &str, value: &Value) {
    match name.split_once('.') {
        None => {
            if !value.is_null() || !config.contains_key(name) {
                config.insert(name.to_owned(), value.clone());
            }
        }
        Some((outer, inner)) => {
            let mut object = match config.get(outer) {
                Some(Value::Object(object)) => object.clone(),
                _ if outer == "proof_of_possession_mtls_from_header" => {
                    let from = json!({"ca_certificates": [ID_A], "certificate_header_name": "X"});
                    from.as_object().unwrap().clone()
                }
                _ => Map::new(),
            };
            set(&mut object, inner, value);
            config.insert(outer.to_owned(), Value::Object(object));
        }
    }
}

/// The policy of a route with one plugin, or the errors.
fn compile(plugin: &str, config: Map<String, Value>, pem: &str) -> Result<Policy, Vec<String>> {
    let mut plugins = vec![
        json!({"name": plugin, "config": config,         "condition": null, "partials": null, "expressions": null, "consumer": null,
        "instance_name": null, "tags": null, "enabled": true, "ordering": null}),
    ];
    if plugin == "acl" {
        plugins.push(json!({"name": "mtls-auth", "config": {"ca_certificates": [ID_A]}}));
    }
    let policy = json!({"_format_version": "3.0", "ca_certificates": [{"id": ID_A, "cert": pem}],
        "routes": [{"name": "r", "snis": ["r.example"], "plugins": plugins}]});
    Policy::from_yaml(policy.to_string().as_bytes(), "p").map_err(|errors| lines(&errors))
}

fn lines(diagnostics: &[crate::policy::Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}

/// The warnings of [`compile`].
fn load(plugin: &str, config: Map<String, Value>, pem: &str) -> Result<Vec<String>, Vec<String>> {
    compile(plugin, config, pem).map(|policy| lines(&policy.warnings))
}

#[test]
fn every_field_of_kongs_loads_with_its_default_and_with_null_and_all_of_them_together() {
    let mut cases = 0;
    let pem = ca_pem("CA");
    for (file, schema) in schemas() {
        for plugin in PLUGINS {
            let fields = &schema["plugins"][plugin];
            let fields = fields.get("config").unwrap_or(fields).as_object().unwrap();
            let mut seen = BTreeSet::new();
            for version in schema["versions"].as_array().unwrap() {
                let version = version.as_str().unwrap();
                let mut whole = required(plugin);
                whole.remove("auth_methods");
                for (name, field) in fields {
                    let Some(default) = default_in(field, version) else {
                        continue;
                    };
                    let is_object = field.get("type").is_some_and(|kind| kind == "object");
                    if !is_object {
                        set(&mut whole, name, &default);
                    }
                    for value in [default, Value::Null] {
                        if !seen.insert((name, value.to_string())) {
                            continue;
                        }
                        let mut config = required(plugin);
                        set(&mut config, name, &value);
                        let loaded = load(plugin, config, &pem);
                        assert!(
                            loaded.is_ok(),
                            "{file}: {plugin} {version}: {name}: {value}: {loaded:?}"
                        );
                        cases += 1;
                    }
                }
                let from_header = "proof_of_possession_mtls_from_header";
                if whole.contains_key(from_header) {
                    whole.insert(from_header.to_owned(), Value::Null);
                }
                let loaded = load(plugin, whole, &pem);
                match loaded {
                    Ok(warnings) => {
                        let all = warnings.join("\n");
                        assert!(
                            !all.contains("has no effect in resty-mtls"),
                            "{file}: {plugin} {version}: {all}"
                        );
                    }
                    Err(errors) => panic!("{file}: {plugin} {version}: {errors:?}"),
                }
            }
        }
    }
    assert!(cases > 300, "{cases}");
}

#[test]
fn a_field_that_is_not_off_is_warned_about_or_refused_by_name() {
    let set_to = |name: &str, value: Value| {
        let mut config = required("openid-connect");
        config.insert(name.to_owned(), value);
        load("openid-connect", config, &ca_pem("CA"))
    };
    for (name, value) in [
        ("consumer_groups_optional", json!(true)),
        ("resolve_distributed_claims", json!(true)),
        ("search_user_info", json!(true)),
        ("principals", json!({"enabled": true})),
        (
            "token_exchange",
            json!({"subject_token_issuers": [{"issuer": "x"}]}),
        ),
        ("ignore_signature", json!(["password"])),
    ] {
        let path = format!("routes[0].plugins[0].config.{name}: is not supported by this version");
        let errors = set_to(name, value).unwrap_err();
        assert!(errors[0].contains(&path), "{errors:?}");
    }
    for (name, value) in [
        ("logout_revoke_access_token", json!(false)),
        ("session_strategy", json!("regenerate")),
        ("session_cookie_maxsize", json!(3000)),
        ("redis", json!({"host": "redis.example"})),
    ] {
        let warnings = set_to(name, value).unwrap().join("\n");
        assert!(
            warnings.contains(&format!("config.{name}: has no effect in resty-mtls")),
            "{warnings}"
        );
    }
}

/// The rows of a plugin in `docs/compared-with-kong.md`: the fields, and what happens to them here.
fn rows(plugin: &str) -> Vec<(Vec<String>, String)> {
    let page = include_str!("../../../../docs/compared-with-kong.md");
    let section = page
        .split("\n## ")
        .flat_map(|part| part.split("\n### "))
        .find(|part| part.lines().next().is_some_and(|heading| heading == plugin));
    let section = section.unwrap_or_else(|| panic!("no section {plugin}"));
    let tables = section.lines().filter(|line| line.starts_with("| "));
    tables
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" | ");
            let fields = cells.next().unwrap_or_default();
            let names = fields.split('`').skip(1).step_by(2).map(str::to_owned);
            let here = cells.next().unwrap_or_default().trim().to_owned();
            (names.collect(), here)
        })
        .collect()
}

#[test]
fn every_field_is_treated_in_one_way_and_the_page_says_in_which() {
    for (plugin, schema) in [
        ("acl", &acl::ACL),
        ("header-cert-auth", &header_cert_auth::HEADER_CERT_AUTH),
        ("mtls-auth", &mtls_auth::MTLS_AUTH),
        ("openid-connect", &openid_connect::OPENID_CONNECT),
        (
            "tls-handshake-modifier",
            &tls_handshake_modifier::TLS_HANDSHAKE_MODIFIER,
        ),
        (
            "tls-metadata-headers",
            &tls_metadata_headers::TLS_METADATA_HEADERS,
        ),
    ] {
        assert_eq!(schema.name, plugin);
        let kongs = kong_fields(plugin).iter().map(|field| field.name);
        let kongs: BTreeSet<&str> = kongs.filter(|name| !name.contains('.')).collect();
        let rows = rows(plugin);
        for name in &kongs {
            let lists = [schema.supported, schema.ignored, schema.unsupported];
            let found = lists.iter().filter(|list| list.contains(name)).count();
            assert_eq!(found, 1, "{plugin}: {name} is in {found} lists");
        }
        for (list, words) in [
            (
                schema.supported,
                &["supported", "differs", "no effect", "refused"][..],
            ),
            (schema.ignored, &["no effect"]),
            (schema.unsupported, &["refused"]),
        ] {
            for name in list {
                let found: Vec<&str> = rows
                    .iter()
                    .filter(|(names, _)| names.iter().any(|other| other == name))
                    .map(|(_, here)| here.as_str())
                    .collect();
                let allowed = match kongs.contains(name) {
                    true => words,
                    false => &["ours"],
                };
                assert!(
                    matches!(found[..], [here] if allowed.contains(&here)),
                    "docs/compared-with-kong.md: {plugin}: {name} has the rows {found:?}, \
                     expected one with {allowed:?}"
                );
            }
        }
        let table = kong_fields(plugin).windows(2);
        for pair in table {
            assert!(pair[0].name < pair[1].name, "{plugin}: {}", pair[1].name);
        }
    }
}

/// Fields that differ in more than their default, each with the tests that show how.
const OTHER_MEANINGS: &[(&str, &str, &str)] = &[
    ("acl", "allow", "src/policy/tests/acl.rs"),
    ("acl", "deny", "t/identity/030-name-spellings.t"),
    (
        "header-cert-auth",
        "cert_cache_ttl",
        "src/engine/revocation/tests.rs",
    ),
    (
        "header-cert-auth",
        "http_timeout",
        "t/revocation/080-status-service.t",
    ),
    (
        "header-cert-auth",
        "revocation_check_mode",
        "t/revocation/050-local-shortage.t",
    ),
    (
        "header-cert-auth",
        "ssl_verify",
        "src/policy/tests/mtls_auth.rs",
    ),
    (
        "mtls-auth",
        "cert_cache_ttl",
        "src/engine/revocation/tests.rs",
    ),
    (
        "mtls-auth",
        "http_timeout",
        "t/revocation/080-status-service.t",
    ),
    (
        "mtls-auth",
        "revocation_check_mode",
        "t/revocation/050-local-shortage.t",
    ),
    (
        "mtls-auth",
        "send_ca_dn",
        "t/handshake/010-certificate-request.t",
    ),
    ("mtls-auth", "ssl_verify", "src/policy/tests/mtls_auth.rs"),
    ("openid-connect", "anonymous", "t/token/050-consumers.t"),
    (
        "openid-connect",
        "auth_methods",
        "src/policy/tests/openid_connect.rs",
    ),
    (
        "openid-connect",
        "bearer_token_param_type",
        "src/policy/tests/openid_connect.rs",
    ),
];

/// With the defaults that differ, which are measured, these are all differences on the page.
#[test]
fn a_difference_on_the_page_is_one_of_defaults_or_has_a_test() {
    let pem = ca_pem("CA");
    let mut found = BTreeSet::new();
    for (_, schema) in schemas() {
        for plugin in PLUGINS {
            let digest = |config| compile(plugin, config, &pem).map(|policy| policy.digest);
            let ours = digest(required(plugin)).unwrap();
            let rows = rows(plugin);
            let fields = &schema["plugins"][plugin];
            let fields = fields.get("config").unwrap_or(fields).as_object().unwrap();
            for (name, field) in fields.iter().filter(|(name, _)| !name.contains('.')) {
                // Another list would be another plugin, and its default is read in any order.
                if required(plugin).contains_key(name) || name == "consumer_by" {
                    continue;
                }
                let versions = schema["versions"].as_array().unwrap().iter();
                let versions = versions.filter_map(|version| version.as_str());
                let defaults = versions.filter_map(|version| default_in(field, version));
                let differs = |default: &Value| {
                    let mut config = required(plugin);
                    config.insert(name.clone(), default.clone());
                    !default.is_null() && digest(config).is_ok_and(|digest| digest != ours)
                };
                if !defaults.into_iter().any(|default| differs(&default)) {
                    continue;
                }
                let here = rows.iter().find(|(names, _)| names.contains(name));
                let here = here.map(|(_, here)| here.as_str());
                assert_eq!(here, Some("differs"), "{plugin}: {name}");
                found.insert(format!("{plugin} {name}"));
            }
        }
    }
    assert_eq!(found.len(), 3, "{found:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (plugin, field, test) in OTHER_MEANINGS {
        let text = fs::read_to_string(root.join(test)).unwrap();
        assert!(text.contains(field), "{test} has no '{field}'");
        found.insert(format!("{plugin} {field}"));
    }
    let on_page = PLUGINS.iter().flat_map(|plugin| {
        let rows = rows(plugin)
            .into_iter()
            .filter(|(_, here)| here == "differs");
        let names = rows.flat_map(|(names, _)| names);
        names.map(move |name| format!("{plugin} {name}"))
    });
    assert_eq!(on_page.collect::<BTreeSet<_>>(), found);
}
