# Revocation statuses while responders fail, are silent or change their minds, and after restarts.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our @Modes = ([ignore => 'revocation_check_mode: IGNORE_CA_ERROR'], [strict => 'revocation_check_mode: STRICT']);
our $Policy = revocation_policy(@Modes);
our $Patient = $Policy =~ s/http_timeout: 2500/http_timeout: 25000/gr;
our $Short = $Policy =~ s/http_timeout: 2500/http_timeout: 2500, cert_cache_ttl: 1/gr;
our $Waiting = $Policy =~ s/http_timeout: 2500/http_timeout: 10000, status_wait: 100/gr;

our $Http = init_http('fetch_allow = { "127.0.0.0/8" }');

# State outlives the test blocks. The workers of a master that is root run as nobody.
our $State = "$Dir/state";
mkdir $State, 0700 or bail_out("$State: $!");
if ($> == 0) {
    chown((getpwnam("nobody"))[2, 3], $State) or bail_out("$State: $!");
    chmod 0711, $Dir;
}
our $StateHttp = init_http("fetch_allow = { \"127.0.0.0/8\" }, state_dir = \"$State\"");

our $Config = $TestRevocation::Config . <<'_EOC_';
    location /flush {
        content_by_lua_block {
            require("resty.mtls").flush()
            ngx.say("flushed")
        }
    }
    location /sources {
        content_by_lua_block {
            for _, source in ipairs(require("resty.mtls").status().revocation_sources) do
                ngx.say(source.kind, " ", (source.url:gsub("127.0.0.1:%d+", "HOST")), " ", source.state, " ", source.error or "-")
            end
        }
    }
_EOC_

# fault [error|silent]: how the responders of the cases turn* fail; nothing: they do not
# database CASE V|R: changes what the CA says about a certificate
# timed COMMAND...: its output, and "slow" if it took more than two seconds
our $Tools = $Client . <<'_EOC_';
master=$(cat "$PID_FILE")
fault() { if [ -n "${1:-}" ]; then echo "$1" > "$REV/fault"; else rm -f "$REV/fault"; fi; }
database() {
    local revoked=
    [ "$2" = R ] && revoked=200101000000Z
    awk -F'\t' -v OFS='\t' -v name="/CN=$1" -v state="$2" -v revoked="$revoked" \
        '$6 == name { $1 = state; $3 = revoked } 1' "$REV/ca-a.index" > "$REV/index.new"
    mv "$REV/index.new" "$REV/ca-a.index"
}
timed() {
    local start=$(date +%s%N)
    printf '%s' "$("$@")"
    [ $(( ($(date +%s%N) - start) / 1000000 )) -lt "${LIMIT:-2000}" ] && echo || echo ' slow'
}
fault
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() gets the status from responders that refuse POST, redirect it, close it, or want a nonce
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
for case in nonce nonce-revoked forbidden-revoked redirect-revoked broken-revoked; do
    echo "$case: $(request ignore "$case") $(request strict "$case")"
done
fetches
_EOC_
--- client_out
nonce: 200 200
nonce-revoked: 401 401
forbidden-revoked: 401 401
redirect-revoked: 401 401
broken-revoked: 401 401
POST /nonce/nonce
POST /nonce/nonce
POST /nonce-revoked/nonce
POST /nonce-revoked/nonce
POST /forbidden-revoked/post-403
GET /forbidden-revoked/post-403
POST /redirect-revoked/post-redirect
GET /redirect-revoked/post-redirect
GET /redirect-revoked/good
POST /broken-revoked/post-broken
GET /broken-revoked/post-broken
--- no_error_log
[crit]



=== TEST 2: access() asks the next source when the first is silent, and takes the first answer
--- user_files eval: $::Patient
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
LIMIT=7500 timed request ignore silent-revoked
timed request strict silent-revoked
fetches
_EOC_
--- client_out
401
401
POST /silent-revoked/silent
POST /silent-revoked/good
--- no_error_log
[crit]



