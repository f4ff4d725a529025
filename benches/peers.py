"""HAProxy, Envoy and Caddy as gateways, each with one worker, in front of the upstream of benches/run.

HAProxy is a Debian package; `make test-deps` installs the others below target/readers. `plain` variants ask for no
client certificate and set no headers.
"""
import json
import os
import shutil
import subprocess
import time

from gateways import CORES, ROOT, XFCC, Server, fail, pki, read, start

TYPES = "type.googleapis.com/envoy.extensions."
# Of HAProxy's sample fetches, for the same names as nginx's variables. It has no URL-encoded PEM.
HAPROXY_FETCHES = {
    "X-Client-Cert": "ssl_c_der,base64", "X-Client-Cert-Serial": "ssl_c_serial,hex",
    "X-Client-Cert-Issuer-DN": "ssl_c_i_dn", "X-Client-Cert-Subject-DN": "ssl_c_s_dn",
    "X-Client-Cert-Fingerprint": "ssl_c_sha1,hex", "X-Client-Cert-Dn": "ssl_c_s_dn",
}
CADDY_PLACEHOLDERS = {
    "X-Client-Cert": "certificate_der_base64", "X-Client-Cert-Serial": "serial", "X-Client-Cert-Issuer-DN": "issuer",
    "X-Client-Cert-Subject-DN": "subject", "X-Client-Cert-Fingerprint": "fingerprint", "X-Client-Cert-Dn": "subject",
}


def program(name, below=None):
    found = shutil.which(name) or (shutil.which("/usr/sbin/" + name))
    installed = below and os.path.join(ROOT, "target", "readers", below)
    return found or (installed if installed and os.access(installed, os.X_OK) else None)


PROGRAMS = {
    "HAProxy": (program("haproxy"), ["-v"]),
    "Envoy": (program("envoy", "envoy/envoy/_bin/envoy"), ["--version"]),
    "Caddy": (program("caddy", "caddy/bin/caddy"), ["version"]),
}


def version(name):
    """"2.6.12", for a name of PROGRAMS that is installed."""
    path, argument = PROGRAMS[name]
    text = subprocess.run([path, *argument], stdout=subprocess.PIPE, text=True).stdout.replace("/", " ")
    return next((word.lstrip("v").split("-")[0] for word in text.split() if word.lstrip("v")[:1].isdigit()
                 and "." in word), "")


class Peer(Server):
    # Envoy refuses 1.0. The upstream's responses have a Content-Length.
    HTTP = "1.1"
    # Timers of the main thread.
    IDLE = 50_000

    def __init__(self, workdir, name, upstream_port, plain):
        super().__init__(workdir, name)
        self.upstream_port = upstream_port
        self.plain = plain
        with open(os.path.join(self.dir, "server.pem"), "w") as file:
            file.write(read(pki("server-a.crt")) + read(pki("server-a.key")))
        with open(self.log, "w") as log:
            self.master = start(self.command(), CORES[0], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                env={**os.environ, "GOMAXPROCS": "1", "HOME": self.dir})
        self.wait()
        if not plain:
            self.check()

    def wait(self):
        for _ in range(400):
            if self.master.poll() is not None:
                fail("%s did not start:\n%s" % (self.name, read(self.log)))
            try:
                self.get("/")
                return
            except OSError:
                time.sleep(0.05)
        fail("%s does not answer:\n%s" % (self.name, read(self.log)))

    def check(self):
        """Fails if it does not send all headers: it would do less work."""
        got = self.headers()
        missing = [name for name in self.sets() if not got.get(name)]
        if missing:
            fail("%s does not send %s" % (self.name, ", ".join(missing)))

    def cpu_paths(self):
        tasks = "/proc/%d/task" % self.master.pid
        return [os.path.join(tasks, task, "schedstat") for task in os.listdir(tasks)]


