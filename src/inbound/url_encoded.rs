//! `url_encoded`: PEM blocks, leaf first, percent-encoded. `+` is data, never a space.

use percent_encoding::percent_decode;

use super::{pem, Ders};
use crate::Error;

pub(super) fn decode(value: &[u8]) -> Result<Ders, Error> {
    // An invalid escape is kept, and PEM does not contain `%`, so decoding then fails.
    let text: Vec<u8> = percent_decode(value).collect();
    pem::decode(&text)
}
