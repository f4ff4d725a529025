//! `aws_alb`: `X-Amzn-Mtls-Clientcert` (passthrough mode) or `X-Amzn-Mtls-Clientcert-Leaf` (verify
//! mode). Only percent-escapes are decoded, so characters that are not encoded do no harm.

use super::{url_encoded, Ders};
use crate::Error;

pub(super) fn decode(value: &[u8]) -> Result<Ders, Error> {
    url_encoded::decode(value)
}
