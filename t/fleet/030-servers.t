# Ways to reach redis-server, and what is wrong at the start.

use lib 't/lib';
use TestMtls;
use TestFleet;

BEGIN {
    plan(skip_all => $TestFleet::Missing) if $TestFleet::Missing;
}

our $Policy = $TestFleet::Policy;
our $Config = $TestFleet::Config;
our $Client = $TestFleet::Client;
our $Tls = "--port 0 --tls-port \$REDIS_PORT --tls-cert-file \$PKI/server.crt --tls-key-file \$PKI/server.key --tls-auth-clients no";

# A redis-server with TLS: redis-cli has options of its own.
$Client .= <<"_EOC_";
start_tls() {
    redis_auth="--tls --insecure"
    start_redis $Tls "\$@"
}
_EOC_

# The example of the documentation
open my $page, '<', "$TestMtls::Root/docs/fleet.md" or die;
my ($example) = do { local $/; <$page> } =~ /<!-- fleet: nginx.conf -->\n```nginx\n(.*?)```/s or die "no example";
$example =~ s{/etc/nginx/mtls/policy.yaml}{\$TEST_NGINX_HTML_DIR/policy.yaml};
$example =~ s{redis\.example\.com"}{localhost", port = \$TEST_NGINX_REDIS_PORT};
our $Example = TestFleet::http("") =~ s/    lua_shared_dict mtls 10m;\n//r =~ s/    init_by_lua_block.*//sr . $example;


run_blocks();

__DATA__

=== TEST 1: TLS with the server's name verified, a user with the rights of the documentation, over IPv4 and a name
--- http_config eval: $::Example
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_tls --user gateway on '>secret' '~resty-mtls:*' \
    +get +set +time +hset +hdel +hscan +xadd +xread +xrevrange +select
start_b
wait_a connected=true
wait_b connected=true
block_a client-a
within 1000 code_b client-a 401
unblock_a client-a
within 1000 code_b client-a 200
cli del resty-mtls:instance >/dev/null
sleep 0.5
a fleet
_EOC_
--- client_out
true
401 within 1000 ms
true
200 within 1000 ms
connected=true blocks=0 synced=true error=nil
--- no_error_log
[crit]
--- timeout: 30



=== TEST 2: a server certificate of an unknown CA, or for another name, is not accepted
--- http_config eval: TestFleet::http("ssl = true") =~ s/server-ca\.crt/ca-a.crt/r
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_tls
start_b "s/ca-a.crt;/server-ca.crt;/"
wait_until has a 'TLS handshake'
wait_until has b 'TLS handshake'
a fleet
b fleet
a metrics | grep -o 'fleet_errors_total{reason="tls"}'
code_a client-a
_EOC_
--- client_out_like
^connected=false blocks=0 synced=false error=TLS handshake: \d+: unable to verify the first certificate
connected=false blocks=0 synced=false error=TLS handshake: certificate host mismatch
fleet_errors_total\{reason="tls"\}
200
$
--- error_log
[mtls] fleet: Redis: TLS handshake: 
--- timeout: 30



=== TEST 3: a Unix socket, a database and a prefix of its own
--- http_config eval: TestFleet::http("unix = '\$TEST_NGINX_HTML_DIR/redis.sock', database = 3, prefix = 'fleet-7:'")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis --unixsocket "$TMP/redis.sock" --unixsocketperm 777
start_b "s#$root_b/html/redis.sock#$root_a/html/redis.sock#"
wait_a connected=true
wait_b connected=true
block_a client-a
within 1000 code_b client-a 401
cli -n 3 keys '*' | sort
cli dbsize
_EOC_
--- client_out
true
401 within 1000 ms
fleet-7:blocks
fleet-7:changes
fleet-7:instance
0
--- no_error_log
[crit]
--- timeout: 30



