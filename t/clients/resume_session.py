#!/usr/bin/env python3
"""Makes two connections, the second of which offers the session of the first, by other TLS stacks than
t/clients/tls_client.c.

resume_session.py python|gnutls PORT 1.2|1.3 CRT KEY SNI/PATH SNI/PATH

Each connection sends one request for its SNI and reads to the end. The server's access log has the results.
"""
import ctypes
import socket
import ssl
import sys


def request(target):
    host, _, path = target.partition("/")
    return f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


def connect(port):
    return socket.create_connection(("127.0.0.1", int(port)), timeout=20)


class Python:
    """OpenSSL through Python's ssl."""

    def __init__(self, port, version, crt, key):
        self.port, self.session = port, None
        self.context = ssl._create_unverified_context()
        self.context.load_cert_chain(crt, key)
        number = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        self.context.minimum_version = self.context.maximum_version = number

    def get(self, target):
        sni = target.partition("/")[0]
        with self.context.wrap_socket(connect(self.port), server_hostname=sni, session=self.session) as tls:
            tls.sendall(request(target))
            while tls.recv(65536):
                pass
            self.session = tls.session


class Datum(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_uint)]


class GnuTls:
    """GnuTLS through ctypes, which needs no headers."""

    CLIENT, PEM, DNS, CERTIFICATE = 2, 1, 1, 1
    AGAIN, INTERRUPTED = -28, -52

    def __init__(self, port, version, crt, key):
        self.port, self.session = port, None
        self.priority = f"NORMAL:-VERS-ALL:+VERS-TLS{version}".encode()
        self.lib = ctypes.CDLL("libgnutls.so.30")
        self.lib.gnutls_record_send.restype = self.lib.gnutls_record_recv.restype = ctypes.c_ssize_t
        self.lib.gnutls_strerror.restype = ctypes.c_char_p
        self.credentials = ctypes.c_void_p()
        self.call("certificate_allocate_credentials", ctypes.byref(self.credentials))
        self.call("certificate_set_x509_key_file", self.credentials, crt.encode(), key.encode(), self.PEM)

    def call(self, function, *args):
        while True:
            status = getattr(self.lib, "gnutls_" + function)(*args)
            if status not in (self.AGAIN, self.INTERRUPTED):
                break
        if status < 0:
            sys.exit(f"gnutls_{function}: {self.lib.gnutls_strerror(status).decode()}")
        return status

    def get(self, target):
        sni = target.partition("/")[0].encode()
        tcp = connect(self.port)
        tcp.settimeout(None)
        tls = ctypes.c_void_p()
        self.call("init", ctypes.byref(tls), self.CLIENT)
        self.call("priority_set_direct", tls, self.priority, None)
        self.call("server_name_set", tls, self.DNS, sni, ctypes.c_size_t(len(sni)))
        self.call("credentials_set", tls, self.CERTIFICATE, self.credentials)
        self.lib.gnutls_transport_set_int2(tls, tcp.fileno(), tcp.fileno())
        if self.session:
            self.call("session_set_data", tls, ctypes.c_void_p(self.session.data), ctypes.c_size_t(self.session.size))
        self.call("handshake", tls)
        text = request(target)
        self.call("record_send", tls, text, ctypes.c_size_t(len(text)))
        answer = ctypes.create_string_buffer(65536)
        while self.call("record_recv", tls, answer, ctypes.c_size_t(len(answer))) > 0:
            pass
        self.session = Datum()
        self.call("session_get_data2", tls, ctypes.byref(self.session))
        self.lib.gnutls_deinit(tls)
        tcp.close()


def main():
    kind, port, version, crt, key, *targets = sys.argv[1:]
    client = {"python": Python, "gnutls": GnuTls}[kind](port, version, crt, key)
    for target in targets:
        client.get(target)


if __name__ == "__main__":
    sys.exit(main())
