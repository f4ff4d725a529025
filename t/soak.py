#!/usr/bin/env python3
"""Runs mTLS traffic against a real nginx for a bounded time. Fails on an unexpected response, on growing memory, and on
any alert, crit or emerg in an error log.

soak.py [self-test]     SOAK_SECONDS, 600 by default, bounds the traffic

Two gateways of two workers each run on loopback. The workers of one call mtls.reload() every two seconds and live to the
end; the other gets a HUP every five seconds. Clients make full and resumed handshakes and keep-alive connections in
TLS 1.2 and 1.3, with trusted, untrusted and no certificates, and with a Host that is not the SNI. A quarter of the
time is warm-up, and of two minutes or more the first one: afterwards no worker's private memory may grow by more than
1 MB, nor may the master's, nor may a new generation of workers be larger than those before.

All the time the CA of one server name is rotated under pooled clients (HTTP/1.1, and HTTP/2 with the Python package h2):
another CA is added, new connections present a certificate of it, and the old one is removed. Nobody may get 421 or 5xx,
and 401 only with a certificate of a removed CA, once: the pooled client must be back on a new connection then.

self-test: runs 20 seconds with each of five faults built in, and each must be detected.
"""
import collections
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PKI = os.path.join(ROOT, "t", "pki", "out")
NGINX = os.environ.get("TEST_NGINX_BINARY", "nginx")
MODULES = os.environ.get("TEST_NGINX_LOAD_MODULES", "").split()
LIMIT = 1024  # KB
THREADS = 3

POLICY = """_format_version: "3.0"
ca_certificates:
- {{id: 11111111-1111-4111-8111-111111111111, cert: {ca_a}}}
- {{id: 22222222-2222-4222-8222-222222222222, cert: {ca_b}}}
{rotating_cas}routes:
- name: a
  snis: [a.test]
  plugins:
  - {{name: mtls-auth, config: {{ca_certificates: [11111111-1111-4111-8111-111111111111], skip_consumer_lookup: true, send_ca_dn: true}}}}
  - {{name: tls-metadata-headers, config: {{inject_client_cert_details: true}}}}
- name: b
  snis: [b.test]
  plugins:
  - {{name: mtls-auth, config: {{ca_certificates: [22222222-2222-4222-8222-222222222222], skip_consumer_lookup: true}}}}
- name: rotating
  snis: [r.test]
  plugins:
  - {{name: mtls-auth, config: {{ca_certificates: [{rotating}], skip_consumer_lookup: true, send_ca_dn: true}}}}
- name: changing
  snis: [c.test, x{number}.test]
  plugins:
  - {{name: mtls-auth, config: {{ca_certificates: [{changing}], skip_consumer_lookup: true}}}}
"""

CONF = """
{user}
{modules}
daemon off;
worker_processes 2;
pid {dir}/nginx.pid;
error_log {dir}/error.log notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {dir}/tmp; proxy_temp_path {dir}/tmp; fastcgi_temp_path {dir}/tmp;
    scgi_temp_path {dir}/tmp; uwsgi_temp_path {dir}/tmp;
    lua_package_path "{root}/lua/?.lua;;";
    lua_package_cpath "{root}/target/release/?.so;;";
    lua_shared_dict mtls 4m;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {pki}/server.crt;
    ssl_certificate_key {pki}/server.key;
    # The cache has room for the sessions of ten seconds: nginx logs an alert when younger sessions fill it.
    ssl_session_cache shared:sessions:16m;
    ssl_session_timeout 10s;
    ssl_session_tickets {tickets};
    keepalive_requests 1000000;

    init_by_lua_block {{ require("resty.mtls").init {{ policy = "{dir}/policy.yaml" }} }}
    ssl_client_hello_by_lua_block {{ require("resty.mtls").client_hello() }}
    ssl_certificate_by_lua_block {{ require("resty.mtls").certificate() }}
    {http}

    server {{
        listen unix:{dir}/upstream.sock;
        location / {{ content_by_lua_block {{ ngx.say(ngx.var.http_x_client_cert_subject_dn or "nobody") }} }}
    }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        proxy_http_version 1.1;
        location /a {{ access_by_lua_block {{ {fault} require("resty.mtls").access("a") }} proxy_pass http://unix:{dir}/upstream.sock:; }}
        location /b {{ access_by_lua_block {{ require("resty.mtls").access("b") }} proxy_pass http://unix:{dir}/upstream.sock:; }}
        location /c {{ access_by_lua_block {{ require("resty.mtls").access("changing") }} proxy_pass http://unix:{dir}/upstream.sock:; }}
        location /r {{ access_by_lua_block {{ require("resty.mtls").access("rotating") }} content_by_lua_block {{ ngx.header["Content-Length"] = 2; ngx.print("in") }} }}
        location /open {{ proxy_set_header X-Client-Cert-Subject-DN ""; proxy_pass http://unix:{dir}/upstream.sock:; }}
    }}
}}
"""

