#!/usr/bin/env python3
"""A pooled client of Python's requests: pooled.py PORT CHANGE CRT KEY. As pooled.go, without the numbers of the connections."""
import socket
import sys
import warnings

import requests

port, change, *certificate = sys.argv[1:]
warnings.simplefilter("ignore")
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **options: resolve("127.0.0.1", *rest, **options)
session = requests.Session()
session.cert, session.verify, session.trust_env = tuple(certificate), False, False
for i in range(5):
    if i == 2:
        assert requests.get(change, timeout=20).status_code == 200
    response = session.get("https://a.test:%s/t" % port, timeout=20)
    print(response.status_code, end=" ")
print()
