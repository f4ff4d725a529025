#!/usr/bin/env python3
"""A nameserver (UDP and TCP) and an HTTP proxy on two ports of 127.0.0.1. They run until standard input ends.

dns_and_proxy.py DNS_PORT PROXY_PORT
"""
import collections
import os
import select
import socket
import struct
import sys
import threading
import time

A, CNAME, AAAA = 1, 5, 28
HERE = "127.0.0.1"


# Nameserver

def encode_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def record(owner, rtype, data, ttl=60):
    return owner + struct.pack(">HHIH", rtype, 1, ttl, len(data)) + data


def a(owner, *addresses, ttl=60):
    return [record(owner, A, socket.inet_aton(address), ttl) for address in addresses]


def aaaa(owner, *addresses):
    return [record(owner, AAAA, socket.inet_pton(socket.AF_INET6, address)) for address in addresses]


QNAME = b"\xc0\x0c"
# The number of queries by name and type
asked = collections.Counter()


def message(query, records=(), rcode=0, flags=0x8180, question=None):
    if question is None:
        question = query[12:]
    return query[:2] + struct.pack(">HHHHH", flags | rcode, 1, len(records), 0, 0) + question + b"".join(records)


def plain(records_of):
    """An ordinary answer, by a function of the query type."""
    return lambda query, rtype, tcp: [message(query, records_of(rtype))]


def ipv4(*addresses, ttl=60):
    return plain(lambda rtype: a(QNAME, *addresses, ttl=ttl) if rtype == A else [])


def ipv6(*addresses):
    return plain(lambda rtype: aaaa(QNAME, *addresses) if rtype == AAAA else [])


def alternating(query, rtype, tcp):
    """An allowed address first, a forbidden one the next time: DNS rebinding."""
    here = asked["rebind.test", rtype] % 2
    return [message(query, a(QNAME, "127.0.0.1" if here else "127.0.0.2", ttl=0) if rtype == A else [])]


def counted(query, rtype, tcp):
    return [message(query, a(QNAME, "127.0.0.%d" % asked["cached.test", rtype]) if rtype == A else [])]


def truncated(query, rtype, tcp):
    if tcp:
        return [message(query, a(QNAME, HERE) if rtype == A else [])]
    return [message(query, flags=0x8380)]


def spoofed(query, rtype, tcp):
    other_id = bytes([query[0] ^ 1]) + query[1:]
    wrong = a(QNAME, "127.0.0.9")
    return [message(other_id, wrong), message(query, wrong, question=encode_name("other.test") + query[-4:]),
            message(query, wrong, flags=0x0100), message(query, a(QNAME, HERE) if rtype == A else [])]


def flood(query, rtype, tcp):
    return [message(bytes([query[0] ^ 1]) + query[1:])] * 200


def chain(rtype):
    names = [encode_name("alias.test"), encode_name("Second.test"), encode_name("third.test")]
    records = [record(names[0], CNAME, names[1]), record(names[1], CNAME, names[2])]
    return a(encode_name("third.test"), HERE) + records[::-1] if rtype == A else records


def failing_once(query, rtype, tcp):
    return [message(query, rcode=2)] if asked["flaky.test", rtype] < 2 else ipv4(HERE)(query, rtype, tcp)


