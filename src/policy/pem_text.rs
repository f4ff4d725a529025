//! Explains why the text of a `cert` field is not a PEM certificate.

use crate::text::quoted;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// How a certificate is written in a policy.
const EXPECTED: &str =
    "expected 'cert: |' and below it, indented, the lines from '-----BEGIN CERTIFICATE-----' to \
     '-----END CERTIFICATE-----'";

/// The largest number of lines of a PEM text that are examined.
const MAX_LINES: usize = 1000;

/// Extensions of files that contain certificates and keys.
const EXTENSIONS: &[&str] = &[
    ".pem", ".crt", ".cer", ".cert", ".der", ".p7b", ".p12", ".pfx", ".key",
];

/// Describes what the text is instead of a certificate, and what was expected. `None` if nothing is
/// found here: then the error of the parser of certificates is the best message.
pub fn diagnose(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some(format!("is empty, {EXPECTED}"));
    }
    match label(text) {
        None => Some(not_pem(text.trim())),
        Some(label) if !is_certificate(label) && !has_certificate(text) => Some(other_block(label)),
        // The header lines of an encrypted block are not base64, so its layout is not checked.
        Some(_) if text.contains("Proc-Type") => None,
        Some(_) => layout_error(text),
    }
}

/// Whether the text contains a private key.
pub fn has_private_key(text: &str) -> bool {
    text.match_indices(BEGIN).any(|(at, _)| {
        let label = text.get(at..).and_then(label);
        label.is_some_and(|label| label.ends_with("PRIVATE KEY"))
    })
}

/// Returns the label of the first PEM block.
fn label(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(BEGIN)?;
    let label = rest.split(['\n', '\r']).next()?;
    Some(label.split_once("-----").map_or(label, |(label, _)| label))
}

fn is_certificate(label: &str) -> bool {
    matches!(
        label,
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"
    )
}

fn has_certificate(text: &str) -> bool {
    text.match_indices(BEGIN).any(|(at, _)| {
        let label = text.get(at..).and_then(label);
        label.is_some_and(is_certificate)
    })
}

/// Looks for a PEM text before or at line `error` of a YAML document whose indentation may be the
/// cause of the error. Returns the number, from 1, of its first line that is indented less than the
/// line `-----BEGIN`, or the number of that line if it is not indented deeper than the key.
pub fn badly_indented_line(yaml: &str, error: usize) -> Option<usize> {
    let lines: Vec<&str> = yaml.lines().take(error.saturating_add(MAX_LINES)).collect();
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let is_begin = |line: &&str| line.trim_start().starts_with(BEGIN);
    let first = lines
        .get(..error.min(lines.len()))?
        .iter()
        .rposition(is_begin)?;
    let begin = lines.get(first)?;
    let key = first.checked_sub(1).and_then(|before| lines.get(before))?;
    let key_indent = key.find(|c: char| c != ' ' && c != '-').unwrap_or(0);
    if !key.trim_end().ends_with(['|', '>', '-', '+']) || !key.contains(':') {
        return None;
    }
    if indent(begin) <= key_indent {
        return Some(first + 1);
    }
    let block = lines.iter().enumerate().skip(first).take(MAX_LINES);
    for (number, line) in block {
        if !line.trim().is_empty() && indent(line) < indent(begin) {
            return Some(number + 1);
        }
        if line.trim_start().starts_with(END) {
            return None;
        }
    }
    None
}

/// Describes a PEM block that is not a certificate.
fn other_block(label: &str) -> String {
    let what = match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => "a public key".to_owned(),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            "a certificate request (CSR)".to_owned()
        }
        "X509 CRL" => "a CRL".to_owned(),
        "PKCS7" => "a PKCS #7 bundle".to_owned(),
        label if label.ends_with("PRIVATE KEY") => {
            return "is a private key, which must not be in a policy; expected the certificate of \
                    the CA, '-----BEGIN CERTIFICATE-----'"
                .to_owned();
        }
        label => format!("a PEM block '{}'", quoted(label.as_bytes())),
    };
    format!("is {what}, expected the certificate of the CA, '-----BEGIN CERTIFICATE-----'")
}

/// Whether a text that is not PEM is the path of a file.
pub fn is_path(text: &str) -> bool {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    let looks_like_path = text.starts_with(['/', '~', '@'])
        || ["./", "../", "file:"].iter().any(|start| text.starts_with(start))
        || EXTENSIONS.iter().any(|extension| lower.ends_with(extension))
        // For example `C:\ca.pem` and `certs/ca`. Base64 may contain a slash too, but is longer.
        || text.len() < 64 && text.contains(['/', '\\']) && !text.contains(' ');
    looks_like_path
        && !text.contains(['\n', '\r'])
        && !lower.starts_with("{vault://")
        && (!text.contains("://") || text.starts_with("file:"))
}

