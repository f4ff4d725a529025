#!/usr/bin/env python3
"""Sends requests through the gateway and checks the header lines that an upstream receives. Used by the tests of
t/headers and t/hostile. NAME is a client certificate of t/pki; `odd` stands for all of odd-names-dev.json.

dialects.py origins SERVER WHERE NAME...
                                   compares the gateway with another server: nginx at port WHERE, apache, haproxy, or the
                                   caddy or envoy at the path WHERE, see t/headers/030-dialect-origins.t
dialects.py capture FILE NAME...   writes the header lines that the upstream received to FILE, as JSON
dialects.py hostile NAME...        checks every header line that the upstream receives, and prints those left out
dialects.py resumed NAME...        compares the header lines of a full handshake and of a resumed one
dialects.py forge HOSTS NAME...    collects the names of all header lines that the upstream receives at these hosts, which
                                   are joined by commas, and sends each to the first host without a certificate

PKI, PORT, TMP and ERROR_LOG are as in t/lib/client.bash.
"""
import base64
import calendar
import contextlib
import fnmatch
import glob
import hashlib
import json
import os
import queue
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
PKI = os.environ["PKI"]
# A field name, and the characters of a value (RFC 9110 section 5.5): visible ASCII, SP, HTAB and 8-bit characters.
LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")


# Client certificates

CORPUS = os.path.join(HERE, "../../../shared/corpora/odd-names-dev.json")


def files(certificate):
    """The path of the certificate's files without their suffix."""
    return "%s/client-%s" % (os.environ["TMP"] if certificate.startswith("odd-") else PKI, certificate)


def expanded(certificates):
    """The names, with the certificates of the corpus that OpenSSL can read in place of `odd`."""
    for certificate in certificates:
        if certificate != "odd":
            yield certificate
            continue
        with open(CORPUS) as corpus:
            cases = json.load(corpus)["cases"]
        for number, case in enumerate(cases):
            name = "odd-%d" % number
            for suffix, text in ((".crt", case["leaf"]), (".key", case["key"])):
                with open(files(name) + suffix, "w") as file:
                    file.write(text)
            with contextlib.suppress(ssl.SSLError):
                context(name)
                yield name


# Requests

class Upstream:
    """Accepts requests on a Unix socket and a TCP port and keeps the header of the last."""

    def __init__(self, path):
        self.received = queue.Queue()
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(path)
        tcp = socket.create_server(("127.0.0.1", 0))
        self.port = tcp.getsockname()[1]
        for listening in (unix, tcp):
            listening.listen(64)
            threading.Thread(target=self.accept, args=[listening], daemon=True).start()

    def accept(self, listening):
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=self.answer, args=[connection], daemon=True).start()

    def answer(self, connection):
        with connection:
            connection.settimeout(20)
            head = b""
            # The header does not end at the first empty line, because a broken header could contain one.
            while not head.endswith(b"\r\n\r\n"):
                more = connection.recv(1 << 18)
                if not more:
                    return
                head += more
            self.received.put(head[:-4])
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def context(certificate, version=None):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    if version:
        client.minimum_version = client.maximum_version = version
    if certificate != "none":
        file = files(certificate)
        client.load_cert_chain(file + (".chain" if os.path.exists(file + ".chain") else ".crt"), file + ".key")
    return client


