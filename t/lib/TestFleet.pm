package TestFleet;

# Two gateways, A and B, that share a redis-server. Gateway A is the nginx of Test::Nginx; --- client starts the other two
# with these functions of $TestFleet::Client:
#
#   start_redis [OPTION...]   a redis-server without data; stop_redis and "kill -STOP $redis" as needed
#   start_b                   gateway B, with the nginx.conf and the files of A
#   a PATH [curl options], b PATH [curl options]      the body of the answer of a gateway to a request over TLS
#   code_a NAME, code_b NAME  the status of a request with the certificate NAME
#   block_a SELECTOR, block_b SELECTOR, unblock_a, unblock_b     by mtls.block() and mtls.unblock(); a selector is the
#                             query of a URL
#   cli COMMAND...            redis-cli
#   wait_a KEY VALUE, wait_b KEY VALUE    waits until the status of the fleet has it

use strict;
use warnings;
use TestMtls ();
use TestProcess qw( free_port );

$ENV{TEST_NGINX_REDIS_PORT} = free_port();
$ENV{PORT_B} = free_port();
$ENV{HTTP_PORT_B} = free_port();
$ENV{NGINX_BINARY} = $ENV{TEST_NGINX_BINARY} // "nginx";

# OpenResty bundles resty.redis; for other nginx, t/install-test-tools.sh unpacks Debian's nginx.redis.
our $Path = "$TestMtls::Root/target/redis/usr/share/lua/5.1/?.lua";

my $nginx = $ENV{NGINX_BINARY};
my $is_openresty = `$nginx -v 2>&1` =~ /openresty/i;

# Why the tests cannot run; undef if they can.
our $Missing = system("command -v redis-server redis-cli >/dev/null 2>&1") ? "redis-server is not installed"
    : !$is_openresty && !-e "$TestMtls::Root/target/redis/usr/share/lua/5.1/nginx/redis.lua"
    ? "lua-resty-redis is not there: t/install-test-tools.sh" : undef;

our $Policy = TestMtls::policy("ca-a ca-b", TestMtls::route("a", "a.test", TestMtls::mtls_auth("ca-a ca-b")));

# http OPTIONS: for --- http_config, with these fields of the option redis beside host and port
sub http ($;$) {
    my ($redis, $more) = @_;

    $redis = "host = '127.0.0.1', port = \$TEST_NGINX_REDIS_PORT, $redis" if $redis !~ /\b(?:host|unix) =/;
    $more //= "";
    return <<"_EOC_";
    lua_package_path "$TestMtls::Root/lua/?.lua;$Path;;";
    lua_package_cpath "$TestMtls::Root/target/release/?.so;;";
    lua_shared_dict mtls 10m;
    lua_shared_dict mtls_metrics 1m;
    lua_socket_log_errors off;
    lua_ssl_trusted_certificate $TestMtls::Pki/server-ca.crt;
    init_by_lua_block {
        require("resty.mtls").init { policy = "\$TEST_NGINX_HTML_DIR/policy.yaml", redis = { $redis }, $more }
    }
    init_worker_by_lua_block { require("resty.mtls").init_worker() }
_EOC_
}

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
    location /block {
        content_by_lua_block {
            local args = ngx.req.get_uri_args()
            args.seconds = tonumber(args.seconds)
            ngx.say(require("resty.mtls").block(args))
        }
    }
    location /unblock {
        content_by_lua_block { ngx.say(require("resty.mtls").unblock(ngx.req.get_uri_args())) }
    }
    location /fleet {
        content_by_lua_block {
            local fleet = require("resty.mtls").status().fleet
            ngx.say("connected=", fleet.connected, " blocks=", fleet.blocks, " synced=", fleet.last_sync ~= nil,
                    " error=", fleet.error)
        }
    }
    location /metrics {
        content_by_lua_block { ngx.print(require("resty.mtls").metrics()) }
    }
_EOC_