# Name, Lua code of the access phase, and the pattern of the failure that must be detected
FAULTS = (
    ("a wrong answer", "if math.random(500) == 1 then ngx.exit(503) end", "status 503"),
    ("a leak of the module", """
        local lib = require "resty.mtls.internal.library"
        local out = require("ffi").new("rmtls_certificate *[1]")
        for _ = 1, 4 do lib.C.rmtls_certificate_from_ssl(require("resty.mtls.internal.connection").ssl(), out) end
    """, r"worker \d+ grew by (?:[2-9]|\d\d)\d{3} KB"),
    ("an alert", "if math.random(500) == 1 then ngx.log(ngx.ALERT, 'on purpose') end", "on purpose"),
    ("a worker that dies",
     "if math.random(500) == 1 then require('ffi').cdef 'int kill(int, int);' require('ffi').C.kill(ngx.worker.pid(), 11) end",
     "exited on signal 11"),
    ("a client that stays on a connection of a removed CA",
     "require('resty.mtls.internal.graceful_close').begin = function() end", "refused again"),
)


def read(path):
    with open(path, errors="replace") as file:
        return file.read()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Rotation:
    """The CAs of r.test: which are trusted, and of which one new connections present a certificate."""

    # Seconds in which all workers of a gateway have a policy in force.
    SETTLE = 3.5

    def __init__(self, directory):
        self.directory, self.names = directory, ["rotating-%d" % i for i in range(5)]
        for name in self.names:
            files = {"ca": os.path.join(directory, name + ".ca"), "leaf": os.path.join(directory, name)}
            key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
            for command in (
                ["req", "-x509", *key, "-subj", "/CN=" + name, "-keyout", files["ca"] + ".key", "-out", files["ca"] + ".crt"],
                ["req", *key, "-subj", "/CN=client of " + name, "-keyout", files["leaf"] + ".key", "-out", files["leaf"] + ".csr"],
                ["x509", "-req", "-in", files["leaf"] + ".csr", "-CA", files["ca"] + ".crt", "-CAkey", files["ca"] + ".key",
                 "-CAcreateserial", "-days", "30", "-out", files["leaf"] + ".crt"],
            ):
                subprocess.run(["openssl", *command], check=True, stderr=subprocess.DEVNULL)
        self.steps, self.trusted, self.current, self.history = 0, [self.names[0]], self.names[0], []

    def step(self):
        """Adds a CA, has new connections use it, or removes the one before."""
        what = self.steps % 3
        self.steps += 1
        if what == 0:
            self.trusted = [self.current, self.names[(self.names.index(self.current) + 1) % len(self.names)]]
        elif what == 1:
            self.current = self.trusted[1]
        else:
            self.trusted = [self.current]

    def written(self):
        self.history.append((time.monotonic(), frozenset(self.trusted)))

    def statuses(self, ca, began):
        """The statuses that a request which began then may get with a certificate of this CA."""
        history = list(self.history)
        settled = max(i for i, (at, _) in enumerate(history) if at <= began - self.SETTLE or i == 0)
        trusted = {ca in cas for _, cas in history[settled:]}
        return {200 if each else 401 for each in trusted}


