#!/usr/bin/env python3
"""Parses the headers in a file of `t/headers/dialects.py capture` with libraries for Python: http-sf for RFC 9440,
cryptography for every certificate, DN, date and number. Usage: read.py FILE
"""
import base64
import json
import re
import sys
import urllib.parse
import warnings
from datetime import datetime, timezone

import http_sf
from cryptography import x509
from cryptography.x509.oid import NameOID
from cryptography.hazmat.primitives import hashes, serialization

warnings.simplefilter("ignore")


def item(value):
    item = http_sf.parse(value.encode(), tltype="item")
    value, parameters = item
    assert isinstance(value, bytes) and not parameters
    return [x509.load_der_x509_certificate(value)]


def members(value):
    members = http_sf.parse(value.encode(), tltype="list")
    assert all(isinstance(member, bytes) and not parameters for member, parameters in members)
    return [x509.load_der_x509_certificate(member) for member, _ in members]


def der(value):
    return [x509.load_der_x509_certificate(base64.b64decode(part, validate=True)) for part in value.split(",")]


def escaped(value):
    return x509.load_pem_x509_certificates(urllib.parse.unquote(value).encode())


def alb(value):
    return escaped(value.replace("+", "%2B"))


def xfcc(key):
    return lambda value: escaped(pairs(value)[key][0])


def pairs(value):
    """The pairs of one element of XFCC, by a parser that supports escapes and quoted delimiters in Subject only."""
    found = {}
    for pair in value.split(";"):
        key, _, text = pair.partition("=")
        found.setdefault(key, []).append(text[1:-1] if text[:1] == '"' else text)
    return found


def leaf(sent):
    return sent[:1]


def intermediates(sent):
    return sent[1:]


CERTIFICATES = [
    ("one.test", "Client-Cert", item, leaf),
    ("one.test", "Client-Cert-Chain", members, intermediates),
    ("one.test", "Cf-Client-Cert-Der-Base64", der, leaf),
    ("one.test", "x-forwarded-client-cert", xfcc("Cert"), leaf),
    ("one.test", "x-forwarded-client-cert", xfcc("Chain"), list),
    ("one.test", "ssl-client-cert", escaped, leaf),
    ("one.test", "X-SSL-Client-Cert", der, leaf),
    ("one.test", "X-Forwarded-Tls-Client-Cert", der, list),
    ("one.test", "X-Amzn-Mtls-Clientcert-Leaf", alb, leaf),
    ("one.test", "CloudFront-Viewer-Cert-Pem", escaped, leaf),
    ("one.test", "X-Client-Cert-Leaf", item, leaf),
    ("one.test", "X-Client-Cert-Chain", members, intermediates),
    ("one.test", "X-ARR-ClientCert", der, leaf),
    ("one.test", "X-Tls-Client-Certificate-Der-Base64", der, leaf),
    ("two.test", "X-Amzn-Mtls-Clientcert", alb, list),
    ("two.test", "Client-Cert", item, leaf),
    ("two.test", "Client-Cert-Chain", members, intermediates),
]


# OpenSSL's names of types without a name in RFC 4514
OPENSSL_NAMES = {"emailAddress": NameOID.EMAIL_ADDRESS, "serialNumber": NameOID.SERIAL_NUMBER,
                 "postalCode": NameOID.POSTAL_CODE, "street": NameOID.STREET_ADDRESS}


def rfc4514(value):
    def character(pairs):
        return bytes.fromhex(pairs[0].replace("\\", "")).decode()

    # cryptography before 44 decodes each hexadecimal pair of a UTF-8 character as one character.
    value = re.sub(r"(?:\\[89A-Fa-f][0-9A-Fa-f])+", character, value.encode("latin-1").decode())

    return x509.Name.from_rfc4514_string(value, OPENSSL_NAMES)


def name(which):
    return lambda certificate: getattr(certificate, which)


def openssl_date(value):
    return datetime.strptime(value, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)


def sans(kind):
    def read(certificate):
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return names.get_values_for_type(kind)
    return read


def subject(value):
    return rfc4514(pairs(value)["Subject"][0])


def xfcc_uris(value):
    return [uri for uri in pairs(value)["URI"] if uri]


def xfcc_dns(value):
    return pairs(value).get("DNS", [])


SUBJECT, ISSUER = name("subject"), name("issuer")
SERIAL = name("serial_number")

FIELDS = [
    ("one.test", "ssl-client-subject-dn", rfc4514, SUBJECT),
    ("one.test", "ssl-client-issuer-dn", rfc4514, ISSUER),
    ("one.test", "Cf-Cert-Subject-DN-RFC2253", rfc4514, SUBJECT),
    ("one.test", "X-CERT-SUBJECT-DN", rfc4514, SUBJECT),
    ("one.test", "x-forwarded-client-cert", subject, SUBJECT),
    ("one.test", "X-Amzn-Mtls-Clientcert-Subject", rfc4514, SUBJECT),
    ("one.test", "CloudFront-Viewer-Cert-Issuer", rfc4514, ISSUER),
    ("one.test", "X-Client-Cert-Subject-DN", lambda value: base64.b64decode(value),
     lambda certificate: certificate.subject.public_bytes()),
    ("two.test", "SSL_CLIENT_S_DN", rfc4514, SUBJECT),
    ("two.test", "SSL_CLIENT_I_DN", rfc4514, ISSUER),
    ("one.test", "Cf-Cert-Serial", lambda value: int(value, 16), SERIAL),
    ("one.test", "X-Tls-Client-Serial", int, SERIAL),
    ("one.test", "CloudFront-Viewer-Cert-Serial-Number", lambda value: int(value.replace(":", ""), 16), SERIAL),
    ("one.test", "Cf-Cert-Not-After", openssl_date, name("not_valid_after_utc")),
    ("one.test", "X-Client-Cert-Valid-Not-After", datetime.fromisoformat, name("not_valid_after_utc")),
    ("one.test", "X-Client-Cert-Hash", lambda value: base64.b64decode(value, validate=True),
     lambda certificate: certificate.fingerprint(hashes.SHA256())),
    ("one.test", "x-forwarded-client-cert", xfcc_uris, sans(x509.UniformResourceIdentifier)),
    ("one.test", "x-forwarded-client-cert", xfcc_dns, sans(x509.DNSName)),
    ("one.test", "X-Client-Cert-DNSName-SANs",
     lambda value: [base64.b64decode(part).decode() for part in value.split(",")], sans(x509.DNSName)),
]

# Keys of XFCC that some elements omit
KEYS = {subject: "Subject", xfcc_uris: "URI", xfcc_dns: "DNS"}


def main():
    with open(sys.argv[1]) as file:
        captured = json.load(file)

    for host, header, read, which in CERTIFICATES:
        count = 0
        for one in captured:
            if one["host"] == host:
                values = one["headers"].get(header.lower(), [])
                got = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
                       for value in values for certificate in read(value)]
                if len(values) > 1 or got != which(one["sent"]):
                    print(one["name"], header, values)
                count += len(got)
        print("%s %s: %d" % (host, header, count))

    for host, header, read, expected in FIELDS:
        count = 0
        for one in captured:
            values = one["headers"].get(header.lower())
            if one["host"] == host and values:
                if KEYS.get(read) and KEYS[read] not in pairs(values[0]):
                    continue
                want = expected(x509.load_der_x509_certificate(base64.b64decode(one["sent"][0])))
                got = read(values[0])
                if got != want:
                    print("%s %s: %r, expected %r" % (one["name"], header, got, want))
                count += 1
        print("%s %s: %d" % (host, header, count))


if __name__ == "__main__":
    main()
