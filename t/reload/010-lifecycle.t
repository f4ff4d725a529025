# The life of a policy: start, reload of nginx, and mtls.reload().

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("a", "a.test",
          mtls_auth("ca-a", "send_ca_dn: true, skip_consumer_lookup: true"),
          plugin("tls-metadata-headers", "inject_client_cert_details: true")));

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
_EOC_

our $Client = <<'_EOC_';
master=$(cat "$PID_FILE")
# rss PID: resident memory in KB
rss() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status"; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: init() does not grow the master over 50 reloads
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
work() { for _ in 1 2 3; do tls sni=a.test path=/t as=client-int; done | facts status body; }
for i in $(seq 60); do
    reload_nginx
    [ $((i % 10)) = 0 ] && work
    # The first reloads grow malloc's arenas.
    [ "$i" = 10 ] && before_master=$(rss "$master") before_worker=$(rss "$(workers)")
done
after_master=$(rss "$master") after_worker=$(rss "$(workers)")
[ $((after_master - before_master)) -le $((256 + SLACK)) ] && echo flat || echo "master grew from $before_master to $after_master KB"
[ $((after_worker - before_worker)) -le $((256 + SLACK)) ] && echo flat || echo "worker grew from $before_worker to $after_worker KB"
_EOC_
--- client_out
status=200 body=SUCCESS
status=200 body=SUCCESS
status=200 body=SUCCESS
status=200 body=SUCCESS
status=200 body=SUCCESS
status=200 body=SUCCESS
flat
flat
--- no_error_log
[crit]
[alert]
[error]
--- client_timeout: 300



=== TEST 2: access() does not grow a worker over many handshakes
--- policy eval: $::Policy
--- config eval
$::Config . 'location /collect { content_by_lua_block { collectgarbage() ngx.exit(204) } }'
--- client eval
$::Client . <<'_EOC_';
worker=$(workers)
round() {
    tls sni=a.test path=/t as=client-int sess_out=session times=100
    tls sni=a.test path=/t as=client-int sess_in=session times=100
    tls sni=a.test path=/t as=client-b times=100
    tls sni=a.test path=/t times=100
} > out
# The Lua heap and malloc's arenas stop growing within some 8,000 handshakes. Garbage is no growth, and little of it
# arises, so that LuaJIT collects it seldom.
rounds() {
    for _ in $(seq "$1"); do round; done
    get a.test/collect
}
rounds 21
before=$(rss "$worker")
rounds 5
after=$(rss "$worker")
# LuaJIT allocates 128 KB at a time.
[ $((after - before)) -le $((256 + SLACK)) ] && echo flat || echo "worker grew from $before to $after KB"
facts reused status body < out
_EOC_
--- client_out
flat
reused=0 status=200 body=SUCCESS
--- no_error_log
[crit]
[alert]
--- client_timeout: 300



=== TEST 3: init() stops the start on an invalid policy, with one line of place and reason
--- policy
_format_version: "3.0"
routes:
- name: a
  sni: [a.test]
--- config eval: $::Config
--- suppress_stderr
--- must_die
--- error_log
policy.yaml:4:3: routes[0]: unknown field 'sni', did you mean 'snis'?



