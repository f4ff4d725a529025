#!/usr/bin/env python3
"""Injects faults into a real nginx under load, and compares every response with the policies that may be in force.

faults.py [quick | self-test] [NAME...]     FAULTS_SELF_TEST=1 stands for self-test

Each fault has its own gateway of two workers on loopback. Clients have trusted, untrusted, revoked and no certificates,
and use new, resumed and kept connections. The upstream returns the fingerprint of the certificate that it received, and
the version of the policy that decided: each version sends a header of another name. A version is in force from its first
response on. After the interval of the watch, a second, and the time to compile, no worker may use an earlier version.

The table counts:
  wrong yes   200 for a certificate that no policy in force allows, or with the fingerprint of another certificate
  old         another 200 by a policy from before the one in force
  wrong no    401 or an error for a certificate that all policies in force allow
  503         the worker cannot load the policy in force
  again       the connection ended, or the client must retry after a 421
The seconds count from the end of the fault to the last response that was not that of the policy in force.

quick: runs the faults of `make test`, in under a minute. self-test: runs broken gateways, each of which must be detected.
Exit status 1: a wrong yes or an old policy was seen, a worker or master exited by itself, a recovery took longer than
stated for the fault, or the log has no line about it.
"""
import bisect
import collections
import contextlib
import ctypes
import glob
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import soak  # noqa: E402
from soak import MODULES, NGINX, PKI, ROOT, free_port, read  # noqa: E402

# The interval of the watch, and how long after it workers may differ, in seconds.
WATCH, SLACK = 1, 1.5
# Root in a container may not change the limits of another user's process, so workers run as root there.
AS_ROOT = "user root;" if os.geteuid() == 0 else ""
# The gateway has recovered when all responses are right for this many seconds.
QUIET = 1.5
THREADS = 4
DAY = 86400

IDS = {"ca-%s" % short: "%d0000000-0000-4000-8000-000000000000" % number for number, short in enumerate("abc", 1)}
IDENTITIES = ("client-san", "client-a", "client-b", "client-c", "client-self", None)
# The CAs, the CRL file, and the identities that they allow; version N of the policy is KINDS[N % 3].
KINDS = (
    (("ca-a",), "none.crl", {"client-san", "client-a"}),
    (("ca-a", "ca-b"), "none.crl", {"client-san", "client-a", "client-b"}),
    (("ca-a", "ca-c"), "revoked.crl", {"client-san", "client-c"}),
)

CONF = """
{modules}
worker_processes 2;
pid {dir}/nginx.pid;
error_log {dir}/error.log notice;
{main}
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
    ssl_session_cache shared:sessions:4m;
    keepalive_requests 1000000;

    init_by_lua_block {{ {lua} require("resty.mtls").init {{ policy = "{policy}", {options} }} }}
    init_worker_by_lua_block {{ require("resty.mtls").status() }}
    ssl_client_hello_by_lua_block {{ require("resty.mtls").client_hello() }}
    ssl_certificate_by_lua_block {{ require("resty.mtls").certificate() }}

    server {{
        listen 127.0.0.1:{port} ssl;
        proxy_http_version 1.1;
        add_header X-Worker $pid always;
        location / {{ access_by_lua_block {{ require("resty.mtls").access("a") {access} }} proxy_pass http://unix:{upstream}:; }}
    }}
}}
"""

UPSTREAM = """
{modules}
daemon off;
master_process off;
pid {dir}/upstream.pid;
error_log {dir}/upstream.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {dir}/tmp; proxy_temp_path {dir}/tmp; fastcgi_temp_path {dir}/tmp;
    scgi_temp_path {dir}/tmp; uwsgi_temp_path {dir}/tmp;
    server {{
        listen unix:{dir}/upstream.sock;
        location / {{
            content_by_lua_block {{
                local version = "-"
                for name in pairs(ngx.req.get_headers()) do
                    version = name:match("^x%-policy%-(%d+)$") or version
                end
                ngx.say(ngx.var.http_x_client_cert_fingerprint or "-", " ", version)
            }}
        }}
    }}
}}
"""


class Failure(Exception):
    """The fault could not be injected, or the gateway did not reach the expected state."""


class Skip(Exception):
    """This machine does not permit the fault."""


def modules():
    return "".join("load_module %s;\n" % module for module in MODULES)


def wait_for(what, condition, seconds=15, pause=0.02):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise Failure("%s: not within %g s" % (what, seconds))
        time.sleep(pause)


def allowed(version):
    return KINDS[version % 3][2]


def quoted_pem(path):
    return '"%s"' % read(path).replace("\n", "\\n")


def policy(directory, version, routes=0):
    """Version N with more routes. A file that is cut between routes and plugins would leave all routes open."""
    cas, crl, _ = KINDS[version % 3]
    lines = ['_format_version: "3.0"', "ca_certificates:"]
    lines += ["- {id: %s, cert: %s}" % (IDS[ca], quoted_pem(os.path.join(PKI, ca + ".crt"))) for ca in cas]
    lines += ["services:", "- name: s", "routes:", "- {name: a, service: s, snis: [a.test]}"]
    lines += ["- {name: r%d, service: s, snis: [r%d.test]}" % (number, number) for number in range(routes)]
    lines += ["plugins:",
              "- {name: mtls-auth, service: s, config: {ca_certificates: [%s], skip_consumer_lookup: true,"
              " revocation_check_mode: STRICT, crls: [%s]}}" % (", ".join(IDS[ca] for ca in cas), os.path.join(directory, crl)),
              "- {name: tls-metadata-headers, service: s, config: {inject_client_cert_details: true,"
              " client_serial_header_name: X-Policy-%d}}" % version]
    return "\n".join(lines) + "\n"


