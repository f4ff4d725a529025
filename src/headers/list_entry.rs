//! What a server keeps with each request header beside name and value, so that a line that was made
//! once can be appended to its list as it is.

/// Names, in lower case, that nginx reads itself when a request arrives and keeps apart (its table
/// `ngx_http_headers_in`, up to nginx 1.31). A header of such a name must be set, not appended.
const READ_BY_NGINX: [&str; 32] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "connection",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "depth",
    "destination",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "overwrite",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-real-ip",
];

/// The hash of a name in lower case that nginx keeps with a header (`ngx_hash_key_lc`).
pub fn name_hash(lower_case: &[u8]) -> usize {
    let step = |hash: usize, byte: &u8| hash.wrapping_mul(31).wrapping_add(usize::from(*byte));
    lower_case.iter().fold(0, step)
}

/// Whether a header may be appended to the headers of a request that has none of its name: nginx
/// keeps nothing else of it, and its bytes need no escape. nginx takes an empty value for none.
pub fn may_append(lower_case: &str, value: &str) -> bool {
    let is_printable = |byte: u8| byte >= b' ' && byte != 0x7f;
    !READ_BY_NGINX.contains(&lower_case)
        && !lower_case.starts_with("x-forwarded-for")
        && !lower_case.is_empty()
        && lower_case
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b':')
        && !value.is_empty()
        && value.bytes().all(is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_hash_is_that_of_nginx() {
        // ngx_hash(key, c): key * 31 + c
        assert_eq!(name_hash(b""), 0);
        assert_eq!(name_hash(b"a"), 97);
        assert_eq!(name_hash(b"ab"), 97 * 31 + 98);
        // Wraps as ngx_uint_t does.
        let name = b"x-client-cert-fingerprint";
        let hash = name.iter().fold(0_u128, |hash, byte| {
            (hash * 31 + u128::from(*byte)) % (1 << usize::BITS)
        });
        assert_eq!(name_hash(name) as u128, hash);
    }

    #[test]
    fn may_append_names_that_nginx_does_not_read() {
        assert!(may_append("x-client-cert", "a%20b"));
        assert!(may_append("x-client-cert-subject-dn", "CN=\u{e4}"));
        for name in [
            "host",
            "connection",
            "x-forwarded-for",
            "x-real-ip",
            "",
            "a b",
            "a:",
        ] {
            assert!(!may_append(name, "a"), "{name}");
        }
        for value in ["", "a\nb", "a\rb", "a\0", "\x7f", "a\tb"] {
            assert!(!may_append("x-client-cert", value), "{value:?}");
        }
    }
}
