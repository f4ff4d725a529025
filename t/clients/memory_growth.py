#!/usr/bin/env python3
"""Makes requests for many routes as many clients, and prints by how many KB the memory of the worker grew.

    memory_growth.py PORT SNI PID_FILE ROUTES CHAIN... < KEY

Each CHAIN is a PEM file with the certificates of one connection, which requests /0 to /ROUTES-1. The private key of all
is on standard input. The first line is the number of responses by status.
"""
import collections
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time

BATCH = 50


def worker(pid_file):
    master = open(pid_file).read().strip()
    for _ in range(200):
        children = subprocess.run(["pgrep", "-P", master], capture_output=True, text=True).stdout.split()
        if children:
            return children[0]
        time.sleep(0.05)
    raise SystemExit("nginx has no worker")


def memory(pid):
    """KB of private memory."""
    with open("/proc/%s/smaps_rollup" % pid) as rollup:
        return sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", rollup.read(), re.M)))


def request(port, sni, chain, key, routes, statuses):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(chain, key)
    with socket.create_connection(("127.0.0.1", port)) as raw, context.wrap_socket(raw, server_hostname=sni) as tls:
        for start in range(0, routes, BATCH):
            numbers = range(start, min(routes, start + BATCH))
            tls.sendall("".join("GET /%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (number, sni) for number in numbers).encode())
            text = b""
            while text.count(b"HTTP/1.1 ") < len(numbers) or not text.endswith(b"\r\n\r\n"):
                got = tls.recv(65536)
                if not got:
                    raise SystemExit("the connection was closed")
                text += got
            statuses.update(re.findall(rb"HTTP/1.1 (\d+)", text))


def run(port, sni, pid, routes, chains, key):
    """Responses by status, and KB of growth."""
    statuses = collections.Counter()
    before = memory(pid)
    for chain in chains:
        request(port, sni, chain, key, routes, statuses)
    return {int(status): count for status, count in sorted(statuses.items())}, memory(pid) - before


if __name__ == "__main__":
    port, sni, pid_file, routes, *chains = sys.argv[1:]
    with tempfile.NamedTemporaryFile("w") as key:
        key.write(sys.stdin.read())
        key.flush()
        pid = worker(pid_file)
        # The first round allocates what exists once: traces, buffers, the plans of all routes.
        run(int(port), sni, pid, int(routes), chains[:1], key.name)
        answers, growth = run(int(port), sni, pid, int(routes), chains, key.name)
    print(*("%d: %d" % item for item in answers.items()))
    print(growth)