def make_crls(directory):
    """Writes none.crl and revoked.crl: CRLs of all three CAs that list nothing, and client-a."""
    for name, revoked in (("none", ()), ("revoked", ("client-a",))):
        text = ""
        for ca in IDS:
            index = os.path.join(directory, ca + ".index")
            with open(index, "w") as out:
                for client in revoked if ca == "ca-a" else ():
                    serial = subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", os.path.join(PKI, client + ".crt")],
                                            stdout=subprocess.PIPE, text=True, check=True).stdout.strip().split("=")[1]
                    print("R", "401231235959Z", "200101000000Z", serial, "unknown", "/CN=" + client, sep="\t", file=out)
            conf = index + ".cnf"
            with open(conf, "w") as out:
                out.write("[ca]\ndefault_ca = d\n[d]\ndatabase = %s\ndefault_md = sha256\n" % index)
            text += subprocess.run(["openssl", "ca", "-gencrl", "-config", conf, "-crldays", "30", "-cert",
                                    os.path.join(PKI, ca + ".crt"), "-keyfile", os.path.join(PKI, ca + ".key")],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
        with open(os.path.join(directory, name + ".crl"), "w") as out:
            out.write(text)


def fingerprint(identity):
    der = ssl.PEM_cert_to_DER_cert(read(os.path.join(PKI, identity + ".crt")))
    return hashlib.sha1(der).hexdigest()


FINGERPRINTS = {}


class Gateway(soak.Gateway):
    """nginx as a daemon, because only a daemon accepts USR2."""

    def __init__(self, workdir, name, main="", lua="", options="", access="", env=None, start=True, policies=None):
        self.name, self.dir, self.port = name, os.path.join(workdir, name), free_port()
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o755)
        self.policies = policies or self.dir
        self.path = os.path.join(self.policies, "policy.yaml")
        self.lists = os.path.join(self.dir, "lists")
        shutil.copytree(os.path.join(workdir, "lists"), self.lists)
        self.log = os.path.join(self.dir, "error.log")
        self.env = dict(os.environ, **(env or {}))
        self.offers, self.killed, self.masters = [], 0, []
        with open(os.path.join(self.dir, "nginx.conf"), "w") as conf:
            conf.write(CONF.format(dir=self.dir, root=ROOT, pki=PKI, port=self.port, modules=modules(), policy=self.path,
                                   main=main, lua=lua, options=options, access=access,
                                   upstream=os.path.join(workdir, "upstream.sock")))
        if start:
            self.offer(1)
            self.start()

    def start(self):
        started = subprocess.run([NGINX, "-p", self.dir, "-c", "nginx.conf", "-e", self.log], cwd=self.dir, env=self.env,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if started.returncode != 0:
            raise Failure("nginx does not start:\n" + read(self.log)[-2000:])
        wait_for("nginx starts", lambda: len(self.workers()) == 2)

    @property
    def master(self):
        pid = int(read(os.path.join(self.dir, "nginx.pid")) or 0)
        if pid not in self.masters:
            self.masters.append(pid)
        return pid

    def workers(self, master=None):
        """The workers that accept connections."""
        found = []
        with contextlib.suppress(OSError, ValueError):
            master = master or self.master
            for pid in read("/proc/%d/task/%d/children" % (master, master)).split():
                with contextlib.suppress(OSError):
                    title = read("/proc/%s/cmdline" % pid)
                    if "worker process" in title and "shutting down" not in title:
                        found.append(int(pid))
        return found

    def text(self, version, routes=0):
        return policy(self.lists, version, routes)

    def put(self, text, path=None):
        """Replaces a file atomically."""
        path = path or self.path
        with open(path + ".new", "w") as out:
            out.write(text)
        os.rename(path + ".new", path)

    def offer(self, version, routes=0, put=None):
        """Puts a version where the gateway reads it."""
        text = self.text(version, routes)
        self.offers.append((time.monotonic(), version))
        (put or self.put)(text)

    def hup(self):
        """Waits until all workers are new."""
        old = self.workers()
        os.kill(self.master, signal.SIGHUP)
        wait_for("new workers", lambda: len(self.workers()) == 2 and not set(old) & set(self.workers()))

    def kill(self, number=2):
        """Kills the workers and waits until the master has replaced them."""
        old = self.workers()
        for pid in old[:number]:
            self.killed += 1
            os.kill(pid, signal.SIGKILL)
        wait_for("other workers", lambda: len(self.workers()) == 2 and not set(old[:number]) & set(self.workers()))

    def stop(self, how=signal.SIGTERM):
        processes = set()
        with contextlib.suppress(OSError, ValueError):
            self.master
        for master in self.masters:
            with contextlib.suppress(OSError):
                processes |= {master} | {int(pid) for pid in read("/proc/%d/task/%d/children" % (master, master)).split()}

        def mine(pid):
            # The process may exit at any moment.
            with contextlib.suppress(OSError):
                return "Z" not in read("/proc/%d/stat" % pid).rsplit(")", 1)[1][:3]
            return False

        for step in (how, signal.SIGKILL):
            for pid in filter(mine, processes):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, step)
            with contextlib.suppress(Failure):
                wait_for("nginx ends", lambda: not any(map(mine, processes)), 5)
                break
        self.masters.clear()

    def unexpected_exits(self):
        """The log lines of processes that exited without being asked to."""
        log = read(self.log)
        signals = collections.Counter(re.findall(r"exited on signal (\d+)", log))
        signals["9"] -= self.killed
        return ["%d exited on signal %s" % (count, number) for number, count in signals.items() if count > 0]

    def error_lines(self):
        """The module's lines at level error or above, each once, without their variable parts."""
        lines = collections.Counter()
        for level, text in re.findall(r"\[(error|crit|alert|emerg)\] [^\n]*?\[mtls\] ([^\n]*)", read(self.log)):
            if re.match(r"40[13] |421 ", text):
                continue
            text = re.sub(r", (?:client|context): .*", "", text).replace(self.dir + "/", "")
            lines[re.sub(r"\d+", "N", text)] += 1
        return lines


