//! A line of an audit log: the formats `mtls_audit` and `mtls_audit_ecs` of `mtls-audit.conf`, also
//! as a log shipper may have nested the fields of the latter.

use serde_json::Value;

/// Longest line that is read, in bytes.
pub const MAX_LINE: usize = 256 * 1024;

/// Longest value that is read, in bytes.
const MAX_VALUE: usize = 16 * 1024;

/// The values of `$mtls_decision`.
const DECISIONS: [&str; 12] = [
    "pass",
    "would_refuse",
    "no_certificate",
    "refused",
    "misdirected",
    "forbidden",
    "too_early",
    "no_token",
    "token_refused",
    "token_forbidden",
    "issuer_unavailable",
    "unavailable",
];

/// What a line says about a request. Values that are empty in the log are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AuditEntry {
    /// SHA-256 of the client's certificate, 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// The server name of the handshake.
    pub server_name: Option<String>,
    /// The Host of the request.
    pub host: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// `$mtls_decision`.
    pub decision: String,
    /// `$mtls_verify`.
    pub verify: Option<String>,
    /// `$mtls_consumer`.
    pub consumer: Option<String>,
    /// Subject of the certificate, for people.
    pub subject: Option<String>,
    /// notAfter of the certificate, as `2027-01-31T08:00:00Z`.
    pub not_after: Option<String>,
    /// Address of the client.
    pub address: Option<String>,
    /// Time of the request.
    pub time: Option<String>,
}

impl AuditEntry {
    /// Length of all values in bytes.
    pub fn byte_len(&self) -> usize {
        let values = [
            &self.sha256,
            &self.server_name,
            &self.host,
            &self.route,
            &self.verify,
            &self.consumer,
            &self.subject,
            &self.not_after,
            &self.address,
            &self.time,
        ];
        let len = |value: &&Option<String>| value.as_ref().map_or(0, String::len);
        self.decision.len() + values.iter().map(len).sum::<usize>()
    }

    /// Reads a line. `Ok(None)` for a request about which the module did not decide.
    ///
    /// # Errors
    /// Why the line cannot be read.
    pub fn parse(line: &[u8]) -> Result<Option<AuditEntry>, String> {
        if line.len() > MAX_LINE {
            return Err(format!("over {MAX_LINE} bytes"));
        }
        // nginx escapes what JSON demands, but passes bytes on that are not UTF-8.
        let text = String::from_utf8_lossy(line);
        let value: Value = serde_json::from_str(&text).map_err(|error| syntax(&error))?;
        if !value.is_object() {
            return Err("not a JSON object".to_owned());
        }
        // Another type, or a value that is too long, must not count as absent where it decides.
        let deciding = |names: [&str; 2]| -> Result<Option<String>, String> {
            let found = names
                .iter()
                .find_map(|name| Some((name, field(&value, name)?)));
            match found {
                None | Some((_, Value::Null)) => Ok(None),
                Some((name, Value::String(text))) if text.len() > MAX_VALUE => {
                    Err(format!("'{name}' has over {MAX_VALUE} bytes"))
                }
                Some((_, Value::String(text))) => {
                    Ok(Some(text.clone()).filter(|text| !text.is_empty()))
                }
                Some((name, _)) => Err(format!("'{name}' is not text")),
            }
        };
        let shown = |names| deciding(names).unwrap_or_default();
        let Some(decision) = deciding(["mtls.decision", "decision"])? else {
            return Ok(None);
        };
        if !DECISIONS.contains(&decision.as_str()) {
            return Err(format!("'{decision}' is no value of $mtls_decision"));
        }
        let sha256 = deciding(["tls.client.hash.sha256", "fingerprint_sha256"])?;
        let sha256 = match sha256.map(|digest| digest.to_ascii_lowercase()) {
            Some(digest)
                if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                return Err(
                    "the SHA-256 of the certificate is not 64 hexadecimal digits".to_owned(),
                );
            }
            digest => digest,
        };
        // Before it had `mtls.verify`, the format mtls_audit_ecs had $mtls_verify as `mtls.reason`.
        let verify = match deciding(["mtls.verify", "verify"])? {
            None => deciding(["mtls.reason", "mtls.reason"])?.filter(|text| is_verify(text)),
            verify => verify,
        };
        Ok(Some(AuditEntry {
            sha256,
            server_name: deciding(["tls.client.server_name", "server_name"])?,
            host: deciding(["url.domain", "host"])?,
            route: deciding(["mtls.route", "route"])?,
            decision,
            verify,
            consumer: deciding(["user.name", "consumer"])?,
            subject: shown(["tls.client.subject", "subject_dn"]),
            not_after: deciding(["tls.client.not_after", "not_after"])?,
            address: shown(["client.address", "remote_addr"]),
            time: shown(["@timestamp", "time"]),
        }))
    }
}

/// What is wrong with a line that is no JSON, with its place in the line.
fn syntax(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.replace(" at line 1 column ", " at column ")
}

/// Whether a value is one of `$mtls_verify`.
fn is_verify(text: &str) -> bool {
    matches!(text, "NONE" | "SUCCESS") || text.starts_with("FAILED:")
}

