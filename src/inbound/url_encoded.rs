//! `url_encoded`: PEM blocks, leaf first, percent-encoded. `+` is data, never a space.

use percent_encoding::percent_decode;

use super::{pem, Ders};
use crate::Error;

pub(super) fn decode(value: &[u8]) -> Result<Ders, Error> {
    // What is no escape stays as it is, and a `%` is nothing that PEM has.
    let text: Vec<u8> = percent_decode(value).collect();
    pem::decode(&text)
}