Answer = collections.namedtuple("Answer", "sent done identity status version fingerprint worker connected text")


class Client(soak.Client):
    timeout = 8


class Load(threading.Thread):
    """Runs one client after the other, with pauses. .answers has all responses in the order of their end."""

    def __init__(self, gateway, seed, slow):
        super().__init__(daemon=True)
        self.stopping, self.answers, self.pause = False, [], 0.1 if slow else 0.004
        self.random = random.Random(seed)
        versions = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
        self.clients = [(identity, Client(gateway.port, version, identity)) for identity in IDENTITIES for version in versions]
        for _, client in self.clients:
            client.timeout = 30 if slow else 8

    def run(self):
        sessions = {}
        while not self.stopping:
            identity, client = self.random.choice(self.clients)
            session = sessions.get(client) if self.random.random() < 0.4 else None
            kept = self.random.random() < 0.3
            connected, number = time.monotonic(), 0
            sent = connected
            try:
                with client.connect("a.test", session) as tls:
                    for number in range(20 if kept else 1):
                        if self.stopping:
                            break
                        sent = time.monotonic()
                        head, body = soak.exchange(tls, "a.test", "/", not kept)
                        status = int(head.split()[1])
                        self.record(sent, identity, status, connected, head, body)
                        if status == 421 or b"Connection: close" in head:
                            break
                        if kept:
                            time.sleep(0.03)
                    sessions[client] = tls.session
            except (OSError, ValueError) as error:
                # A server may close an idle connection (RFC 9112 section 9.3.1).
                if number == 0:
                    self.answers.append(Answer(sent, time.monotonic(), identity, 0, None, None, None, connected, repr(error)))
            time.sleep(self.pause)

    def record(self, sent, identity, status, connected, head, body):
        shown, version = None, None
        if status == 200:
            shown, version = (body.split(b"\r\n")[1] if b"\r\n" in body else body).decode().split()
            version = int(version) if version.isdigit() else None
        worker = re.search(rb"(?i)x-worker: (\d+)", head)
        self.answers.append(Answer(sent, time.monotonic(), identity, status, version, shown,
                                   worker and int(worker.group(1)), connected, head.split(b"\r\n")[0].decode()))


