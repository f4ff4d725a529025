#!/usr/bin/env python3
"""Changes the policy under open connections and offered TLS sessions, and compares every response with the rotation rule.

rotation.py PROTOCOL PORT HTTP_PORT PKI POLICY      PROTOCOL: http/1.1 (TLS 1.2), http/1.1+1.3, h2, h3

For each change of the policy, each kind of connection, and each pair of server name and Host:
  live      made before the change by a full handshake
  resumed   made before the change by resuming a session
  offered   made after the change, offering a session from before it
The policy is written to POLICY and put in force by /reload on HTTP_PORT. Prints one line for each change and kind, with
the statuses for each Host in the order a, b, c, n, and a "!" after those whose response ended the connection; then what
is wrong. A status is wrong
  "unsafe"      if it is 200 and the policy in force does not trust the client for this Host,
  "locked out"  if a client that it trusts is refused again on a new connection under the Host's name,
  "stays"       if the refusal of a Host under its own name does not end a connection that has another certificate request.
"""
import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request

PROTOCOL, PORT, HTTP_PORT, PKI, POLICY = sys.argv[1:]
IDS = {"A": "11111111-1111-4111-8111-111111111111", "B": "22222222-2222-4222-8222-222222222222",
       "R": "33333333-3333-4333-8333-333333333333"}
NAMES = "abcn"
# The certificate that the client has for a name, and the CA of it
CLIENT = {"a": ("client-a", "A"), "b": ("client-b", "B"), "c": ("client-a", "A"), "n": ("client-a", "A")}


def plugin(cas, extra=""):
    ids = ", ".join(IDS[ca] for ca in cas)
    return "[{name: mtls-auth, config: {ca_certificates: [%s], skip_consumer_lookup: true%s}}]" % (ids, extra)


# Route: server names and plugins
BEFORE = {"a": ("a.test", plugin("A")), "b": ("b.test", plugin("B")), "c": ("c.test", plugin("A")),
          # Without "enabled" a reload that takes the plugin away again would be refused.
          "n": ("n.test", plugin("A").replace("mtls-auth,", "mtls-auth, enabled: false,"))}
CHANGES = (
    ("nothing", {}),
    ("CA added", {"a": ("a.test", plugin("AB"))}),
    ("CA removed", {"a": ("a.test", plugin("B"))}),
    ("CA issued again with its key", {"a": ("a.test", plugin("R"))}),
    ("plugin changed", {"a": ("a.test", plugin("A", ", auth_level: 1"))}),
    ("resumption forbidden", {"a": ("a.test", plugin("A", ", resumption: false"))}),
    ("other route of the name changed", {"d": ("a.test", plugin("B"))}),
    ("name stops requesting", {"a": ("z.test", plugin("A"))}),
    ("name starts requesting", {"n": ("n.test", plugin("A"))}),
)
# The CAs that a route trusts after a change, if others than before
TRUSTED = {"CA added": {"a": "AB"}, "CA removed": {"a": "B"}, "name starts requesting": {"n": "A"}}


def write_policy(changes):
    def pem(name):
        with open(name) as file:
            return file.read().replace("\n", "\\n")

    text = '_format_version: "3.0"\nca_certificates:\n'
    for ca, file in (("A", PKI + "/ca-a.crt"), ("B", PKI + "/ca-b.crt"), ("R", "again.crt")):
        text += '- {id: %s, cert: "%s"}\n' % (IDS[ca], pem(file))
    text += "routes:\n"
    for route, (sni, plugins) in {**BEFORE, **changes}.items():
        text += "- {name: %s, snis: [%s], plugins: %s}\n" % (route, sni, plugins)
    with open(POLICY + ".new", "w") as file:
        file.write(text)
    os.rename(POLICY + ".new", POLICY)
    with urllib.request.urlopen("http://127.0.0.1:%s/reload" % HTTP_PORT, timeout=20) as response:
        assert response.read() == b"reloaded\n"


def tls_context(client):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain("%s/%s.crt" % (PKI, client), "%s/%s.key" % (PKI, client))
    version = ssl.TLSVersion.TLSv1_2 if PROTOCOL == "http/1.1" else ssl.TLSVersion.TLSv1_3
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2" if PROTOCOL == "h2" else "http/1.1"])
    return context


class Http1:
    contexts = {}

    def __init__(self, name, client, session=None):
        context = self.contexts.setdefault(client, tls_context(client))
        tcp = socket.create_connection(("127.0.0.1", int(PORT)), 20)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = context.wrap_socket(tcp, server_hostname=name + ".test", session=session)
        self.reused = self.tls.session_reused

    def get(self, host, path="/t"):
        """Status, and whether the connection ends."""
        self.tls.sendall(b"GET %s HTTP/1.1\r\nHost: %s.test\r\n\r\n" % (path.encode(), host.encode()))
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = int(next(line for line in lines if line.startswith(b"content-length: ")).split()[1])
        while len(body) < length:
            body += self.receive()
        connection = [line for line in lines if line.startswith(b"connection:")]
        assert connection in ([b"connection: keep-alive"], [b"connection: close"]), connection
        ends = connection == [b"connection: close"]
        if ends:
            assert self.tls.recv(1) == b""
        return int(lines[0].split()[1]), ends

    def receive(self):
        data = self.tls.recv(65536)
        assert data, "closed without a response"
        return data

    def session(self):
        return self.tls.session

    def close(self):
        self.tls.close()


