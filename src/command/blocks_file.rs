//! The blocks that `/mtls/blocks` of the gateway lists, for `resty-mtls explain`.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::{Engine, Node, NO_END};

/// Longest file of blocks, in bytes: more than 4,096 blocks with issuers of usual length have.
pub const MAX_FILE: usize = 8 << 20;

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBlock {
    /// `sha256 HEX`, `spki_sha256 HEX` or `serial HEX ISSUER`.
    pub selector: String,
    /// Why, for the log; empty without a reason.
    pub reason: String,
    /// The first second without effect, since 1970.
    pub until: i64,
}

/// Reads `{"blocks": [{"sha256" | "spki_sha256" | "serial" and "issuer_dn", "reason", "until"}]}`.
///
/// # Errors
/// What is wrong, after the name of the file.
pub fn parse(bytes: &[u8]) -> Result<Vec<ListedBlock>, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let blocks = value.get("blocks").and_then(Value::as_array);
    let blocks = blocks.ok_or("expected {\"blocks\": [...]}, as /mtls/blocks lists them")?;
    let read = |(index, block): (usize, &Value)| {
        listed_block(block).map_err(|why| format!("blocks[{index}]: {why}"))
    };
    blocks.iter().enumerate().map(read).collect()
}

fn listed_block(block: &Value) -> Result<ListedBlock, String> {
    let text = |name: &str| match block.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("'{name}' is not text")),
    };
    let selector = match (text("sha256")?, text("spki_sha256")?, text("serial")?) {
        (Some(digest), None, None) => format!("sha256 {digest}"),
        (None, Some(digest), None) => format!("spki_sha256 {digest}"),
        (None, None, Some(serial)) => {
            let issuer = text("issuer_dn")?.ok_or("'serial' without 'issuer_dn'")?;
            format!("serial {serial} {issuer}")
        }
        _ => return Err("expected one of 'sha256', 'spki_sha256' and 'serial'".to_owned()),
    };
    let until = match block.get("until") {
        None | Some(Value::Null) => NO_END,
        Some(until) => until.as_i64().ok_or("'until' is not a number of seconds")?,
    };
    Ok(ListedBlock {
        selector,
        reason: text("reason")?.unwrap_or_default().to_owned(),
        until,
    })
}

/// Puts the blocks of a file that have not ended at `now` in force in an engine.
///
/// # Errors
/// What is wrong, after the name of the file.
pub(super) fn put_in_force(engine: &Engine, bytes: &[u8], now: i64) -> Result<(), String> {
    let node = Node::new().map_err(|error| error.to_string())?;
    engine.join(Arc::new(node));
    for (index, block) in parse(bytes)?.into_iter().enumerate() {
        if block.until > now {
            let added = engine.block(&block.selector, &block.reason, now, block.until, now);
            added.map_err(|why| format!("blocks[{index}]: {why}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_what_the_gateway_lists() {
        let listed = |selector: &str, reason: &str, until| ListedBlock {
            selector: selector.to_owned(),
            reason: reason.to_owned(),
            until,
        };
        let text = r#"{"blocks":[{"sha256":"aa","added":1,"until":7,"reason":"lost"},
            {"spki_sha256":"bb"},{"serial":"0A","issuer_dn":"CN=CA,O=Example","until":null}]}"#;
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            [
                listed("sha256 aa", "lost", 7),
                listed("spki_sha256 bb", "", NO_END),
                listed("serial 0A CN=CA,O=Example", "", NO_END),
            ]
        );
        assert_eq!(parse(b"{\"blocks\":[]}"), Ok(Vec::new()));
    }

    #[test]
    fn parse_refuses_what_is_no_list_of_blocks() {
        let expected = "expected {\"blocks\": [...]}, as /mtls/blocks lists them";
        let one_of = "blocks[0]: expected one of 'sha256', 'spki_sha256' and 'serial'";
        for (text, error) in [
            ("[]", expected),
            ("{\"blocks\":{}}", expected),
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("{\"blocks\":[7]}", one_of),
            ("{\"blocks\":[{\"sha256\":\"a\",\"serial\":\"b\"}]}", one_of),
            (
                "{\"blocks\":[{\"sha256\":7}]}",
                "blocks[0]: 'sha256' is not text",
            ),
            (
                "{\"blocks\":[{\"serial\":\"b\"}]}",
                "blocks[0]: 'serial' without 'issuer_dn'",
            ),
            (
                "{\"blocks\":[{\"sha256\":\"a\",\"until\":\"b\"}]}",
                "blocks[0]: 'until' is not a number of seconds",
            ),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error.to_owned()), "{text}");
        }
    }
}
