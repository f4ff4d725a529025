#!/usr/bin/env python3
"""OCSP responders and CRL distribution points at 127.0.0.1:PORT. They run until standard input ends.

responder.py PORT OCSP_PORT CLOSED_PORT PKI DIR

Writes to DIR a client certificate CASE.crt with CASE.key for each case below, the CRL files that policies name, and then
DIR/ready. A URL is /CASE/BEHAVIOUR, and DIR/requests has a line for each request. openssl answers each OCSP request;
another `openssl ocsp` is the server at OCSP_PORT. No process listens at CLOSED_PORT.
"""
import base64
import functools
import http.server
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse

PORT, OCSP_PORT, CLOSED_PORT = map(int, sys.argv[1:4])
PKI, DIR = sys.argv[4:6]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("pki", os.path.join(ROOT, "t", "pki", "make"))
pki = importlib.util.module_from_spec(importlib.util.spec_from_loader("pki", loader))
loader.exec_module(pki)
pki.OUT = DIR
# Serial numbers above those of the PKI itself
pki.next_serial = 0x100000

# Case: the OCSP and CRL URLs in its certificate, by BEHAVIOUR
CASES = {
    "good": (["good"], []),
    "revoked": (["good"], []),
    "unknown": (["good"], []),
    "delegated": (["delegated"], []),
    "undelegated": (["undelegated"], []),
    "expired": (["expired"], []),
    "wrong-signer": (["wrong-signer"], []),
    "another": (["another"], []),
    "down": (["http://127.0.0.1:%d/" % CLOSED_PORT], []),
    "down-again": (["http://127.0.0.1:%d/" % CLOSED_PORT], []),
    "down-int": (["http://127.0.0.1:%d/" % CLOSED_PORT], []),
    "slow": (["slow"], []),
    "slow-revoked": (["slow"], []),
    "abort-close-revoked": (["slow"], []),
    "abort-rst-revoked": (["slow"], []),
    "abort-rst_stream-revoked": (["slow"], []),
    "garbage": (["garbage"], []),
    "huge": (["huge"], []),
    "error": (["error"], []),
    "get": (["get-only"], []),
    "get-revoked": (["get-only"], []),
    "second": (["error", "good"], []),
    "second-revoked": (["error", "good"], []),
    "server": (["http://127.0.0.1:%d/" % OCSP_PORT], []),
    "server-revoked": (["http://127.0.0.1:%d/" % OCSP_PORT], []),
    "leaf-only": (["good"], []),
    "leaf-only-revoked": (["good"], []),
    "nowhere": ([], []),
    "odd": (["ftp://127.0.0.1/", "http://user@127.0.0.1:%d/odd/good" % PORT, "http://127.0.0.1:%d/%s" % (PORT, "a" * 40000)],
            ["file:///etc/passwd"]),
    "shared": (["good"], []),
    "nonce": (["nonce"], []),
    "nonce-revoked": (["nonce"], []),
    "forbidden-revoked": (["post-403"], []),
    "redirect-revoked": (["post-redirect"], []),
    "broken-revoked": (["post-broken"], []),
    "silent-revoked": (["silent", "good"], []),
    "turn": (["turn"], []),
    "turn-back-revoked": (["turn"], []),
    "turn-first": (["turn"], []),
    "turn-first-revoked": (["turn"], []),
    "turn-strict": (["turn"], []),
    "etag": ([], ["crl-etag"]),
    "etag-revoked": ([], ["crl-etag"]),
    "crl": ([], ["crl"]),
    "crl-revoked": ([], ["crl"]),
    "pem": ([], ["crl-pem"]),
    "pem-revoked": ([], ["crl-pem"]),
    "crl-expired": ([], ["crl-expired"]),
    "crl-wrong-signer": ([], ["crl-wrong-signer"]),
    "crl-error": ([], ["error"]),
    "crl-garbage": ([], ["garbage"]),
    "crl-huge": ([], ["huge"]),
    "crl-second-revoked": ([], ["error", "crl"]),
    "crl-shard": ([], ["crl-shard"]),
    "crl-shard-revoked": ([], ["crl-shard"]),
    "crl-other-shard": ([], ["crl-other-shard"]),
    "crl-other-shard-revoked": ([], ["crl-other-shard"]),
    "crl-users": ([], ["crl-users"]),
    # As Active Directory Certificate Services writes it
    "crl-adcs-revoked": ([], ["ldap:///CN=CA?certificateRevocationList", "crl {1}#fragment"]),
    "crl-large": ([], ["crl-large"]),
    "crl-large-revoked": ([], ["crl-large"]),
    "crl-large-forged-revoked": ([], ["crl-large-forged"]),
    "turn-large-revoked": ([], ["turn-large"]),
    "fallback": (["error"], ["crl"]),
    "fallback-revoked": (["error"], ["crl"]),
    "fallback-unknown-revoked": (["good"], ["crl"]),
    "preferred": (["good"], ["crl"]),
    "local": ([], []),
    "local-revoked": ([], []),
    "local-int": ([], []),
    "local-int-revoked": ([], []),
    "local-online-revoked": (["good"], []),
    "old-revoked": (["expired"], []),
    "endless": (["endless"], []),
    "endless-revoked": (["endless"], []),
    "crl-old-revoked": ([], ["crl-expired"]),
    "crl-scope": ([], ["crl-scope"]),
    "crl-scope-revoked": ([], ["crl-scope"]),
    "crl-empty-scope": ([], ["crl-empty-scope"]),
    "crl-empty-scope-revoked": ([], ["crl-empty-scope"]),
    "crl-critical-revoked": ([], ["crl-critical"]),
}
OCSP_REVOKED = [case for case in CASES if case.endswith("revoked") and "fallback" not in case]
OCSP_UNKNOWN = ["unknown", "fallback-unknown-revoked"]
CRL_REVOKED = [case for case in CASES if case.endswith("revoked") and case != "local-online-revoked"] + ["preferred"]
BY_INTERMEDIATE = ["down-int", "leaf-only", "leaf-only-revoked", "local-int", "local-int-revoked"]


