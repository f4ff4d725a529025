# Whatever happens to redis-server: nothing stops, what was known stays, and the log and the metrics have the reason.

use lib 't/lib';
use TestMtls;
use TestFleet;

BEGIN {
    plan(skip_all => $TestFleet::Missing) if $TestFleet::Missing;
}

our $Policy = $TestFleet::Policy;
our $Config = $TestFleet::Config;
our $Client = $TestFleet::Client . <<'_EOC_';
# The lines of the log about an error, with their number
errors() { grep -o '\[mtls\] fleet: .*' "$ERROR_LOG" | sed 's/, context: .*//' | sort | uniq -c | sed 's/^ *//'; }
# has_errors N: whether so many attempts to connect have failed
has_errors() { metric 'fleet_errors_total{reason="connect"}' | awk -v n="$1" '$2 >= n { found = 1 } END { exit !found }'; }
metric() { a metrics | grep "^resty_mtls_$1" | sed 's/resty_mtls_//'; }
# All but two of 20 requests take less than 100 ms, or how long the third slowest took: a loaded machine delays one
fast() {
    for _ in $(seq 20); do a t $(as client-b) -o /dev/null -w '%{http_code} %{time_total}\n'; done | sort -n -k 2 |
        awk '$1 != 200 || NR <= 18 && $2 > 0.1 { slow = $0 } END { print slow ? "slow: " slow : "fast" }'
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: Redis may be down at the start: blocks of meanwhile are shared when it is there
--- http_config eval: TestFleet::http("")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_b
fast
block_a client-a
code_a client-a
code_b client-a
wait_until has_errors 2
a fleet | sed "s/port $REDIS_PORT/port N/"
metric fleet_connected
has_errors 2 && echo counted
start_redis
within 2000 code_b client-a 401
wait_a connected=true
errors | sed "s/port $REDIS_PORT/port N/"
metric fleet_connected
_EOC_
--- client_out
fast
true
401
200
connected=false blocks=1 synced=false error=cannot connect to 127.0.0.1 port N: connection refused
fleet_connected 0
counted
401 within 2000 ms
1 [mtls] fleet: Redis: cannot connect to 127.0.0.1 port N: connection refused; the blocks that are known stay in force
1 [mtls] fleet: connected to Redis again
fleet_connected 1
--- error_log
[mtls] fleet: Redis: cannot connect
--- no_error_log
[crit]
--- timeout: 30



=== TEST 2: a Redis that hangs or ends delays no request, and what was blocked meanwhile is shared afterwards
--- http_config eval: TestFleet::http("")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
start_b
wait_a connected=true
wait_b connected=true
block_a client-a
within 1000 code_b client-a 401
kill -STOP "$redis"
fast
wait_a connected=false
fast
a fleet
block_b client-b
unblock_a client-a
code_b client-a
kill -CONT "$redis"
within 3000 code_a client-b 401
within 3000 code_b client-a 200
stop_redis
wait_a connected=false
unblock_b client-b
code_a client-b
code_b client-b
start_redis
within 3000 code_a client-b 200
wait_a connected=true
errors | sed "s/port $REDIS_PORT/port N/"
_EOC_
--- client_out_like
^true
401 within 1000 ms
fast
fast
connected=false blocks=1 synced=true error=timeout
true
true
401
401 within 3000 ms
200 within 3000 ms
true
401
200
200 within 3000 ms
1 \[mtls\] fleet: Redis: cannot connect to 127.0.0.1 port N: connection refused; the blocks that are known stay in force
(1 \[mtls\] fleet: Redis: closed; the blocks that are known stay in force
)?1 \[mtls\] fleet: Redis: timeout; the blocks that are known stay in force
[23] \[mtls\] fleet: connected to Redis again
$
--- error_log
[mtls] fleet: Redis: timeout
--- no_error_log
[crit]
--- timeout: 60



=== TEST 3: a full Redis, a wrong password and a user without rights are errors with their text
--- http_config eval: TestFleet::http("password = 'secret'")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
redis_auth='--no-auth-warning -a secret'
start_redis --requirepass secret
start_b
wait_a connected=true
wait_b connected=true
cli config set maxmemory 1
block_a client-a
wait_a connected=false
a fleet
code_a client-a
cli config set maxmemory 0
within 2000 code_b client-a 401
redis_auth='--no-auth-warning -a other'
stop_redis
start_redis --requirepass other
wait_until has a WRONGPASS
a fleet
code_a client-a
stop_redis
start_redis --user default on '>secret' '~other:*' '+@all'
redis_auth='--no-auth-warning -a secret'
wait_until has a NOPERM
stop_redis
start_redis
wait_until has a 'without any password'
a metrics | grep 'fleet_errors_total' | grep -o '{.*}'
_EOC_
--- client_out_like
^OK
true
connected=false blocks=1 synced=true error=\w+: OOM command not allowed when used memory > 'maxmemory'\.
401
OK
401 within 2000 ms
connected=false blocks=1 synced=true error=AUTH: WRONGPASS invalid username-password pair or user is disabled\.
401
\{reason="auth"\}
\{reason="connect"\}
\{reason="full"\}
$
--- error_log
[mtls] fleet: Redis: AUTH: WRONGPASS
OOM command not allowed
--- no_error_log
[crit]
--- timeout: 60



=== TEST 4: with required, requests get 503 until the first sync, and none later
--- http_config eval: TestFleet::http("required = true")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
code a.test/t $(as client-a)
start_redis
within 2000 code_a client-a 200
stop_redis
wait_a connected=false
code_a client-a
kill -HUP "$(cat "$PID_FILE")"
sleep 1
code_a client-a
_EOC_
--- client_out
503 application/json; charset=utf-8 {"message":"Service Unavailable"}
200 within 2000 ms
200
200
--- error_log
[mtls] 503 there was no sync with Redis yet (redis.required)
--- no_error_log
[crit]
--- timeout: 30



=== TEST 5: when the worker that follows Redis dies, and after HUP, another one follows within a second
--- worker_processes: 2
--- http_config eval: TestFleet::http("")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
start_b
wait_a connected=true
wait_b connected=true
for _ in 1 2 3; do
    # shellcheck disable=SC2046
    kill -9 $(workers)
    block_b client-a >/dev/null
    within 1500 code_a client-a 401
    unblock_b client-a >/dev/null
    within 1000 code_a client-a 200
done
for _ in 1 2 3; do
    kill -HUP "$(cat "$PID_FILE")"
    block_b client-a >/dev/null
    within 1500 code_a client-a 401
    unblock_b client-a >/dev/null
    within 1000 code_a client-a 200
done
_EOC_
--- client_out
401 within 1500 ms
200 within 1000 ms
401 within 1500 ms
200 within 1000 ms
401 within 1500 ms
200 within 1000 ms
401 within 1500 ms
200 within 1000 ms
401 within 1500 ms
200 within 1000 ms
401 within 1500 ms
200 within 1000 ms
--- error_log
exited on signal 9
--- no_error_log
[crit]
--- timeout: 60
