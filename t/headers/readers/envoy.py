#!/usr/bin/env python3
"""Parses the x-forwarded-client-cert headers in a file of `t/headers/dialects.py capture` with Envoy (%XFCC_VALUE()%).
Usage: envoy.py FILE ENVOY
"""
import base64
import http.client
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from cryptography import x509  # noqa: E402

from dialects import free_port, running  # noqa: E402

KEYS = ("hash", "subject", "uri", "dns")
TYPES = "type.googleapis.com/envoy.extensions.filters."


def config(port):
    manager = {
        "@type": TYPES + "network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "a",
        "forward_client_cert_details": "ALWAYS_FORWARD_ONLY",
        "route_config": {"virtual_hosts": [{
            "name": "a", "domains": ["*"],
            "response_headers_to_add": [{"header": {"key": "x-" + key, "value": "[%%XFCC_VALUE(%s)%%]" % key}} for key in KEYS],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]},
        "http_filters": [{"name": "r", "typed_config": {"@type": TYPES + "http.router.v3.Router"}}]}
    return {"static_resources": {"listeners": [{
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "h", "typed_config": manager}]}]}]}}


def main():
    with open(sys.argv[1]) as file:
        captured = json.load(file)
    port = free_port()
    counts = dict.fromkeys(KEYS, 0)
    with tempfile.TemporaryDirectory() as directory:
        with open(directory + "/envoy.json", "w") as conf:
            json.dump(config(port), conf)
        command = [sys.argv[2], "-c", directory + "/envoy.json", "--disable-hot-restart", "--concurrency", "1"]
        with running(command, directory, port):
            for one in captured:
                for header in one["headers"].get("x-forwarded-client-cert", []):
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                    connection.request("GET", "/", headers={"x-forwarded-client-cert": header})
                    answer = connection.getresponse()
                    read = {key: answer.headers["x-" + key][1:-1] for key in KEYS}
                    for key in KEYS:
                        counts[key] += bool(read[key])
                    for problem in compared(one, read):
                        print(one["name"], problem)
    print(", ".join("%s %d" % pair for pair in counts.items()))


def compared(one, read):
    certificate = x509.load_der_x509_certificate(base64.b64decode(one["sent"][0]))
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    expected = {
        "hash": one["headers"]["x-tls-client-fingerprint"],
        "subject": one["headers"].get("ssl-client-subject-dn", [""]),
        # Envoy returns the first.
        "uri": names.get_values_for_type(x509.UniformResourceIdentifier)[:1] or [""],
        "dns": names.get_values_for_type(x509.DNSName)[:1] or [""],
    }
    for key, value in read.items():
        if value and [value] != expected[key]:
            yield "%s: %r, expected %r" % (key, value, expected[key])


if __name__ == "__main__":
    main()
