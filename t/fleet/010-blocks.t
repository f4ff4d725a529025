# Two gateways with one redis-server: a block on one holds on the other, and nothing in Redis lets a client in.

use lib 't/lib';
use TestMtls;
use TestFleet;

BEGIN {
    plan(skip_all => $TestFleet::Missing) if $TestFleet::Missing;
}

our $Policy = $TestFleet::Policy;
our $Config = $TestFleet::Config;
our $Client = $TestFleet::Client;

# An unblock of an entry that somebody else has made
our $Forge = <<'_EOC_';
    location /forge {
        content_by_lua_block {
            local fleet_entry = require "resty.mtls.internal.fleet_entry"
            local args = ngx.req.get_uri_args()
            local entry = { added = ngx.time(), ends = tonumber(args.ends), nonce = args.nonce:rep(32), node = "other",
                            selector = "sha256 " .. args.sha256, reason = "" }
            fleet_entry.seal(entry, "k")
            ngx.say(fleet_entry.secret_of(entry, "k"), " ", ngx.time(), " ", entry.value)
        }
    }
    # A block whose change found no room in the dictionary
    location /unshared {
        content_by_lua_block {
            local dict = getmetatable(ngx.shared.mtls).__index
            local rpush = dict.rpush
            dict.rpush = function() return nil, "no memory" end
            ngx.say(require("resty.mtls").block(ngx.req.get_uri_args()))
            dict.rpush = rpush
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: a block on one node holds on the other within a second, and so does an unblock on the node that made it
--- http_config eval: TestFleet::http("")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
start_b
wait_a connected=true
wait_b connected=true
code_a client-a
code_b client-a
block_a client-a
code_a client-a
within 1000 code_b client-a 401
cli hlen resty-mtls:blocks
unblock_a client-a
code_a client-a
within 1000 code_b client-a 200
cli hlen resty-mtls:blocks
block_b client-a
within 1000 code_a client-a 401
b fleet
_EOC_
--- client_out
200
200
true
401
401 within 1000 ms
1
true
200
200 within 1000 ms
0
true
401 within 1000 ms
connected=true blocks=1 synced=true error=nil
--- error_log
[mtls] 401 blocked by sha256
--- no_error_log
[crit]
--- timeout: 30



=== TEST 2: what is removed from Redis stays in force, and the nodes write it again
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
cli flushall
within 2000 cli hlen resty-mtls:blocks 1
code_a client-a
code_b client-a
cli del resty-mtls:instance resty-mtls:blocks resty-mtls:changes
within 2000 cli hlen resty-mtls:blocks 1
stop_redis
start_redis
within 3000 cli hlen resty-mtls:blocks 1
# By B, maybe
wait_until grep -q 'fleet: connected to Redis again' "$ERROR_LOG"
code_a client-a
code_b client-a
_EOC_
--- client_out
true
401 within 1000 ms
OK
1 within 2000 ms
401
401
3
1 within 2000 ms
1 within 3000 ms
401
401
--- error_log
[mtls] fleet: Redis has lost its data, this node writes its blocks again
[mtls] fleet: connected to Redis again
--- no_error_log
[crit]
--- timeout: 30



=== TEST 3: a forged unblock, entry or reply has no effect, and a forged block refuses at most
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
id=$(cli hkeys resty-mtls:blocks)
entry=$(cli hget resty-mtls:blocks "$id")
now=$(date +%s)
secret=$(printf '%064d' 7)
add() { cli xadd resty-mtls:changes '*' "$@" >/dev/null; }
# An unblock with another secret, in the stream and in the hash
add unblock "$secret $now $entry"
cli hset resty-mtls:unblocks "$id" "$secret $now $entry" >/dev/null
# The entry with another end under its key and in the stream
cli hset resty-mtls:blocks "$id" "$(sed "s/\t0\t/\t$now\t/" <<< "$entry")" >/dev/null
add block "$(sed "s/\t0\t/\t$now\t/" <<< "$entry")"
# An entry that is in the hash under the digest of none
cli hset resty-mtls:blocks "$(printf '%064d' 1)" "$(sed "s/sha256 $(sha256 client-a)/sha256 $(sha256 client-b)/" <<< "$entry")" >/dev/null
# Garbage
for text in '' x "$secret" "$(printf '%05000d' 1)" "$(printf '\t\t\t\t\t\t')"; do
    add block "$text"
    add unblock "$text"
    add "$text" "$text"
    cli hset resty-mtls:blocks "x$text" "$text" >/dev/null
    cli hset resty-mtls:unblocks "x$text" "$text" >/dev/null
done
# All of it is read again
cli del resty-mtls:instance >/dev/null
sleep 1
code_a client-a
code_b client-a
code_b client-b
add block "$(sed "s/sha256 $(sha256 client-a)/sha256 $(sha256 client-b)/" <<< "$entry")"
within 1000 code_b client-b 401
b fleet
# A type that is not ours
cli set resty-mtls:changes x >/dev/null
wait_a connected=false
wait_b connected=false
# From the next attempt on it is the error of XREVRANGE.
b fleet | sed 's/XREVRANGE/XREAD/'
code_b client-a
_EOC_
--- client_out
true
401 within 1000 ms
401
401
200
401 within 1000 ms
connected=true blocks=2 synced=true error=nil
connected=false blocks=2 synced=true error=XREAD: WRONGTYPE Operation against a key holding the wrong kind of value
401
--- error_log
[mtls] fleet: Redis has a value that is not a block, it has no effect: key resty-mtls:blocks, field
[mtls] fleet: Redis has an unblock without the secret of its block, it has no effect
[mtls] fleet: Redis: XREAD: WRONGTYPE Operation against a key holding the wrong kind of value; the blocks that are known stay in force
--- no_error_log
[crit]
--- timeout: 30



=== TEST 4: an unblock on a node that did not make the block is in force there only, and is not undone
--- http_config eval: TestFleet::http("")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
start_b
wait_a connected=true
wait_b connected=true
block_b client-a
within 1000 code_a client-a 401
unblock_a client-a
sleep 0.5
code_a client-a
code_b client-a
cli del resty-mtls:instance
sleep 0.5
kill -HUP "$(cat "$PID_FILE")"
sleep 0.5
wait_a connected=true
code_a client-a
code_b client-a
unblock_b client-a
code_b client-a
_EOC_
--- client_out_like
^true
401 within 1000 ms
true
200
401
1
200
401
true
200
$
--- error_log eval
qr/\[mtls\] fleet: unblocked on this node only: sha256 \w+ is blocked by [\w.-]+; unblock it there too, or give all nodes the same unblock_key/
--- no_error_log
[crit]
--- timeout: 30



=== TEST 5: with unblock_key, every node can unblock for all, and concurrent changes end equal on both
--- http_config eval: TestFleet::http("unblock_key = ('k'):rep(32)")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
start_b
wait_a connected=true
wait_b connected=true
block_b client-a '&reason=stolen&seconds=1000'
within 1000 code_a client-a 401
unblock_a client-a
within 1000 code_b client-a 200
are_equal() { sleep 0.7; [ "$(code_a client-a)" = "$(code_b client-a)" ]; }
for _ in 1 2 3 4 5; do
    block_a client-a >/dev/null & block_b client-a >/dev/null & unblock_a client-a >/dev/null & unblock_b client-a >/dev/null &
    wait
    wait_until are_equal && echo equal
done
unblock_a client-a >/dev/null
within 1000 code_b client-a 200
# Both at a time without a connection
cli client kill type normal >/dev/null
kill -STOP "$redis"
block_a client-a >/dev/null
block_b client-b '&seconds=500' >/dev/null
kill -CONT "$redis"
within 3000 code_b client-a 401
unblock_b client-a
within 1000 code_a client-a 200
_EOC_
--- client_out
true
401 within 1000 ms
true
200 within 1000 ms
equal
equal
equal
equal
equal
200 within 1000 ms
401 within 3000 ms
true
200 within 1000 ms
--- no_error_log
[crit]
--- timeout: 60



=== TEST 6: an unblock of a forged entry does not end or shorten a block of this node that is not in Redis
--- http_config eval: TestFleet::http("")
--- policy eval: $::Policy
--- config eval: $::Config . $::Forge
--- client eval
$::Client . <<'_EOC_';
start_redis
wait_a connected=true
add() { cli xadd resty-mtls:changes '*' "$@" >/dev/null; }
forge() { a "forge?sha256=$(sha256 "$1")&nonce=$2&ends=$3"; }
# client-b is blocked by the forged entries only: they are taken, and end as they should.
a "unshared?sha256=$(sha256 client-a)"
for name in client-a client-b; do
    unblock=$(forge "$name" a 0)
    soon=$(forge "$name" b $(($(date +%s) + 2)))
    add block "${soon#* * }"
    add block "${unblock#* * }"
    within 1000 code_a "$name" 401
    sleep 0.3
    a fleet
    add unblock "$unblock"
    sleep 2.5
    code_a "$name"
    add unblock "$soon"
    sleep 0.3
    code_a "$name"
    a fleet
done
unblock_a client-a
code_a client-a
_EOC_
--- client_out
true
401 within 1000 ms
connected=true blocks=1 synced=true error=nil
401
401
connected=true blocks=1 synced=true error=nil
401 within 1000 ms
connected=true blocks=2 synced=true error=nil
200
200
connected=true blocks=1 synced=true error=nil
true
200
--- error_log eval
[
    qr/\[mtls\] fleet: a change is in force on this node only: no memory: sha256/,
    qr/\[mtls\] fleet: unblocked by another node, and still in force here, where it was made or restored: sha256 \w+; unblock it here too/,
]
--- no_error_log
[crit]
--- timeout: 30
