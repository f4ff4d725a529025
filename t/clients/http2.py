#!/usr/bin/env python3
"""An HTTP/2 connection (h2) that is used further after GOAWAY, as the streams that are open then continue.

http2.py PORT SNI CRT KEY HTTP_PORT        many streams are open while a refusal ends the connection; see main()
"""
import hashlib
import socket
import ssl
import sys
import urllib.request

import h2.connection
import h2.events

GOAWAY = 7


def tls_context(crt, key, alpn="h2", version=ssl.TLSVersion.TLSv1_3):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(crt, key)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols([alpn])
    return context


class Response:
    def __init__(self):
        self.status, self.body, self.ended = None, b"", False


class Connection:
    def __init__(self, context, port, sni, session=None):
        tcp = socket.create_connection(("127.0.0.1", int(port)), 20)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = context.wrap_socket(tcp, server_hostname=sni, session=session)
        assert self.tls.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection()
        self.h2.initiate_connection()
        self.responses, self.buffer = {}, b""
        # Whether the server has sent GOAWAY, and the number of its last stream
        self.last_stream = None
        self.closed = False

    def send(self):
        self.tls.sendall(self.h2.data_to_send())

    def request(self, host, path, body=None, send=True):
        """The number of the stream. With a body, the stream stays open for more of it."""
        stream = self.h2.get_next_available_stream_id()
        method = "GET" if body is None else "POST"
        self.h2.send_headers(stream, [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)],
                             end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream, body)
        if send:
            self.send()
        self.responses[stream] = Response()
        return stream

    def receive(self):
        """Handles what the server sends next, or its end."""
        data = self.tls.recv(65536)
        self.closed = not data
        self.buffer += data
        while len(self.buffer) >= 9 and len(self.buffer) >= 9 + int.from_bytes(self.buffer[:3], "big"):
            length = 9 + int.from_bytes(self.buffer[:3], "big")
            frame, self.buffer = self.buffer[:length], self.buffer[length:]
            if frame[3] == GOAWAY:
                # The library accepts no frame after it.
                assert int.from_bytes(frame[13:17], "big") == 0, frame
                self.last_stream = int.from_bytes(frame[9:13], "big")
                continue
            for event in self.h2.receive_data(frame):
                self.handle(event)
        if not self.closed:
            self.send()

    def handle(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            self.responses[event.stream_id].status = int(dict(event.headers)[b":status"])
        elif isinstance(event, h2.events.DataReceived):
            self.responses[event.stream_id].body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.responses[event.stream_id].ended = True
        assert not isinstance(event, h2.events.StreamReset), event

    def response(self, stream):
        while not self.responses[stream].ended:
            assert not self.closed, "closed without a response"
            self.receive()
        return self.responses[stream]


def main(port, sni, crt, key, http_port):
    """Opens downloads and an upload, changes the policy (/remove on http_port), and sends a request that is refused. Prints
    what became of each stream."""
    connection = Connection(tls_context(crt, key), port, sni)
    print("before:", connection.response(connection.request(sni, "/t")).status)
    downloads = [connection.request(sni, "/download") for _ in range(5)]
    upload = connection.request(sni, "/upload", b"x" * 10000)
    while not all(connection.responses[stream].body for stream in downloads):
        connection.receive()
    with urllib.request.urlopen("http://127.0.0.1:%s/remove" % http_port, timeout=20) as response:
        assert response.status == 200
    # Together, because the server answers none that comes after its GOAWAY.
    refused = [connection.request(sni, "/t", send=False) for _ in range(3)]
    connection.send()
    for stream in refused:
        connection.response(stream)
    print("refused:", *(connection.responses[stream].status for stream in refused))
    print("GOAWAY:", "after the last stream" if connection.last_stream == max(refused) else connection.last_stream)
    print("open streams:", sum(not connection.responses[stream].ended for stream in downloads + [upload]))
    late = connection.request(sni, "/t")
    connection.h2.send_data(upload, b"y" * 10000, end_stream=True)
    connection.send()
    for stream in downloads:
        response = connection.response(stream)
        print("download: %d, %d bytes, %s" % (response.status, len(response.body), hashlib.md5(response.body).hexdigest()))
    print("upload:", connection.response(upload).body.decode().strip())
    while not connection.closed:
        connection.receive()
    print("a stream after GOAWAY:", connection.responses[late].status)


if __name__ == "__main__":
    main(*sys.argv[1:])