=== TEST 3: access() waits once for a silent responder, then answers at once, and needs no request to find it back
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
fault silent
LIMIT=4500 timed request ignore turn-first
for _ in 1 2 3; do timed request ignore turn-first-revoked; done | sort | uniq -c | sed 's/^ *//'
for _ in 1 2 3; do timed request strict turn-strict; done | sort | uniq -c | sed 's/^ *//'
curl -s "http://127.0.0.1:$HTTP_PORT/sources" | cut -d' ' -f1-3
fault
are_up() { [ "$(curl -s "http://127.0.0.1:$HTTP_PORT/sources" | grep -c ' up ')" = 3 ]; }
wait_until are_up
echo "$(request ignore turn-first) $(request ignore turn-first-revoked) $(request strict turn-strict)"
curl -s "http://127.0.0.1:$HTTP_PORT/sources" | cut -d' ' -f1-3
_EOC_
--- client_out
200
2 200
1 200 slow
2 401
1 401 slow
ocsp http://HOST/turn-first-revoked/turn down
ocsp http://HOST/turn-first/turn down
ocsp http://HOST/turn-strict/turn down
200 401 200
ocsp http://HOST/turn-first-revoked/turn up
ocsp http://HOST/turn-first/turn up
ocsp http://HOST/turn-strict/turn up
--- timeout: 30
--- no_error_log
[crit]



=== TEST 4: access() keeps a revocation when its answer ends while the responder fails, until a newer answer
--- user_files eval: $::Short
--- http_config eval: $::Http
--- config eval: $::Config
--- worker_processes: 2
--- client eval
$::Tools . <<'_EOC_'
database turn-back-revoked R
request ignore turn-back-revoked; echo
for _ in $(seq 12); do
    fault $([ $((RANDOM % 3)) = 0 ] || echo error)
    request ignore turn-back-revoked
    echo
    sleep 0.25
done | sort | uniq -c | sed 's/^ *//'
fault
database turn-back-revoked V
for _ in $(seq 60); do
    request ignore turn-back-revoked > code
    [ "$(cat code)" = 200 ] && break
    sleep 0.25
done
cat code; echo
database turn-back-revoked R
_EOC_
--- client_out
401
12 401
200
--- timeout: 40
--- no_error_log
[crit]



=== TEST 5: access() uses an answer until its nextUpdate when the responder fails after cert_cache_ttl
--- user_files eval: $::Short
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
request strict turn; echo
fault error
sleep 2.5
for _ in 1 2 3; do timed request strict turn; sleep 0.5; done
fault
_EOC_
--- client_out
200
200
200
200
--- no_error_log
revocation status unknown



=== TEST 6: access() waits for a first status no longer than status_wait with IGNORE_CA_ERROR, and has it later
--- user_files eval: $::Waiting
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
timed request ignore slow-revoked
LIMIT=9000 timed request strict slow-revoked
request ignore slow-revoked; echo
fetches
_EOC_
--- client_out
200
401
401
POST /slow-revoked/slow
--- timeout: 20
--- no_error_log
[crit]



=== TEST 7: access() has the status when the worker that fetches it is killed, and after HUP
--- user_files eval: $::Patient
--- http_config eval: $::Http
--- config eval: $::Config
--- worker_processes: 2
--- client eval
$::Tools . <<'_EOC_'
request ignore slow-revoked > first &
for _ in $(seq 50); do [ "$(fetches | wc -l)" = 1 ] && break; sleep 0.1; done
kill -9 $(pgrep -P "$master")
wait
for _ in $(seq 50); do [ "$(pgrep -P "$master" | wc -l)" = 2 ] && break; sleep 0.1; done
LIMIT=7500 timed request ignore slow-revoked
request strict slow > second &
for _ in $(seq 50); do [ "$(fetches | grep -c /slow/)" = 1 ] && break; sleep 0.1; done
kill -HUP "$master"
LIMIT=7500 timed request strict slow
wait
cat second; echo
_EOC_
--- client_out
401
200
200
--- error_log
exited on signal 9
--- no_error_log
[crit]
--- timeout: 40



=== TEST 8: flush() forgets statuses on all workers, but not that certificates are revoked
--- worker_processes: 2
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
database turn V
cat > workers.py <<'PYTHON'
import http.client, os, socket, ssl, subprocess, sys, time
port = int(os.environ["PORT"])
class Connection(http.client.HTTPSConnection):
    def connect(self):
        assert not hasattr(self, "used"), "the connection was closed"
        self.used = True
        self.sock = self._context.wrap_socket(socket.create_connection((self.host, self.port)), server_hostname="a.test")
def connect(name):
    context = ssl._create_unverified_context()
    context.load_cert_chain(os.environ["REV"] + "/" + name + ".crt", os.environ["REV"] + "/" + name + ".key")
    return Connection("127.0.0.1", port, context=context, timeout=20)
def ask(connection):
    connection.request("GET", "/worker/ignore", headers={"Host": "a.test"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode().strip()
# A connection to each of the two workers
by_worker = {}
for _ in range(400):
    connection = connect("turn")
    status, worker = ask(connection)
    assert status == 200, status
    by_worker.setdefault(worker, connection)
    if len(by_worker) == 2:
        break
def statuses():
    return [ask(connection)[0] for connection in by_worker.values()], ask(connect("revoked"))[0]
print(*statuses())
subprocess.run([sys.argv[1]], check=True)
print(*statuses())
http.client.HTTPConnection("127.0.0.1", int(os.environ["HTTP_PORT"])).request("GET", "/flush")
time.sleep(2.2)
open("before", "w").write(str(len(open(os.environ["REV"] + "/requests").readlines())))
print(*statuses())
PYTHON
{ echo '#!/bin/bash'; declare -f database; echo 'database turn R'; } > revoke
chmod +x revoke
python3 workers.py ./revoke
fetches | tail -n "+$(($(cat before) + 1))"
database turn V
_EOC_
--- client_out
[200, 200] 401
[200, 200] 401
[401, 401] 401
POST /turn/turn
--- error_log
[mtls] flushed
--- no_error_log
[crit]



=== TEST 9: access() renews a CRL that has not changed without fetching it
--- user_files eval: $::Short
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
echo "$(request strict etag) $(request strict etag-revoked)"
sleep 2.5
echo "$(request strict etag) $(request strict etag-revoked)"
sed 's/ - / /' "$REV/requests" | grep '/etag/'
_EOC_
--- client_out
200 401
200 401
GET /etag/crl-etag -
GET /etag/crl-etag "v1"
--- no_error_log
[crit]



=== TEST 10: access() writes the answer that revokes a certificate to state_dir
--- user_files eval: $::Policy
--- http_config eval: $::StateHttp
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
database turn-first-revoked R
request ignore turn-first-revoked; echo
stat -c '%a' "$REV"/state/evidence-*
_EOC_
--- client_out
401
600
--- no_error_log
[crit]



=== TEST 11: access() refuses it after a restart while the responder fails
--- user_files eval: $::Policy
--- http_config eval: $::StateHttp
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
fault error
request ignore turn-first-revoked; echo
fetches
fault
_EOC_
--- client_out
401
--- no_error_log
[crit]



=== TEST 12: access() asks again when flush() is called during a fetch
--- user_files eval: $::Patient
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
echo "$(request ignore slow)" &
has_fetch() { [ -s "$REV/requests" ]; }
wait_until has_fetch
curl -s "http://127.0.0.1:$HTTP_PORT/flush"
wait $!
fetches
_EOC_
--- client_out
flushed
200
POST /slow/slow
POST /slow/slow
--- no_error_log
[crit]
--- timeout: 20



=== TEST 13: access() refuses it by a large CRL that is kept, which each new worker parses, while no source answers
--- user_files eval: $::Patient =~ s/http_timeout/cert_cache_ttl: 1, http_timeout/gr
--- http_config eval: $::StateHttp
--- config eval: $::Config
--- client eval
$::Tools . <<'_EOC_'
# 7 MB, which the responder makes first.
curl -s -o list "$(openssl x509 -in "$REV/turn-large-revoked.crt" -noout -ext crlDistributionPoints | sed -n 's/.*URI://p')"
request ignore turn-large-revoked; echo
fault error
sleep 1.1
for _ in 1 2 3; do
    old=$(pgrep -P "$master")
    kill -HUP "$master"
    wait_until has_ended "$old"
    request ignore turn-large-revoked; echo
done
fault
_EOC_
--- client_out
401
401
401
401
--- no_error_log
[crit]
--- timeout: 40



=== TEST 14: answers.put() keeps the newest answer of a source, and any OCSP response that revokes
--- user_files eval: $::Policy
--- http_config eval: $::StateHttp
--- config
    location /put {
        content_by_lua_block {
            local answers = require "resty.mtls.internal.answers"
            local CONST = require "resty.mtls.internal.cdef"
            local OCSP, CRL = CONST.REVOCATION_SOURCE_OCSP, CONST.REVOCATION_SOURCE_CRL
            local GOOD, REVOKED = CONST.REVOCATION_STATUS_GOOD, CONST.REVOCATION_STATUS_REVOKED
            local now = ngx.time()

            local function put(key, kind, state, bytes, age, ends)
                answers.put("mtls", key, { bytes = bytes, kind = kind, state = state, hold = false,
                                           this_update = now - age, next_update = now + ends, fetched = now }, answers.generation("mtls"))
                local kept = answers.get("mtls", key)
                ngx.say(kept.bytes, " ", now - kept.fetched)
            end

            put("a1", CRL, REVOKED, "list 2", 100, 100)
            put("a1", CRL, GOOD, "list 1", 200, 100)
            put("a1", CRL, GOOD, "list 3", 50, 100)
            put("a2", CRL, GOOD, "ahead", -1000, 2000)
            put("a2", CRL, GOOD, "list", 100, 100)
            put("a3", CRL, GOOD, "expired", 100, -10)
            put("a3", CRL, GOOD, "older", 200, 100)
            put("b1", OCSP, GOOD, "good 2", 100, 100)
            put("b1", OCSP, GOOD, "good 1", 200, 100)
            put("b1", OCSP, REVOKED, "revoked", 300, 100)
            -- A restart must not find the revocation that a newer answer has withdrawn.
            put("c1", OCSP, REVOKED, "revoked", 100, 100)
            put("c1", OCSP, GOOD, "good again", 50, 100)
        }
    }
--- client
curl -s "http://127.0.0.1:$HTTP_PORT/put"
ls "$REV/state" | grep -E -- '-(a1|b1|c1)'
--- client_out
list 2 0
list 2 0
list 3 0
ahead 0
list 0
expired 0
expired 0
good 2 0
good 2 0
revoked 0
revoked 0
good again 0
answer-c1.state
evidence-a1.state
evidence-b1.state
--- no_error_log
[error]