/// A field by its dotted name, be it one key or nested objects.
fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    if let Some(found) = value.get(name) {
        return Some(found);
    }
    let mut at = value;
    for part in name.split('.') {
        at = at.get(part)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_both_formats_and_nested_fields() {
        let sha256 = "ab".repeat(32);
        let upper = sha256.to_uppercase();
        let expected = AuditEntry {
            sha256: Some(sha256.clone()),
            server_name: Some("a.test".to_owned()),
            route: Some("r".to_owned()),
            decision: "pass".to_owned(),
            ..AuditEntry::default()
        };
        for line in [
            format!(
                "{{\"fingerprint_sha256\":\"{sha256}\",\"server_name\":\"a.test\",\"route\":\"r\",\
                 \"decision\":\"pass\",\"consumer\":\"\"}}"
            ),
            format!(
                "{{\"tls.client.hash.sha256\":\"{upper}\",\"tls.client.server_name\":\"a.test\",\
                 \"mtls.route\":\"r\",\"mtls.decision\":\"pass\"}}"
            ),
            format!(
                "{{\"tls\":{{\"client\":{{\"hash\":{{\"sha256\":\"{sha256}\"}},\"server_name\":\
                 \"a.test\"}}}},\"mtls\":{{\"route\":\"r\",\"decision\":\"pass\"}}}}"
            ),
        ] {
            assert_eq!(
                AuditEntry::parse(line.as_bytes()).unwrap(),
                Some(expected.clone()),
                "{line}"
            );
        }
    }

    #[test]
    fn parse_reads_the_verification_of_old_and_new_formats() {
        let failed = Some("FAILED:certificate has expired");
        for (fields, verify) in [
            // mtls_audit without and with the reason
            (r#""verify":"FAILED:certificate has expired""#, failed),
            (
                r#""verify":"FAILED:certificate has expired","reason":"expired""#,
                failed,
            ),
            (r#""verify":"","reason":"misdirected""#, None),
            // mtls_audit_ecs: the reason was $mtls_verify, and became $mtls_reason
            (r#""mtls.reason":"FAILED:certificate has expired""#, failed),
            (r#""mtls.reason":"SUCCESS""#, Some("SUCCESS")),
            (r#""mtls.reason":"NONE""#, Some("NONE")),
            (
                r#""mtls.reason":"expired","mtls.verify":"FAILED:certificate has expired""#,
                failed,
            ),
            (
                r#""mtls.reason":"","mtls.verify":"SUCCESS""#,
                Some("SUCCESS"),
            ),
            (r#""mtls.reason":"misdirected","mtls.verify":"""#, None),
            (
                r#""mtls":{"reason":"expired","verify":"FAILED:certificate has expired"}"#,
                failed,
            ),
            (r#""mtls":{"reason":"NONE"}"#, Some("NONE")),
        ] {
            let line = format!(r#"{{"decision":"pass",{fields}}}"#);
            let entry = AuditEntry::parse(line.as_bytes()).unwrap().unwrap();
            assert_eq!(entry.verify.as_deref(), verify, "{line}");
        }
    }

    #[test]
    fn parse_refuses_what_is_no_entry() {
        for (line, error) in [
            (&b"x"[..], "expected value at column 1"),
            (
                b"127.0.0.1 - - \"GET /\"",
                "trailing characters at column 6",
            ),
            (b"[]", "not a JSON object"),
            (
                b"{\"decision\":\"pass\",\"verify\":1}",
                "'verify' is not text",
            ),
            (
                b"{\"decision\":\"pass\",\"fingerprint_sha256\":\"../../etc/passwd\"}",
                "the SHA-256 of the certificate is not 64 hexadecimal digits",
            ),
            (
                b"{\"decision\":\"pass\",\"route\":7}",
                "'route' is not text",
            ),
            (
                b"{\"mtls\":{\"decision\":\"pass\",\"route\":[\"r\"]}}",
                "'mtls.route' is not text",
            ),
            (b"{\"decision\":\"pass\",\"host\":{}}", "'host' is not text"),
            (b"{\"decision\":true}", "'decision' is not text"),
            (
                b"{\"decision\":\"granted\",\"route\":\"r\"}",
                "'granted' is no value of $mtls_decision",
            ),
        ] {
            assert_eq!(AuditEntry::parse(line), Err(error.to_owned()));
        }
        assert_eq!(AuditEntry::parse(b"{\"route\":\"\xff\"}"), Ok(None));
        let route = "r".repeat(MAX_VALUE + 1);
        let line = format!("{{\"decision\":\"pass\",\"route\":\"{route}\"}}");
        assert_eq!(
            AuditEntry::parse(line.as_bytes()),
            Err("'route' has over 16384 bytes".to_owned())
        );
        // What is only shown may be of any type.
        let line = b"{\"decision\":\"pass\",\"route\":null,\"time\":7,\"remote_addr\":[]}";
        let entry = AuditEntry {
            decision: "pass".to_owned(),
            ..AuditEntry::default()
        };
        assert_eq!(AuditEntry::parse(line), Ok(Some(entry)));
        let long = vec![b' '; MAX_LINE + 1];
        assert_eq!(
            AuditEntry::parse(&long),
            Err("over 262144 bytes".to_owned())
        );
    }
}
