#!/usr/bin/env python3
"""Writes the certificates of a PEM file and replaces the ECDSA signature (r, s) of one of them, whose issuer has a P-256
key, by (r, n - s), which is valid too.

    malleate_signature.py FILE [NUMBER]           the first certificate is number 0
"""
import base64
import re
import sys

N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551


def element(data):
    """Tag and content of the first DER element, and the rest."""
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7f
        size = int.from_bytes(data[2:start], "big")
    return data[0], data[start:start + size], data[start + size:]


def encode(tag, *parts):
    body = b"".join(parts)
    if len(body) < 0x80:
        size = bytes([len(body)])
    else:
        size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
        size = bytes([0x80 | len(size)]) + size
    return bytes([tag]) + size + body


def integer(number):
    return encode(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def twin(der):
    content = element(der)[1]
    _, tbs, rest = element(content)
    _, algorithm, rest = element(rest)
    _, bits, _ = element(rest)
    _, r, rest = element(element(bits[1:])[1])
    _, s, _ = element(rest)
    pair = encode(0x30, encode(2, r), integer(N - int.from_bytes(s, "big")))
    return encode(0x30, encode(0x30, tbs), encode(0x30, algorithm), encode(3, b"\0" + pair))


def main(file, number="0"):
    pem = re.findall("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", open(file).read(), re.S)
    ders = [base64.b64decode(text) for text in pem]
    ders[int(number)] = twin(ders[int(number)])
    for der in ders:
        print("-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----" % base64.encodebytes(der).decode())


main(*sys.argv[1:])