class HAProxy(Peer):
    def sets(self):
        return HAPROXY_FETCHES

    def command(self):
        verify = "" if self.plain else "ca-file %s verify optional" % pki("ca-a.crt")
        lines = [] if self.plain else [
            "    http-request set-header %s %%[%s]" % pair for pair in HAPROXY_FETCHES.items()]
        config = os.path.join(self.dir, "haproxy.cfg")
        with open(config, "w") as file:
            file.write("""global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 20s
    timeout client 1h
    timeout server 1h
    http-reuse always
frontend f
    bind 127.0.0.1:%d ssl crt %s/server.pem ssl-min-ver TLSv1.3 %s
%s
    default_backend b
backend b
    server s 127.0.0.1:%d
""" % (self.port, self.dir, verify, "\n".join(lines), self.upstream_port))
        return [PROGRAMS["HAProxy"][0], "-db", "-f", config]


class Envoy(Peer):
    def sets(self):
        return [XFCC]

    def command(self):
        filters = TYPES + "filters."
        manager = {
            "@type": filters + "network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "a",
            "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "u"}}]}]},
            "http_filters": [{"name": "r", "typed_config": {"@type": filters + "http.router.v3.Router"}}]}
        context = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}, "tls_certificates": [
            {"certificate_chain": {"filename": pki("server-a.crt")}, "private_key": {"filename": pki("server-a.key")}}]}
        if not self.plain:
            manager.update(forward_client_cert_details="SANITIZE_SET", set_current_client_cert_details={
                "cert": True, "chain": True, "subject": True})
            context["validation_context"] = {"trusted_ca": {"filename": pki("ca-a.crt")}}
        tls = {"@type": TYPES + "transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": context}

        def at(port):
            return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        config = os.path.join(self.dir, "envoy.json")
        with open(config, "w") as file:
            json.dump({"static_resources": {
                "listeners": [{"address": at(self.port), "filter_chains": [{
                    "transport_socket": {"name": "tls", "typed_config": tls},
                    "filters": [{"name": "h", "typed_config": manager}]}]}],
                "clusters": [{"name": "u", "connect_timeout": "20s", "load_assignment": {
                    "cluster_name": "u", "endpoints": [{"lb_endpoints": [
                        {"endpoint": {"address": at(self.upstream_port)}}]}]}}]}}, file)
        return [PROGRAMS["Envoy"][0], "-c", config, "--disable-hot-restart", "--concurrency", "1"]


class Caddy(Peer):
    # It sends no session tickets where it asks for client certificates.
    RESUMES = False

    def sets(self):
        return CADDY_PLACEHOLDERS

    def command(self):
        proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": "127.0.0.1:%d" % self.upstream_port}]}
        tls = {"protocol_min": "tls1.3"}
        if not self.plain:
            proxy["headers"] = {"request": {"set": {
                header: ["{http.request.tls.client.%s}" % name] for header, name in CADDY_PLACEHOLDERS.items()}}}
            tls["client_authentication"] = {
                "ca": {"provider": "file", "pem_files": [pki("ca-a.crt")]}, "mode": "verify_if_given"}
        server = {"listen": ["127.0.0.1:%d" % self.port], "routes": [{"handle": [proxy]}],
                  "automatic_https": {"disable": True}, "tls_connection_policies": [tls]}
        files = [{"certificate": pki("server-a.crt"), "key": pki("server-a.key")}]
        config = os.path.join(self.dir, "caddy.json")
        with open(config, "w") as file:
            json.dump({"admin": {"disabled": True}, "storage": {"module": "file_system", "root": self.dir},
                       "logging": {"logs": {"default": {"level": "ERROR"}}},
                       "apps": {"http": {"servers": {"s": server}}, "tls": {"certificates": {"load_files": files}}}},
                      file)
        return [PROGRAMS["Caddy"][0], "run", "--config", config]


CLASSES = {"HAProxy": HAProxy, "Envoy": Envoy, "Caddy": Caddy}


def installed():
    return [name for name in CLASSES if PROGRAMS[name][0]]


def make(variants, name, plain):
    variants.count += 1
    label = "%d-%s%s" % (variants.count, name.lower(), "-plain" if plain else "")
    return CLASSES[name](variants.workdir, label, variants.upstream.port, plain)