class Gateway:
    def __init__(self, workdir, name, tickets, http="", fault=""):
        self.name, self.dir, self.port = name, os.path.join(workdir, name), free_port()
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o755)
        self.policies = 0
        self.rotation = Rotation(self.dir)
        self.write_policy()
        with open(os.path.join(self.dir, "nginx.conf"), "w") as conf:
            conf.write(CONF.format(
                dir=self.dir, root=ROOT, pki=PKI, port=self.port, tickets=tickets, http=http, fault=fault,
                modules="".join("load_module %s;\n" % module for module in MODULES),
                user="user root;" if os.geteuid() == 0 else ""))
        self.log = os.path.join(self.dir, "error.log")
        self.process = subprocess.Popen([NGINX, "-p", self.dir, "-c", "nginx.conf", "-e", self.log],
                                        cwd=self.dir, stderr=subprocess.DEVNULL, preexec_fn=os.setsid)
        for _ in range(200):
            if len(self.workers()) == 2:
                return
            time.sleep(0.05)
        sys.exit("soak: nginx does not start:\n" + read(self.log))

    def write_policy(self):
        self.policies += 1
        one, two = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
        quoted = {ca: '"%s"' % read(os.path.join(PKI, ca + ".crt")).replace("\n", "\\n") for ca in ("ca-a", "ca-b")}
        rotation = {name: "%08d-0000-4000-8000-000000000000" % i for i, name in enumerate(self.rotation.names)}
        cas = "".join('- {id: %s, cert: "%s"}\n' % (id, read(os.path.join(self.dir, name + ".ca.crt")).replace("\n", "\\n"))
                      for name, id in rotation.items())
        text = POLICY.format(ca_a=quoted["ca-a"], ca_b=quoted["ca-b"], number=self.policies % 7, rotating_cas=cas,
                             rotating=", ".join(rotation[name] for name in self.rotation.trusted),
                             changing=(one, one + ", " + two, two)[self.policies % 3])
        path = os.path.join(self.dir, "policy.yaml")
        with open(path + ".new", "w") as out:
            out.write(text)
        os.rename(path + ".new", path)
        self.rotation.written()

    def workers(self):
        try:
            pids = read("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)).split()
            return [int(pid) for pid in pids if "shutting down" not in read("/proc/%s/cmdline" % pid)]
        except FileNotFoundError:
            return []

    def memory(self):
        """{pid: KB} of the workers, and of the master. Counts private memory, because shared zones have a fixed size."""
        sizes = {}
        for pid in [self.process.pid, *self.workers()]:
            try:
                sizes[pid] = int(re.search(r"RssAnon:\s+(\d+)", read("/proc/%d/status" % pid)).group(1))
            except (AttributeError, FileNotFoundError, ProcessLookupError):
                pass
        return sizes

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Client:
    """Connections of one identity and TLS version."""

    timeout = 20

    def __init__(self, port, version, identity):
        self.port = port
        self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ctx.check_hostname = False
        self.ctx.verify_mode = ssl.CERT_NONE
        self.ctx.minimum_version = self.ctx.maximum_version = version
        if identity:
            chain = os.path.join(PKI, identity + ".chain")
            self.ctx.load_cert_chain(chain if os.path.exists(chain) else os.path.join(PKI, identity + ".crt"),
                                     os.path.join(PKI, identity + ".key"))

    def connect(self, sni, session=None):
        tcp = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        try:
            return self.ctx.wrap_socket(tcp, server_hostname=sni, session=session)
        except BaseException:
            tcp.close()
            raise


def request(tls, host, path, close=False):
    """Status and body."""
    head, body = exchange(tls, host, path, close)
    return int(head.split()[1]), body


def exchange(tls, host, path, close=False):
    """Head and body of the answer."""
    tls.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (path, host, "Connection: close\r\n" if close else "")).encode())
    data = b""
    while True:
        more = tls.recv(65536)
        if not more:
            if not data:
                raise ConnectionResetError("closed without an answer")
            raise ValueError("an answer is cut short: %r" % data[:200])
        data += more
        head, found, body = data.partition(b"\r\n\r\n")
        if not found:
            continue
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if length and len(body) >= int(length.group(1)) or not length and body.endswith(b"0\r\n\r\n"):
            return head, body


