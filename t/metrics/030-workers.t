# metrics() with several workers, over reloads, and with a dictionary that is missing or full.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a", "skip_consumer_lookup: true, revocation_check_mode: SKIP")));

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(ngx.worker.pid()) }
        log_by_lua_block { require("resty.mtls").log() }
    }
    location /reload {
        content_by_lua_block { ngx.say(require("resty.mtls").reload(ngx.var.arg_policy)) }
    }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
_EOC_

our $Client = <<'_EOC_';
master=$(cat "$PID_FILE")
metrics() { curl -s "http://127.0.0.1:$HTTP_PORT/mtls/metrics"; }

# sample TEXT...: the samples that begin with this text, without the prefix
sample() {
    local text
    metrics > text
    for text in "$@"; do
        sed -n "s/^resty_mtls_\($text.*\)/\1/p" text
    done | sed 's/digest="[0-9a-f]\{64\}"/digest="DIGEST"/'
}

# until_sample TEXT: waits until there is such a sample, as counts of other workers arrive within a second
until_sample() {
    for _ in $(seq 100); do
        sample "$1" | grep . && return
        sleep 0.1
    done
    sample "${1% *}"
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: metrics() sums over workers and over a reload of nginx
--- http_config
    lua_shared_dict mtls_metrics 1m;
--- policy eval: $::Policy
--- config eval: $::Config
--- worker_processes: 2
--- tls_options: reuseport
--- client eval
$::Client . <<'_EOC_'
for _ in $(seq 40); do tls sni=a.test host=a.test,a.test path=/t as=client-a; done | facts body | sort -u > did
until_sample 'requests_total.* 80'
sample client_hellos_total certificates_presented_total connections_total verdicts_total responses_total policy_epoch metrics_shared
reload_nginx
echo reloaded
for _ in $(seq 20); do tls sni=a.test path=/t as=client-a; done > did
until_sample 'requests_total.* 100'
sample certificates_presented_total connections_total policy_epoch
_EOC_
--- client_out
requests_total{route="a",decision="pass"} 80
client_hellos_total 40
certificates_presented_total 40
connections_total{session="full"} 40
connections_total{session="resumed"} 0
verdicts_total{verdict="NONE"} 0
verdicts_total{verdict="SUCCESS"} 80
responses_total{route="a",class="2xx"} 80
policy_epoch{worker="0"} 1
policy_epoch{worker="1"} 1
metrics_shared 1
reloaded
requests_total{route="a",decision="pass"} 100
certificates_presented_total 60
connections_total{session="full"} 60
connections_total{session="resumed"} 0
policy_epoch{worker="0"} 1
policy_epoch{worker="1"} 1
--- no_error_log
[crit]
[alert]
[error]
--- timeout: 30



=== TEST 2: metrics() includes what a worker counted while it shut down
--- http_config
    lua_shared_dict mtls_metrics 1m;
--- policy eval: $::Policy
--- config
    location /slow {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            io.open("$TEST_NGINX_HTML_DIR/is-waiting", "w"):close()
            repeat ngx.sleep(0.01) until ngx.worker.exiting()
            ngx.sleep(0.1)
            ngx.say("in")
        }
        log_by_lua_block { require("resty.mtls").log() }
    }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
--- client eval
$::Client . <<'_EOC_'
tls sni=a.test path=/slow as=client-a | facts status body &
wait_until test -e is-waiting
reload_nginx
wait
sample requests_total responses_total
_EOC_
--- client_out
status=200 body=in
requests_total{route="a",decision="pass"} 1
responses_total{route="a",class="2xx"} 1
--- timeout: 20



=== TEST 3: metrics() without the dictionary returns the counts of one worker, and resty_mtls_metrics_shared 0
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
tls sni=a.test path=/t as=client-a | facts status
for route in $(seq 3); do sample requests_total policy_epoch policy_info metrics_shared; done | sort | uniq -c | sed 's/^ *//'
reload_nginx
sample requests_total certificates_presented_total policy_epoch
grep -c 'lua_shared_dict mtls_metrics is not in nginx.conf' "$ERROR_LOG"
_EOC_
--- client_out
status=200
3 metrics_shared 0
3 policy_epoch{worker="0"} 1
3 policy_info{worker="0",digest="DIGEST"} 1
3 requests_total{route="a",decision="pass"} 1
certificates_presented_total 0
policy_epoch{worker="0"} 1
2
--- error_log
[warn]
[mtls] lua_shared_dict mtls_metrics is not in nginx.conf: every worker counts for itself
--- no_error_log
[crit]
[alert]
[error]



=== TEST 4: metrics() works when the dictionary is full
--- http_config
    lua_shared_dict mtls_metrics 12k;
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
    location /fill {
        content_by_lua_block {
            for i = 1, 90 do
                require("resty.mtls.internal.metrics").observe("fetch_duration_seconds", i, "kind " .. i, "ok")
            end
            ngx.say("filled")
        }
    }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