def issuer_of(case):
    return "ca-a-int" if case in BY_INTERMEDIATE else "ca-a"


def uri(case, place):
    return pki.tlv(0x86, (place if ":" in place else "http://127.0.0.1:%d/%s/%s" % (PORT, case, place)).encode())


def make_certificates():
    for file in ("ca-a.crt", "ca-a.key", "ca-b.crt", "ca-b.key", "ca-a-int.crt", "ca-a-int.key", "client-a.key"):
        shutil.copy(os.path.join(PKI, file), DIR)
    lab = ("O", "Example Lab")
    for short in "ab":
        pki.issued["ca-" + short] = pki.name(("C", "CZ"), lab, ("CN", "Test CA-" + short.upper()))
    pki.issued["ca-a-int"] = pki.name(lab, ("CN", "Test CA-A Intermediate"))
    for case, (ocsp, crls) in CASES.items():
        more = []
        if ocsp:
            more.append(pki.extension("1.3.6.1.5.5.7.1.1", pki.seq(*(
                pki.seq(pki.oid("1.3.6.1.5.5.7.48.1"), uri(case, place)) for place in ocsp))))
        if crls:
            more.append(pki.extension("2.5.29.31", pki.seq(*(
                pki.seq(pki.tlv(0xA0, pki.tlv(0xA0, uri(case, place)))) for place in crls))))
        pki.certificate(case, pki.name(("CN", case)), issuer_of(case), key="client-a", more=more)
    pki.certificate("delegate", pki.name(("CN", "OCSP responder")), "ca-a", key="client-a", eku="ocsp")
    for issuer in ("ca-a", "ca-a-int"):
        with open(pki.path(issuer + ".index"), "w") as index:
            for case in CASES:
                if issuer_of(case) == issuer and case not in OCSP_UNKNOWN:
                    revoked = case in OCSP_REVOKED
                    print("R" if revoked else "V", "401231235959Z", "200101000000Z" if revoked else "",
                          "%06X" % pki.serials[case], "unknown", "/CN=" + case, sep="\t", file=index)


