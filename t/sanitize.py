#!/usr/bin/env python3
"""Runs t/*/*.t with nginx under AddressSanitizer or Valgrind, and fails on any report that concerns the library.

sanitize.py asan|valgrind [FILE.t...]

First t/sanitize-self-test.pl causes an overflow, a use after free and a leak in the library, and each must be reported.
Reports are in target/asan/log or target/valgrind/log.

asan: builds the library, resty-mtls and the C programs of the tests with AddressSanitizer (rustc needs RUSTC_BOOTSTRAP=1
for -Zsanitizer=address), and preloads gcc's runtime into nginx. std is not instrumented.
valgrind: runs the library of `make build`.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = "x86_64-unknown-linux-gnu"


def fail(text):
    sys.exit("sanitize: " + text)


def run(*command, **kwargs):
    if subprocess.run(command, cwd=ROOT, **kwargs).returncode != 0:
        fail("'%s' failed" % " ".join(command))


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def script(path, text):
    with open(path, "w") as out:
        out.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)
    return path


def link(source, name):
    if os.path.isdir(source) and not os.path.islink(name):
        os.symlink(source, name)


class Tool:
    def __init__(self):
        self.dir = os.path.join(ROOT, "target", self.name)
        self.tree = os.path.join(self.dir, "tree")
        self.log = os.path.join(self.dir, "log")
        self.nginx = shutil.which(os.environ.get("TEST_NGINX_BINARY", "nginx")) or fail("no nginx found")
        # Processes in which no search for leaks was possible
        self.unsearched = 0
        os.makedirs(self.dir, exist_ok=True)

    def env(self):
        """The environment of the tests."""
        # Freed memory is kept, so that its use is found.
        return {"SLACK": "1000000", "CARGO": "true", "TEST_NGINX_BINARY": os.path.join(self.dir, "nginx")}

    def reports(self):
        """The reports that concern the library."""
        found = []
        self.unsearched = 0
        for file in sorted(glob.glob(os.path.join(self.log, "*"))):
            with open(file, errors="replace") as text:
                found += self.split(text.read())
        return found

    def tests(self, *files):
        shutil.rmtree(self.log, ignore_errors=True)
        os.makedirs(self.log)
        # Workers do not run as root and must write their reports.
        os.chmod(self.log, 0o777)
        command = ["t/run-tests.pl", *files]
        return subprocess.run(command, cwd=self.tree, env={**os.environ, **self.env()}).returncode == 0


class Asan(Tool):
    name = "asan"
    self_test = (r"AddressSanitizer: heap-buffer-overflow", r"AddressSanitizer: heap-use-after-free",
                 r"LeakSanitizer: .*?rmtls_certificate_from_pem|Direct leak .*?rmtls_certificate_from_pem")
    default = ["t"]
    # gcc's runtime aborts the search in both processes of one test, after TLS to itself. More than that is a failure.
    unsearched_limit = 6

    def build(self):
        runtime = output(os.environ.get("CC", "cc"), "-print-file-name=libasan.so")
        if not os.path.exists(runtime):
            fail("no libasan.so: install gcc's")
        flags = "-Zsanitizer=address -Cforce-frame-pointers=yes"
        # With --target, build scripts and macros are not instrumented.
        run("cargo", "build", "--release", "--locked", "--target", TARGET, "--target-dir", self.dir,
            env={**os.environ, "RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": flags, "CARGO_PROFILE_RELEASE_LTO": "off",
                 "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16", "CARGO_PROFILE_RELEASE_DEBUG": "line-tables-only"})
        run("t/copy-source", os.path.join(self.dir, TARGET, "release"), self.tree)
        daemon = os.path.join(self.dir, "daemon.so")
        run(os.environ.get("CC", "cc"), *"-D_GNU_SOURCE -O1 -Wall -Wextra -Werror -shared -fPIC t/preload/daemon.c -ldl -o".split(), daemon)
        options = "detect_stack_use_after_return=1"
        # Leaks do not change the exit status, because nginx has some itself.
        script(os.path.join(self.dir, "nginx"),
               "export ASAN_OPTIONS=\"%s:verify_asan_link_order=0:log_path=${ASAN_OPTIONS##*log_path=}\" LSAN_OPTIONS=exitcode=0\n"
               "export LD_PRELOAD=\"%s %s $LD_PRELOAD\"\nexec '%s' \"$@\"\n" % (options, daemon, os.path.realpath(runtime), self.nginx))
        # Test::Nginx adds the name of the test to the end.
        self.options = "%s:detect_leaks=0:log_path=%s/asan" % (options, self.log)
        # A library is preloaded, also into the shell that starts nginx, which has no runtime.
        self.cc = script(os.path.join(self.dir, "cc"),
                         "case \" $* \" in *' -shared '*) exec %s \"$@\" ;; esac\nexec %s -fsanitize=address \"$@\"\n"
                         % (2 * (os.environ.get("CC", "cc"),)))

    def env(self):
        # The runtime maps some 40 MB by itself, and ends a process that cannot.
        return {**super().env(), "HEADROOM": "70", "ASAN_OPTIONS": self.options, "CC": self.cc}

    def split(self, text):
        """Any error; of leaks those that the library allocated."""
        for part in re.split(r"(?m)^(?===\d+==ERROR: |(?:Direct|Indirect) leak of )", text):
            if "ERROR: AddressSanitizer" in part:
                yield part
            elif re.match(r"(?:Direct|Indirect) leak", part) and "libresty_mtls" in part:
                yield part
            elif "LeakSanitizer has encountered a fatal error" in part:
                self.unsearched += 1


class Valgrind(Tool):
    name = "valgrind"
    unsearched_limit = 0
    self_test = (r"Invalid write of size.*?rmtls_verdict_text", r"Invalid read of size.*?rmtls_certificate_validity",
                 r"definitely lost.*?rmtls_certificate_from_pem")
    # All tests would take hours, and a worker that is twenty times as slow fails those that measure time.
    default = ["t/%s.t" % name for name in ("handshake/010-certificate-request", "access/010-access",
                                            "headers/010-tls-metadata-headers", "lua-api/050-certificate", "hostile/010-certificates")]

    def build(self):
        if not shutil.which("valgrind"):
            fail("valgrind is not installed")
        run("cargo", "build", "--release", "--locked")
        run("t/copy-source", os.path.join(ROOT, "target", "release"), self.tree)
        script(os.path.join(self.dir, "nginx"),
               "case $1 in -[vV]) exec '%s' \"$@\" ;; esac\n"
               "exec valgrind --quiet --leak-check=full --show-leak-kinds=definite --num-callers=40 --error-limit=no "
               "--suppressions='%s' --log-file='%s/valgrind.%%p' '%s' \"$@\"\n"
               % (self.nginx, os.path.join(ROOT, "t", "valgrind.suppress"), self.log, self.nginx))

    def env(self):
        return {**super().env(), "TEST_NGINX_TIMEOUT": "60"}

    def split(self, text):
        """Any error that is not suppressed; of leaks those that the library allocated."""
        text = re.sub(r"(?m)^==\d+== ?", "", text)
        for part in re.split(r"\n\s*\n", text):
            if re.search(r" (?:is|are) definitely lost ", part):
                if re.search(r"rmtls_|resty_mtls", part):
                    yield part
            elif re.search(r"(?m)^   (?:at|by) 0x", part):
                yield part


TOOLS = {tool.name: tool for tool in (Asan, Valgrind)}


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in TOOLS:
        fail("expected %s and test files" % " or ".join(TOOLS))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    tool = TOOLS[sys.argv[1]]()
    tool.build()
    # What t/install-test-tools.sh installs, and the corpora: tests that miss one are skipped.
    for name in ("python", "nodejs", "node", "oidc", "readers", "redis"):
        link(os.path.join(ROOT, "target", name), os.path.join(tool.tree, "target", name))
    link(os.path.join(os.path.dirname(ROOT), "shared"), os.path.join(tool.dir, "shared"))

    print("%s: errors made on purpose" % tool.name, flush=True)
    tool.tests("t/sanitize-self-test.pl")
    reports = tool.reports()
    for pattern in tool.self_test:
        if not any(re.search(pattern, report, re.S) for report in reports):
            fail("not detected: no report matches '%s', see %s" % (pattern, tool.log))
    print("%s: each is reported (%d reports); now the tests" % (tool.name, len(reports)), flush=True)

    passed = tool.tests(*(sys.argv[2:] or tool.default))
    reports = tool.reports()
    for report in reports[:20]:
        print("\n" + report)
    if tool.unsearched:
        print("%s: in %d processes the search for leaks broke off, see %s" % (tool.name, tool.unsearched, tool.log))
    print("%s: %d reports, tests %s" % (tool.name, len(reports), "passed" if passed else "failed"))
    sys.exit(0 if passed and not reports and tool.unsearched <= tool.unsearched_limit else 1)


main()
