//! Input of SHA-256 digests: texts and numbers that cannot be mistaken for each other.

use openssl::sha::Sha256;

/// Adds a text with its length, so that different lists of texts have different input.
pub(super) fn update_text(digest: &mut Sha256, text: &str) {
    update_number(digest, text.len());
    digest.update(text.as_bytes());
}

/// Adds a number as 64 bits, big-endian.
pub(super) fn update_number(digest: &mut Sha256, number: usize) {
    digest.update(&(number as u64).to_be_bytes());
}