class Trial:
    """A gateway, its load, and the expected state over time."""

    def __init__(self, gateway, grace=WATCH + SLACK, slow=False):
        self.gateway, self.grace = gateway, grace
        # The times in which valid clients may be refused; the end of the fault, and the version to recover to.
        self.uncertain, self.marked, self.target = [], None, None
        self.threads = [Load(gateway, seed, slow) for seed in range(THREADS)]

    def run(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        for thread in self.threads:
            thread.stopping = True
        for thread in self.threads:
            # No thread runs where nginx has not started.
            if thread.ident:
                thread.join(40)

    def since(self, when):
        """The responses to requests that were sent after a moment."""
        found = []
        for thread in self.threads:
            # Each list is sorted by time.
            for answer in reversed(thread.answers):
                if answer.done < when:
                    break
                if answer.sent >= when:
                    found.append(answer)
        return found

    def is_right(self, answer, version):
        if answer.status == 200:
            return answer.version == version and answer.identity in allowed(version)
        return answer.status == 401 and answer.identity not in allowed(version)

    def until_all_right(self, version, seconds, quiet=QUIET):
        """Waits until both workers have answered and all responses were right for a while."""
        def quieted():
            answers = self.since(time.monotonic() - quiet)
            workers = {answer.worker for answer in answers if answer.status == 200}
            return len(workers) >= 2 and all(self.is_right(answer, version) for answer in answers)
        started = time.monotonic()
        wait_for("version %d in all workers" % version,
                 lambda: time.monotonic() - started >= quiet and quieted(), seconds + quiet)

    def settle(self, version, seconds=15):
        self.until_all_right(version, seconds, 0.4)

    def fault_ended(self, version):
        """Marks the end of the fault. The gateway must recover to this version."""
        self.marked, self.target = time.monotonic(), version

    @contextlib.contextmanager
    def refusing(self):
        """Valid clients may be refused within this block, and a little longer."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.uncertain.append((start, time.monotonic()))

    def evaluate(self):
        """Counts by kind, and examples of wrong responses."""
        counts, examples = collections.Counter(), []
        answers = sorted((answer for thread in self.threads for answer in thread.answers), key=lambda answer: answer.done)
        seen = {}
        for answer in answers:
            if answer.status == 200 and answer.version is not None:
                seen.setdefault(answer.version, answer.done)
        # By time, the highest version that was in force long enough for all workers to have it
        steps = []
        for version, when in sorted(seen.items(), key=lambda item: item[1]):
            steps.append((when + self.grace, max(version, steps[-1][1] if steps else 0)))
        times = [when for when, _ in steps]
        end = self.uncertain_until()
        for answer in answers:
            position = bisect.bisect_right(times, answer.sent)
            floor = steps[position - 1][1] if position else 1
            versions = {version for when, version in self.gateway.offers if version >= floor and when <= answer.done}
            versions.add(floor)
            permitted = [answer.identity in allowed(version) for version in versions]
            excused = any(answer.done >= start and answer.sent <= until for start, until in end)
            kind = None
            if answer.status == 200:
                if answer.fingerprint != FINGERPRINTS.get(answer.identity) or answer.version is None:
                    kind = "wrong yes"
                elif answer.identity not in allowed(answer.version) or not any(permitted):
                    kind = "wrong yes"
                elif answer.version < floor or answer.version not in versions:
                    kind = "old"
            elif answer.status == 503:
                kind = "503"
            elif answer.status in (0, 421):
                kind = "again"
            elif answer.status != 401 or all(permitted):
                kind = "excused" if excused else "wrong no"
            counts["requests"] += 1
            if kind:
                counts[kind] += 1
            if kind in ("wrong yes", "old", "wrong no") and len(examples) < 4:
                examples.append("%s at %.2f s: %s got %d (%s) by version %s of worker %s, when %s may be in force" % (
                    kind, answer.sent - answers[0].sent, answer.identity, answer.status, answer.text, answer.version,
                    answer.worker, " or ".join(map(str, sorted(versions)))))
        counts["workers"] = len({answer.worker for answer in answers if answer.status == 200})
        return counts, examples

    def uncertain_until(self):
        last = self.marked or 0
        return [(start, max(until, self.recovered_at() if until >= last - 1 else until)) for start, until in self.uncertain]

    def recovered_at(self):
        late = [answer.done for answer in self.since(self.marked) if not self.is_right(answer, self.target)]
        return max(late, default=self.marked)


FAULTS = []


def fault(name, within, log_pattern, quick=False, grace=WATCH + SLACK, slow=False, **options):
    """Registers a fault: a function of a Trial, the seconds to recover, and the expected log line."""
    def add(function):
        FAULTS.append((name, within, log_pattern, quick, grace, slow, options, function))
        return function
    return add


def bind(function, *args):
    return lambda trial: function(trial, *args)


# Files

def write_invalid(gateway):
    gateway.put("rutes: []\n")


def truncate(gateway):
    """Writes the file in place, with pauses."""
    with open(gateway.path, "w") as out:
        out.write(gateway.text(2).split("plugins:")[0])


def missing(gateway):
    os.unlink(gateway.path)


def fifo(gateway):
    os.unlink(gateway.path)
    os.mkfifo(gateway.path)


def directory(gateway):
    os.unlink(gateway.path)
    os.mkdir(gateway.path)


def forbidden(gateway):
    if os.geteuid() == 0 and os.stat("/proc/%d" % gateway.workers()[0]).st_uid == 0:
        raise Skip("workers of root may read everything")
    os.chmod(gateway.path, 0)


def no_parent(gateway):
    """Removes the policy and the files that it names."""
    os.rename(gateway.lists, gateway.lists + ".away")
    os.unlink(gateway.path)


def short_list(gateway):
    text = read(os.path.join(gateway.lists, "revoked.crl"))
    with open(os.path.join(gateway.lists, "revoked.crl"), "w") as out:
        out.write(text[:len(text) // 2])


def empty_list(gateway):
    with open(os.path.join(gateway.lists, "revoked.crl"), "w"):
        pass


def broken_then_killed(trial, breaks, number):
    """A newer policy, then an invalid file while workers are killed, then a valid file again."""
    gateway = trial.gateway
    gateway.offer(2)
    trial.settle(2)
    breaks(gateway)
    time.sleep(WATCH + 0.7)
    gateway.kill(number)
    trial.fault_ended(2)


for how, breaks in (("a bad", write_invalid), ("a cut", truncate), ("a missing", missing)):
    for many, number in (("all", 2), ("one", 1)):
        fault("kill -9 of %s, %s file" % (many, how), 5, r"not reloaded", (how, many) in
              (("a bad", "all"), ("a cut", "one")))(bind(broken_then_killed, breaks, number))
for what, breaks, quick in (("a FIFO", fifo, False), ("a directory", directory, False), ("EACCES", forbidden, True),
                            ("ENOENT, its lists too", no_parent, False), ("a cut CRL", short_list, True),
                            ("an empty CRL", empty_list, False)):
    fault("kill -9 of all, %s" % what, 5, r"not reloaded", quick)(bind(broken_then_killed, breaks, 2))


@fault("HUP with a bad file, kill -9", 5, r"not reloaded|init_by_lua|rutes", quick=True)
def bad_hup(trial):
    gateway = trial.gateway
    gateway.offer(2)
    trial.settle(2)
    write_invalid(gateway)
    os.kill(gateway.master, signal.SIGHUP)
    time.sleep(WATCH + 0.5)
    gateway.kill()
    time.sleep(0.5)
    os.kill(gateway.master, signal.SIGHUP)
    time.sleep(0.5)
    trial.fault_ended(2)


@fault("six HUPs with new policies", 5, None)
def hups(trial):
    for version in range(2, 8):
        trial.gateway.offer(version)
        trial.gateway.hup()
    trial.fault_ended(7)


@fault("twelve policies within 5 s, kill -9", 5, None)
def replacements(trial):
    for version in range(2, 14):
        trial.gateway.offer(version)
        time.sleep(0.4)
        if version % 4 == 0:
            trial.gateway.kill(1)
    trial.fault_ended(13)


@fault("ConfigMap swaps, then none", 5, r"not reloaded", quick=True, start=False)
def config_map(trial):
    gateway = trial.gateway
    data = os.path.join(gateway.dir, "..data")

    def swap(text):
        new = os.path.join(gateway.dir, "..%d" % time.monotonic_ns())
        os.mkdir(new)
        with open(os.path.join(new, "policy.yaml"), "w") as out:
            out.write(text)
        old = os.path.realpath(data)
        os.symlink(os.path.basename(new), data + "_tmp")
        os.rename(data + "_tmp", data)
        shutil.rmtree(old, ignore_errors=True)

    os.symlink("..data/policy.yaml", gateway.path)
    gateway.offer(1, put=swap)
    gateway.start()
    trial.run()
    trial.settle(1)
    for version in range(2, 5):
        gateway.offer(version, put=swap)
        time.sleep(0.8)
    gateway.offer(5, put=swap)
    trial.settle(5)
    shutil.rmtree(os.path.realpath(data))
    time.sleep(WATCH + 0.7)
    gateway.kill()
    trial.fault_ended(5)


# Upgrades

def upgrade(gateway):
    """Sends USR2 and returns the old master."""
    old = gateway.master
    os.kill(old, signal.SIGUSR2)
    wait_for("a new master", lambda: os.path.exists(os.path.join(gateway.dir, "nginx.pid.oldbin"))
             and os.path.exists(os.path.join(gateway.dir, "nginx.pid"))
             and gateway.master != old and len(gateway.workers()) == 2)
    return old


@fault("USR2 and back, kill -9", 5, r"not reloaded")
def rolled_back(trial):
    gateway = trial.gateway
    gateway.offer(2)
    trial.settle(2)
    old = upgrade(gateway)
    new = gateway.master
    gateway.offer(3)
    trial.settle(3)
    write_invalid(gateway)
    time.sleep(WATCH + 0.7)
    os.kill(new, signal.SIGQUIT)
    wait_for("the old master", lambda: not os.path.exists(os.path.join(gateway.dir, "nginx.pid.oldbin")))
    wait_for("its pid", lambda: gateway.master == old)
    gateway.kill()
    trial.fault_ended(3)


@fault("USR2, WINCH, and back with a bad file", 5, r"not reloaded|not loaded", state=True)
def rolled_back_after_winch(trial):
    gateway = trial.gateway
    gateway.offer(2)
    trial.settle(2)
    old = upgrade(gateway)
    new = gateway.master
    os.kill(old, signal.SIGWINCH)
    wait_for("the old workers end", lambda: not gateway.workers(old))
    # Only the new binary loads this version.
    gateway.offer(3)
    trial.settle(3)
    write_invalid(gateway)
    time.sleep(WATCH + 0.7)
    os.kill(old, signal.SIGHUP)
    wait_for("workers of the old master", lambda: len(gateway.workers(old)) == 2)
    os.kill(new, signal.SIGQUIT)
    wait_for("the old master", lambda: not os.path.exists(os.path.join(gateway.dir, "nginx.pid.oldbin")))
    trial.fault_ended(3)


@fault("USR2, WINCH, QUIT, kill -9, a bad file", 5, r"not reloaded")
def upgraded(trial):
    gateway = trial.gateway
    gateway.offer(2)
    trial.settle(2)
    old = upgrade(gateway)
    os.kill(old, signal.SIGWINCH)
    wait_for("the old workers end", lambda: not gateway.workers(old))
    os.kill(old, signal.SIGQUIT)
    gateway.offer(3)
    trial.settle(3)
    write_invalid(gateway)
    time.sleep(WATCH + 0.7)
    gateway.kill()
    trial.fault_ended(3)


# Resources

def tmpfs(where, size):
    os.makedirs(where, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d,mode=755" % size, "none", where],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if os.geteuid() != 0 or not OWN_MOUNTS or mounted.returncode != 0:
        raise Skip("no tmpfs may be mounted here")


def fill(where):
    with contextlib.suppress(OSError), open(os.path.join(where, "filler"), "wb", 0) as out:
        while True:
            out.write(b"x" * 4096)


@fault("disk full while a policy is written", 5, r"not reloaded", start=False)
def full_disk(trial):
    gateway = trial.gateway
    disk = os.path.join(gateway.dir, "disk")
    tmpfs(disk, 64 << 10)
    gateway.put_at(os.path.join(disk, "policy.yaml"))
    gateway.offer(1)
    gateway.start()
    trial.run()
    trial.settle(1)
    gateway.offer(2)
    trial.settle(2)
    fill(disk)
    # The new text is longer than the old file, so a part of it fits.
    with contextlib.suppress(OSError), open(gateway.path, "w") as out:
        out.write(gateway.text(3, 20000))
    time.sleep(WATCH + 0.7)
    gateway.kill()
    time.sleep(1)
    trial.settle(2)
    os.unlink(os.path.join(disk, "filler"))
    gateway.offer(3)
    trial.fault_ended(3)


def restart(trial, version):
    gateway = trial.gateway
    with trial.refusing():
        gateway.stop(signal.SIGQUIT)
        gateway.start()
    trial.fault_ended(version)


@fault("restart with a bad file and state_dir", 5, r"not loaded", quick=True, state=True)
def restarted(trial):
    trial.gateway.offer(2)
    trial.settle(2)
    write_invalid(trial.gateway)
    time.sleep(WATCH + 0.7)
    restart(trial, 2)


@fault("state_dir full, restart with a bad file", 8, r"state directory", start=False)
def full_state(trial):
    gateway = trial.gateway
    state = os.path.join(gateway.dir, "state")
    tmpfs(state, 32 << 10)
    os.chmod(state, 0o700)
    gateway.offer(1)
    gateway.start()
    gateway.own_state()
    gateway.hup()
    trial.run()
    trial.settle(1)
    wait_for("a state file", lambda: glob.glob(os.path.join(state, "policy-*.state")))
    # More than the limit allows
    gateway.offer(2, 2000)
    trial.settle(2)
    write_invalid(gateway)
    time.sleep(WATCH + 0.7)
    # No valid policy is left to start with, and an older one must not be used.
    with trial.refusing():
        gateway.stop(signal.SIGQUIT)
        with contextlib.suppress(Failure):
            gateway.start()
            trial.fault_ended(2)
            return
        time.sleep(0.5)
        gateway.offer(2)
        gateway.start()
    trial.fault_ended(2)


@fault("EMFILE while policy and CRL are replaced", 8, r"Too many open files", main="worker_rlimit_nofile 48;")
def descriptors(trial):
    gateway = trial.gateway
    held = []
    with trial.refusing():
        try:
            for _ in range(200):
                tcp = socket.socket()
                tcp.settimeout(0.2)
                held.append(tcp)
                with contextlib.suppress(OSError):
                    tcp.connect(("127.0.0.1", gateway.port))
            time.sleep(0.5)
            gateway.offer(2)
            time.sleep(WATCH + 2.5)
        finally:
            for tcp in held:
                tcp.close()
    trial.fault_ended(2)


@contextlib.contextmanager
def address_space(pids, more):
    """Limits the memory of these processes to so much more than they have."""
    before = {}
    try:
        for pid in pids:
            size = int(re.search(r"VmSize:\s+(\d+)", read("/proc/%d/status" % pid)).group(1)) << 10
            try:
                soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
            except PermissionError as error:
                raise Skip("no limits may be set") from error
            before[pid] = (soft, hard)
            resource.prlimit(pid, resource.RLIMIT_AS, (size + more, hard))
        yield
    finally:
        for pid, limit in before.items():
            with contextlib.suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_AS, limit)


@fault("RLIMIT_AS, 60,000 routes", 15, r"\d+ MB of memory are needed, \d+ MB are available \(RLIMIT_AS\)", grace=8, main=AS_ROOT)
def little_address_space(trial):
    gateway = trial.gateway
    with address_space(gateway.workers(), 50 << 20):
        gateway.offer(2, 60000)
        time.sleep(WATCH + 3)
    trial.settle(2, 20)
    write_invalid(gateway)
    time.sleep(WATCH + 1)
    # The new workers inherit the master's limit, cannot compile, and answer 503.
    with address_space([gateway.master], 50 << 20):
        gateway.kill()
        time.sleep(2)
    for pid in gateway.workers():
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.prlimit(pid, resource.RLIMIT_AS)[1]))
    trial.fault_ended(2)


@fault("RLIMIT_AS, HUP with 60,000 routes", 15, r"\d+ MB of memory are needed, \d+ MB are available \(RLIMIT_AS\)", grace=8, main=AS_ROOT)
def little_address_space_at_hup(trial):
    gateway = trial.gateway
    master = gateway.master
    with address_space([master], 50 << 20):
        gateway.offer(2, 60000)
        os.kill(master, signal.SIGHUP)
        time.sleep(3)
        if not os.path.exists("/proc/%d" % master):
            raise Failure("the master died")
    trial.settle(2, 20)
    trial.fault_ended(2)


class Cgroup:
    """A new cgroup below that of this process, of version 1 or 2, or Skip."""

    def __init__(self, controller):
        for line in read("/proc/self/cgroup").splitlines():
            _, controllers, group = line.split(":", 2)
            if controller in controllers.split(","):
                self.version, base = 1, "/sys/fs/cgroup/" + controllers + group
                break
            if not controllers:
                self.version, base = 2, "/sys/fs/cgroup" + group
        self.path = os.path.join(base, "resty-mtls-faults-%d" % os.getpid())
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise Skip("no cgroup for %s: %s" % (controller, error.strerror)) from error
        if not os.path.exists(os.path.join(self.path, {1: controller + ".shares", 2: "cpu.max"}[self.version]
                                           if controller == "cpu" else {1: "memory.limit_in_bytes", 2: "memory.max"}[self.version])):
            self.close()
            raise Skip("no cgroup has the controller " + controller)

    def write(self, file, value):
        with open(os.path.join(self.path, file), "w") as out:
            out.write(str(value))

    def add(self, pids):
        for pid in pids:
            self.write("cgroup.procs", pid)

    def close(self):
        # Its processes move to the parent group.
        for pid in read(os.path.join(self.path, "cgroup.procs")).split():
            with contextlib.suppress(OSError), open(os.path.join(os.path.dirname(self.path), "cgroup.procs"), "w") as out:
                out.write(pid)
        for _ in range(100):
            try:
                os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.05)


@fault("memory cgroup, 60,000 routes", 15, r"\d+ MB of memory are needed, \d+ MB are available \(memory of the cgroup", grace=8)
def little_memory(trial):
    gateway = trial.gateway
    group = Cgroup("memory")
    try:
        group.add([gateway.master, *gateway.workers()])
        # A page counts in the group of the process that touched it first, so only pages of new workers count here.
        gateway.kill()
        time.sleep(1)
        usage = int(read(os.path.join(group.path, {1: "memory.usage_in_bytes", 2: "memory.current"}[group.version])))
        # There is memory for one worker to compile it, and not for two at the same time.
        group.write({1: "memory.limit_in_bytes", 2: "memory.max"}[group.version], usage + (130 << 20))
        gateway.offer(2, 60000)
        time.sleep(WATCH + 6)
        group.write({1: "memory.limit_in_bytes", 2: "memory.max"}[group.version], usage + (60 << 20))
        gateway.offer(3, 61000)
        time.sleep(WATCH + 4)
    finally:
        group.close()
    trial.fault_ended(3)


# Clocks

class Clock:
    def __init__(self, gateway):
        self.path = os.path.join(gateway.dir, "clock")
        self.set(0)
        gateway.env.update(LD_PRELOAD=CLOCK, CLOCK_SHIFT=self.path)

    def set(self, seconds):
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as out:
            out.write(struct.pack("=q", seconds))


def clock_moved(trial, days):
    gateway = trial.gateway
    clock = Clock(gateway)
    gateway.offer(1)
    gateway.start()
    trial.run()
    trial.settle(1)
    gateway.offer(2)
    trial.settle(2)
    with trial.refusing():
        clock.set(days * DAY)
        time.sleep(2)
        gateway.offer(3)
        time.sleep(WATCH + 2)
        write_invalid(gateway)
        time.sleep(WATCH + 0.7)
        gateway.kill()
        time.sleep(2)
        clock.set(0)
    trial.fault_ended(3)


def clock_wrong_at_start(trial, days):
    gateway = trial.gateway
    clock = Clock(gateway)
    clock.set(days * DAY)
    gateway.offer(1)
    gateway.start()
    with trial.refusing():
        trial.run()
        time.sleep(3)
        gateway.offer(2)
        time.sleep(WATCH + 2)
        clock.set(0)
    trial.fault_ended(2)


for days, what in ((1, "a day ahead"), (35, "35 days ahead"), (366, "a year ahead"), (-1, "a day behind"),
                   (-31, "a month behind"), (-366, "a year behind")):
    fault("clock %s, then right" % what, 60, None, start=False)(bind(clock_moved, days))
    fault("clock %s at the start, then right" % what, 60, None, start=False)(bind(clock_wrong_at_start, days))


# Processors

@contextlib.contextmanager
def cpu_quota(gateway, share):
    """Limits nginx to a share of one processor; without a cgroup by stopping and continuing it."""
    try:
        group = Cgroup("cpu")
    except Skip:
        stopping = threading.Event()

        def alternate():
            while not stopping.is_set():
                pids = gateway.workers()
                for number, pause in ((signal.SIGCONT, 0.1 * share), (signal.SIGSTOP, 0.1 * (1 - share))):
                    for pid in pids:
                        with contextlib.suppress(OSError):
                            os.kill(pid, number)
                    time.sleep(pause)
            for pid in gateway.workers():
                os.kill(pid, signal.SIGCONT)
        thread = threading.Thread(target=alternate, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()
        return
    try:
        if group.version == 1:
            group.write("cpu.cfs_period_us", 100000)
            group.write("cpu.cfs_quota_us", int(100000 * share))
        else:
            group.write("cpu.max", "%d 100000" % (100000 * share))
        group.add([gateway.master, *gateway.workers()])
        yield
    finally:
        group.close()


# A worker that is behind serves for the 10 seconds that it may take to catch up, and then answers 503.
@fault("CPU quota 0.05, 100,000 routes, kill -9", 30, r"not reloaded|takes over 10 s|503", grace=WATCH + 10 + 4, slow=True)
def little_cpu(trial):
    gateway = trial.gateway
    gateway.offer(2, 100000)
    trial.settle(2, 60)
    write_invalid(gateway)
    time.sleep(WATCH + 0.7)
    with trial.refusing(), cpu_quota(gateway, 0.05):
        gateway.kill()
        time.sleep(60)
    trial.fault_ended(2)


@fault("CPU quota 0.1, 100,000 routes replaced", 30, None, grace=WATCH + 10 + 4, slow=True)
def little_cpu_reload(trial):
    gateway = trial.gateway
    gateway.offer(2, 100000)
    trial.settle(2, 60)
    with trial.refusing(), cpu_quota(gateway, 0.1):
        gateway.offer(3, 100000)
        time.sleep(60)
    trial.fault_ended(3)


# Gateways that are broken on purpose, and the failures that must be detected
SELF_TESTS = (
    # These workers share nothing: respawned ones serve the policy of the start.
    ("an old policy", {"lua": 'require("resty.mtls.internal.engine").join_node = function() return true end'},
     bind(broken_then_killed, write_invalid, 2), r"wrong yes"),
    ("another's certificate", {"access": 'if ngx.var.http_x_client_cert_fingerprint and math.random(50) == 1 then '
                               'ngx.req.set_header("X-Client-Cert-Fingerprint", ("0"):rep(40)) end'},
     bind(broken_then_killed, write_invalid, 0), r"wrong yes"),
    ("a worker that dies", {"access": 'if math.random(30) == 1 then require("ffi").cdef "int kill(int, int);" '
                            'require("ffi").C.kill(ngx.worker.pid(), 11) end'},
     bind(broken_then_killed, write_invalid, 0), r"exited on signal 11"),
    ("a lock-out", {"access": 'if math.random(20) == 1 then ngx.exit(401) end'},
     bind(broken_then_killed, write_invalid, 0), r"wrong no|not within|recover"),
    ("a silent log", {"lua": 'local log = ngx.log; ngx.log = function(level, first, ...) '
                      'if first ~= "[mtls] policy not reloaded: " then log(level, first, ...) end end'},
     bind(broken_then_killed, write_invalid, 0), r"the log does not have"),
)

OWN_MOUNTS = False
CLOCK = None


def own_mounts():
    """Moves this process to its own mount namespace, so that its mounts end with it."""
    global OWN_MOUNTS
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and libc.unshare(0x20000) == 0:
        OWN_MOUNTS = subprocess.run(["mount", "--make-rprivate", "/"], stderr=subprocess.DEVNULL).returncode == 0


class TestedGateway(Gateway):
    def __init__(self, workdir, name, state=False, **options):
        if state or name.startswith("state"):
            options["options"] = 'state_dir = "%s"' % os.path.join(workdir, name, "state")
        start = options.pop("start", True)
        super().__init__(workdir, name, start=False, **options)
        if state:
            os.mkdir(os.path.join(self.dir, "state"), 0o700)
        if start:
            self.offer(1)
            self.start()
            if state:
                self.own_state()
                self.hup()

    def own_state(self):
        os.chown(os.path.join(self.dir, "state"), os.stat("/proc/%d" % self.workers()[0]).st_uid, -1)

    def put_at(self, path):
        conf = os.path.join(self.dir, "nginx.conf")
        text = read(conf).replace(self.path, path)
        with open(conf, "w") as out:
            out.write(text)
        self.path = path


def run(workdir, number, name, within, log_pattern, grace, slow, options, function):
    """The failures, and the row of the table."""
    gateway = TestedGateway(workdir, "%s%d" % ("state" if "state_dir" in name else "gateway", number), **options)
    trial = Trial(gateway, grace, slow)
    wrong, recovery = [], None
    try:
        if options.get("start", True):
            trial.run()
            trial.settle(1)
        try:
            function(trial)
            trial.until_all_right(trial.target, within)
        except Failure as error:
            wrong.append(str(error))
        if trial.marked:
            recovery = trial.recovered_at() - trial.marked
    finally:
        trial.stop()
        gateway.stop()
    counts, examples = trial.evaluate()
    lines = gateway.error_lines()
    for kind in ("wrong yes", "old", "wrong no"):
        if counts[kind]:
            wrong.append("%d %s" % (counts[kind], kind))
    wrong += examples
    wrong += gateway.unexpected_exits()
    if recovery is None or recovery > within:
        wrong.append("it does not recover within %g s" % within)
    if log_pattern and not re.search(log_pattern, read(gateway.log)):
        wrong.append("the log does not have " + log_pattern)
    if counts["workers"] < 2:
        wrong.append("only %d workers answered 200" % counts["workers"])
    log = "; ".join("%s (%d times)" % (text[:150], count) if count > 1 else text[:150] for text, count in lines.most_common(2))
    row = [name, counts["requests"], counts["wrong yes"], counts["old"], counts["wrong no"], counts["503"], counts["again"],
           "never" if recovery is None else "%.1f" % recovery, log or "nothing at level error"]
    return wrong, row


FORMAT = "%-42s %8s %9s %5s %8s %6s %6s %9s  %s"


def main():
    global CLOCK
    arguments = sys.argv[1:]
    what = arguments.pop(0) if arguments[:1] in (["quick"], ["self-test"]) else "all"
    if os.environ.get("FAULTS_SELF_TEST"):
        what = "self-test"
    if subprocess.run([os.path.join(ROOT, "t", "pki", "make")]).returncode != 0:
        sys.exit("faults: t/pki/make failed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.umask(0o022)
    own_mounts()
    FINGERPRINTS.update((identity, fingerprint(identity)) for identity in IDENTITIES if identity)
    workdir = tempfile.mkdtemp(prefix="resty-mtls-faults.")
    os.chmod(workdir, 0o755)
    upstream = None
    try:
        lists = os.path.join(workdir, "lists")
        os.mkdir(lists)
        make_crls(lists)
        CLOCK = os.path.join(workdir, "clock.so")
        source = os.path.join(ROOT, "t", "preload", "clock.c")
        if subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", CLOCK, source]).returncode != 0:
            sys.exit("faults: t/preload/clock.c does not compile")
        with open(os.path.join(workdir, "upstream.conf"), "w") as conf:
            conf.write(UPSTREAM.format(dir=workdir, modules=modules()))
        upstream = subprocess.Popen([NGINX, "-p", workdir, "-c", "upstream.conf", "-e", os.path.join(workdir, "upstream.log")],
                                    stderr=subprocess.DEVNULL)
        wait_for("the upstream starts", lambda: os.path.exists(os.path.join(workdir, "upstream.sock")))
        os.chmod(os.path.join(workdir, "upstream.sock"), 0o666)
        sys.exit((self_tests if what == "self-test" else all_faults)(workdir, what == "quick", arguments))
    finally:
        if upstream:
            upstream.terminate()
            upstream.wait()
        subprocess.run("umount %s/*/disk %s/*/state 2>/dev/null" % (workdir, workdir), shell=True)
        shutil.rmtree(workdir, ignore_errors=True)


def self_tests(workdir, _, names):
    for number, (what, options, function, expected) in enumerate(SELF_TESTS):
        if names and not any(name in what for name in names):
            continue
        print("faults: %s, on purpose" % what, flush=True)
        try:
            wrong, _ = run(workdir, number, what, 5, r"policy not reloaded", WATCH + SLACK, False, dict(options), function)
        except Failure as error:
            wrong = [str(error)]
        found = [text for text in wrong if re.search(expected, text)]
        if not found:
            print("faults: not detected: '%s' was expected, found: %s" % (expected, wrong))
            return 1
        print("  found: %s" % found[0], flush=True)
    return 0


def all_faults(workdir, only_quick, names):
    print(FORMAT % ("fault", "requests", "wrong yes", "old", "wrong no", "503", "again", "recovery", "the log"), flush=True)
    status = 0
    for number, (name, within, log_pattern, quick, grace, slow, options, function) in enumerate(FAULTS):
        if only_quick and not quick or names and not any(part in name for part in names):
            continue
        try:
            wrong, row = run(workdir, number, name, within, log_pattern, grace, slow, dict(options), function)
        except Skip as why:
            print("%-42s skipped: %s" % (name, why), flush=True)
            continue
        except Failure as error:
            wrong, row = [str(error)], [name, *["-"] * 8]
        print(FORMAT % tuple(row), flush=True)
        for text in wrong:
            print("    WRONG: " + text, flush=True)
        status |= bool(wrong)
    print("faults: " + ("something is wrong" if status else "nothing wrong"))
    return status


if __name__ == "__main__":
    main()