class Traffic(threading.Thread):
    """Runs one client after the other. .wrong lists the unexpected responses."""

    def __init__(self, gateway, until, kind):
        super().__init__(daemon=True)
        self.gateway, self.until, self.kind = gateway, until, kind
        self.wrong = []
        self.count = collections.Counter()
        self.random = random.Random(kind)
        self.clients = {(version, identity): Client(gateway.port, version, identity)
                        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
                        for identity in ("client-a", "client-int", "client-b", None)}

    def run(self):
        while time.monotonic() < self.until and len(self.wrong) < 20:
            version = self.random.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
            identity = self.random.choice(("client-a", "client-int", "client-b", None))
            try:
                getattr(self, self.kind)(self.clients[version, identity], identity)
            except Exception as error:
                self.wrong.append("%s, %s, %s: %s: %s" % (self.kind, version.name, identity, type(error).__name__, error))

    def check(self, tls, identity, sni, host, path, close=False):
        status, body = request(tls, host, path, close)
        trusted = {"a": ("client-a", "client-int"), "b": ("client-b",)}
        if path == "/open":
            wanted = (200,)
        elif "c.test" in (sni, host):
            # Its CA changes every few seconds, and is at times that of another name.
            able = identity if path == "/c" else identity in trusted[path[1:]]
            wanted = (200, 401, 421) if able else (401, 421)
        elif sni != host:
            wanted = (421,)
        else:
            wanted = (200,) if identity in trusted[path[1:]] else (401,)
        self.count["%s %d" % (self.kind, status)] += 1
        if status not in wanted:
            self.wrong.append("%s: SNI %s, Host %s, %s, %s: status %d, expected %s"
                              % (self.kind, sni, host, path, identity, status, " or ".join(map(str, wanted))))
        elif status == 200 and path == "/a" and ("CN=" + identity).encode() not in body:
            self.wrong.append("%s: the upstream received %r for %s" % (self.kind, body, identity))
        elif path == "/open" and b"nobody" not in body:
            self.wrong.append("%s: a name without a certificate request sent the upstream %r" % (self.kind, body))
        return status

    def random_target(self):
        """SNI, Host and path."""
        return self.random.choice((("a.test", "a.test", "/a"), ("a.test", "a.test", "/a"), ("b.test", "b.test", "/b"),
                                   ("c.test", "c.test", "/c"), ("open.test", "open.test", "/open"),
                                   ("a.test", "b.test", "/b"), ("open.test", "a.test", "/a")))

    def full(self, client, identity):
        sni, host, path = self.random_target()
        with client.connect(sni) as tls:
            self.check(tls, identity, sni, host, path, True)

    def resumed(self, client, identity):
        sni, host, path = self.random_target()
        with client.connect(sni) as tls:
            self.check(tls, identity, sni, host, path, True)
            session = tls.session
        for _ in range(4):
            # Offers the session to the same name, or to one that must refuse it.
            other, host, path = (sni, host, path) if self.random.random() < 0.8 else self.random_target()
            with client.connect(other, session) as tls:
                self.check(tls, identity, other, host, path, True)
                if tls.session_reused:
                    self.count["resumed, really"] += 1

    def kept(self, client, identity):
        sni, host, path = self.random_target()
        tls = client.connect(sni)
        try:
            for number in range(40):
                if time.monotonic() >= self.until:
                    break
                try:
                    self.check(tls, identity, sni, host, path)
                except (ConnectionError, ssl.SSLEOFError):
                    # A worker that exits closes its idle connections, and a request may come too late for one (RFC
                    # 9112, 9.3.1).
                    if number == 0:
                        raise
                    self.count["kept, closed while idle"] += 1
                    break
                time.sleep(0.002)
        finally:
            tls.close()