=== TEST 4: without init_worker() a node follows from its first handshake on, and its first request has what is known
--- http_config eval: TestFleet::http("") =~ s/    init_worker_by_lua_block.*\n//r
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
wait_a connected=true
block_a client-a
within 1000 cli hlen resty-mtls:blocks 1
for _ in 1 2 3 4 5; do
    start_b
    code_b client-a
    stop_b
done
_EOC_
--- client_out
true
1 within 1000 ms
401
401
401
401
401
--- no_error_log
[crit]
--- timeout: 30



=== TEST 5: blocks end by the clock of Redis, and those of a restored node are shared unless they were unblocked
--- http_config eval: TestFleet::http("")
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
start_redis
start_b
wait_a connected=true
wait_b connected=true
block_a client-a '&seconds=2'
block_b client-b
within 1000 code_b client-a 401
within 4000 code_b client-a 200
code_a client-a
stop_redis
stop_b
start_redis
within 3000 code_a client-b 401
start_b
within 1000 code_b client-b 401
_EOC_
--- client_out
true
true
401 within 1000 ms
200 within 4000 ms
200
401 within 3000 ms
401 within 1000 ms
--- no_error_log
[crit]
--- timeout: 30



=== TEST 6: init() names a field of redis that is wrong, and no value of it
--- http_config
    lua_shared_dict mtls 1m;
--- config
    location /t {
        content_by_lua_block {
            local mtls = require "resty.mtls"
            ngx.get_phase = function() return "init" end
            for _, redis in ipairs {
                "x", {}, { host = "a", unix = "/b" }, { host = "" }, { host = "a", port = 0 }, { host = "a", port = "6379" },
                { unix = "b" }, { host = "a", username = "u" }, { host = "a", password = "x\ny" }, { host = "a", ssl = 1 },
                { host = "a", database = -1 }, { host = "a", prefix = ("x"):rep(129) }, { host = "a", required = 1 },
                { host = "a", unblock_key = "secret" }, { host = "a", pasword = "secret" },
            } do
                local _, err = pcall(mtls.init, { policy = "x", redis = redis })
                ngx.say(err)
            end
        }
    }
--- response_body
mtls.init: redis must be a table of options, got string
mtls.init: redis must have host or unix, and not both
mtls.init: redis must have host or unix, and not both
mtls.init: redis: host must be a name or an address
mtls.init: redis: port must be a port
mtls.init: redis: port must be a port
mtls.init: redis: unix must be an absolute path
mtls.init: redis: username needs a password
mtls.init: redis: password must be text on one line
mtls.init: redis: ssl must be a boolean
mtls.init: redis: database must be a number of at least 0
mtls.init: redis: prefix must be text of at most 128 bytes on one line
mtls.init: redis: required must be a boolean
mtls.init: redis: unblock_key must be text of at least 32 bytes
mtls.init: redis: unknown option 'pasword', expected one of database, host, password, port, prefix, required, ssl, ssl_verify, unblock_key, unix, username



=== TEST 7: the start fails without lua-resty-redis, with both names, and without the dictionary
--- http_config
    init_by_lua_block {
        local mtls = require "resty.mtls"
        local fleet = require "resty.mtls.internal.fleet"
        local preload = package.preload
        local errors = {}
        for _, missing in ipairs { true, false } do
            for _, name in ipairs { "resty.redis", "nginx.redis" } do
                package.loaded[name] = nil
                preload[name] = function()
                    return missing and error("not here") or {}
                end
            end
            errors[#errors + 1] = select(2, pcall(fleet.init, { host = "a" }, "mtls"))
        end
        package.loaded["t.errors"] = errors
    }
--- config
    location /t {
        content_by_lua_block { ngx.say(table.concat(require "t.errors", "\n")) }
    }
--- response_body
[mtls] redis: neither Lua module resty.redis nor nginx.redis is found; install lua-resty-redis (bundled with OpenResty; Debian's package is lua-nginx-redis)
[mtls] redis: lua_shared_dict mtls is not in nginx.conf
