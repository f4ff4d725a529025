//! What an introspection endpoint answers (RFC 7662 section 2.2).

use serde_json::Value;

use super::{json, Claims, Refusal, MAX_DOCUMENT};

/// Reads an answer. The claims of an active token, `cnf` among them as in a JWT (RFC 8705
/// section 3.2).
///
/// # Errors
/// [`Refusal::Inactive`], or that the answer is none.
pub fn introspect(bytes: &[u8]) -> Result<Claims, Refusal> {
    let answer = json::object(bytes, MAX_DOCUMENT)
        .map_err(|why| Refusal::Malformed(format!("introspection answer: {why}")))?;
    match answer.get("active") {
        Some(Value::Bool(true)) => Ok(Claims::new(answer, bytes.len())),
        Some(Value::Bool(false)) => Err(Refusal::Inactive),
        _ => Err(Refusal::Malformed(
            "introspection answer: no boolean 'active'".to_owned(),
        )),
    }
}
