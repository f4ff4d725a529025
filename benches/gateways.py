"""Servers to measure, each with one worker on one core, and the client that loads them.

Only CPU time of the server is measured. Every server forwards to the same upstream, and the client and the upstream
share the other core.
"""
import atexit
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HERE = os.path.join(ROOT, "benches")
PKI = os.path.join(ROOT, "t", "pki", "out")  # main() replaces it with a copy
CLIENT = os.path.join(ROOT, "target", "bench", "client")
NGINX = os.environ.get("TEST_NGINX_BINARY", "/usr/sbin/nginx")
MODULES = os.environ.get("TEST_NGINX_LOAD_MODULES", " ".join(
    file for file in ("/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so")
    if os.path.exists(file))).split()

SERVER_NAME = "a.test"

# What mtls-auth and tls-metadata-headers send for a client without alternative names, and nginx's variable for it; None
# if nginx has no such variable, or would send the same value twice.
HEADERS = {
    "X-Client-Cert": "$ssl_client_escaped_cert",
    "X-Client-Cert-Serial": "$ssl_client_serial",
    "X-Client-Cert-Issuer-DN": "$ssl_client_i_dn",
    "X-Client-Cert-Subject-DN": "$ssl_client_s_dn",
    "X-Client-Cert-Fingerprint": "$ssl_client_fingerprint",
    "X-Client-Cert-Chain": None,
    "X-Client-Cert-Dn": None,
}
CHAIN = "X-Client-Cert-Chain"
XFCC = "X-Forwarded-Client-Cert"

# Core of the worker, core of all other processes.
CORES = (sorted(os.sched_getaffinity(0)) * 2)[:2]


def fail(message):
    sys.exit("benches/run: " + message)


def read(path):
    with open(path) as file:
        return file.read()


def pki(name):
    return os.path.join(PKI, name)


def build(benches):
    """Builds the module, the client and these benchmarks of cargo, and makes the PKI."""
    os.makedirs(os.path.dirname(CLIENT), exist_ok=True)
    for command in (
        [os.path.join(ROOT, "t", "pki", "make")],
        ["cargo", "build", "--quiet", "--release", "--locked"],
        *(["cargo", "bench", "--quiet", "--locked", "--no-run", "--bench", bench] for bench in benches),
        [os.environ.get("CC", "cc"), "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-o", CLIENT,
         os.path.join(HERE, "nginx", "client.c"), "-lssl", "-lcrypto"],
    ):
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            fail("'%s' failed" % " ".join(command))


# Processes

children = []


def start(argv, core, **options):
    child = subprocess.Popen(argv, preexec_fn=lambda: os.sched_setaffinity(0, {core}), **options)
    children.append(child)
    return child


def stop(child):
    if child.poll() is None:
        child.terminate()
        child.wait()
    if child in children:
        children.remove(child)


atexit.register(lambda: [stop(child) for child in list(children)])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def fill(template, values):
    return re.sub("@([a-z_]+)@", lambda match: str(values[match.group(1)]), read(os.path.join(HERE, "nginx", template)))