class Pool(threading.Thread):
    """A pooled client of r.test, which makes a new connection only when it must."""

    SIZE = 3

    def __init__(self, gateway, until, http2):
        super().__init__(daemon=True)
        self.gateway, self.until, self.http2 = gateway, until, http2
        self.kind = "pool of HTTP/2" if http2 else "pool of HTTP/1.1"
        self.wrong, self.count = [], collections.Counter()

    def run(self):
        pool = [None] * self.SIZE
        retries = turn = 0
        while time.monotonic() < self.until and len(self.wrong) < 20:
            turn += 1
            place = turn % self.SIZE
            fresh = pool[place] is None
            try:
                if fresh:
                    pool[place] = self.connect()
                again, pool[place] = self.request(*pool[place], fresh)
                # A request that came too late for its connection is sent again on another one.
                retries = retries + 1 if again else 0
            except Exception as error:
                retries = 99
                self.wrong.append("%s: %s: %s" % (self.kind, type(error).__name__, error))
            if retries > 3:
                self.wrong.append("%s: no response after %d tries" % (self.kind, retries))
                retries, pool[place] = 0, None
            time.sleep(0.01)

    def connect(self):
        ca = self.gateway.rotation.current
        files = [os.path.join(self.gateway.dir, ca + suffix) for suffix in (".crt", ".key")]
        self.count[self.kind + ", connections"] += 1
        if self.http2:
            return self.http2.Connection(self.http2.tls_context(*files), self.gateway.port, "r.test"), ca, []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(*files)
        tcp = socket.create_connection(("127.0.0.1", self.gateway.port), 20)
        return context.wrap_socket(tcp, server_hostname="r.test"), ca, []

    def request(self, connection, ca, refusals, fresh):
        """Whether the request is to be sent again, and the connection for the next one, or None."""
        began = time.monotonic()
        try:
            if self.http2:
                stream = connection.request("r.test", "/r")
                while not connection.responses[stream].ended:
                    if connection.closed or connection.last_stream is not None and stream > connection.last_stream:
                        return True, None
                    connection.receive()
                status, ends = connection.responses.pop(stream).status, connection.last_stream is not None
            else:
                head, _ = exchange(connection, "r.test", "/r")
                status, ends = int(head.split()[1]), b"connection: close" in head.lower()
        except (ConnectionError, ssl.SSLError):
            if fresh and self.gateway.name != "hup":
                raise
            return True, None
        self.count["%s %d" % (self.kind, status)] += 1
        wanted = self.gateway.rotation.statuses(ca, began)
        if status not in wanted:
            self.wrong.append("%s: status %d, expected %s" % (self.kind, status, " or ".join(map(str, sorted(wanted)))))
        if status == 401:
            if refusals:
                self.wrong.append("%s: refused again on the same connection" % self.kind)
            refusals.append(status)
        if ends and self.http2:
            connection.tls.close()
        return False, None if ends else (connection, ca, refusals)


def soak(seconds, fault=""):
    """Returns the list of all failures."""
    workdir = tempfile.mkdtemp(prefix="resty-mtls-soak.")
    os.chmod(workdir, 0o755)
    # Garbage is no growth, and so little of it arises that LuaJIT collects it seldom.
    collect = "assert(ngx.timer.every(5, function() collectgarbage() end))"
    every = """
    init_worker_by_lua_block {
        %s
        assert(ngx.timer.every(2, function(premature)
            if not premature then
                local ok, err = require("resty.mtls").reload()
                if not ok then ngx.log(ngx.ALERT, "no reload: ", err) end
            end
        end))
    }
    """ % collect
    gateways = []
    try:
        gateways = [Gateway(workdir, "in-place", "off", every, fault),
                    Gateway(workdir, "hup", "on", "init_worker_by_lua_block { %s }" % collect, fault)]
        return watch(gateways, seconds)
    finally:
        for gateway in gateways:
            gateway.stop()
        shutil.rmtree(workdir)


