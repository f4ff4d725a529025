# Aborted requests, reloads, HUP, killed workers and failing responders in random order. The clock is moved in
# src/engine/revocation/model_tests.rs, and in t/revocation/095-clock.t.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Policy = revocation_policy(
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR, cert_cache_ttl: 2'],
    [strict => 'revocation_check_mode: STRICT, cert_cache_ttl: 2'],
);

our $Http = "    lua_check_client_abort on;\n" . init_http('fetch_allow = { "127.0.0.0/8" }');

our $Config = $TestRevocation::Config . <<'_EOC_';
    location /reload {
        content_by_lua_block { ngx.say(require("resty.mtls").reload()) }
    }
    location /leases {
        content_by_lua_block {
            local count = 0
            for _, key in ipairs(ngx.shared.mtls:get_keys(0)) do
                count = count + (key:find("^lease:fetch:") and 1 or 0)
            end
            ngx.say(count)
        }
    }
_EOC_

# The seed is in the output of a failure: SEED=... repeats it, as far as the machine's load does not matter.
$ENV{SEED} //= int rand 1e9;

our $Model = $Client . <<'_EOC_';
master=$(cat "$PID_FILE")
cat > model.py <<'END'
import http.client, os, random, signal, socket, ssl, struct, subprocess, sys, time
port, http_port, master, rev, seed, steps = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
random.seed(seed)
log = []

def fault(kind):
    path = rev + "/fault"
    if kind:
        with open(path + ".new", "w") as out:
            out.write(kind)
        os.rename(path + ".new", path)
    elif os.path.exists(path):
        os.unlink(path)

def connect(case):
    context = ssl._create_unverified_context()
    context.load_cert_chain("%s/%s.crt" % (rev, case), "%s/%s.key" % (rev, case))
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20), server_hostname="a.test")

def send(case, route):
    sock = connect(case)
    sock.sendall(("GET /to/%s HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n" % route).encode())
    return sock

def status(case, route):
    for _ in range(20):
        try:
            sock = send(case, route)
            line = sock.recv(100)
            sock.close()
            if line:
                return int(line.split()[1])
        except OSError:
            pass
        # The worker was killed.
        time.sleep(0.1)
    raise SystemExit("seed %d: no answer: %s" % (seed, log))

def abort(case, route):
    try:
        sock = send(case, route)
        time.sleep(random.random() / 5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    except OSError:
        pass

def workers():
    text = subprocess.run(["pgrep", "-P", str(master)], stdout=subprocess.PIPE, text=True).stdout
    return [int(pid) for pid in text.split()]

def fetch(path):
    for _ in range(20):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=20)
            connection.request("GET", path)
            return connection.getresponse().read().decode().strip()
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)

def expect(ok, what):
    if not ok:
        fault("")
        raise SystemExit("seed %d: %s after %s" % (seed, what, log))

revoked, good = "turn-first-revoked", "turn"
had_answer = False
for _ in range(steps):
    what = random.choice(["abort", "abort", "reload", "hup", "kill", "error", "silent", "fine", "fine", "ask", "ask", "ask", "wait"])
    log.append(what)
    if what == "abort":
        abort(revoked, random.choice(["ignore", "strict"]))
    elif what == "reload":
        fetch("/reload")
    elif what == "hup":
        os.kill(master, signal.SIGHUP)
    elif what == "kill":
        for pid in random.sample(workers(), 1):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                # It has ended by an earlier HUP.
                pass
    elif what in ("error", "silent"):
        fault(what)
    elif what == "fine":
        fault("")
    elif what == "wait":
        time.sleep(random.choice([0.3, 1, 2.2]))
    else:
        got = status(revoked, "ignore")
        expect(got in (200, 401), "revoked: %d" % got)
        expect(got == 401 or not had_answer, "the revoked client got in")
        had_answer = had_answer or got == 401
        got = status(good, "ignore")
        expect(got == 200, "good client: %d" % got)
# The fault is over: nobody is locked out for long, and no lease stays.
fault("")
started = time.time()
while status(good, "strict") != 200 or status(revoked, "ignore") != 401:
    expect(time.time() - started < 12, "still without a status")
    time.sleep(0.2)
while fetch("/leases") != "0":
    expect(time.time() - started < 20, "%s leases are left" % fetch("/leases"))
    time.sleep(0.2)
print("consistent")
END
model() { python3 model.py "$PORT" "$HTTP_PORT" "$master" "$REV" "$1" "$2"; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() lets no revoked client in once it had an answer, and locks no good one out for longer than the fault
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- worker_processes: 2
--- client eval
$::Model . <<'_EOC_'
model "$SEED" 60
_EOC_
--- client_out
consistent
--- no_error_log
[crit]
[emerg]
--- timeout: 90
