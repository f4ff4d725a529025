//! The content coding gzip (RFC 9110 section 8.4.1.3, RFC 1952) of responses.

use std::io::Read;

/// Decodes `data`, which may have several members.
///
/// # Errors
/// When it is not gzip, truncated or corrupt, or over `max` bytes when decoded. No more than `max`
/// bytes and one are ever decoded.
pub fn decode(data: &[u8], max: usize) -> Result<Vec<u8>, String> {
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut out = Vec::new();
    flate2::bufread::MultiGzDecoder::new(data)
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|error| format!("body is no gzip: {error}"))?;
    match out.len() > max {
        true => Err(format!("body is over {max} bytes when decoded")),
        false => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn encode(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn decoding_ends_at_the_limit() {
        let bomb = encode(&vec![0; 50_000_000]);
        assert!(bomb.len() < 50_000);
        assert_eq!(decode(&encode(b"{}"), 2).unwrap(), b"{}");
        assert_eq!(decode(&encode(b""), 0).unwrap(), b"");
        let over = "body is over 1000 bytes when decoded";
        assert_eq!(decode(&bomb, 1000).unwrap_err(), over);
        let two = [encode(&[b'x'; 600]), encode(&[b'y'; 600])].concat();
        assert_eq!(decode(&two, 1000).unwrap_err(), over);
        assert_eq!(decode(&two, 1200).unwrap().len(), 1200);
    }

    #[test]
    fn truncated_corrupt_and_foreign_data_is_refused() {
        let good = encode(b"{\"keys\":[]}");
        for end in 0..good.len() {
            assert!(decode(&good[..end], 1000).is_err(), "{end} bytes");
        }
        let mut wrong_checksum = good.clone();
        let place = good.len() - 8;
        wrong_checksum[place] ^= 1;
        for bad in [
            &wrong_checksum,
            b"{}".as_slice(),
            &[&good, b"x".as_slice()].concat(),
        ] {
            let why = decode(bad, 1000).unwrap_err();
            assert!(why.starts_with("body is no gzip: "), "{why}");
        }
    }
}