our $Client = <<'_EOC_';
export REDIS_PORT=$TEST_NGINX_REDIS_PORT
root_a=${PID_FILE%/logs/nginx.pid} root_b=${PID_FILE%/logs/nginx.pid}_b
redis=

# A daemon must not keep the pipe of the script open.
start_redis() {
    redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --save '' --appendonly no --dir "$TMP" --logfile redis.log \
        --daemonize no "$@" >>redis.out 2>&1 </dev/null &
    redis=$!
    disown "$redis"
    wait_until sh -c "redis-cli -p $REDIS_PORT ${redis_auth-} ping 2>/dev/null | grep -q 'PONG\|NOAUTH'"
}

stop_redis() {
    [ -z "$redis" ] || kill -9 "$redis" 2>/dev/null
    [ -z "$redis" ] || wait_until has_ended "$redis"
    redis=
}

start_b() {
    rm -rf "$root_b"
    mkdir -p "$root_b/logs" "$root_b/conf"
    cp -r "$root_a/html" "$root_b/html"
    # curl's and the script's files are not B's; sockets are made again.
    find "$root_b/html" -type s -delete
    sed "s#$root_a/#$root_b/#g; s/\b$PORT\b/$PORT_B/g; s/\b$HTTP_PORT\b/$HTTP_PORT_B/g; ${1-}" \
        "$root_a/conf/nginx.conf" >"$root_b/conf/nginx.conf"
    "$NGINX_BINARY" -p "$root_b/" -c "$root_b/conf/nginx.conf" -e "$root_b/logs/error.log" >/dev/null 2>&1 </dev/null
    wait_until test -s "$root_b/logs/nginx.pid"
}

stop_b() {
    local pid
    pid=$(cat "$root_b/logs/nginx.pid" 2>/dev/null) || return
    kill "$pid"
    wait_until has_ended "$pid"
}

finish() {
    [ ! -e "$root_b/logs/nginx.pid" ] || kill "$(cat "$root_b/logs/nginx.pid")"
    stop_redis
    rm -rf "$root_b"
}
trap finish EXIT

a() { get "a.test/$1" "${@:2}"; }
b() { PORT=$PORT_B get "a.test/$1" "${@:2}"; }
code_a() { a t $(as "$1") -o /dev/null -w '%{http_code}\n'; }
code_b() { b t $(as "$1") -o /dev/null -w '%{http_code}\n'; }
sha256() { openssl x509 -in "$PKI/$1.crt" -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr A-F a-f; }
# block_a NAME [more of the query]
block_a() { a "block?sha256=$(sha256 "$1")${2-}"; }
block_b() { b "block?sha256=$(sha256 "$1")${2-}"; }
unblock_a() { a "unblock?sha256=$(sha256 "$1")"; }
unblock_b() { b "unblock?sha256=$(sha256 "$1")"; }
cli() { redis-cli -p "$REDIS_PORT" ${redis_auth-} "$@" 2>/dev/null; }
has() { "$1" fleet | grep -q "$2"; }
wait_a() { wait_until has a "$1"; }
wait_b() { wait_until has b "$1"; }
# soon COMMAND... VALUE: the milliseconds until the output of the command is VALUE, at most 3000
soon() {
    local start now want=${*: -1}
    start=$(date +%s%N)
    while :; do
        [ "$("${@:1:$#-1}")" = "$want" ] && break
        now=$(date +%s%N)
        [ $(((now - start) / 1000000)) -gt 5000 ] && { echo "never $want: $*"; return; }
    done
    now=$(date +%s%N)
    echo $(((now - start) / 1000000))
}
# within MILLISECONDS COMMAND... VALUE: whether the output of the command is VALUE in time
within() {
    local took
    took=$(soon "${@:2}")
    if [ "$took" -le "$1" ] 2>/dev/null; then echo "${*: -1} within $1 ms"; else echo "${*: -1} after $took ms"; fi
}
_EOC_

1;
