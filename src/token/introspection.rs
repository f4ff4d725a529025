//! Introspection responses (RFC 7662 section 2.2).

use serde_json::Value;

use super::{json, Claims, TokenError, MAX_DOCUMENT};

/// Reads the response for an active token. Its claims include `cnf`, as in a JWT (RFC 8705
/// section 3.2).
///
/// # Errors
/// [`TokenError::Inactive`], or [`TokenError::Malformed`] for another document.
pub fn parse_introspection_response(bytes: &[u8]) -> Result<Claims, TokenError> {
    let answer = json::object(bytes, MAX_DOCUMENT)
        .map_err(|why| TokenError::Malformed(format!("introspection response: {why}")))?;
    match answer.get("active") {
        Some(Value::Bool(true)) => Ok(Claims::new(answer, bytes.len())),
        Some(Value::Bool(false)) => Err(TokenError::Inactive),
        _ => Err(TokenError::Malformed(
            "introspection response: no boolean 'active'".to_owned(),
        )),
    }
}