class Http2(Http1):
    def __init__(self, name, client, session=None):
        import http2
        context = self.contexts.setdefault(client, tls_context(client))
        self.connection = http2.Connection(context, PORT, name + ".test", session)
        self.tls = self.connection.tls
        self.reused = self.tls.session_reused

    def get(self, host, path="/t"):
        response = self.connection.response(self.connection.request(host + ".test", path))
        ends = self.connection.last_stream is not None
        while ends and not self.connection.closed:
            self.connection.receive()
        return response.status, ends


class Http3:
    loop = None
    # Times 3 ms for which a CONNECTION_CLOSE after a refusal is waited for.
    tries = 20

    def __init__(self, name, client, session=None):
        if not self.loop:
            Http3.loop = asyncio.new_event_loop()
            threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.run(self.open(name, client, session))
        self.reused = self.client._quic.tls.session_resumed

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    async def open(self, name, client, session):
        sys.argv[1:] = []
        import http3
        from aioquic.asyncio.client import connect
        from aioquic.h3.connection import H3_ALPN
        from aioquic.quic.configuration import QuicConfiguration
        configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=name + ".test", verify_mode=ssl.CERT_NONE)
        configuration.load_cert_chain("%s/%s.crt" % (PKI, client), "%s/%s.key" % (PKI, client))
        if session:
            session.server_name = name + ".test"
            configuration.session_ticket = session
        self.tickets = []
        self.manager = connect("127.0.0.1", int(PORT), configuration=configuration, create_protocol=http3.Client,
                               session_ticket_handler=self.tickets.append)
        self.client = await self.manager.__aenter__()

    def get(self, host, path="/t"):
        return self.run(self.answer(host, path))

    async def answer(self, host, path):
        status, _ = await asyncio.wait_for(self.client.request(host + ".test", path), 10)
        if status == "200":
            return 200, False
        # CONNECTION_CLOSE follows the response. aioquic reports it late.
        for _ in range(self.tries):
            if self.client._quic._close_event:
                assert self.client._quic._close_event.error_code == 0x100, self.client._quic._close_event
                return int(status), True
            await asyncio.sleep(0.003)
        return int(status), False

    def session(self):
        return self.run(self.ticket())

    async def ticket(self):
        for _ in range(100):
            if self.tickets:
                return self.tickets[-1]
            await asyncio.sleep(0.01)

    def close(self):
        async def close():
            self.client.close()
        self.run(close())


CONNECTION = {"h2": Http2, "h3": Http3}.get(PROTOCOL, Http1)


def session_of(name):
    connection = CONNECTION(name, CLIENT[name][0])
    connection.get(name)
    session = connection.session()
    connection.close()
    return session


def check(change, changes, kind, wrong):
    write_policy({})
    sessions = {name: session_of(name) for name in NAMES} if kind != "live" else {}
    connections = {}
    if kind != "offered":
        for name in NAMES:
            for host in NAMES:
                # A ticket is for one connection, where the client heeds that: the server accepts it again.
                connections[name, host] = connection = CONNECTION(name, CLIENT[name][0], sessions.get(name))
                if kind == "resumed" and not connection.reused:
                    wrong.append("%s, %s: no session was resumed at %s" % (change, kind, name))
                # The handshake is over in nginx as well.
                connection.get("n")
    write_policy(changes)
    lines = []
    for name in NAMES:
        statuses = []
        for host in NAMES:
            if kind == "offered":
                # The session of one name is offered to the other, whose request follows.
                connection = CONNECTION(host, CLIENT[name][0], sessions[name])
            else:
                connection = connections[name, host]
            status, ends = connection.get(host)
            connection.close()
            statuses.append("%d%s" % (status, "!" if ends else ""))
            before = {"a": "A", "b": "B", "c": "A", "n": None}
            trusted = {**before, **TRUSTED.get(change, {})}[host]
            ca = CLIENT[name][1]
            place = "%s, %s: SNI %s, Host %s, CA %s: %s" % (change, kind, name, host, ca, statuses[-1])
            if status not in (200, 401, 421):
                wrong.append("unexpected: " + place)
            if status == 200 and trusted is not None and ca not in trusted:
                wrong.append("unsafe: " + place)
            if trusted is None and status != 200:
                wrong.append("refused: " + place)
            may_enter = trusted is None or ca in trusted
            # No new handshake requests the certificate of a route whose name requests none.
            if status != 200 and may_enter and not (change == "name stops requesting" and host == "a"):
                again = CONNECTION(host, CLIENT[name][0], sessions.get(name))
                status, _ = again.get(host)
                again.close()
                if status != 200:
                    wrong.append("locked out: %s, then %d" % (place, status))
            if status != 200 and host == name and kind != "offered" and not ends and changes.get(name):
                wrong.append("stays: " + place)
        lines.append("/".join(statuses))
    print("%s, %s: %s" % (change, kind, " ".join(lines)))


def main():
    subprocess.run(["openssl", "x509", "-in", PKI + "/ca-a.crt", "-signkey", PKI + "/ca-a.key", "-days", "3000",
                    "-set_serial", "77", "-out", "again.crt"], check=True, stderr=subprocess.DEVNULL)
    wrong = []
    for change, changes in CHANGES:
        for kind in ("live", "resumed", "offered"):
            check(change, changes, kind, wrong)
    print("wrong:", "; ".join(wrong) or "nothing", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
