#!/usr/bin/env python3
"""An HTTP/3 client (aioquic) that prints what t/clients/tls_client.c prints of HTTP/1.1.

h3.py port=N sni=NAME host=NAME[,NAME...] path=/ crt=FILE key=FILE sess_in=FILE sess_out=FILE early=1

Each host= name is one request on the same connection, with early= the first one as early data.
"""
import asyncio
import os
import pickle
import ssl
import sys

import aioquic.tls
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated

# aioquic has room for a ClientHello of 1 KB, and a ticket that holds a client certificate needs more.
small_buffer = aioquic.tls.Buffer
aioquic.tls.Buffer = lambda capacity=0, data=None: small_buffer(max(capacity, 8192)) if data is None else small_buffer(data=data)


class Client(QuicConnectionProtocol):
    # Seconds by which the server's datagrams are held back.
    delay = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}

    def datagram_received(self, data, addr):
        asyncio.get_running_loop().call_later(self.delay, super().datagram_received, data, addr)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            for done, *_ in self.answers.values():
                if not done.done():
                    done.set_exception(ConnectionError(f"{event.error_code:#x} {event.reason_phrase}"))
            return
        for event in self.http.handle_event(event):
            done, headers, body = self.answers[event.stream_id]
            if isinstance(event, HeadersReceived):
                headers.update(event.headers)
            elif isinstance(event, DataReceived):
                body.append(event.data)
            if event.stream_ended:
                done.set_result((headers[b":status"].decode(), b"".join(body).decode().rstrip("\n")))

    def request(self, host, path):
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = asyncio.get_running_loop().create_future(), {}, []
        self.http.send_headers(stream, [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", host.encode()),
                                        (b":path", path.encode())], end_stream=True)
        self.transmit()
        return self.answers[stream][0]

    def facts(self):
        tls = self._quic.tls
        return f"reused={int(tls.session_resumed)} certreq={int(tls._certificate_request is not None)}"


async def main(port, sni, host, path="/", crt=None, key=None, sess_in=None, sess_out=None, early=None):
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=sni, verify_mode=ssl.CERT_NONE)
    if crt:
        configuration.load_cert_chain(crt, key)
    if sess_in:
        with open(sess_in, "rb") as file:
            configuration.session_ticket = pickle.load(file)
        # aioquic offers no ticket to another name, and an attacker would.
        configuration.session_ticket.server_name = sni
    tickets, answers, first = [], [], None
    async with connect("127.0.0.1", int(port), configuration=configuration, create_protocol=Client,
                       session_ticket_handler=tickets.append, wait_connected=not early) as client:
        if early:
            client.delay = 0.2
            first = client.request(host.split(",")[0], path)
            await asyncio.wait_for(client.wait_connected(), 10)
        client.delay = 0
        facts = client.facts()
        if early:
            facts += " early=" + ("accepted" if client._quic.tls.early_data_accepted else "refused")
        for name in host.split(","):
            answers.append(await asyncio.wait_for(first or client.request(name, path), 10))
            first = None
        if sess_out:
            for _ in range(50):
                if tickets:
                    break
                await asyncio.sleep(0.01)
        if sess_out and tickets:
            with open(sess_out, "wb") as file:
                pickle.dump(tickets[-1], file)
        statuses = ",".join(status for status, _ in answers)
        print(f"{facts} status={statuses} body={answers[-1][1]}", flush=True)
        client.close()
        # There is no need to wait until the QUIC connection is closed.
        os._exit(0)


if __name__ == "__main__":
    try:
        asyncio.run(main(**dict(option.split("=", 1) for option in sys.argv[1:])))
    except (ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
        print(f"error={error!r}")
        sys.exit(1)