def send(client, port, host, path, session=None, headers=()):
    """Sends one request on one connection; returns the status, whether the session was resumed, and the session."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        with client.wrap_socket(plain, server_hostname=host, session=session) as tls:
            more = b"".join(b"%s: %s\r\n" % header for header in headers)
            tls.sendall(b"GET %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n" % (path.encode(), host.encode(), more))
            answer = b""
            while True:
                with contextlib.suppress(ssl.SSLEOFError):
                    if more := tls.recv(65536):
                        answer += more
                        continue
                break
            status = int(answer.split(b" ", 2)[1]) if answer else None
            return status, tls.session_reused, tls.session


def fetch(upstream, certificate, port, host="a.test", path="/to"):
    """The header lines that arrive: name in lower case -> values. Lines without a field name are under b""."""
    while not upstream.received.empty():
        upstream.received.get()
    try:
        status, _, _ = send(context(certificate), port, host, path)
    except OSError as error:
        status = type(error).__name__
    if status != 200:
        return {b"": [b"status %r" % status]}
    return lines(upstream.received.get(timeout=5))


def lines(head):
    found = {}
    for line in head.split(b"\r\n")[1:]:
        if match := LINE.fullmatch(line):
            # RFC 9110 section 5.5
            found.setdefault(match[1].lower(), []).append(match[2].strip(b" \t"))
        else:
            found.setdefault(b"", []).append(line)
    return found


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


# The fields of a certificate, by a separate parser of DER

def elements(data):
    """(tag, content, whole element) of each of the consecutive DER elements."""
    while data:
        size, start = data[1], 2
        if size & 0x80:
            start = 2 + (size & 0x7F)
            size = int.from_bytes(data[2:start], "big")
        yield data[0], data[start:start + size], data[:start + size]
        data = data[start + size:]


def contents(element):
    return list(elements(element[1]))


TYPES = {"550403": "CN", "550405": "serialNumber", "550406": "C", "550407": "L", "550408": "ST", "550409": "street",
         "55040a": "O", "55040b": "OU", "550411": "postalCode", "2a864886f70d010901": "emailAddress",
         "0992268993f22c640119": "DC"}
CODECS = {0x0C: "utf-8", 0x13: "latin-1", 0x14: "latin-1", 0x16: "latin-1", 0x1E: "utf-16-be", 0x1C: "utf-32-be"}
SAN_TYPES = {0x81: "email", 0x82: "dns", 0x86: "uri", 0x87: "ip", 0xA4: "dirname"}


def attributes(name):
    """Type and text of each attribute, RDN by RDN. An RDN is a set, so it is sorted."""
    return [sorted((TYPES[contents(pair)[0][1].hex()], contents(pair)[1][1].decode(CODECS[contents(pair)[1][0]]))
                   for pair in contents(rdn)) for rdn in contents(name)]


def parse_time(element):
    text = element[1].decode()
    if element[0] == 0x17:
        text = ("19" if text >= "5" else "20") + text
    return text


class Certificate:
    def __init__(self, name):
        file = "%s/client-%s" % (PKI, name)
        with open(file + (".chain" if os.path.exists(file + ".chain") else ".crt")) as pem:
            bodies = re.findall("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", pem.read(), re.S)
        self.sent = [base64.b64decode(body) for body in bodies]
        self.der = self.sent[0]
        self.name = name
        fields = contents(contents(next(elements(self.der)))[0])
        self.serial = int.from_bytes(fields[1][1], "big", signed=True)
        self.issuer_der, self.subject_der = fields[3][2], fields[5][2]
        self.issuer, self.subject = attributes(fields[3]), attributes(fields[5])
        self.not_before, self.not_after = (parse_time(time) for time in contents(fields[4]))
        self.san = {}
        for extension in contents(fields[7][1] and contents(fields[7])[0]):
            oid, *_, value = contents(extension)
            if oid[1].hex() == "551d11":
                for tag, content, _ in contents(contents(value)[0]):
                    self.san.setdefault(SAN_TYPES.get(tag, "other"), []).append(content)
        self.has_san = bool(self.san)

    def sha(self, algorithm):
        return hashlib.new(algorithm, self.der).digest()


# Readers: each parses a header value into the form of the certificate's field

def rfc2253(text):
    """RDNs of an RFC 2253 name, in encoded order."""
    rdns, rest = [], text.encode("latin-1")
    joins = False
    while rest:
        kind, _, rest = rest.partition(b"=")
        value = b""
        end = b""
        while rest:
            if match := re.match(rb"\\([0-9A-Fa-f]{2})", rest):
                value += bytes.fromhex(match[1].decode())
            elif match := re.match(rb"\\(.)", rest, re.S):
                value += match[1]
            elif match := re.match(rb"[,+]", rest):
                end, rest = match[0], rest[1:]
                break
            else:
                match = re.match(rb".", rest, re.S)
                value += match[0]
            rest = rest[match.end():]
        pair = (kind.decode(), value.decode())
        if joins:
            rdns[-1].append(pair)
        else:
            rdns.append([pair])
        joins = end == b"+"
    return [sorted(rdn) for rdn in rdns[::-1]]


def flatten(name):
    return [pair for rdn in name for pair in rdn]


def oneline(escaped):
    """Attributes of /C=CZ/CN=Ann, in order; with `escaped` as OpenSSL 3 escapes them."""
    def read(text):
        pairs = []
        for kind, value in re.findall(r"(?:^|(?<!\\))[/+]([A-Za-z]+)=((?:(?!(?<!\\)[/+][A-Za-z]+=).)*)" if escaped
                                      else r"/([A-Za-z]+)=((?:(?!/[A-Za-z]+=).)*)", text, re.S):
            value = value.encode("latin-1")
            if escaped:
                value = re.sub(rb"\\x([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), value)
                value = re.sub(rb"\\([/+])", rb"\1", value)
            pairs.append((kind, value.decode()))
        return pairs
    return read


def go(text):
    """The attributes of Go's text, which has another order."""
    return sorted(flatten(rfc2253(text)))


def pem(text):
    """DER of all certificates in a PEM text, which Python's own parser must accept."""
    blocks = re.findall("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", text, re.S)
    assert "".join(blocks) == text, "more than PEM"
    return [ssl.PEM_cert_to_DER_cert(block) for block in blocks]


def escaped_pem(text):
    assert re.fullmatch(r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})*", text)
    return pem(urllib.parse.unquote(text))


def spaced_pem(text):
    return pem(re.sub("(?<!BEGIN)(?<!END) (?!CERTIFICATE)", "\n", text))


def base64_der(text):
    return base64.b64decode(text, validate=True)


def byte_sequence(text):
    assert text[0] == text[-1] == ":" and len(text) > 1
    return base64_der(text[1:-1])


def openssl_date(text):
    return time.strftime("%Y%m%d%H%M%SZ", time.strptime(text, "%b %d %H:%M:%S %Y GMT"))


def iso_date(suffix):
    def read(text):
        assert text.endswith(suffix)
        return re.sub("[-:T]", "", text.removesuffix(suffix)) + "Z"
    return read


def validity(text):
    match = re.fullmatch("NotBefore=(.*);NotAfter=(.*)", text)
    return iso_date("Z")(match[1]), iso_date("Z")(match[2])