/// Describes text that has no line `-----BEGIN`.
fn not_pem(text: &str) -> String {
    let shown = quoted(text.as_bytes());
    let is_line = !text.contains(['\n', '\r']);
    if is_line && text.to_ascii_lowercase().starts_with("{vault://") {
        return format!("'{shown}' is a reference to a vault, which is not read, {EXPECTED}");
    }
    if is_line && text.contains("://") && !text.starts_with("file:") {
        return format!("'{shown}' is a URL, which is not fetched, {EXPECTED}");
    }
    if is_path(text) {
        return format!("'{shown}' is the path of a file, which is not read, {EXPECTED}");
    }
    if text.len() >= 64 && text.chars().all(is_base64) {
        return format!("is base64 without its first and last line, {EXPECTED}");
    }
    if text.contains("-----END ") || text.contains("BEGIN CERTIFICATE") {
        return format!("has no line '-----BEGIN CERTIFICATE-----', {EXPECTED}");
    }
    format!("'{shown}' is not a certificate, {EXPECTED}")
}

/// Describes an error in the lines or the indentation of a text that has a block with the label of
/// a certificate.
fn layout_error(text: &str) -> Option<String> {
    if !text.contains(['\n', '\r']) {
        // A plain or folded scalar, or quotes in which the backslash is literal.
        let how = match text.contains("\\n") {
            true => "the two characters '\\n' in place of its line ends",
            false => "no line ends: YAML joins lines without '|'",
        };
        return Some(format!("has {how}, {EXPECTED}"));
    }
    let lines = || text.lines().enumerate();
    // Other text may precede the first block. A block begins at the start of a line.
    let (first, begin) = lines().find(|(_, line)| line.contains(BEGIN))?;
    if !begin.starts_with(BEGIN) && begin.trim_start().starts_with(BEGIN) {
        return Some(indentation_error(first));
    }
    let (mut ended, mut empty) = (false, true);
    for (number, line) in lines().skip(first + 1) {
        if line.trim_start().starts_with(END) {
            if !line.starts_with(END) {
                return Some(indentation_error(number));
            }
            ended = true;
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        empty = false;
        if line.starts_with([' ', '\t']) {
            return Some(indentation_error(number));
        }
        if let Some(message) = not_base64(line, number) {
            return Some(message);
        }
    }
    match (ended, empty) {
        (false, _) => Some(format!(
            "has no line '-----END CERTIFICATE-----', {EXPECTED}"
        )),
        (true, true) => Some(format!(
            "has nothing between its first and last line, {EXPECTED}"
        )),
        (true, false) => None,
    }
}

fn indentation_error(line: usize) -> String {
    format!(
        "line {} of the PEM text begins with blanks, expected all its lines at the indentation of \
         the first one below 'cert: |'",
        line + 1
    )
}

/// Describes a line between BEGIN and END that is not base64.
fn not_base64(line: &str, number: usize) -> Option<String> {
    let text = line.trim();
    if text.chars().all(is_base64) {
        return None;
    }
    let shown = quoted(text.as_bytes());
    let what = match text {
        "the CA that signs your clients' certificates" => "the placeholder of the example",
        _ => "not base64",
    };
    Some(format!(
        "line {} of the PEM text is {what}, '{shown}', expected the certificate of your CA in its \
         place",
        number + 1
    ))
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::CaCertificate;

    const LINE: &str = "MIIBszCCAVmgAwIBAgIUJmFrZSBjZXJ0aWZpY2F0ZSBmb3IgdGVzdHMwCgYIKoZI";

    fn block(label: &str) -> String {
        format!("-----BEGIN {label}-----\n{LINE}\n-----END {label}-----\n")
    }

    #[test]
    fn diagnose_describes_what_the_text_is_instead() {
        let certificate = block("CERTIFICATE");
        for (text, start) in [
            ("", "is empty, expected 'cert: |'"),
            (" \n", "is empty, expected 'cert: |'"),
            ("/etc/ssl/ca.pem", "'/etc/ssl/ca.pem' is the path of a file, which is not read, "),
            ("ca.crt\n", "'ca.crt' is the path of a file, "),
            ("~/ca", "'~/ca' is the path of a file, "),
            ("certs/ca", "'certs/ca' is the path of a file, "),
            ("C:\\ca.cer", "'C:\\\\ca.cer' is the path of a file, "),
            ("file:///etc/ca", "'file:///etc/ca' is the path of a file, "),
            ("@ca.txt", "'@ca.txt' is the path of a file, "),
            ("https://a.test/ca.pem", "'https://a.test/ca.pem' is a URL, which is not fetched, "),
            ("{vault://env/ca}", "'{vault://env/ca}' is a reference to a vault, which is not read, "),
            (LINE, "is base64 without its first and last line, "),
            ("put your CA here", "'put your CA here' is not a certificate, "),
            ("-- BEGIN CERTIFICATE --\nx", "has no line '-----BEGIN CERTIFICATE-----', "),
            (&block("PRIVATE KEY"), "is a private key, which must not be in a policy; expected the "),
            (&block("EC PRIVATE KEY"), "is a private key, "),
            (&block("ENCRYPTED PRIVATE KEY"), "is a private key, "),
            (&block("OPENSSH PRIVATE KEY"), "is a private key, "),
            (&block("CERTIFICATE REQUEST"), "is a certificate request (CSR), expected the certificate "),
            (&block("PUBLIC KEY"), "is a public key, "),
            (&block("X509 CRL"), "is a CRL, "),
            (&block("PKCS7"), "is a PKCS #7 bundle, "),
            (&block("PGP MESSAGE"), "is a PEM block 'PGP MESSAGE', "),
            (&certificate.replace('\n', " "), "has no line ends: YAML joins lines without '|', expected "),
            (
                &certificate.replace('\n', "\\n"),
                "has the two characters '\\n' in place of its line ends, expected ",
            ),
            (
                &certificate.replace("-----END", "  -----END"),
                "line 3 of the PEM text begins with blanks, expected all its lines at the ",
            ),
            (&certificate.replace("MII", "  MII"), "line 2 of the PEM text begins with blanks, "),
            (&certificate.replace('\n', "\n  "), "line 2 of the PEM text begins with blanks, "),
            (&format!("  {certificate}"), "line 1 of the PEM text begins with blanks, "),
            (
                "-----BEGIN CERTIFICATE-----\nthe CA that signs your clients' certificates\n\
                 -----END CERTIFICATE-----\n",
                "line 2 of the PEM text is the placeholder of the example, 'the CA that signs your \
                 clients\\' certificates', expected the certificate of your CA in its place",
            ),
            (
                "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----",
                "line 2 of the PEM text is not base64, '...', expected the certificate of your CA in ",
            ),
            ("-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----", "has nothing between its "),
            (
                &certificate.replace("-----END CERTIFICATE-----", ""),
                "has no line '-----END CERTIFICATE-----', ",
            ),
        ] {
            assert!(CaCertificate::from_pem(text.as_bytes()).is_err(), "{text}");
            let found = diagnose(text).unwrap();
            assert!(found.starts_with(start), "{text:?}: {found}");
            assert!(found.contains("expected"), "{found}");
        }
    }

    #[test]
    fn diagnose_finds_nothing_in_a_well_formed_block() {
        assert_eq!(diagnose(&block("CERTIFICATE")), None);
        assert_eq!(
            diagnose(&format!("ca:\n{}", block("TRUSTED CERTIFICATE"))),
            None
        );
        assert_eq!(
            diagnose(&format!("{}{}", block("PRIVATE KEY"), block("CERTIFICATE"))),
            None
        );
        let encrypted = block("CERTIFICATE").replace("MII", "Proc-Type: 4,ENCRYPTED\n\nMII");
        assert_eq!(diagnose(&encrypted), None);
    }

    #[test]
    fn badly_indented_line_is_one_that_ends_the_text_early() {
        let yaml = |key: &str, begin: &str, body: &str, end: &str| {
            format!(
                "ca_certificates:\n- id: x\n{key}\n{begin}-----BEGIN CERTIFICATE-----\n{body}{LINE}\n\
                 {end}-----END CERTIFICATE-----\nroutes: []\n"
            )
        };
        for (text, line) in [
            (yaml("  cert: |", "    ", "    ", "    "), None),
            (yaml("  cert: |", "    ", "  ", "    "), Some(5)),
            (yaml("  cert: |", "    ", "", ""), Some(5)),
            (yaml("  cert: |", "    ", "    ", "  "), Some(6)),
            (yaml("  cert: |", "", "", ""), Some(4)),
            (yaml("  cert: |-", "  ", "  ", "  "), Some(4)),
            (yaml("- cert: |", "    ", "      ", "    "), None),
            (yaml("- cert:", "", "", ""), None),
        ] {
            for error in 4..9 {
                assert_eq!(badly_indented_line(&text, error), line, "{text}");
            }
        }
        let text = yaml("  cert: |", "", "", "");
        assert_eq!(badly_indented_line(&text, 0), None);
        assert_eq!(badly_indented_line(&text, 3), None);
        assert_eq!(badly_indented_line(&text, usize::MAX), Some(4));
        assert_eq!(badly_indented_line("-----BEGIN ", 1), None);
    }
}
