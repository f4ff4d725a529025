//! Serial numbers as text. `i2a_ASN1_INTEGER` is not used, because it breaks lines after 35 octets.

use openssl::asn1::Asn1IntegerRef;

use crate::openssl_ext::x509 as ext;
use crate::text;
use crate::Error;

/// Upper-case hexadecimal, two digits an octet, `00` for zero, `-` before a negative number: as
/// nginx's `$ssl_client_serial` for serials of up to 35 octets, and on one line for longer ones.
pub fn hex(serial: &Asn1IntegerRef) -> String {
    let (magnitude, negative) = ext::integer(serial);
    let mut text = String::with_capacity(1 + 2 * magnitude.len().max(1));
    if negative {
        text.push('-');
    }
    if magnitude.is_empty() {
        text.push_str("00");
    }
    text.push_str(&text::hex(magnitude).to_ascii_uppercase());
    text
}

/// Decimal, `-` before a negative number.
pub fn decimal(serial: &Asn1IntegerRef) -> Result<String, Error> {
    Ok(serial.to_bn()?.to_dec_str()?.to_string())
}

/// Octets of the absolute value.
pub fn octets(serial: &Asn1IntegerRef) -> &[u8] {
    ext::integer(serial).0
}

/// Content of the DER: two's complement, in the shortest form.
pub fn content(serial: &Asn1IntegerRef) -> Vec<u8> {
    let (magnitude, negative) = ext::integer(serial);
    let mut content = Vec::with_capacity(magnitude.len() + 1);
    content.push(0);
    content.extend_from_slice(magnitude);
    if negative {
        let mut carry = true;
        for octet in content.iter_mut().rev() {
            (*octet, carry) = (!*octet).overflowing_add(u8::from(carry));
        }
    }
    if matches!(content[..], [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..]) {
        content.remove(0);
    }
    content
}

/// Whether the number is negative.
pub fn is_negative(serial: &Asn1IntegerRef) -> bool {
    ext::integer(serial).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::asn1::Asn1Integer;
    use openssl::bn::BigNum;

    fn of(number: &str) -> String {
        let number = BigNum::from_hex_str(number).unwrap();
        hex(&Asn1Integer::from_bn(&number).unwrap())
    }

    #[test]
    fn hex_zero_is_two_digits() {
        assert_eq!(of("0"), "00");
    }

    #[test]
    fn hex_top_bit_set_has_no_leading_zero_octet() {
        assert_eq!(of("9ABCDEF0"), "9ABCDEF0");
    }

    #[test]
    fn hex_odd_digits_are_padded() {
        assert_eq!(of("ABC"), "0ABC");
    }

    #[test]
    fn hex_negative_has_a_sign() {
        assert_eq!(of("-7F"), "-7F");
    }

    #[test]
    fn hex_200_octets_is_one_line() {
        let long = "11".repeat(200);
        assert_eq!(of(&long), long);
    }

    #[test]
    fn content_is_that_of_the_der() {
        for number in [
            "0", "1", "7F", "80", "FF", "0100", "-1", "-7F", "-80", "-81", "-0100",
        ] {
            let bn = BigNum::from_hex_str(number).unwrap();
            let integer = Asn1Integer::from_bn(&bn).unwrap();
            let mut value = i64::from_str_radix(number, 16)
                .unwrap()
                .to_be_bytes()
                .to_vec();
            while value.len() > 1
                && (value[0] == 0) == (value[1] < 0x80)
                && [0, 0xff].contains(&value[0])
            {
                value.remove(0);
            }
            assert_eq!(content(&integer), value, "{number}");
        }
        let long = Asn1Integer::from_bn(&BigNum::from_hex_str(&"9A".repeat(20)).unwrap()).unwrap();
        assert_eq!(content(&long), [&[0][..], &[0x9a; 20]].concat());
    }

    #[test]
    fn decimal_of_zero_negative_and_long() {
        let of = |number: &str| {
            let number = BigNum::from_hex_str(number).unwrap();
            decimal(&Asn1Integer::from_bn(&number).unwrap()).unwrap()
        };
        assert_eq!(of("0"), "0");
        assert_eq!(of("-7F"), "-127");
        assert_eq!(
            of("9ABCDEF00112233445566778899AABBCCDDEEF"),
            "3450767732034622496278897254600008240192151279"
        );
        assert_eq!(of(&"11".repeat(200)).len(), 481);
    }
}