def quoted_pairs(text):
    """Pairs of one XFCC element. Values other than Subject have neither escapes nor delimiters, so that readers without
    support for them find the same."""
    pairs = {}
    assert "\\" not in text
    for pair in text.split(";"):
        key, value = pair.split("=", 1)
        if value[:1] == '"':
            assert value[-1] == '"'
            value = value[1:-1]
        assert '"' not in value and (key == "Subject" or "," not in value)
        pairs.setdefault(key, []).append(value)
    return pairs


def xfcc(text):
    pairs = quoted_pairs(text)
    read = {**pairs, "Cert": escaped_pem(pairs["Cert"][0]), "Chain": escaped_pem(pairs["Chain"][0])}
    if "Subject" in pairs:
        [subject] = pairs["Subject"]
        read["Subject"] = rfc2253(subject)
    if "URI" in pairs:
        read["URI"] = [value for value in pairs["URI"] if value]
    return read


def traefik_info(text):
    """The fields of each certificate."""
    certificates = []
    text = urllib.parse.unquote_plus(text)
    for key, value in re.findall(r'(\w+)="([^"]*)"[;,]?', text):
        if key in ("Subject", "Issuer") and (not certificates or "NB" in certificates[-1]):
            certificates.append({})
        certificates[-1][key] = value
    leaf = certificates[0]
    return len(certificates), int(leaf["SerialNumber"]), leaf.get("SAN", "").split(",")


def sans(certificate, *kinds):
    return [content.decode("latin-1") if kind != "ip" else socket.inet_ntop(
                socket.AF_INET if len(content) == 4 else socket.AF_INET6, content)
            for kind in kinds for content in certificate.san.get(kind, [])]


def base64_list(text):
    return [base64_der(item).decode("latin-1") for item in text.split(",")]


def first(values):
    return values[0] if values else None


def or_none(values):
    return values or None


SPIFFE = "spiffe://"
BEGIN, END = (lambda c: c.not_before), (lambda c: c.not_after)
SUBJECT, ISSUER = (lambda c: or_none(c.subject)), (lambda c: c.issuer)
SHA1, SHA256 = (lambda c: c.sha("sha1").hex()), (lambda c: c.sha("sha256").hex())
FLAT_SUBJECT, FLAT_ISSUER = (lambda c: or_none(flatten(c.subject))), (lambda c: flatten(c.issuer))
LEAF, ALL, SENT = (lambda c: c.der), (lambda c: c.sent), (lambda c: or_none(c.sent[1:]))
SERIAL = lambda c: c.serial


def hexadecimal(text):
    assert re.fullmatch("-?(?:[0-9A-F]{2})+", text)
    return int(text, 16)


def exactly(value):
    return str, lambda _: value


# Attribute types for which Go has another name, or none
GO = {"serialNumber": "SERIALNUMBER", "street": "STREET", "postalCode": "POSTALCODE", "DC": "0.9.2342.19200300.100.1.25",
      "emailAddress": "1.2.840.113549.1.9.1"}


def go_name(certificate, name):
    """Go keeps only the last CN, and writes types without a name as DER."""
    pairs = [(GO.get(kind, kind), "#13%02x%s" % (len(value), value.encode().hex()) if kind == "DC" else
              "#0c%02x%s" % (len(value), value.encode().hex()) if kind == "emailAddress" else value)
             for kind, value in flatten(name)]
    last = [pair for pair in pairs if pair[0] == "CN"][-1:]
    return or_none(sorted([pair for pair in pairs if pair[0] != "CN"] + last))


def sequences(text):
    return [byte_sequence(member) for member in text.split(", ")]


def haproxy_san(text):
    return [tuple(name.split(":", 1)) for name in text.split(", ")]