def watch(gateways, seconds):
    start = time.monotonic()
    warm, until = start + max(seconds / 4, 60 if seconds >= 120 else 0), start + seconds
    threads = [Traffic(gateway, until, kind) for gateway in gateways for kind in ("full", "resumed", "kept")]
    sys.path[:0] = [os.path.join(ROOT, "t", "clients"), os.path.join(ROOT, "target", "python")]
    try:
        import http2
    except ImportError:
        http2 = None
        print("  no pool of HTTP/2: the Python package h2 is not installed (t/install-test-tools.sh)")
    threads += [Pool(gateway, until, version) for gateway in gateways for version in {None, http2}]
    for thread in threads:
        thread.start()

    wrong, first, last, tick, hups = [], {}, {}, 0, 0
    in_place, hup = gateways
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        tick += 1
        if tick % 4 == 0:
            in_place.rotation.step()
        if tick % 10 == 0:
            hup.rotation.step()
        if tick % 2 == 0:
            in_place.write_policy()
        if tick % 5 == 0 and time.monotonic() < until - 2:
            hup.write_policy()
            hup.process.send_signal(signal.SIGHUP)
            hups += 1
        # The workers of the other gateway count at their largest, before they exit.
        sizes = {"in-place worker %d" % pid if pid != in_place.process.pid else "in-place master": size
                 for pid, size in in_place.memory().items()}
        if tick % 5 == 4:
            memory = hup.memory()
            sizes["hup master"] = memory.pop(hup.process.pid, 0)
            sizes["hup worker, largest"] = max(memory.values(), default=0)
        for what, size in sizes.items():
            if time.monotonic() < warm:
                first[what] = max(first.get(what, 0), size)
            last.setdefault(what, []).append(size)
        if tick % 60 == 59:
            print("  %d s: %s" % (tick + 1, ", ".join("%s %d KB" % item for item in sorted(sizes.items()))), flush=True)

    for thread in threads:
        thread.join()
        wrong += ["%s: %s" % (thread.gateway.name, text) for text in thread.wrong]

    for what, sizes in sorted(last.items()):
        before, after = first.get(what), sorted(sizes[-5:])[len(sizes[-5:]) // 2]
        print("  %-28s %6s KB after warm-up, %6d KB at the end" % (what, before, after))
        if before is None:
            wrong.append("%s appeared after the warm-up" % what)
        elif after - before > LIMIT:
            wrong.append("%s grew by %d KB" % (what, after - before))

    total = sum((thread.count for thread in threads), collections.Counter())
    print("  " + ", ".join("%s: %d" % item for item in sorted(total.items())))
    print("  rotations of a CA: %d in place, %d by HUP" % (in_place.rotation.steps // 3, hup.rotation.steps // 3))
    print("  HUPs: %d, policies in place: %d" % (hups, in_place.policies))
    if not total["resumed, really"]:
        wrong.append("no session was resumed")

    for gateway in gateways:
        gateway.stop()
        bad = [line for line in read(gateway.log).splitlines() if re.search(r"\[(?:alert|crit|emerg)\]", line)]
        wrong += ["%s: %s" % (gateway.name, line) for line in bad[:10]]
    return wrong


def main():
    if subprocess.run([os.path.join(ROOT, "t", "pki", "make")]).returncode != 0:
        sys.exit("soak: t/pki/make failed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    if sys.argv[1:] == ["self-test"]:
        for what, lua, expected in FAULTS:
            print("soak: %s, on purpose" % what, flush=True)
            wrong = soak(20, lua)
            if not any(re.search(expected, text) for text in wrong):
                sys.exit("soak: not detected: '%s' was expected, found: %s" % (expected, wrong))
            print("  found: %s" % next(text for text in wrong if re.search(expected, text)))
        return

    seconds = float(os.environ.get("SOAK_SECONDS") or 600)
    print("soak: %g seconds" % seconds, flush=True)
    wrong = soak(seconds)
    for text in wrong:
        print("soak: " + text)
    print("soak: %s" % ("%d faults" % len(wrong) if wrong else "nothing wrong"))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
