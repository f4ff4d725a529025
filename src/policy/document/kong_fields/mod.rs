//! Whether a field of a plugin of Kong's is switched off: then it is accepted without a warning,
//! also where it is not supported, because a dump of Kong's has every field.

mod table;
#[cfg(test)]
mod tests;

use super::fields::Object;
use crate::policy::tree::{Node, Value};

use self::table::kong_fields;

/// Whether a field is null, empty, or has a default of some version of Kong. A field that has no
/// default is off as well if it is false. An object is off if `enabled` in it is false, or all its
/// fields are off.
pub(super) fn is_off(plugin: &str, name: &str, node: &Node<'_>) -> bool {
    if node.is_null() || node.is_empty() {
        return true;
    }
    if let Value::Map(entries) = &node.value {
        let enabled = Object { node }.get("enabled").and_then(Node::as_bool);
        return enabled == Some(false)
            || entries
                .iter()
                .all(|(key, value)| is_off(plugin, &format!("{name}.{}", &*key.text), value));
    }
    let fields = kong_fields(plugin);
    let defaults = fields.iter().find(|field| field.name == name);
    match defaults.map_or(&[] as &[&str], |field| field.defaults) {
        [] => node.as_bool() == Some(false),
        defaults => {
            let text = canonical_text(node);
            defaults.contains(&&*text) || has_plain_off(node, defaults)
        }
    }
}

/// Whether a plain `off` is meant by the text 'off': in YAML 1.1 it is the boolean false.
fn has_plain_off(node: &Node<'_>, defaults: &[&str]) -> bool {
    node.as_bool() == Some(false) && defaults.contains(&"off")
}

/// A value as the table has it: lists are sorted, since Kong's schemas list sets in no order.
fn canonical_text(node: &Node<'_>) -> String {
    match &node.value {
        Value::Scalar { text, .. } => match (node.as_bool(), node.as_number()) {
            (Some(value), _) => value.to_string(),
            (None, Some(number)) => number.to_string(),
            (None, None) => text.to_string(),
        },
        Value::List(items) => {
            let mut items: Vec<String> = items.iter().map(canonical_text).collect();
            items.sort_unstable();
            format!("[{}]", items.join(","))
        }
        Value::Map(_) => String::new(),
    }
}
