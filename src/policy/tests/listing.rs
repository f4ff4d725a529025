//! Routes and server names as JSON.

use serde_json::{json, Value};

use super::*;

fn page(from: usize, limit: usize, filter: &str) -> Page<'_> {
    Page {
        from,
        limit,
        filter,
    }
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn names(list: &str) -> Vec<String> {
    let list = read(list);
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn routes_are_listed_with_all_plugins_that_apply() {
    let text = with_cas(&format!(
        "services: [{{name: s}}]\n\
         routes:\n\
         - {{name: r, service: s, snis: [a.test]}}\n\
         - {{name: open}}\n\
         - {{id: {ID_C}}}\n\
         plugins:\n\
         - {{name: mtls-auth, service: s, config: {{ca_certificates: [{ID_A}]}}}}\n\
         - {{name: acl, route: r, config: {{allow: [x], enforce: report}}}}\n\
         - {{name: client-cert-headers, config: {{dialects: [rfc9440]}}}}\n"
    ));
    assert_eq!(
        read(&policy(&text).list_routes(page(0, 10, ""))),
        json!({
            "total": 3,
            "matching": 3,
            "from": 0,
            "items": [
                {
                    "name": "r",
                    "plugins": ["mtls-auth", "client-cert-headers", "acl"],
                    "report_only": ["acl"],
                },
                { "name": "open", "plugins": ["client-cert-headers"], "report_only": [] },
                { "name": ID_C, "plugins": ["client-cert-headers"], "report_only": [] },
            ],
            "without_route": ["client-cert-headers"],
            "without_route_report_only": [],
        })
    );
}

#[test]
fn plugins_that_report_only_are_listed_with_their_routes() {
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: r, snis: [a.test]}}\n\
         - {{name: q}}\n\
         plugins:\n\
         - {{name: mtls-auth, config: {{ca_certificates: [{ID_A}], enforce: report}}}}\n\
         - {{name: mtls-auth, route: q, config: {{ca_certificates: [{ID_A}]}}}}\n\
         - {{name: client-cert-acl, config: {{deny: [{{san.dns: x.test}}], enforce: report}}}}\n"
    ));
    let list = read(&policy(&text).list_routes(page(0, 10, "")));
    let both = json!(["mtls-auth", "client-cert-acl"]);
    assert_eq!(list["items"][0]["report_only"], both);
    assert_eq!(list["items"][1]["report_only"], json!(["client-cert-acl"]));
    assert_eq!(list["items"][1]["plugins"], both);
    assert_eq!(list["without_route_report_only"], both);
}

#[test]
fn server_names_are_listed_with_their_requests() {
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: r, snis: [b.test, '*.a.test']}}\n\
         - {{name: q, snis: [a.test]}}\n\
         plugins:\n\
         - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}}}\n\
         - {{name: mtls-auth, route: q, config: {{ca_certificates: [{ID_B}], resumption: false}}}}\n"
    ));
    assert_eq!(
        read(&policy(&text).list_server_names(page(0, 10, ""))),
        json!({
            "total": 3,
            "matching": 3,
            "from": 0,
            "items": [
                {
                    "name": "*.a.test", "ca_names": 1, "ca_names_bytes": 19,
                    "ca_names_sent": true, "resumption": true,
                },
                {
                    "name": "a.test", "ca_names": 0, "ca_names_bytes": 0,
                    "ca_names_sent": false, "resumption": false,
                },
                {
                    "name": "b.test", "ca_names": 1, "ca_names_bytes": 19,
                    "ca_names_sent": true, "resumption": true,
                },
            ],
        })
    );
}

#[test]
fn pages_have_every_entry_once_and_are_limited() {
    let many: Vec<_> = (0..1200)
        .map(|i| format!("- {{name: r{i:04}, snis: [H{i:04}.test]}}"))
        .collect();
    let policy = policy(&format!(
        "_format_version: \"3.0\"\nroutes:\n{}\nplugins: [{{name: tls-handshake-modifier}}]\n",
        many.join("\n")
    ));
    for list in [Policy::list_routes, Policy::list_server_names] {
        let whole = names(&list(&policy, page(0, 5000, "")));
        assert_eq!(whole.len(), MAX_LISTED);
        let mut paged = Vec::new();
        for from in (0..1300).step_by(100) {
            paged.extend(names(&list(&policy, page(from, 100, ""))));
        }
        // The global plugin requests a certificate under every other name too.
        let routes: Vec<_> = paged.iter().filter(|name| name.len() > 1).collect();
        assert!(routes.len() >= 1200 && paged.is_sorted());
        assert_eq!(paged[..1000], whole);

        let found = list(&policy, page(1, 2, "119"));
        assert_eq!(names(&found).len(), 2, "{found}");
        assert_eq!(read(&found)["matching"], json!(12));
        assert_eq!(names(&list(&policy, page(9999, 10, ""))).len(), 0);
    }
    let found = names(&policy.list_server_names(page(0, 10, "H0007.T")));
    assert_eq!(found, ["h0007.test"]);
}
