//! A row of the header table of a dialect.

use super::{ClientInfo, DialectOptions, LeftOutReason, MtlsMode, MAX_VALUE};

/// Most values of a numbered header.
pub const MAX_NUMBERED: usize = 16;

/// The value of a header, or `None` where the certificate has no such value.
pub type RenderResult = Result<Option<String>, LeftOutReason>;

type RenderOne = fn(&ClientInfo, &DialectOptions) -> RenderResult;
type RenderMany = fn(&ClientInfo, &DialectOptions) -> Result<Vec<String>, LeftOutReason>;
type LeftOutParts = fn(&ClientInfo, &DialectOptions) -> Vec<(&'static str, LeftOutReason)>;

#[derive(Clone, Copy)]
enum Render {
    One(RenderOne),
    Many(RenderMany),
}

/// One header of a dialect.
#[derive(Clone, Copy)]
pub struct Header {
    /// The dialect's own name for the value, by which it is looked up and renamed.
    pub key: &'static str,
    /// Default header name; `None` for a value that is set only under a name of the operator's.
    pub name: Option<&'static str>,
    /// Longest value in bytes, if the operator sets no other limit.
    pub limit: usize,
    /// Key of the header without which this one is not written.
    pub requires: Option<&'static str>,
    mode: Option<MtlsMode>,
    limit_is_fixed: bool,
    allows_utf8: bool,
    changes_daily: bool,
    left_out_parts: Option<LeftOutParts>,
    render: Render,
}

impl Header {
    pub(super) const fn new(key: &'static str, name: &'static str, render: RenderOne) -> Header {
        Header {
            name: Some(name),
            ..Header::unnamed(key, render)
        }
    }

    /// A value without a default header name.
    pub(super) const fn unnamed(key: &'static str, render: RenderOne) -> Header {
        Header {
            key,
            name: None,
            limit: MAX_VALUE,
            requires: None,
            mode: None,
            limit_is_fixed: false,
            allows_utf8: false,
            changes_daily: false,
            left_out_parts: None,
            render: Render::One(render),
        }
    }

    /// Several headers: `name` followed by `0`, `1`, ...
    pub(super) const fn numbered(
        key: &'static str,
        name: &'static str,
        render: RenderMany,
    ) -> Header {
        let none: RenderOne = |_, _| Ok(None);
        Header {
            render: Render::Many(render),
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
            limit_is_fixed: true,
            ..self
        }
    }

    /// The value may hold UTF-8.
    pub(super) const fn utf8(self) -> Header {
        Header {
            allows_utf8: true,
            ..self
        }
    }

    /// The value counts the days until the certificate expires.
    pub(super) const fn changes_daily(self) -> Header {
        Header {
            changes_daily: true,
            ..self
        }
    }

    /// The value may be written without some of its parts; `parts` returns those left out.
    pub(super) const fn with_left_out_parts(self, parts: LeftOutParts) -> Header {
        Header {
            left_out_parts: Some(parts),
            ..self
        }
    }

    pub(super) const fn requires(self, key: &'static str) -> Header {
        Header {
            requires: Some(key),
            ..self
        }
    }

    /// The header exists in this mode only.
    pub(super) const fn only_in(self, mode: MtlsMode) -> Header {
        Header {
            mode: Some(mode),
            ..self
        }
    }

    /// Whether the header exists in this mode.
    pub fn exists_in(&self, mode: MtlsMode) -> bool {
        self.mode.is_none_or(|only| only == mode)
    }

    /// Whether the header is numbered: `name` followed by `0`, `1`, ...
    pub fn is_numbered(&self) -> bool {
        matches!(self.render, Render::Many(_))
    }

    /// The first second at which the value changes by itself, if it ever does.
    pub fn changes_at(&self, client: &ClientInfo) -> Option<i64> {
        let certificate = client.certificate.filter(|_| self.changes_daily)?;
        let left = certificate.not_after().ok()?.saturating_sub(client.now);
        (left > 0).then(|| client.now.saturating_add(left % 86_400).saturating_add(1))
    }

    /// The values: at most one, unless the header is numbered.
    ///
    /// # Errors
    /// When there is a value that a header must not or cannot carry.
    pub fn values(
        &self,
        client: &ClientInfo,
        options: &DialectOptions,
    ) -> Result<Vec<String>, LeftOutReason> {
        if !self.exists_in(options.mode) {
            return Ok(Vec::new());
        }
        let client = options.restrict(client);
        let values = match self.render {
            Render::One(render) => render(&client, options)?.into_iter().collect(),
            Render::Many(render) => render(&client, options)?,
        };
        if values.len() > MAX_NUMBERED {
            return Err(LeftOutReason::TooMany {
                count: values.len(),
                limit: MAX_NUMBERED,
            });
        }
        let limit = match options.max_bytes {
            Some(max) if self.limit_is_fixed => max.min(self.limit),
            Some(max) => max,
            None => self.limit,
        };
        for value in &values {
            if value.len() > limit {
                return Err(LeftOutReason::TooLarge {
                    bytes: value.len(),
                    limit,
                });
            }
            self.check(value)?;
        }
        Ok(values)
    }

    /// The parts that the value is written without, and the reasons.
    pub fn left_out_parts(
        &self,
        client: &ClientInfo,
        options: &DialectOptions,
    ) -> Vec<(&'static str, LeftOutReason)> {
        match self.left_out_parts {
            Some(parts) if self.exists_in(options.mode) => {
                parts(&options.restrict(client), options)
            }
            _ => Vec::new(),
        }
    }

    /// Checks what every dialect must guarantee, in case the code of a dialect misses it.
    fn check(&self, value: &str) -> Result<(), LeftOutReason> {
        if value.is_empty() {
            return Err(LeftOutReason::Ambiguous(
                "an empty value among others".to_owned(),
            ));
        }
        // HTTP strips spaces from the ends of a field value (RFC 9110 section 5.5), readers more.
        if value.trim() != value {
            return Err(LeftOutReason::NotText("a space at an end of the value"));
        }
        let is_ascii = value.is_ascii();
        let has_control = match is_ascii {
            true => value.bytes().any(|byte| byte.is_ascii_control()),
            false => value.chars().any(char::is_control),
        };
        if has_control {
            return Err(LeftOutReason::NotText("a control character in the value"));
        }
        if !self.allows_utf8 && !is_ascii {
            return Err(LeftOutReason::NotText("the value is not ASCII"));
        }
        Ok(())
    }
}