ZONE = {
    "here.test": ipv4(HERE),
    "a.test": ipv4(HERE),
    "there.test": ipv4("127.0.0.2"),
    "metadata.test": ipv4("169.254.169.254"),
    "zero.test": ipv4("0.0.0.0"),
    "mixed.test": ipv4("169.254.0.1", HERE),
    "unreachable.test": ipv4("127.0.0.2", "127.0.0.3", HERE),
    "six.test": ipv6("::1"),
    "mapped.test": ipv6("::ffff:127.0.0.2"),
    "translated.test": ipv6("64:ff9b::169.254.169.254"),
    "both.test": plain(lambda rtype: a(QNAME, HERE) if rtype == A else aaaa(QNAME, "::1")),
    "rebind.test": alternating,
    "cached.test": counted,
    "alias.test": plain(chain),
    "aliases.test": plain(lambda rtype: [record(encode_name("%s.test" % x), CNAME, encode_name("%s.test" % y))
                                         for x, y in (("aliases", "back"), ("back", "aliases"))]),
    "elsewhere.test": plain(lambda rtype: a(encode_name("other.test"), "127.0.0.9")),
    "empty.test": plain(lambda rtype: []),
    "absent.test": lambda query, rtype, tcp: [message(query, rcode=3)],
    "servfail.test": lambda query, rtype, tcp: [message(query, rcode=2)],
    "flaky.test": failing_once,
    "refused.test": lambda query, rtype, tcp: [query[:2] + struct.pack(">HHHHH", 0x8185, 0, 0, 0, 0)],
    "truncated.test": truncated,
    "spoofed.test": spoofed,
    "flood.test": flood,
    "garbage.test": lambda query, rtype, tcp: [message(query, [os.urandom(40)])],
    "loop.test": lambda query, rtype, tcp: [message(query, [record(b"\xc0" + bytes([len(query)]), A, b"\x7f\0\0\1")])],
    "short.test": lambda query, rtype, tcp: [message(query, [record(QNAME, rtype, b"\x7f")])],
    "cut.test": lambda query, rtype, tcp: [message(query, a(QNAME, HERE))[:-1]],
    "silent.test": lambda query, rtype, tcp: [],
    "silent6.test": lambda query, rtype, tcp: [message(query, a(QNAME, HERE))] if rtype == A else [],
}


def answers(query, tcp):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    name = ".".join(labels)
    rtype, = struct.unpack_from(">H", query, at + 1)
    asked[name, rtype] += 1
    return ZONE.get(name, ZONE["absent.test"])(query, rtype, tcp)


def serve_udp(sock):
    while True:
        query, peer = sock.recvfrom(512)
        for answer in answers(query, False):
            sock.sendto(answer, peer)


def serve_dns_tcp(conn):
    size, = struct.unpack(">H", conn.recv(2))
    for answer in answers(conn.recv(size), True):
        # In two pieces, as a real network may deliver it.
        conn.sendall(struct.pack(">H", len(answer)) + answer[:5])
        time.sleep(0.02)
        conn.sendall(answer[5:])


# Proxy

def relay(one, other):
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)


def serve_proxy(conn):
    head = b""
    while b"\r\n\r\n" not in head:
        data = conn.recv(65536)
        if not data:
            return
        head += data
    method, target = head.decode().split(" ")[:2]
    host, _, port = target.rpartition(":")
    if target == "http://much.test/":
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 << 20) + b"x" * (32 << 20))
    elif method != "CONNECT":
        conn.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + head)
    elif host == "forbidden.test":
        conn.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    elif host == "early.test":
        conn.sendall(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlies")
        time.sleep(1)
    elif host == "silent.test":
        time.sleep(5)
    else:
        # This proxy connects to 127.0.0.1 whatever the name.
        with socket.create_connection((HERE, int(port))) as origin:
            conn.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: 1\r\n\r\n")
            relay(conn, origin)


def retry(bind):
    """Retries, because the port is in the range of outgoing connections, and one may hold it for a moment."""
    for _ in range(80):
        try:
            return bind()
        except OSError:
            time.sleep(0.1)
    return bind()


def listen(port, serve):
    def handle(conn):
        with conn:
            try:
                serve(conn)
            except OSError:
                pass

    def accept(sock):
        while True:
            threading.Thread(target=handle, args=(sock.accept()[0],), daemon=True).start()

    sock = retry(lambda: socket.create_server((HERE, port)))
    threading.Thread(target=accept, args=(sock,), daemon=True).start()


def main():
    dns_port, proxy_port = map(int, sys.argv[1:])
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    retry(lambda: sock.bind((HERE, dns_port)))
    threading.Thread(target=serve_udp, args=(sock,), daemon=True).start()
    listen(dns_port, serve_dns_tcp)
    # This port listens last: when a client can connect to it, all others listen.
    listen(proxy_port, serve_proxy)
    sys.stdin.read()


main()