# header -> parser of its value, and the expected result for a certificate (None: no header); {} is a number.
HEADERS = {
    "Client-Cert": (byte_sequence, LEAF),
    "Client-Cert-Chain": (sequences, SENT),
    "Cf-Cert-Revoked": exactly("0"),
    "Cf-Cert-Verified": exactly("SUCCESS"),
    "Cf-Cert-Presented": exactly("1"),
    "Cf-Cert-Issuer-DN": (rfc2253, ISSUER),
    "Cf-Cert-Subject-DN": (rfc2253, SUBJECT),
    "Cf-Cert-Issuer-DN-RFC2253": (rfc2253, ISSUER),
    "Cf-Cert-Subject-DN-RFC2253": (rfc2253, SUBJECT),
    "Cf-Cert-Issuer-DN-Legacy": (oneline(True), FLAT_ISSUER),
    "Cf-Cert-Subject-DN-Legacy": (oneline(True), FLAT_SUBJECT),
    "Cf-Cert-Serial": (hexadecimal, SERIAL),
    "Cf-Cert-Issuer-Serial": (hexadecimal, lambda c: ISSUER_SERIAL[c.issuer_der]),
    "Cf-Cert-Fingerprint-SHA256": (str, SHA256),
    "Cf-Cert-Fingerprint-SHA1": (str, SHA1),
    "Cf-Cert-Not-Before": (openssl_date, BEGIN),
    "Cf-Cert-Not-After": (openssl_date, END),
    "Cf-Cert-SKI": exactly(None),
    "Cf-Cert-Issuer-SKI": exactly(None),
    "X-CERT-ISSUER-DN": (rfc2253, ISSUER),
    "X-CERT-SUBJECT-DN": (rfc2253, SUBJECT),
    "X-CERT-ISSUER-DN-L": (oneline(True), FLAT_ISSUER),
    "X-CERT-SUBJECT-DN-L": (oneline(True), FLAT_SUBJECT),
    "X-CERT-SERIAL": (hexadecimal, SERIAL),
    "X-CERT-FINGER": (str, SHA1),
    "X-CERT-VERIFY": exactly("SUCCESS"),
    "X-CERT-NOTBE": (openssl_date, BEGIN),
    "X-CERT-NOTAF": (openssl_date, END),
    "Cf-Client-Cert-Der-Base64": (base64_der, LEAF),
    "Cf-Client-Cert-Sha256": (str, SHA256),
    "x-forwarded-client-cert": (xfcc, lambda c: {
        "Hash": [SHA256(c)], "Cert": [c.der], "Chain": c.sent, "Subject": c.subject, "URI": sans(c, "uri"),
        **({"DNS": sans(c, "dns")} if "dns" in c.san else {})}),
    "ssl-client-cert": (escaped_pem, lambda c: [c.der]),
    "ssl-client-verify": exactly("SUCCESS"),
    "ssl-client-subject-dn": (rfc2253, SUBJECT),
    "ssl-client-issuer-dn": (rfc2253, ISSUER),
    "ssl-client-s-dn-legacy": (oneline(True), FLAT_SUBJECT),
    "ssl-client-serial": (hexadecimal, SERIAL),
    "SSL_CLIENT_VERIFY": exactly("SUCCESS"),
    "SSL_CLIENT_M_VERSION": exactly("3"),
    "SSL_CLIENT_M_SERIAL": (hexadecimal, SERIAL),
    "SSL_CLIENT_S_DN": (rfc2253, SUBJECT),
    "SSL_CLIENT_I_DN": (rfc2253, ISSUER),
    "SSL_CLIENT_V_START": (openssl_date, BEGIN),
    "SSL_CLIENT_V_END": (openssl_date, END),
    "SSL_CLIENT_V_REMAIN": (int, lambda c: int(
        (calendar.timegm(time.strptime(c.not_after, "%Y%m%d%H%M%SZ")) - time.time()) // 86400)),
    "SSL_CLIENT_A_SIG": exactly("ecdsa-with-SHA256"),
    "SSL_CLIENT_A_KEY": exactly("id-ecPublicKey"),
    "SSL_CLIENT_SAN_Email_{}": (str, lambda c: sans(c, "email")),
    "SSL_CLIENT_SAN_DNS_{}": (str, lambda c: sans(c, "dns")),
    "SSL_CLIENT_CERT_RFC4523_CEA": (
        lambda text: (int(re.match(r"\{ serialNumber (-?\d+), ", text)[1]),
                      rfc2253(re.search(r'issuer rdnSequence:"([^"]*)" \}$', text)[1])),
        lambda c: (c.serial, c.issuer)),
    "SSL_CLIENT_CERT": (spaced_pem, lambda c: [c.der]),
    "SSL_CLIENT_CERT_CHAIN_{}": (spaced_pem, lambda c: [[der] for der in c.sent[1:]]),
    "X-SSL-Client-Verify": exactly("0"),
    "X-SSL-Client-DN": (oneline(False), FLAT_SUBJECT),
    "X-SSL-Client-CN": (lambda text: text.encode("latin-1").decode(),
                        lambda c: first([value for kind, value in flatten(c.subject) if kind == "CN"])),
    "X-SSL-Issuer": (oneline(False), FLAT_ISSUER),
    "X-SSL-Client-NotBefore": (str, lambda c: c.not_before[2:]),
    "X-SSL-Client-NotAfter": (str, lambda c: c.not_after[2:]),
    "X-SSL-Client-Serial": (hexadecimal, SERIAL),
    "X-SSL-Client-SHA1": (str.lower, SHA1),
    "X-SSL-Client-SAN": (lambda text: sorted(haproxy_san(text)),
                         lambda c: or_none(sorted([("DNS", n) for n in sans(c, "dns")] + [("URI", n) for n in sans(c, "uri")]
                                               + [("email", n) for n in sans(c, "email")]
                                               + [("IP Address", n) for n in sans(c, "ip")]))),
    "X-SSL-Client-Cert": (base64_der, LEAF),
    "X-SSL-Client-Chain": (base64_der, lambda c: b"".join(c.sent[1:]) or None),
    "X-Forwarded-Tls-Client-Cert": (lambda text: [base64_der(item) for item in text.split(",")], ALL),
    "X-Forwarded-Tls-Client-Cert-Info": (
        traefik_info, lambda c: (len(c.sent), c.serial, sans(c, "dns", "email", "ip", "uri") or [""])),
    "X-Amzn-Mtls-Clientcert": (escaped_pem, ALL),
    "X-Amzn-Mtls-Clientcert-Serial-Number": (hexadecimal, SERIAL),
    "X-Amzn-Mtls-Clientcert-Issuer": (rfc2253, ISSUER),
    "X-Amzn-Mtls-Clientcert-Subject": (rfc2253, SUBJECT),
    "X-Amzn-Mtls-Clientcert-Validity": (validity, lambda c: (c.not_before, c.not_after)),
    "X-Amzn-Mtls-Clientcert-Leaf": (escaped_pem, lambda c: [c.der]),
    "CloudFront-Viewer-Cert-Present": exactly("1"),
    "CloudFront-Viewer-Cert-Serial-Number": (lambda text: int(text.replace(":", ""), 16), SERIAL),
    "CloudFront-Viewer-Cert-Issuer": (rfc2253, ISSUER),
    "CloudFront-Viewer-Cert-Subject": (rfc2253, SUBJECT),
    "CloudFront-Viewer-Cert-Sha256": (str, SHA256),
    "CloudFront-Viewer-Cert-Validity": (validity, lambda c: (c.not_before, c.not_after)),
    "CloudFront-Viewer-Cert-Pem": (escaped_pem, lambda c: [c.der]),
    "X-Client-Cert-Present": exactly("true"),
    "X-Client-Cert-Chain-Verified": exactly("true"),
    "X-Client-Cert-Error": (str, lambda _: None),
    "X-Client-Cert-Hash": (base64_der, lambda c: c.sha("sha256")),
    "X-Client-Cert-Serial-Number": (hexadecimal, SERIAL),
    "X-Client-Cert-SPIFFE": (str, lambda c: first([uri for uri in sans(c, "uri") if uri.startswith(SPIFFE)])),
    "X-Client-Cert-URI-SANs": (base64_list, lambda c: or_none([uri for uri in sans(c, "uri") if not uri.startswith(SPIFFE)])),
    "X-Client-Cert-DNSName-SANs": (base64_list, lambda c: or_none(sans(c, "dns"))),
    "X-Client-Cert-Valid-Not-Before": (iso_date("+00:00"), BEGIN),
    "X-Client-Cert-Valid-Not-After": (iso_date("+00:00"), END),
    "X-Client-Cert-Issuer-DN": (base64_der, lambda c: c.issuer_der),
    "X-Client-Cert-Subject-DN": (base64_der, lambda c: c.subject_der),
    "X-Client-Cert-Leaf": (byte_sequence, LEAF),
    "X-Client-Cert-Chain": (sequences, SENT),
    "X-ARR-ClientCert": (base64_der, LEAF),
    "X-Tls-Client-Certificate-Der-Base64": (base64_der, LEAF),
    "X-Tls-Client-Fingerprint": (str, SHA256),
    "X-Tls-Client-Subject": (go, lambda c: go_name(c, c.subject)),
    "X-Tls-Client-Issuer": (go, lambda c: go_name(c, c.issuer)),
    "X-Tls-Client-Serial": (int, SERIAL),
}
# Other headers that nginx and mtls-auth send
OTHERS = {"host", "connection", "x-consumer-id", "x-consumer-username"}
ISSUER_SERIAL = {}
# Google's names of values that may be too large
GCP = {"X-Client-Cert-" + header: name for header, name in (
    ("Serial-Number", "serial_number"), ("SPIFFE", "spiffe_id"), ("URI-SANs", "uri_sans"), ("DNSName-SANs", "dnsname_sans"),
    ("Issuer-DN", "issuer_dn"), ("Subject-DN", "subject_dn"), ("Leaf", "leaf"), ("Chain", "chain"))}


def numbered(name):
    return name.removesuffix("{}") if name.endswith("{}") else None


def hosts():
    """Server name -> the headers that its route in t/lib/TestDialects.pm may send."""
    return {"one.test": [name for name in HEADERS if not name.startswith("SSL_") and name != "X-Amzn-Mtls-Clientcert"],
            "two.test": [name for name in HEADERS
                         if name.startswith(("SSL_", "Client-Cert")) or name == "X-Amzn-Mtls-Clientcert"]}


def left_out_since(start):
    """Header name -> reason, from the lines of the error log after a position."""
    with open(os.environ["ERROR_LOG"], encoding="latin-1") as log:
        log.seek(start)
        return dict(re.findall(r"\[mtls\] header (.+?) left out: (.*?)(?:, client: |$)", log.read(), re.M))


def check(certificate, headers, wanted, left_out):
    """Problems with these header lines, and a text about those left out."""
    problems, silent = [], []
    if b"" in headers:
        problems.append("broken lines %r" % [line[:80] for line in headers[b""]])
    headers = {name.decode(): [value.decode("latin-1") for value in values] for name, values in headers.items() if name}
    claimed = set(OTHERS)
    for name in wanted:
        read, expected = HEADERS[name]
        want = expected(certificate)
        base = numbered(name)
        if base:
            names = [base + str(number) for number in range(len(want))]
        else:
            base, names = name, [name]
        marker = (base.rstrip("_") + "-Too-Large").lower()
        claimed |= {each.lower() for each in names} | {marker}
        reason = left_out.get(base)
        values = [headers[each.lower()] for each in names if each.lower() in headers]
        if any(len(value) != 1 for value in values):
            problems.append("%s is there twice" % base)
        if reason is not None:
            if values:
                problems.append("%s is left out and there" % base)
            too_large = "over the limit" in reason
            said = headers.get(marker) == ["1"]
            if base.startswith("X-Client-Cert-"):
                # Google's value
                said = "_%s_exceeded_size_limit" % GCP[base] in headers.get("x-client-cert-error", [""])[0]
            if too_large and not said:
                problems.append("nothing says that %s is too large" % base)
            silent.append((base, reason))
            continue
        # Keys that an element of XFCC may omit
        for part in [part for part in left_out if part.startswith(base + ": ")]:
            want.pop(part.removeprefix(base + ": "), None)
            silent.append((part, left_out[part]))
        if headers.get(marker):
            problems.append("%s without a reason" % marker)
        if want is None or want == []:
            if values and name != "X-Client-Cert-Error":
                problems.append("%s: %r, expected none" % (base, values))
            continue
        try:
            got = [read(value[0]) for value in values]
        except (AssertionError, TypeError, ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
            problems.append("%s cannot be read (%s: %s): %r" % (base, type(error).__name__, error, values[0][0][:200]))
            continue
        if got != (want if numbered(name) else [want]):
            problems.append("%s: read %.300r, expected %.300r" % (base, got, want))
    problems += ["%s: a line of nobody's" % name for name in sorted(set(headers) - claimed)]
    return problems, silent


def load_issuers():
    for file in glob.glob(PKI + "/ca-*.crt"):
        with open(file) as text:
            der = ssl.PEM_cert_to_DER_cert(re.search("-----BEGIN.*?END CERTIFICATE-----", text.read(), re.S)[0])
        fields = contents(contents(next(elements(der)))[0])
        ISSUER_SERIAL[fields[5][2]] = int.from_bytes(fields[1][1], "big", signed=True)


def hostile(upstream, names):
    load_issuers()
    for name in names:
        certificate = Certificate(name)
        said = {}
        problems = []
        for host, wanted in hosts().items():
            start = os.path.getsize(os.environ["ERROR_LOG"])
            headers = fetch(upstream, name, int(os.environ["PORT"]), host)
            found, silent = check(certificate, headers, wanted, left_out_since(start))
            problems += ["%s: %s" % (host, problem) for problem in found]
            said.update(silent)
        print(name)
        for base, reason in sorted(said.items()):
            print("  %s: %s" % (base, re.sub(r"\d+ bytes", "N bytes", reason)))
        for problem in problems:
            print("  PROBLEM", problem)


def resumed(upstream, names):
    for name in names:
        for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
            client = context(name, version)
            out = []
            for host in hosts():
                session, heads = None, []
                for _ in range(2):
                    status, reused, session = send(client, int(os.environ["PORT"]), host, "/to", session)
                    heads.append(upstream.received.get(timeout=5))
                chains = sum(bool(re.match(rb"(?i)(client-cert-chain|x-client-cert-chain|x-ssl-client-chain):", line))
                             for line in heads[1].split(b"\r\n"))
                out.append("%s %s" % ("resumed" if reused else "full", "same" if heads[0] == heads[1] else "differs"))
                out[-1] += ", %d chains" % chains
            print(name, version.name, "; ".join(out))


def forge(upstream, hosts, certificates):
    port = int(os.environ["PORT"])
    hosts = hosts.split(",")
    names = set()
    for host in hosts:
        for certificate in certificates:
            found = fetch(upstream, certificate, port, host)
            if b"" in found:
                print(host, certificate, found[b""])
            names.update(found)
    names -= {name.encode() for name in ("host", "connection", "")}
    arrived = set()
    for spelled in bytes.upper, bytes.lower, lambda name: name.replace(b"-", b"_"), lambda name: name.replace(b"_", b"-"):
        forged = sorted({spelled(name) for name in names})
        for start in range(0, len(forged), 30):
            headers = [(name, b"forged") for name in forged[start:start + 30]]
            status, _, _ = send(context("none"), port, hosts[0], "/to", headers=headers)
            got = lines(upstream.received.get(timeout=5))
            arrived |= {name.decode() for name, values in got.items() if b"forged" in values}
            if status != 200:
                print("status", status)
    for name in sorted(arrived):
        print("arrives:", name)
    too_large = [name for name in names if name.endswith(b"-too-large")]
    print("%d names, %d of them -Too-Large" % (len(names), len(too_large)))


def capture(upstream, file, names):
    captured = []
    for name in names:
        for host in hosts():
            headers = fetch(upstream, name, int(os.environ["PORT"]), host)
            captured.append({
                "name": name, "host": host, "sent": [base64.b64encode(der).decode() for der in Certificate(name).sent],
                "headers": {key.decode(): [value.decode("latin-1") for value in values] for key, values in headers.items()}})
    with open(file, "w") as out:
        json.dump(captured, out)


# Comparison with other servers

NGINX = {
    "ssl-client-cert": "ssl_client_escaped_cert", "ssl-client-verify": "ssl_client_verify",
    "ssl-client-subject-dn": "ssl_client_s_dn", "ssl-client-issuer-dn": "ssl_client_i_dn",
    "ssl-client-s-dn-legacy": "ssl_client_s_dn_legacy", "ssl-client-i-dn-legacy": "ssl_client_i_dn_legacy",
    "ssl-client-serial": "ssl_client_serial", "ssl-client-fingerprint": "ssl_client_fingerprint",
    "ssl-client-v-start": "ssl_client_v_start", "ssl-client-v-end": "ssl_client_v_end",
    "ssl-client-v-remain": "ssl_client_v_remain",
}
APACHE = ["SSL_CLIENT_" + name for name in """VERIFY M_VERSION M_SERIAL S_DN I_DN V_START V_END V_REMAIN A_SIG A_KEY
    SAN_Email_0 SAN_Email_1 SAN_DNS_0 SAN_DNS_1 CERT_RFC4523_CEA CERT CERT_CHAIN_0 CERT_CHAIN_1""".split()]
HAPROXY = {
    "X-SSL-Client-Verify": "ssl_c_verify", "X-SSL-Client-DN": "ssl_c_s_dn", "X-SSL-Client-CN": "ssl_c_s_dn(cn)",
    "X-SSL-Issuer": "ssl_c_i_dn", "X-SSL-Client-NotBefore": "ssl_c_notbefore", "X-SSL-Client-NotAfter": "ssl_c_notafter",
    "X-SSL-Client-Serial": "ssl_c_serial,hex", "X-SSL-Client-SHA1": "ssl_c_sha1,hex",
    "X-SSL-Client-Cert": "ssl_c_der,base64", "X-SSL-Client-Chain": "ssl_c_chain_der,base64",
}


def apache_binary():
    return shutil.which("apache2") or shutil.which("httpd")


def apache_modules():
    prefix = os.path.dirname(os.path.dirname(apache_binary()))
    found = glob.glob(prefix + "/lib*/*/modules/mod_ssl.so")
    return os.environ.get("APACHE_MODULES") or (os.path.dirname(found[0]) if found else None)


def apache(directory, port, upstream):
    modules = apache_modules()
    with open(directory + "/apache.conf", "w") as conf:
        conf.write("ServerRoot %s\nServerName localhost\nPidFile apache.pid\nErrorLog apache.log\nListen 127.0.0.1:%d\n"
                   % (directory, port))
        for module in "mpm_event", "authz_core", "headers", "proxy", "proxy_http", "ssl":
            conf.write("LoadModule %s_module %s/mod_%s.so\n" % (module, modules, module))
        conf.write("User nobody\nGroup %s\n" % ("nogroup" if "nogroup" in open("/etc/group").read() else "nobody"))
        conf.write("""StartServers 1
SSLEngine on
SSLCertificateFile %(pki)s/server.crt
SSLCertificateKeyFile %(pki)s/server.key
SSLCACertificateFile %(pki)s/ca-a.crt
SSLVerifyClient optional_no_ca
SSLVerifyDepth 10
ProxyPass / http://127.0.0.1:%(upstream)d/
""" % {"pki": PKI, "upstream": upstream})
        for name in APACHE:
            conf.write('RequestHeader set %s "%%{%s}s"\n' % (name, name))
    return [apache_binary(), "-f", directory + "/apache.conf", "-DFOREGROUND"]


def haproxy(directory, port, upstream):
    with open(directory + "/server.pem", "w") as both:
        for file in "server.crt", "server.key":
            both.write(open(PKI + "/" + file).read())
    with open(directory + "/haproxy.cfg", "w") as conf:
        conf.write("""global
    tune.bufsize 524288
    tune.maxrewrite 262144
    tune.http.logurilen 1024
defaults
    mode http
    timeout connect 20s
    timeout client 20s
    timeout server 20s
frontend f
    bind 127.0.0.1:%d ssl crt %s/server.pem ca-file %s/ca-a.crt verify optional crt-ignore-err all ca-ignore-err all
    default_backend b
""" % (port, directory, PKI))
        for name, value in HAPROXY.items():
            conf.write("    http-request set-header %s %%[%s]\n" % (name, value))
        conf.write("backend b\n    server s 127.0.0.1:%d\n" % upstream)
    return [shutil.which("haproxy"), "-db", "-f", directory + "/haproxy.cfg"]


CADDY = {"X-Tls-Client-" + "-".join(word.title() for word in name.split("_")): name for name in (
    "certificate_der_base64", "fingerprint", "subject", "issuer", "serial")}


def caddy(directory, port, upstream, binary):
    placeholders = {header: ["{http.request.tls.client.%s}" % name] for header, name in CADDY.items()}
    proxy = {"handler": "reverse_proxy", "headers": {"request": {"set": placeholders}},
             "upstreams": [{"dial": "127.0.0.1:%d" % upstream}]}
    server = {"listen": ["127.0.0.1:%d" % port], "routes": [{"handle": [proxy]}], "automatic_https": {"disable": True},
              "tls_connection_policies": [{"client_authentication": {"mode": "require"}}]}
    files = [{"certificate": PKI + "/server.crt", "key": PKI + "/server.key"}]
    with open(directory + "/caddy.json", "w") as conf:
        json.dump({"admin": {"disabled": True}, "storage": {"module": "file_system", "root": directory},
                   "apps": {"http": {"servers": {"s": server}}, "tls": {"certificates": {"load_files": files}}}}, conf)
    return [binary, "run", "--config", directory + "/caddy.json"]


# Each part of x-forwarded-client-cert is compared by itself.
ENVOY = ["Hash", "Cert", "Chain", "Subject", "URI", "DNS"]


def envoy(directory, port, upstream, binary):
    types = "type.googleapis.com/envoy.extensions."
    filters = types + "filters."
    manager = {
        "@type": filters + "network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "a",
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {key: True for key in ("cert", "chain", "subject", "uri", "dns")},
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "u"}}]}]},
        "http_filters": [{"name": "r", "typed_config": {"@type": filters + "http.router.v3.Router"}}]}
    tls = {"@type": types + "transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": {
        "tls_certificates": [{"certificate_chain": {"filename": PKI + "/server.crt"},
                              "private_key": {"filename": PKI + "/server.key"}}],
        "validation_context": {"trusted_ca": {"filename": PKI + "/ca-a.crt"},
                               "trust_chain_verification": "ACCEPT_UNTRUSTED"}}}
    at = lambda number: {"socket_address": {"address": "127.0.0.1", "port_value": number}}
    with open(directory + "/envoy.json", "w") as conf:
        json.dump({"static_resources": {
            "listeners": [{"address": at(port), "filter_chains": [{
                "transport_socket": {"name": "tls", "typed_config": tls},
                "filters": [{"name": "h", "typed_config": manager}]}]}],
            "clusters": [{"name": "u", "connect_timeout": "20s", "load_assignment": {
                "cluster_name": "u", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(upstream)}}]}]}}]}}, conf)
    return [binary, "-c", directory + "/envoy.json", "--disable-hot-restart", "--concurrency", "1"]


