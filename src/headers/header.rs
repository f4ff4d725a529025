//! The table each dialect is.

use super::{Facts, LeftOut, Mode, Options, MAX_VALUE};

/// Most values of a numbered header.
pub const MAX_NUMBERED: usize = 16;

/// A value, `None` when there is nothing to say.
pub type Rendered = Result<Option<String>, LeftOut>;

type One = fn(&Facts, &Options) -> Rendered;
type Each = fn(&Facts, &Options) -> Result<Vec<String>, LeftOut>;
type Parts = fn(&Facts, &Options) -> Vec<(&'static str, LeftOut)>;

#[derive(Clone, Copy)]
enum Render {
    One(One),
    Each(Each),
}

/// One header of a dialect.
#[derive(Clone, Copy)]
pub struct Header {
    /// The dialect's own word for the value, by which it is looked up and renamed.
    pub key: &'static str,
    /// Default header name; `None` for a value that is set only under a name of the operator's.
    pub name: Option<&'static str>,
    /// Longest value in bytes, if the operator says nothing else.
    pub limit: usize,
    /// The header beside which alone this one may stand.
    pub beside: Option<&'static str>,
    mode: Option<Mode>,
    fixed: bool,
    utf8: bool,
    daily: bool,
    parts: Option<Parts>,
    render: Render,
}

impl Header {
    pub(super) const fn new(key: &'static str, name: &'static str, render: One) -> Header {
        Header {
            name: Some(name),
            ..Header::unnamed(key, render)
        }
    }

    pub(super) const fn unnamed(key: &'static str, render: One) -> Header {
        Header {
            key,
            name: None,
            limit: MAX_VALUE,
            beside: None,
            mode: None,
            fixed: false,
            utf8: false,
            daily: false,
            parts: None,
            render: Render::One(render),
        }
    }

    /// `name` followed by `0`, `1`, ...
    pub(super) const fn numbered(key: &'static str, name: &'static str, render: Each) -> Header {
        let none: One = |_, _| Ok(None);
        Header {
            render: Render::Each(render),
            ..Header::new(key, name, none)
        }
    }

    pub(super) const fn limit(self, limit: usize) -> Header {
        Header { limit, ..self }
    }

    /// A limit that the operator can only lower.
    pub(super) const fn fixed_limit(self, limit: usize) -> Header {
        Header {
            limit,
            fixed: true,
            ..self
        }
    }

    /// The value may hold UTF-8.
    pub(super) const fn utf8(self) -> Header {
        Header { utf8: true, ..self }
    }

    /// The value counts the days until the certificate expires.
    pub(super) const fn daily(self) -> Header {
        Header {
            daily: true,
            ..self
        }
    }

    /// The value goes without the parts that this names, and stands all the same.
    pub(super) const fn parts(self, left_out: Parts) -> Header {
        Header {
            parts: Some(left_out),
            ..self
        }
    }

    pub(super) const fn beside(self, key: &'static str) -> Header {
        Header {
            beside: Some(key),
            ..self
        }
    }

    /// The header exists in this mode only.
    pub(super) const fn only(self, mode: Mode) -> Header {
        Header {
            mode: Some(mode),
            ..self
        }
    }

    /// Whether the header exists in this mode.
    pub fn is_of(&self, mode: Mode) -> bool {
        self.mode.is_none_or(|own| own == mode)
    }

    /// Whether there are several, `name` followed by `0`, `1`, ...
    pub fn is_numbered(&self) -> bool {
        matches!(self.render, Render::Each(_))
    }

    /// First second at which the value is another one, if it ever is.
    pub fn until(&self, facts: &Facts) -> Option<i64> {
        let not_after = facts.certificate.filter(|_| self.daily)?.not_after().ok()?;
        let left = not_after.saturating_sub(facts.now);
        (left > 0).then(|| facts.now.saturating_add(left % 86_400).saturating_add(1))
    }

    /// The values: at most one, unless the header is numbered.
    ///
    /// # Errors
    /// When there is a value, and a header must not or cannot carry it.
    pub fn values(&self, facts: &Facts, options: &Options) -> Result<Vec<String>, LeftOut> {
        if !self.is_of(options.mode) {
            return Ok(Vec::new());
        }
        let facts = options.told(facts);
        let values = match self.render {
            Render::One(render) => render(&facts, options)?.into_iter().collect(),
            Render::Each(render) => render(&facts, options)?,
        };
        if values.len() > MAX_NUMBERED {
            return Err(LeftOut::TooMany {
                count: values.len(),
                limit: MAX_NUMBERED,
            });
        }
        let limit = match options.max_bytes {
            Some(max) if self.fixed => max.min(self.limit),
            Some(max) => max,
            None => self.limit,
        };
        for value in &values {
            if value.len() > limit {
                return Err(LeftOut::TooLarge {
                    bytes: value.len(),
                    limit,
                });
            }
            self.check(value)?;
        }
        Ok(values)
    }

    /// The parts that the value goes without, and why.
    pub fn left_out_parts(&self, facts: &Facts, options: &Options) -> Vec<(&'static str, LeftOut)> {
        match self.parts {
            Some(left_out) if self.is_of(options.mode) => left_out(&options.told(facts), options),
            _ => Vec::new(),
        }
    }

    /// The last line of defence: whatever the dialect's own code let through.
    fn check(&self, value: &str) -> Result<(), LeftOut> {
        if value.is_empty() {
            return Err(LeftOut::Ambiguous("an empty value among others".to_owned()));
        }
        // HTTP strips spaces from the ends of a field value (RFC 9110 section 5.5), readers more.
        if value.trim() != value {
            return Err(LeftOut::NotText("a space at an end of the value"));
        }
        let is_ascii = value.is_ascii();
        let has_control = match is_ascii {
            true => value.bytes().any(|byte| byte.is_ascii_control()),
            false => value.chars().any(char::is_control),
        };
        if has_control {
            return Err(LeftOut::NotText("a control character in the value"));
        }
        if !self.utf8 && !is_ascii {
            return Err(LeftOut::NotText("the value is not ASCII"));
        }
        Ok(())
    }
}
