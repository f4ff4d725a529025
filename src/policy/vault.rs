//! Vault references of Kong's: `{vault://env/NAME}` and `{vault://env/NAME/KEY}` stand for the
//! value of an environment variable. They are resolved where a text is read, so that those of other
//! plugins, with other vaults, do not matter.

use std::cell::{Cell, OnceCell};
use std::env::VarError;

use super::tree::{Node, Value};
use crate::text::quoted;

const OPEN: &str = "{vault://";
const EXPECTED: &str = "expected {vault://env/NAME} or {vault://env/NAME/KEY}";

/// The largest number of references in a document.
const MAX_REFERENCES: usize = 1000;

/// The longest name of a variable or key, in bytes.
const MAX_NAME: usize = 200;

/// The values of the references of a document, which live as long as its text.
pub(super) struct VaultValues {
    values: Box<[OnceCell<Box<str>>]>,
    used: Cell<usize>,
}

impl Default for VaultValues {
    fn default() -> VaultValues {
        VaultValues {
            values: (0..MAX_REFERENCES).map(|_| OnceCell::new()).collect(),
            used: Cell::new(0),
        }
    }
}

impl VaultValues {
    /// Keeps a value. `None` when there are too many.
    fn keep(&self, value: String) -> Option<&str> {
        let slot = self.values.get(self.used.get())?;
        self.used.set(self.used.get() + 1);
        Some(slot.get_or_init(|| value.into()))
    }
}

/// Resolves the references of one document.
pub(super) struct Vaults<'t> {
    values: &'t VaultValues,
    /// The `prefix` and `name` of the entries of `vaults`, and the prefix of their variables.
    vaults: Vec<(&'t str, &'t str, &'t str)>,
}

/// A value with the name of its variable.
pub(super) struct Resolved<'t> {
    pub variable: String,
    pub value: &'t str,
}

impl<'t> Vaults<'t> {
    pub fn new(values: &'t VaultValues) -> Vaults<'t> {
        Vaults {
            values,
            vaults: Vec::new(),
        }
    }

    /// Reads the list `vaults` of a document.
    pub fn add(&mut self, list: &'t Node<'t>) {
        let Value::List(items) = &list.value else {
            return;
        };
        for item in items.iter() {
            let prefix = text(item, "prefix").unwrap_or_default();
            let name = text(item, "name").unwrap_or_default();
            let config = member(item, "config").and_then(|config| text(config, "prefix"));
            self.vaults.push((prefix, name, config.unwrap_or_default()));
        }
    }

    /// Whether a text is a reference.
    pub fn is_reference(text: &str) -> bool {
        text.starts_with(OPEN) && text.ends_with('}')
    }

    /// The value of a reference.
    ///
    /// # Errors
    /// What is wrong with it. The value is not part of the message.
    pub fn resolve(&self, reference: &str) -> Result<Resolved<'t>, String> {
        self.resolve_with(reference, |name| std::env::var(name))
    }

    fn resolve_with(
        &self,
        reference: &str,
        get: impl Fn(&str) -> Result<String, VarError>,
    ) -> Result<Resolved<'t>, String> {
        let shown = quoted(reference.as_bytes());
        let invalid = || format!("'{shown}' is not a valid reference to a vault, {EXPECTED}");
        let inner = reference
            .strip_prefix(OPEN)
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or_else(invalid)?;
        let (inner, query) = match inner.split_once('?') {
            Some((inner, query)) => (inner, Some(query)),
            None => (inner, None),
        };
        let (vault, rest) = inner.split_once('/').ok_or_else(invalid)?;
        let entry = self.vaults.iter().find(|(prefix, ..)| *prefix == vault);
        let mut prefix = match entry {
            Some((_, "env", prefix)) => *prefix,
            None if vault == "env" => "",
            _ => {
                let vault = quoted(vault.as_bytes());
                return Err(format!(
                    "'{shown}': the vault '{vault}' is not supported, {EXPECTED}"
                ));
            }
        };
        if let Some(query) = query {
            prefix = query.strip_prefix("prefix=").ok_or_else(invalid)?;
        }
        let (name, key) = match rest.split_once('/') {
            Some((name, key)) => (name, Some(key)),
            None => (rest, None),
        };
        let variable = format!("{prefix}{name}").replace('-', "_").to_uppercase();
        let is_plain = |text: &str| {
            (1..=MAX_NAME).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_graphic() && b != b'=')
        };
        if name.is_empty() || !is_plain(&variable) || key.is_some_and(|key| !is_plain(key)) {
            return Err(invalid());
        }
        let value = get(&variable).map_err(|error| match error {
            VarError::NotPresent => {
                format!("'{shown}': the environment variable '{variable}' is not set")
            }
            VarError::NotUnicode(_) => {
                format!("'{shown}': the environment variable '{variable}' is not UTF-8")
            }
        })?;
        let value = match key {
            None => value,
            Some(key) => json_member(&value, key).ok_or_else(|| {
                let key = quoted(key.as_bytes());
                format!(
                    "'{shown}': the environment variable '{variable}' is not a JSON object with \
                     a text '{key}'"
                )
            })?,
        };
        let value = self.values.keep(value).ok_or_else(|| {
            format!("'{shown}': more than {MAX_REFERENCES} references to vaults in a document")
        })?;
        Ok(Resolved { variable, value })
    }
}

