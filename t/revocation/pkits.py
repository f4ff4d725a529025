#!/usr/bin/env python3
"""Runs NIST PKITS, from the PyPI package cryptography_vectors, against TLS servers.

pkits.py prepare DIR              writes trust-anchor.crt, all.crl and, for each end entity, NAME.chain and NAME.key
pkits.py compare DIR PORT PORT2   prints "NAME STATUS STATUS2" for each end entity: what each server answers it

NAME is that of the suite's file. An end entity that TLS has no signature scheme for (DSA keys) has no key here.
"""
import glob
import http.client
import os
import socket
import ssl
import subprocess
import sys


def openssl(*args):
    return subprocess.run(["openssl", *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def prepare(directory):
    import cryptography_vectors

    suite = os.path.join(os.path.dirname(cryptography_vectors.__file__), "x509", "PKITS_data")
    certificates = {}
    for file in sorted(glob.glob(os.path.join(suite, "certs", "*.crt"))):
        out = openssl("x509", "-inform", "DER", "-in", file, "-subject_hash", "-issuer_hash").stdout.decode()
        subject, issuer, pem = out.split("\n", 2)
        certificates[os.path.basename(file)[:-4]] = (subject, issuer, pem)
    with open(os.path.join(directory, "trust-anchor.crt"), "w") as out:
        out.write(certificates["TrustAnchorRootCertificate"][2])
    with open(os.path.join(directory, "all.crl"), "wb") as out:
        for file in sorted(glob.glob(os.path.join(suite, "crls", "*.crl"))):
            out.write(openssl("crl", "-inform", "DER", "-in", file).stdout)
    by_subject = {}
    for name, (subject, issuer, pem) in certificates.items():
        # A client may send anything but the anchor.
        if not name.endswith("EE") and name != "TrustAnchorRootCertificate":
            by_subject.setdefault(subject, []).append(name)
    for name in certificates:
        if not name.endswith("EE"):
            continue
        key = openssl("pkcs12", "-legacy", "-in", os.path.join(suite, "pkcs12", name + ".p12"), "-nocerts", "-nodes",
                      "-passin", "pass:password").stdout
        if subprocess.run(["openssl", "rsa", "-noout"], input=key, stderr=subprocess.DEVNULL).returncode != 0:
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
