# The bound of the blocks, and what a restart keeps.

use lib 't/lib';
use TestMtls;
use TestFleet;
use File::Temp qw( tempdir );

BEGIN {
    plan(skip_all => $TestFleet::Missing) if $TestFleet::Missing;
}

# Of each gateway; nginx's workers write there.
my $state = tempdir("resty-mtls-fleet-XXXXX", TMPDIR => 1, CLEANUP => 1);
chmod 0755, $state;
for my $gateway (qw( a b )) {
    mkdir "$state/$gateway", 0700 or die;
    chown((getpwnam("nobody"))[2], -1, "$state/$gateway") or die "$state: $!" if $> == 0;
}
$ENV{STATE_DIR} = $state;

our $Policy = $TestFleet::Policy;
our $Client = $TestFleet::Client;
our $State = TestFleet::http("", "state_dir = '$state/a'");
our $Keyed = TestFleet::http("unblock_key = ('k'):rep(32)", "state_dir = '$state/a'");
our $Config = $TestFleet::Config . <<'_EOC_';
    # Blocks that another node could have made: arguments of redis-cli, one line each
    location /entries {
        content_by_lua_block {
            local fleet_entry = require "resty.mtls.internal.fleet_entry"
            local args = ngx.req.get_uri_args()
            for i = 1, tonumber(args.count) do
                local entry = { added = 1, ends = 0, nonce = ("0"):rep(32), node = "other", selector = ("sha256 %064x"):format(i),
                                reason = "" }
                fleet_entry.seal(entry, "k")
                ngx.say("HSET resty-mtls:blocks ", fleet_entry.id_of(entry.value), ' "', (entry.value:gsub("\t", "\\t")), '"')
            end
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: over 4,096 blocks in Redis do not stop a node, delay its requests, or end one of its own blocks
--- http_config eval: TestFleet::http("")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
wait_a connected=true
block_a client-a
within 1000 cli hlen resty-mtls:blocks 1
a 'entries?count=6000' | cli >/dev/null
cli hlen resty-mtls:blocks
cli del resty-mtls:instance >/dev/null
for _ in $(seq 200); do a t $(as client-b) -o /dev/null -w '%{http_code} %{time_total}\n'; done >times
wait_until has a blocks=4096
awk '{ seen[$1]++ } $2 > 0.1 { slow++ } END { for (code in seen) print code, seen[code]; print (slow > 10 ? slow " slow" : "at most 10 slow") }' times
code_a client-a
block_a client-b
code_a client-b
a metrics | grep 'fleet_errors_total{reason="limit"}' | sed 's/ .*//'
_EOC_
--- client_out
true
1 within 1000 ms
6001
200 200
at most 10 slow
401
nilno room: 4096 blocks are in force, unblock some
200
resty_mtls_fleet_errors_total{reason="limit"}
--- error_log
[mtls] fleet: over 4096 blocks, one of another node is not in force here: sha256
--- no_error_log
[crit]
--- timeout: 60



=== TEST 2: with state_dir a restarted node unblocks for all what it had blocked before
--- http_config eval: $::State
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
start_b "s#$STATE_DIR/a#$STATE_DIR/b#"
wait_a connected=true
wait_b connected=true
block_b client-a
within 1000 code_a client-a 401
stat -c '%a %s' "$STATE_DIR/b/fleet.key"
cmp -s "$STATE_DIR"/*/fleet.key || echo different
stop_b
start_b "s#$STATE_DIR/a#$STATE_DIR/b#"
wait_b connected=true
code_b client-a
cli hlen resty-mtls:blocks
unblock_b client-a
within 1000 code_a client-a 200
# What was unblocked while a node was off stays in force there, and is not shared.
block_a client-a
within 1000 code_b client-a 401
stop_b
unblock_a client-a
within 1000 cli hlen resty-mtls:blocks 0
start_b "s#$STATE_DIR/a#$STATE_DIR/b#"
wait_b connected=true
sleep 0.5
code_b client-a
code_a client-a
grep -o 'unblocked on other nodes while this one was off, and still in force here: sha256' "$root_b/logs/error.log"
unblock_b client-a
code_b client-a
_EOC_
--- client_out
true
401 within 1000 ms
600 64
different
401
1
true
200 within 1000 ms
true
401 within 1000 ms
true
0 within 1000 ms
401
200
unblocked on other nodes while this one was off, and still in force here: sha256
true
200
--- no_error_log
[crit]
--- timeout: 60



=== TEST 3: a restored block of another node is not ended by an unblock there
--- http_config eval: $::State
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
start_b "s#$STATE_DIR/a#$STATE_DIR/b#"
wait_a connected=true
wait_b connected=true
block_a client-a
within 1000 code_b client-a 401
sleep 0.3
stop_b
start_b "s#$STATE_DIR/a#$STATE_DIR/b#"
wait_b connected=true
code_b client-a
unblock_a client-a
within 1000 cli hlen resty-mtls:blocks 0
sleep 0.5
code_b client-a
# It is not shared again.
cli del resty-mtls:instance
sleep 1
code_b client-a
code_a client-a
grep -o 'unblocked by another node, and still in force here, where it was made or restored: sha256' "$root_b/logs/error.log"
unblock_b client-a
code_b client-a
_EOC_
--- client_out
true
401 within 1000 ms
401
true
0 within 1000 ms
401
1
401
200
unblocked by another node, and still in force here, where it was made or restored: sha256
true
200
--- no_error_log
[crit]
--- timeout: 30



=== TEST 4: with unblock_key, an unblock on another node ends a restored block, and none of an earlier block does
--- http_config eval: $::Keyed
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
start_b "s#$STATE_DIR/a#$STATE_DIR/b#"
wait_a connected=true
wait_b connected=true
block_a client-a
within 1000 code_b client-a 401
sleep 0.3
stop_b
start_b "s#$STATE_DIR/a#$STATE_DIR/b#"
wait_b connected=true
code_b client-a
unblock_a client-a
within 1000 code_b client-a 200
# Blocked once more, restored, and the earlier block and its unblock written to Redis again
unblock=$(cli hvals resty-mtls:unblocks)
sleep 2.1
block_a client-a
within 1000 code_b client-a 401
sleep 0.3
stop_b
kill -STOP "$(cat "$PID_FILE")" $(pgrep -P "$(cat "$PID_FILE")")
cli del resty-mtls:blocks resty-mtls:unblocks >/dev/null
start_b "s#$STATE_DIR/a#$STATE_DIR/b#"
wait_b connected=true
cli xadd resty-mtls:changes '*' block "${unblock#* * }" >/dev/null
sleep 0.3
cli xadd resty-mtls:changes '*' unblock "$unblock" >/dev/null
sleep 0.5
code_b client-a
kill -CONT "$(cat "$PID_FILE")" $(pgrep -P "$(cat "$PID_FILE")")
_EOC_
--- client_out
true
401 within 1000 ms
401
true
200 within 1000 ms
true
401 within 1000 ms
401
--- no_error_log
[crit]
--- timeout: 30