# issuingDistributionPoint with onlyContainsCACerts, with onlyContainsUserCerts, and with nothing
CA_SCOPE = pki.extension("2.5.29.28", pki.seq(b"\x82\x01\xff"), critical=True)
USER_SCOPE = pki.extension("2.5.29.28", pki.seq(b"\x81\x01\xff"), critical=True)
def shard_scope(case, place):
    """issuingDistributionPoint with a URL"""
    return pki.extension("2.5.29.28", pki.seq(pki.tlv(0xA0, pki.tlv(0xA0, uri(case, place)))), critical=True)


EMPTY_SCOPE = pki.extension("2.5.29.28", pki.seq(), critical=False)
CRITICAL = pki.extension("1.2.3.4", pki.seq(), critical=True)


def crl(issuer="ca-a", signer=None, age=0 * pki.DAY, extensions=(), entries=None):
    """entries: (serial number, extensions) instead of those of CRL_REVOKED."""
    if entries is None:
        entries = [(pki.serials[case], []) for case in CRL_REVOKED if issuer_of(case) == issuer]
    date = pki.time(pki.NOW - 100 * pki.DAY)
    revoked = [pki.seq(pki.integer(serial), date, *([pki.seq(*more)] if more else []))
               for serial, more in entries]
    number = pki.extension("2.5.29.20", pki.integer(1))
    return pki.signed(pki.seq(pki.integer(1), pki.ECDSA_SHA256, pki.issued[issuer],
                              pki.time(pki.NOW - pki.DAY - age), pki.time(pki.NOW + pki.DAY - age),
                              *([pki.seq(*revoked)] if revoked else []),
                              pki.tlv(0xA0, pki.seq(number, *extensions))), signer or issuer)


@functools.cache
def large_crl(signer, count=8000):
    """So large that it is parsed beside the event loop."""
    entries = [(pki.serials[case], []) for case in CRL_REVOKED]
    return crl(signer=signer, entries=entries + [(2 ** 120 + number, []) for number in range(count)])


def make_crls():
    text = subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", pki.path("ca-a-int.crt")],
                          stdout=subprocess.PIPE, check=True, text=True).stdout
    intermediate = [(int(text.strip().split("=")[1], 16), [])]
    hold = [pki.extension("2.5.29.21", pki.tlv(0x0A, b"\x06"))]
    for file, der in (
        ("ca-a.crl", crl()),
        ("ca-a-int.crl", crl("ca-a-int")),
        ("expired.crl", crl(age=30 * pki.DAY)),
        # The intermediate is revoked.
        ("int.crl", crl(entries=intermediate)),
        ("int-expired.crl", crl(entries=intermediate, age=30 * pki.DAY)),
        ("int-future.crl", crl(entries=intermediate, age=-30 * pki.DAY)),
        ("int-critical.crl", crl(entries=intermediate, extensions=[CRITICAL])),
        ("int-ca-scope.crl", crl(entries=intermediate, extensions=[CA_SCOPE])),
        ("int-user-scope.crl", crl(entries=intermediate, extensions=[USER_SCOPE])),
        ("int-empty-scope.crl", crl(entries=intermediate, extensions=[EMPTY_SCOPE])),
        ("int-entry.crl", crl(entries=[(1, [CRITICAL]), *intermediate])),
        ("int-forged.crl", crl(entries=intermediate, signer="ca-b")),
        # A newer CRL of its issuer no longer lists it.
        ("int-gone.crl", crl(entries=[], age=-pki.DAY / 24)),
        ("hold-expired.crl", crl(entries=[(intermediate[0][0], hold)], age=30 * pki.DAY)),
        ("hold.crl", crl(entries=[(intermediate[0][0], hold)])),
        ("empty.crl", crl(entries=[])),
        ("empty-expired.crl", crl(entries=[], age=30 * pki.DAY)),
        ("empty-scope.crl", crl(entries=[], extensions=[EMPTY_SCOPE])),
    ):
        with open(pki.path(file), "w") as out:
            out.write(pki.pem(der, "X509 CRL"))


