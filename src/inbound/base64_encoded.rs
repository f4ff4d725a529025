//! `base64_encoded`: one certificate, the base64 of its DER.

use super::{base64, Ders};
use crate::Error;

pub(super) fn decode(value: &[u8]) -> Result<Ders, Error> {
    Ok(vec![base64(value)?])
}