/// A text, number or boolean of a JSON object, as text.
fn json_member(json: &str, key: &str) -> Option<String> {
    match serde_json::from_str::<serde_json::Value>(json)
        .ok()?
        .get(key)?
    {
        serde_json::Value::String(text) => Some(text.clone()),
        value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => {
            Some(value.to_string())
        }
        _ => None,
    }
}

fn member<'t>(node: &'t Node<'t>, name: &str) -> Option<&'t Node<'t>> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let mut entries = entries.iter();
    entries
        .find(|(key, _)| &*key.text == name)
        .map(|(_, value)| value)
}

fn text<'t>(node: &'t Node<'t>, name: &str) -> Option<&'t str> {
    member(node, name)?.as_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(name: &str) -> Result<String, VarError> {
        match name {
            "MY_SECRET" => Ok("s3cret".to_owned()),
            "SECURE_A" => Ok("secure".to_owned()),
            "MY_JSON" => Ok(r#"{"id": "a b", "port": 8443, "list": []}"#.to_owned()),
            "NO_JSON" => Ok("{".to_owned()),
            _ => Err(VarError::NotPresent),
        }
    }

    #[test]
    fn resolve_follows_kongs_rules_for_the_vault_env() {
        let values = VaultValues::default();
        let mut vaults = Vaults::new(&values);
        vaults.vaults = vec![("my-env", "env", "SECURE_"), ("my-hcv", "hcv", "")];
        let resolve = |text| {
            let found = vaults.resolve_with(text, get);
            found.map(|found| (found.variable, found.value.to_owned()))
        };
        for (reference, variable, value) in [
            ("{vault://env/my-secret}", "MY_SECRET", "s3cret"),
            ("{vault://env/MY_SECRET}", "MY_SECRET", "s3cret"),
            ("{vault://env/my-json/id}", "MY_JSON", "a b"),
            ("{vault://env/my-json/port}", "MY_JSON", "8443"),
            ("{vault://my-env/a}", "SECURE_A", "secure"),
            ("{vault://env/a?prefix=secure-}", "SECURE_A", "secure"),
        ] {
            let found = resolve(reference);
            assert_eq!(found, Ok((variable.to_owned(), value.to_owned())));
        }
        for (reference, error) in [
            (
                "{vault://hcv/a/b}",
                "'{vault://hcv/a/b}': the vault 'hcv' is not supported, expected \
                 {vault://env/NAME} or {vault://env/NAME/KEY}",
            ),
            (
                "{vault://my-hcv/a}",
                "'{vault://my-hcv/a}': the vault 'my-hcv' is not supported, expected \
                 {vault://env/NAME} or {vault://env/NAME/KEY}",
            ),
            (
                "{vault://env}",
                "'{vault://env}' is not a valid reference to a vault, expected {vault://env/NAME} \
                 or {vault://env/NAME/KEY}",
            ),
            (
                "{vault://env/none}",
                "'{vault://env/none}': the environment variable 'NONE' is not set",
            ),
            (
                "{vault://env/my-json/list}",
                "'{vault://env/my-json/list}': the environment variable 'MY_JSON' is not a JSON \
                 object with a text 'list'",
            ),
            (
                "{vault://env/no-json/a}",
                "'{vault://env/no-json/a}': the environment variable 'NO_JSON' is not a JSON \
                 object with a text 'a'",
            ),
        ] {
            assert_eq!(resolve(reference), Err(error.to_owned()));
        }
    }

    #[test]
    fn resolve_keeps_a_bounded_number_of_values() {
        let values = VaultValues::default();
        let vaults = Vaults::new(&values);
        let resolve = || {
            vaults
                .resolve_with("{vault://env/my-secret}", get)
                .map(|_| ())
        };
        for _ in 0..MAX_REFERENCES {
            assert_eq!(resolve(), Ok(()));
        }
        let error = resolve().unwrap_err();
        assert!(error.ends_with("more than 1000 references to vaults in a document"));
    }
}