=== TEST 4: init() stops the start when the policy file is missing
--- http_config
    init_by_lua_block { require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/none.yaml" } }
--- config eval: $::Config
--- suppress_stderr
--- must_die
--- error_log
none.yaml: cannot be read: No such file or directory



=== TEST 5: init() with an option that does not exist, or called by a colon, raises
--- http_config
    init_by_lua_block {
        local mtls = require "resty.mtls"
        ngx.log(ngx.ERR, select(2, pcall(mtls.init, mtls, { policy = "x" })))
        mtls.init { polcy = "x" }
    }
--- config eval: $::Config
--- suppress_stderr
--- must_die
--- error_log
mtls.init: called with ':', expected mtls.init { ... }
mtls.init: unknown option 'polcy', expected one of certificate_spool, fetch_allow, policy, redis, refusals, session_tickets, shared_dict, state_dir, trusted_ips, watch



=== TEST 6: init() leaves the old workers in place when a reload brings an invalid policy
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
old=$(workers)
sed -i 's/^routes:/rutes:/' policy.yaml
kill -HUP "$master"
for _ in $(seq 100); do sleep 0.02; grep -q 'policy.yaml' "$ERROR_LOG" && break; done
[ "$old" = "$(workers)" ] && echo "same workers"
get a.test/t $(as client-a)
sed -i 's/^rutes:/routes:/' policy.yaml
reload_nginx
get a.test/t $(as client-a)
_EOC_
--- client_out
same workers
SUCCESS
SUCCESS
--- error_log
unknown field 'rutes', did you mean 'routes'?



=== TEST 7: init() keeps sessions over a reload that leaves their certificate request as it was, and ends the others
--- policy eval
policy("ca-a ca-b", route("a", "a.test", mtls_auth("ca-a")))
--- http_config
    ssl_session_tickets off;
    ssl_session_cache shared:sessions:1m;
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for version in 1.2 1.3; do tls tls=$version sni=a.test path=/t as=client-a sess_out=session$version >/dev/null; done
cat >> policy.yaml <<'_END_'
- name: unrelated
  snis: [b.test]
_END_
reload_nginx
for version in 1.2 1.3; do
    tls tls=$version sni=a.test path=/t as=client-a sess_in=session$version sess_out=session$version | facts reused status body
done
b=$(sed -n 's/^- id: //p' policy.yaml | tail -1)
sed -i "s/ca_certificates: \[.*\]/ca_certificates: [$b]/" policy.yaml
reload_nginx
for version in 1.2 1.3; do
    tls tls=$version sni=a.test path=/t as=client-a sess_in=session$version | facts reused certreq status
    tls tls=$version sni=a.test path=/t as=client-b | facts reused certreq status
done
_EOC_
--- client_out
reused=1 status=200 body=SUCCESS
reused=1 status=200 body=SUCCESS
reused=0 certreq=1 status=401
reused=0 certreq=1 status=200
reused=0 certreq=1 status=401
reused=0 certreq=1 status=200
--- no_error_log
[crit]
[alert]



=== TEST 8: access() works with lua_code_cache off
--- policy eval: $::Policy
--- http_config
    lua_code_cache off;
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
worker=$(workers)
for version in 1.2 1.3; do
    for _ in 1 2 3 4 5; do
        tls tls=$version sni=a.test host=a.test,a.test path=/t as=client-int sess_out=s
        tls tls=$version sni=a.test host=a.test,a.test path=/t as=client-int sess_in=s
        tls tls=$version sni=a.test path=/t as=client-b
        tls tls=$version sni=a.test path=/t
    done > out
    grep -o 'status=.*' out | sort | uniq -c | sed 's/^ *//'
done
[ "$worker" = "$(workers)" ] && echo alive
_EOC_
--- client_out
10 status=200,200 body=SUCCESS
5 status=401 body={"message":"No required TLS certificate was sent"}
5 status=401 body={"message":"TLS certificate failed verification"}
10 status=200,200 body=SUCCESS
5 status=401 body={"message":"No required TLS certificate was sent"}
5 status=401 body={"message":"TLS certificate failed verification"}
alive
--- no_error_log
[crit]
exited on signal



=== TEST 9: reload() replaces the policy, and keeps the old one when the new one is invalid
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
    location /reload {
        content_by_lua_block {
            local mtls = require "resty.mtls"
            local before = mtls.status()
            local ok, err = mtls.reload()
            local after = mtls.status()
            ngx.say(ok, " ", err and (err:gsub(".*/", "")), " epoch +", after.epoch - before.epoch, " digest ",
                    after.digest == before.digest and "same" or "new")
        }
    }
--- client
get a.test/t $(as client-a)
get a.test/reload
printf -- '- name: b\n  snis: [b.test]\n' >> policy.yaml
get a.test/reload
sed -i 's/^routes:/rutes:/' policy.yaml
get a.test/reload
get a.test/t $(as client-a)
--- client_out_like
\ASUCCESS
true nil epoch \+[01] digest same
true nil epoch \+1 digest new
nil policy\.yaml:\d+:1: unknown field 'rutes', did you mean 'routes'\? epoch \+0 digest same
SUCCESS
\z
--- error_log
[mtls] policy not reloaded:



=== TEST 10: init() shares the policy of the master between two workers
--- worker_processes: 2
--- policy eval: $::Policy
--- http_config
    ssl_session_tickets off;
    ssl_session_cache shared:sessions:1m;
--- config eval: $::Config
--- client
for i in $(seq 20); do
    tls tls=1.3 sni=a.test path=/t as=client-int sess_out=s | facts status body
    tls tls=1.3 sni=a.test path=/t as=client-int sess_in=s | facts status body
done | sort | uniq -c | sed 's/^ *//'
--- client_out
40 status=200 body=SUCCESS



=== TEST 11: init() raises after the start
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            ngx.say(select(2, pcall(require("resty.mtls").init, { policy = {} })))
        }
    }
--- client
get a.test/t $(as client-a)
--- client_out_like
\A.*mtls\.init: call it in init_by_lua\*, and mtls\.reload later\n\z