--- client eval
$::Client . <<'_EOC_'
tls sni=a.test path=/t as=client-a | facts status
sample requests_total
curl -s "http://127.0.0.1:$HTTP_PORT/fill"
tls sni=a.test path=/t as=client-a | facts status
sleep 1.2
tls sni=a.test path=/t as=client-b | facts status
sample requests_total metrics_shared client_hellos_total
metrics | grep -c '^resty_mtls_fetch_duration_seconds_count{.*} 1$'
grep -c 'takes no more counts' "$ERROR_LOG"
_EOC_
--- client_out
status=200
requests_total{route="a",decision="pass"} 1
filled
status=200
status=401
requests_total{route="a",decision="401"} 1
requests_total{route="a",decision="pass"} 2
metrics_shared 1
client_hellos_total 3
90
1
--- error_log
[mtls] lua_shared_dict mtls_metrics takes no more counts (no memory): make it larger
--- no_error_log
[crit]
[alert]



=== TEST 5: metrics() works with lua_code_cache off
--- http_config
    lua_code_cache off;
    lua_shared_dict mtls_metrics 1m;
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for _ in 1 2 3; do tls sni=a.test host=a.test,a.test path=/t as=client-a; done | facts status
tls sni=a.test path=/t | facts status
sample client_hellos_total certificate_requests_total connections_total requests_total responses_total verdicts_total
_EOC_
--- client_out
status=200,200
status=401
client_hellos_total 4
certificate_requests_total 4
connections_total{session="full"} 4
connections_total{session="resumed"} 0
requests_total{route="a",decision="401"} 1
requests_total{route="a",decision="pass"} 6
responses_total{route="a",class="2xx"} 6
responses_total{route="a",class="4xx"} 1
verdicts_total{verdict="NONE"} 1
verdicts_total{verdict="SUCCESS"} 6
--- no_error_log
[crit]
[emerg]



=== TEST 6: metrics() counts reloads and shows the policy of each worker
--- http_config
    lua_shared_dict mtls_metrics 1m;
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
sample policy_info policy_reloads_total > before
sed 's/^a/b/; s/name: a/name: b/' policy.yaml > other.yaml
cat before
curl -s "http://127.0.0.1:$HTTP_PORT/reload?policy=$PWD/other.yaml"
sample policy_info policy_epoch policy_reloads_total
curl -s "http://127.0.0.1:$HTTP_PORT/reload?policy=$PWD/none.yaml" > did
sample policy_epoch policy_reloads_total
_EOC_
--- client_out
policy_info{worker="0",digest="DIGEST"} 1
policy_reloads_total{result="failed"} 0
policy_reloads_total{result="ok"} 0
true
policy_info{worker="0",digest="DIGEST"} 1
policy_epoch{worker="0"} 2
policy_reloads_total{result="failed"} 0
policy_reloads_total{result="ok"} 1
policy_epoch{worker="0"} 2
policy_reloads_total{result="failed"} 1
policy_reloads_total{result="ok"} 1
--- error_log
[mtls] policy not reloaded



=== TEST 7: metrics() fits into the dictionary of mtls-http.conf with the most and longest names
--- http_config
    lua_shared_dict mtls_metrics 1m;
--- policy eval: $::Policy
--- config
    location /t {
        content_by_lua_block {
            local metrics = require "resty.mtls.internal.metrics"
            local output = require "resty.mtls.internal.metrics_output"
            for i = 1, 300 do
                local name = ("%03d"):format(i) .. ("x"):rep(125)
                for _, status in ipairs { 0, 401, 403, 421 } do
                    metrics.count_decision(name, status, 0, false)
                end
                for class = 100, 500, 100 do
                    metrics.count_response(name, class)
                end
                for bucket = 0, 9 do
                    metrics.observe_expiry({ username = name }, 43200 * 2 ^ bucket)
                end
            end
            for verdict = 1, 94 do
                metrics.count_decision("a", 401, verdict, false)
            end
            local lines = select(2, output.text():gsub("\n", ""))
            ngx.say(lines > 3000, " ", ngx.shared.mtls_metrics:free_space() > 0)
            -- This worker has written all its counts to the dictionary.
            ngx.shared.mtls_metrics:flush_all()
            ngx.say(select(2, output.text():gsub("\nresty_mtls_requests_total", "")))
        }
    }
--- response_body
true true
0
--- no_error_log
[crit]
[alert]
[warn]



=== TEST 8: metrics() keeps its counts however much is fetched
--- http_config
    lua_shared_dict mtls 64k;
    lua_shared_dict mtls_metrics 64k;
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local shared_cache = require "resty.mtls.internal.net.shared_cache"
            for i = 1, 100 do
                shared_cache.get("mtls", "crl " .. i, {}, function() return ("x"):rep(8000), 60 end)
            end
            ngx.say("in")
        }
    }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
--- client eval
$::Client . <<'_EOC_'
tls sni=a.test host=a.test,a.test path=/t as=client-a | facts status
sample requests_total
_EOC_
--- client_out
status=200,200
requests_total{route="a",decision="pass"} 2
--- no_error_log
[crit]
[alert]
[error]
