# Signed answers about revocation are shared, and each node verifies them: they help where a source does not answer, and
# never replace what it answers. So whoever writes to Redis lets nobody in.

use lib 't/lib';
use TestMtls;
use TestFleet;
use TestRevocation;

BEGIN {
    plan(skip_all => $TestFleet::Missing) if $TestFleet::Missing;
}

our $Policy = revocation_policy(
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR'],
    [strict => 'revocation_check_mode: STRICT'],
    [short => 'revocation_check_mode: IGNORE_CA_ERROR, cert_cache_ttl: 1'],
    [patient => 'revocation_check_mode: STRICT'],
    # While the source hangs
    [hasty => 'revocation_check_mode: STRICT'],
);
$Policy =~ s/(name: patient.*?http_timeout:) 2500/$1 6000/s or die "no http_timeout";
$Policy =~ s/(name: hasty.*?http_timeout:) 2500/$1 800/s or die "no http_timeout";
our $Http = TestFleet::http("", 'fetch_allow = { "127.0.0.0/8" }');
$Http .= <<'_EOC_';
    ssl_client_hello_by_lua_block { require("resty.mtls").client_hello() }
    ssl_certificate_by_lua_block { require("resty.mtls").certificate() }
_EOC_
our $Config = ($TestFleet::Config =~ s/    location \/t \{.*?\n    \}\n//sr) . $TestRevocation::Config . <<'_EOC_';
    location /flush {
        content_by_lua_block { require("resty.mtls").flush() }
    }
_EOC_
# sign CASE V|R: an OCSP response by which the certificate is good or revoked
# answers: the keys of the answers in Redis
our $Client = $TestFleet::Client . $TestRevocation::Client . <<'_EOC_';
rm -f "$REV/fault"
responder=$(pgrep -f "responder.py .*$REV")
request_b() { PORT=$PORT_B request "$@"; }
answers() { cli --scan --pattern 'resty-mtls:answer:*' | sort; }
has_answers() { [ "$(answers | wc -l)" = "$1" ]; }
# Whether the value of a key in Redis is no longer what a file has.
is_replaced() { ! cli get "$1" | head -c -1 | cmp -s - "$2"; }
is_refused() { [ "$(request_b "$@")" = 401 ]; }
sign() {
    local serial date=
    serial=$(openssl x509 -in "$REV/$1.crt" -noout -serial)
    [ "$2" = V ] || date=200101000000Z
    printf '%s\t401231235959Z\t%s\t%s\tunknown\t/CN=%s\n' "$2" "$date" "${serial#*=}" "$1" > index
    openssl ocsp -index index -CA "$REV/ca-a.crt" -rsigner "$REV/ca-a.crt" -rkey "$REV/ca-a.key" -nmin 60 \
        -issuer "$REV/ca-a.crt" -cert "$REV/$1.crt" -no_nonce -respout "$1.$2" >/dev/null 2>&1
}
# shellcheck disable=SC2086  # words
hang() { kill -STOP $responder; }
# shellcheck disable=SC2086  # words
go_on() { kill -CONT $responder; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: a node uses what another has fetched when the source does not answer, and asks the source first
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
wait_a connected=true
echo "A: $(request strict good) $(request strict revoked) $(request strict crl) $(request strict crl-revoked)"
wait_until has_answers 4
start_b
wait_b connected=true
hang
echo "B, while the source hangs: $(request_b hasty good) $(request_b hasty revoked)"
echo "B, by CRLs: $(request_b hasty crl) $(request_b hasty crl-revoked)"
sleep 1
b flush
echo "B, after flush(): $(request_b hasty good) $(request_b hasty revoked)"
go_on
stop_b
# Garbage in place of every answer
for key in $(answers); do cli set "$key" garbage >/dev/null; done
start_b
wait_b connected=true
hang
echo "B, with garbage in Redis: $(request_b hasty good) $(request_b ignore good)"
go_on
stop_b
start_b
wait_b connected=true
: > "$REV/requests"
echo "B, when the source answers again: $(request_b ignore good) $(request_b ignore revoked)"
fetches
kill -STOP "$redis"
echo "B, while Redis hangs: $(request_b ignore turn) $(request_b ignore turn-back-revoked)"
kill -CONT "$redis"
_EOC_
--- client_out
A: 200 401 200 401
B, while the source hangs: 200 401
B, by CRLs: 200 401
B, after flush(): 401 401
B, with garbage in Redis: 401 200
B, when the source answers again: 200 401
POST /good/good
POST /revoked/good
B, while Redis hangs: 200 401
--- no_error_log
[crit]
--- timeout: 60



=== TEST 2: an older answer in Redis lets nobody in who is revoked, and a newer one refuses
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
wait_a connected=true
# In force, and signed before the CA revoked the certificate.
sign revoked V
start_b
wait_b connected=true
echo "B: $(request_b short revoked)"
wait_until has_answers 1
key=$(answers)
hang
cli -x set "$key" < revoked.V | head -c 2; echo
sleep 1.1
echo "B, which knows: $(request_b short revoked) $(request_b strict revoked)"
kill -HUP "$(cat "$root_b/logs/nginx.pid")"
sleep 0.5
echo "B, after a reload: $(request_b short revoked) $(request_b strict revoked)"
go_on
stop_b
start_b
wait_b connected=true
# What is in Redis does not shorten the time of a source.
hang
request_b patient revoked > slow & slow=$!
sleep 2
go_on
wait "$slow"
echo "B, which knows nothing, while the source is slow: $(cat slow)"
# B gives Redis what it has fetched after the request has ended.
wait_until is_replaced "$key" revoked.V
cli del "$key" >/dev/null
echo "B: $(request_b short turn)"
wait_until has_answers 1
echo error > "$REV/fault"
sign turn R
cli -x set "$(answers)" < turn.R | head -c 2; echo
sleep 1.1
# A worker remembers for five seconds that Redis had nothing.
wait_until is_refused short turn
echo "B, when another node knows a revocation: $(request_b short turn)"
cli flushall >/dev/null
echo "B, without Redis: $(request_b strict turn)"
rm "$REV/fault"
_EOC_
--- client_out
B: 401
OK
B, which knows: 401 401
B, after a reload: 401 401
B, which knows nothing, while the source is slow: 401
B: 200
OK
B, when another node knows a revocation: 401
B, without Redis: 401
--- no_error_log
[crit]
--- timeout: 60