def ocsp_command(issuer, signer, signer_key, ends=True):
    return ["openssl", "ocsp", "-index", pki.path(issuer + ".index"), "-CA", pki.path(issuer + ".crt"),
            "-rsigner", pki.path(signer + ".crt"), "-rkey", pki.path(signer_key + ".key"), *(["-nmin", "60"] if ends else [])]


def ocsp(request, issuer, signer=None, signer_key=None, ends=True):
    command = ocsp_command(issuer, signer or issuer, signer_key or signer or issuer, ends)
    return subprocess.run([*command, "-reqin", "/dev/stdin", "-respout", "/dev/stdout"], input=request,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


def nested(der, *path):
    """The DER element at these positions, from the outermost element inwards."""
    for position in path:
        body = content(der)
        for _ in range(position):
            body = body[len(element(body)):]
        der = element(body)
    return der


def header(der):
    if der[1] < 128:
        return 2, der[1]
    size = der[1] & 0x7F
    return 2 + size, int.from_bytes(der[2:2 + size], "big")


def element(der):
    start, length = header(der)
    return der[:start + length]


def content(der):
    start, length = header(der)
    return der[start:start + length]


def backdated(response, by):
    """The same answer with all times that much earlier, and signed again."""
    tbs = nested(content(nested(response, 1, 0, 1)), 0)
    while (at := tbs.find(b"\x18\x0f20")) >= 0:
        then = pki.datetime.datetime.strptime(tbs[at + 2:at + 17].decode(), "%Y%m%d%H%M%SZ") - by
        tbs = tbs[:at] + b"\x18\x0f--" + pki.generalized_time(then)[4:] + tbs[at + 17:]
    tbs = tbs.replace(b"\x18\x0f--", b"\x18\x0f20")
    return pki.seq(pki.tlv(0x0A, b"\0"), pki.tlv(0xA0, pki.seq(
        pki.oid("1.3.6.1.5.5.7.48.1.1"), pki.tlv(0x04, pki.signed(tbs, "ca-a")))))


def another_request():
    return subprocess.run(["openssl", "ocsp", "-issuer", pki.path("ca-a.crt"), "-cert", pki.path("good.crt"), "-no_nonce",
                           "-reqout", "/dev/stdout"], stdout=subprocess.PIPE, check=True).stdout


ANSWERS = {
    "good": lambda case, request: ocsp(request, issuer_of(case)),
    "delegated": lambda case, request: ocsp(request, "ca-a", "delegate"),
    # The client's certificate is issued by the right CA, and not for OCSP signing.
    "undelegated": lambda case, request: ocsp(request, "ca-a", "good"),
    "wrong-signer": lambda case, request: ocsp(request, "ca-a", "ca-b"),
    "expired": lambda case, request: backdated(ocsp(request, "ca-a"), 30 * pki.DAY),
    # Without nextUpdate, two hours old.
    "endless": lambda case, request: backdated(ocsp(request, "ca-a", ends=False), pki.DAY / 12),
    "another": lambda case, request: ocsp(another_request(), "ca-a"),
    "garbage": lambda case, request: b"\x30\x82\xff\xff garbage",
    "crl": lambda case, request: crl(),
    "crl-pem": lambda case, request: pki.pem(crl(), "X509 CRL").encode(),
    "crl-expired": lambda case, request: crl(age=30 * pki.DAY),
    "crl-scope": lambda case, request: crl(extensions=[CA_SCOPE]),
    "crl-empty-scope": lambda case, request: crl(extensions=[EMPTY_SCOPE]),
    "crl-critical": lambda case, request: crl(extensions=[CRITICAL]),
    "crl-wrong-signer": lambda case, request: crl(signer="ca-b"),
    "crl-shard": lambda case, request: crl(extensions=[shard_scope(case, "crl-shard")]),
    "crl-other-shard": lambda case, request: crl(extensions=[shard_scope(case, "crl-shard")]),
    "crl-users": lambda case, request: crl(extensions=[USER_SCOPE]),
    "crl%20%7B1%7D": lambda case, request: crl(),
    "crl-large": lambda case, request: large_crl("ca-a"),
    "crl-large-forged": lambda case, request: large_crl("ca-b"),
    "turn-large": lambda case, request: large_crl("ca-a", 200000),
}
noting = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self):
        self.answer(b"")

    def answer(self, request):
        with noting, open(os.path.join(DIR, "requests"), "a") as requests:
            print(self.command, self.path, self.headers["Content-Type"] or "-", self.headers["If-None-Match"] or "-",
                  file=requests)
        case, behaviour, *asked = self.path[1:].split("/")
        if asked:
            request = base64.b64decode(urllib.parse.unquote(asked[0]), validate=True)
        elif behaviour == "get-only":
            self.send_error(405)
            return
        if behaviour == "error":
            self.send_error(500)
            return
        if behaviour == "slow":
            time.sleep(3)
        if behaviour == "silent":
            time.sleep(20)
            return
        if behaviour in ("turn", "turn-large"):
            # The tests decide how it fails, by a file.
            try:
                with open(os.path.join(DIR, "fault")) as fault:
                    fault = fault.read().strip()
            except OSError:
                fault = ""
            if fault == "silent":
                time.sleep(20)
                return
            if fault:
                self.send_error(503)
                return
        if behaviour == "post-403" and not asked:
            self.send_error(403)
            return
        if behaviour == "post-broken" and not asked:
            return
        if behaviour == "post-redirect":
            self.send_response(302)
            self.send_header("Location", self.path.replace("post-redirect", "good"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            # The connection is not reused, as the response is of HTTP/1.0: a request on it would not be answered.
            time.sleep(0.1)
            return
        # id-pkix-ocsp-nonce
        if behaviour == "nonce" and b"\x2b\x06\x01\x05\x05\x07\x30\x01\x02" not in request:
            body = b"\x30\x03\x0a\x01\x06"
            self.send_response(200)
            self.send_header("Content-Type", "application/ocsp-response")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if behaviour == "crl-etag":
            if self.headers["If-None-Match"] == '"v1"':
                self.send_response(304)
                self.send_header("ETag", '"v1"')
                self.end_headers()
                return
            body = crl()
            self.send_response(200)
            self.send_header("ETag", '"v1"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if behaviour == "huge":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(50):
                    self.wfile.write(bytes(1024 * 1024))
            except OSError:
                pass
            return
        if case == "shared":
            # Slow enough for every worker to wait for it
            time.sleep(0.4)
        body = ANSWERS.get(behaviour, ANSWERS["good"])(case, request)
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response" if request else "application/pkix-crl")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *arguments):
        pass


def wait_for_responder():
    """Sends a complete request, because an incomplete one may end the responder."""
    command = ["openssl", "ocsp", "-issuer", pki.path("ca-a.crt"), "-cert", pki.path("good.crt"), "-no_nonce", "-noverify",
               "-url", "http://127.0.0.1:%d/" % OCSP_PORT]
    for _ in range(200):
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.05)


def main():
    make_certificates()
    make_crls()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    responder = subprocess.Popen([*ocsp_command("ca-a", "ca-a", "ca-a"), "-port", str(OCSP_PORT)],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_responder()
        open(os.path.join(DIR, "ready"), "w").close()
        sys.stdin.read()
    finally:
        responder.terminate()


main()
