#!/usr/bin/env python3
"""Runs NIST PKITS, from the PyPI package cryptography_vectors, against TLS servers.

pkits.py prepare DIR              writes trust-anchor.crt, all.crl and, for each end entity, NAME.chain and NAME.key
pkits.py compare DIR PORT PORT2   prints "NAME STATUS STATUS2" for each end entity: what each server answers it

NAME is that of the suite's file. An end entity that TLS has no signature scheme for (DSA keys) has no key here.
"""
import base64
import glob
import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
import textwrap


RSA_ENCRYPTION = bytes.fromhex("2a864886f70d010101")


def openssl(*args, **options):
    return subprocess.run(["openssl", *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options).stdout


def read(file):
    with open(file, "rb") as source:
        return source.read()


def as_pem(label, der):
    # As openssl wraps it
    return f"-----BEGIN {label}-----\n{textwrap.fill(base64.b64encode(der).decode(), 64)}\n-----END {label}-----\n"


def normal(name):
    """A printed name as certificates compare it, without regard to case and surplus blanks."""
    return re.sub(" *([=,]) *", r"\1", " ".join(name.lower().replace('"', "").split()))


# Each run of openssl takes 30 ms, and the suite has 400 certificates and 170 CRLs.
def prepare(directory):
    import cryptography_vectors

    suite = os.path.join(os.path.dirname(cryptography_vectors.__file__), "x509", "PKITS_data")
    files = {os.path.basename(file)[:-4]: as_pem("CERTIFICATE", read(file)) for file in glob.glob(os.path.join(suite, "certs", "*.crt"))}
    every = os.path.join(directory, "every.crt")
    with open(every, "w") as out:
        out.write("".join(files.values()))
    printed = openssl("pkcs7", "-print_certs", input=openssl("crl2pkcs7", "-nocrl", "-certfile", every)).decode()
    os.remove(every)
    names = {text: (normal(subject), normal(issuer)) for subject, issuer, text in
             re.findall(r"^subject=(.*)\nissuer=(.*)\n(-----BEGIN [^:]*?-----END CERTIFICATE-----\n)", printed, re.M)}
    certificates = {name: (*names[files[name]], files[name]) for name in sorted(files)}
    with open(os.path.join(directory, "trust-anchor.crt"), "w") as out:
        out.write(certificates["TrustAnchorRootCertificate"][2])
    with open(os.path.join(directory, "all.crl"), "w") as out:
        for file in sorted(glob.glob(os.path.join(suite, "crls", "*.crl"))):
            out.write(as_pem("X509 CRL", read(file)))
    by_subject = {}
    for name, (subject, issuer, pem) in certificates.items():
        # A client may send anything but the anchor.
        if not name.endswith("EE") and name != "TrustAnchorRootCertificate":
            by_subject.setdefault(subject, []).append(name)
    for name in certificates:
        if not name.endswith("EE"):
            continue
        key = openssl("pkcs12", "-legacy", "-in", os.path.join(suite, "pkcs12", name + ".p12"), "-nocerts", "-nodes",
                      "-passin", "pass:password")
        body = re.search(rb"-----BEGIN PRIVATE KEY-----(.*)-----END", key, re.S)
        if not body or RSA_ENCRYPTION not in base64.b64decode(body[1])[:30]:
            continue
        chain, wanted = [name], [certificates[name][1]]
        while wanted:
            for other in by_subject.get(wanted.pop(0), ()):
                if other not in chain:
                    chain.append(other)
                    wanted.append(certificates[other][1])
        with open(os.path.join(directory, name + ".chain"), "w") as out:
            out.write("".join(certificates[each][2] for each in chain))
        with open(os.path.join(directory, name + ".key"), "wb") as out:
            out.write(key)


def status(directory, name, port, host):
    context = ssl._create_unverified_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(os.path.join(directory, name + ".chain"), os.path.join(directory, name + ".key"))
    connection = http.client.HTTPConnection(host)
    connection.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))), server_hostname=host)
    connection.request("GET", "/t")
    answer = connection.getresponse().status
    connection.close()
    return answer


def compare(directory, port, port2):
    for file in sorted(glob.glob(os.path.join(directory, "*.chain"))):
        name = os.path.basename(file)[:-6]
        try:
            print(name, status(directory, name, port, "a.test"), status(directory, name, port2, "stock.test"))
        except (OSError, ssl.SSLError) as error:
            print(name, error)


{"prepare": prepare, "compare": compare}[sys.argv[1]](*sys.argv[2:])