class Server:
    """A server on a free port, whose first process is `master`."""
    # Nanoseconds in 3 ms that do not count as work.
    IDLE = 0
    RESUMES = True
    # Of get(): with 1.0 no body has chunks.
    HTTP = "1.0"

    def __init__(self, workdir, name):
        self.name = name
        self.dir = os.path.join(workdir, name)
        self.port = free_port()
        os.makedirs(self.dir)
        self.log = os.path.join(self.dir, "error.log")
        self.client = None

    def cpu(self):
        """Waits until the server is idle; its CPU time in nanoseconds."""
        last = None
        while True:
            now = sum(int(read(path).split()[0]) for path in self.cpu_paths())
            if last is not None and now - last <= self.IDLE:
                return now
            last = now
            time.sleep(0.003)

    def send_commands(self, *commands):
        if self.client is None:
            self.client = start(
                [CLIENT, "port=%d" % self.port, "sni=" + SERVER_NAME, "crt=" + pki("client-int.chain"),
                 "key=" + pki("client-int.key"), "issuer_crt=" + pki("ca-a-int.crt"),
                 "issuer_key=" + pki("ca-a-int.key")],
                CORES[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands:
            self.client.stdin.write(command + "\n")
            self.client.stdin.flush()
            if self.client.stdout.readline() != "ok\n":
                fail("'%s' failed against %s; its error log:\n%s" % (command, self.name, read(self.log)))

    def cost(self, command, n):
        """Microseconds of CPU for each of n."""
        before = self.cpu()
        self.send_commands("%s %d" % (command, n))
        return (self.cpu() - before) / n / 1000

    def get(self, path):
        """The body of the response to a trusted client."""
        context = ssl.create_default_context(cafile=pki("server-ca.crt"))
        context.load_cert_chain(pki("client-int.chain"), pki("client-int.key"))
        with socket.create_connection(("127.0.0.1", self.port), 10) as tcp:
            with context.wrap_socket(tcp, server_hostname=SERVER_NAME) as tls:
                request = "GET %s HTTP/%s\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, self.HTTP, SERVER_NAME)
                tls.sendall(request.encode())
                answer = b""
                while chunk := tls.recv(65536):
                    answer += chunk
        head, _, body = answer.decode().partition("\r\n\r\n")
        if " 200 " not in head.splitlines()[0]:
            fail("%s answers %r; its error log:\n%s" % (self.name, answer, read(self.log)))
        return body

    def headers(self):
        """The headers that reach the upstream."""
        return dict(zip([*HEADERS, XFCC], self.get("/headers").splitlines()))

    def stop(self):
        if self.client is not None:
            stop(self.client)
        stop(self.master)


def nginx_version():
    text = subprocess.run([NGINX, "-v"], stderr=subprocess.PIPE, text=True).stderr
    return re.search(r"/([\d.]+)", text).group(1)


class Nginx(Server):
    def __init__(self, workdir, name, template, core, **values):
        super().__init__(workdir, name)
        values = {
            "dir": self.dir, "pki": PKI, "port": self.port, "server_name": SERVER_NAME, "upstream_port": self.port,
            "user": "user root;" if os.geteuid() == 0 else "",
            "load_modules": "\n".join("load_module %s;" % file for file in MODULES),
            "http": "", "server": "", "location": "", **values,
        }
        config = os.path.join(self.dir, "nginx.conf")
        with open(config, "w") as file:
            file.write(fill(template, values))
        # Depending on where the heap of a worker ends, glibc returns pages and takes them again with each burst of
        # requests. That costs up to 2 us a request, in every variant, and differs from start to start.
        environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
        self.master = start([NGINX, "-p", self.dir, "-c", config, "-e", self.log], core, env=environment,
                            stderr=subprocess.DEVNULL)
        self.worker = self.find_worker()

    def find_worker(self):
        children_file = "/proc/%d/task/%d/children" % (self.master.pid, self.master.pid)
        for _ in range(600):
            if self.master.poll() is not None:
                fail("nginx for %s did not start:\n%s" % (self.name, read(self.log)))
            pids = read(children_file).split()
            # A worker without its title may still be starting.
            if pids and b"worker process" in open("/proc/%s/cmdline" % pids[0], "rb").read():
                return int(pids[0])
            time.sleep(0.05)
        fail("nginx for %s has no worker:\n%s" % (self.name, read(self.log)))

    def cpu_paths(self):
        return ["/proc/%d/schedstat" % self.worker]

    def pss(self):
        return int(re.search(r"^Pss:\s+(\d+) kB", read("/proc/%d/smaps_rollup" % self.worker), re.M).group(1))


# Variants

VARIABLES = "".join("proxy_set_header %s %s;\n" % pair for pair in HEADERS.items() if pair[1])


def ca_files(names):
    """The CA that signed the clients, and others until there are that many."""
    return [pki("ca-a.crt")] + [pki("many-%03d.crt" % i) for i in range(names - 1)]


class Variants:
    def __init__(self, workdir):
        self.workdir = workdir
        self.count = 0
        self.upstream = Nginx(workdir, "upstream", "upstream.conf", CORES[1],
                              echo="".join("$http_%s\\n" % name.lower().replace("-", "_") for name in [*HEADERS, XFCC]))
        self.expected = None

    def learn_headers(self):
        """Sets the headers that the module must send: the values of nginx's own variables, and the chain."""
        if self.expected is None:
            gateway = self.nginx()
            self.expected = gateway.headers()
            self.expected["X-Client-Cert-Chain"] = urllib.parse.quote(read(pki("client-int.chain")), safe="")
            self.expected["X-Client-Cert-Dn"] = self.expected["X-Client-Cert-Subject-DN"]
            gateway.stop()
            self.check(gateway, self.expected)

    def gateway(self, name, **values):
        self.count += 1
        return Nginx(self.workdir, "%d-%s" % (self.count, name.replace(" ", "-")), "gateway.conf", CORES[0],
                     upstream_port=self.upstream.port, **values)

    def plain(self):
        return self.gateway("plain")

    def lua_floor(self):
        lines = "".join("ngx.req.set_header('%s', '%s')\n" % pair for pair in self.expected.items() if pair[1])
        return self.gateway("lua floor", location="access_by_lua_block {\n%s}" % lines)

    def nginx(self, names=0, server=""):
        """nginx's own verification, with its variables as headers; with names=0 the CA is trusted but not sent."""
        if names == 0:
            trust = "ssl_trusted_certificate %s;" % pki("ca-a.crt")
        else:
            bundle = os.path.join(self.workdir, "ca-%d.pem" % names)
            with open(bundle, "w") as file:
                file.write("".join(map(read, ca_files(names))))
            trust = "ssl_client_certificate %s;" % bundle
        verify = "ssl_verify_client optional_no_ca;\nssl_verify_depth 3;\n"
        return self.gateway("nginx %d" % names, server=verify + trust + server, location=VARIABLES)

    def module(self, names=0, more_names=0, server="", consumers=0, headers="all"):
        """`headers` are those of tls-metadata-headers: "all", "no chain", or "xfcc" alone."""
        policy = os.path.join(self.workdir, "policy-%d-%d-%d-%s.json" % (names, more_names, consumers, headers[:2]))
        ids = ["00000000-0000-4000-8000-%012d" % i for i in range(max(names, 1))]
        route = {"name": "bench", "snis": [SERVER_NAME], "plugins": [
            {"name": "mtls-auth", "config": {"ca_certificates": ids, "send_ca_dn": names > 0,
                                             "skip_consumer_lookup": True}},
            {"name": "tls-metadata-headers", "config": {"inject_client_cert_details": True}},
        ]}
        if headers == "no chain":
            route["plugins"][1]["config"]["client_cert_chain_header_name"] = None
        elif headers == "xfcc":
            route["plugins"][1] = {"name": "client-cert-headers", "config": {"dialects": [
                {"name": "xfcc", "detail": ["cert", "chain", "subject"]}]}}
        more = {}
        if consumers:
            # Everything that mtls-auth and its companions do for a request.
            route["plugins"][0]["config"].update(skip_consumer_lookup=False, revocation_check_mode="IGNORE_CA_ERROR")
            route["plugins"] += [
                {"name": "acl", "config": {"allow": ["ops"]}},
                {"name": "client-cert-acl", "config": {"allow": [{"subject.O": "Example", "eku": "clientAuth"}]}},
            ]
            more["consumers"] = [{"username": "client-int", "acls": [{"group": "ops"}]}] + [
                {"username": "consumer-%d" % i} for i in range(consumers - 1)]
        others = {"name": "others", "snis": ["host-%d.example.com" % i for i in range(more_names)],
                  "plugins": route["plugins"]}
        with open(policy, "w") as file:
            json.dump({
                "_format_version": "3.0",
                "ca_certificates": [{"id": i, "cert": read(crt)} for i, crt in zip(ids, ca_files(max(names, 1)))],
                "routes": [route] + [others] * (more_names > 0),
                **more,
            }, file)
        gateway = self.gateway("module %d" % names, http="""
            lua_package_path "%s/lua/?.lua;;";
            lua_package_cpath "%s/target/release/?.so;;";
            lua_shared_dict mtls 1m;
            lua_shared_dict mtls_metrics 1m;
            init_by_lua_block { require("resty.mtls").init { policy = "%s" } }
            ssl_client_hello_by_lua_block { require("resty.mtls").client_hello() }
            ssl_certificate_by_lua_block { require("resty.mtls").certificate() }
        """ % (ROOT, ROOT, policy), server=server,
                           location='access_by_lua_block { require("resty.mtls").access("bench") }')
        if consumers:
            # The upstream is reached by consumers only.
            if not gateway.headers().get("X-Client-Cert"):
                fail("%s does not let the client in" % gateway.name)
        elif headers == "xfcc":
            if "Cert=" not in gateway.headers()[XFCC]:
                fail("%s sends no %s" % (gateway.name, XFCC))
        else:
            self.check(gateway, gateway.headers(), () if headers == "all" else (CHAIN,))
        return gateway

    def check(self, gateway, got, without=()):
        """Fails if a variant does not send all headers: it would do less work."""
        for name, value in self.expected.items():
            if name == XFCC:
                continue
            if name in without:
                value = ""
            if got.get(name) != value or not value and name not in without:
                fail("%s sends %s: %r, expected %r" % (gateway.name, name, got.get(name), value))
