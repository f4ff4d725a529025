//! A JSON object from another party: limited in size and depth, without duplicate names. Of a
//! duplicate name, two readers could use different values.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting.
const MAX_DEPTH: usize = 16;

/// Most values of one document.
const MAX_VALUES: usize = 20_000;

/// Reads an object of at most `max` bytes.
pub(super) fn object(bytes: &[u8], max: usize) -> Result<Map<String, Value>, String> {
    if bytes.len() > max {
        return Err(format!("{} bytes are over the limit of {max}", bytes.len()));
    }
    let mut values = 0;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed {
        depth: 0,
        values: &mut values,
    };
    // The error texts of serde_json contain positions, not the content.
    let value = seed
        .deserialize(&mut reader)
        .map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err("not a JSON object".to_owned()),
    }
}

struct Seed<'v> {
    depth: usize,
    values: &'v mut usize,
}

impl Seed<'_> {
    fn inner(&mut self) -> Seed<'_> {
        Seed {
            depth: self.depth + 1,
            values: self.values,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.values += 1;
        if *self.values > MAX_VALUES {
            return Err(Error::custom(format!("over {MAX_VALUES} values")));
        }
        if self.depth > MAX_DEPTH {
            return Err(Error::custom(format!("nested deeper than {MAX_DEPTH}")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner())? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.inner())?;
            if object.insert(name, value).is_some() {
                return Err(Error::custom("a repeated name in an object"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_is_read_within_limits() {
        let read = |text: &str| object(text.as_bytes(), 100_000);
        assert_eq!(
            Value::Object(read(r#"{"a":[1,-2,2.5,true,null,"x"],"b":{"c":{}}}"#).unwrap()),
            serde_json::json!({"a": [1, -2, 2.5, true, null, "x"], "b": {"c": {}}})
        );
        for (text, error) in [
            ("[]", "not a JSON object"),
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{} x", "trailing characters at line 1 column 4"),
            (
                r#"{"a":1,"a":1}"#,
                "a repeated name in an object at line 1 column 13",
            ),
            (
                r#"{"b":{"a":1,"\u0061":1}}"#,
                "a repeated name in an object at line 1 column 23",
            ),
            (
                &format!("{{\"a\":{}", "[".repeat(1000)),
                "nested deeper than 16 at line 1 column 21",
            ),
            (
                &format!("{{\"a\":[{}1]}}", "1,".repeat(20_000)),
                "over 20000 values at line 1 column 40002",
            ),
            (
                &format!("{{\"a\":\"{}\"}}", "x".repeat(100_000)),
                "100008 bytes are over the limit of 100000",
            ),
            ("{\"a\":1e999}", "number out of range at line 1 column 10"),
        ] {
            assert_eq!(read(text).unwrap_err(), error, "{text:.40}");
        }
    }
}