def split_xfcc(headers):
    """x-forwarded-client-cert as a header for each key. Envoy quotes Cert, Chain and Subject and writes the others bare."""
    parts = {name: value for name, value in headers.items() if name == b""}
    for element in headers.get(b"x-forwarded-client-cert", []):
        for key in (b"Cert", b"Chain", b"Subject"):
            if match := re.search(rb';%s="(.*?)"(?=;(?:Chain|Subject|URI|DNS)=|$)' % key, element):
                parts.setdefault(key.lower(), []).append(match[1])
                element = element[:match.start()] + element[match.end():]
        for pair in re.split(rb";(?=(?:URI|DNS)=)", element):
            key, _, value = pair.partition(b"=")
            if value:
                parts.setdefault(key.lower(), []).append(value.strip(b'"'))
    return parts


@contextlib.contextmanager
def running(command, directory, port):
    with open(directory + "/output", "w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None:
                break
            time.sleep(0.1)
        if process.poll() is not None:
            sys.exit("%s does not start: %s" % (command[0], open(directory + "/output").read()))
        yield
    finally:
        process.terminate()
        process.wait(20)


def show(values):
    if values is None:
        return "-"
    text = repr(b", ".join(values))[1:]
    return text if len(text) < 100 else text[:30] + "..." + text[-20:]


ORIGINS = {"apache": (APACHE, apache), "haproxy": (list(HAPROXY), haproxy), "caddy": (list(CADDY), caddy),
           "envoy": (ENVOY, envoy)}


def origins(upstream, name, where, certificates):
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        if name == "nginx":
            names, port, start = list(NGINX), int(where), contextlib.nullcontext()
        else:
            port = free_port()
            names, make = ORIGINS[name]
            binary = [where] if name in ("caddy", "envoy") else []
            start = running(make(directory, port, upstream.port, *binary), directory, port)
        with start:
            compare(upstream, name, names, port, expanded(certificates))


def compare(upstream, origin, names, port, certificates):
    with open(HERE + "/origins-deviations.txt") as file:
        rows = [[cell.strip() for cell in line.split(" | ")] for line in file if line.strip() and line[0] != "#"]
    rows = [row[1:] for row in rows if row[0] == origin]
    used, same, deviating, refused = set(), 0, 0, []
    for certificate in certificates:
        ours = fetch(upstream, certificate, int(os.environ["PORT"]), origin + ".test")
        theirs = fetch(upstream, certificate, port)
        if origin in ("caddy", "envoy") and b"" in theirs:
            # Go and BoringSSL cannot read every certificate that OpenSSL reads.
            refused.append(certificate)
            continue
        if origin == "envoy":
            ours, theirs = split_xfcc(ours), split_xfcc(theirs)
        for header in names + [""]:
            got, want = ours.get(header.lower().encode()), theirs.get(header.lower().encode())
            if header == "SSL_CLIENT_V_REMAIN" and got and want and show(want).strip("'").isdigit():
                # Apache up to at least 2.4.58 counts one day more than later releases.
                want = got if int(show(want).strip("'")) == int(show(got).strip("'")) + 1 else want
            if got == want:
                same += 1
                continue
            for row in rows:
                if all(fnmatch.fnmatchcase(text, pattern) for text, pattern in
                       zip((certificate, header or "broken", show(got), show(want)), row)):
                    used.add(id(row))
                    deviating += 1
                    break
            else:
                print("%s | %s | %s | %s | %s" % (origin, certificate, header or "broken", show(got), show(want)))
    for row in rows:
        # The corpus is not installed everywhere, and does not have every deviation.
        if id(row) not in used and row[0][:4] != "odd-" and not certificate.startswith("odd-"):
            print("no deviation any more:", " | ".join(row))
    print("%d same, %d as listed" % (same, deviating) + (", refused there: " + " ".join(refused) if refused else ""))


def main():
    command, *arguments = sys.argv[1:]
    upstream = Upstream(os.environ["TMP"] + "/echo.sock")
    if command == "origins":
        name, where, *certificates = arguments
        origins(upstream, name, where, certificates)
    elif command == "capture":
        capture(upstream, arguments[0], arguments[1:])
    elif command == "forge":
        forge(upstream, arguments[0], arguments[1:])
    elif command == "hostile":
        hostile(upstream, arguments)
    else:
        resumed(upstream, arguments)


if __name__ == "__main__":
    main()
