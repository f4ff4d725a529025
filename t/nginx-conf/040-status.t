# mtls-status.conf, included unchanged.

use lib 't/lib';
use TestMtls;

# mtls-http.conf reads the policy of this variable.
$ENV{RESTY_MTLS_POLICY} = html_dir() . "/policy.yaml";
$ENV{TEST_NGINX_STATUS_PORT} = free_port();
$ENV{STATUS_PORT} = $ENV{TEST_NGINX_STATUS_PORT};

our $Policy = ">>> policy.yaml\n" . expand_policy(policy("ca-a", route("payments", "a.test", mtls_auth("ca-a"))));

our $GlobalPolicy = ">>> policy.yaml\n" . expand_policy(<<'_EOC_');
_format_version: "3.0"
@{ca_certificates: ca-a}
plugins:
- name: mtls-auth
  config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
_EOC_

our $Http = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-http.conf;
    server {
        # All addresses of the loopback network
        listen 0.0.0.0:$TEST_NGINX_STATUS_PORT;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
    }
_EOC_

our $Config = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-server.conf;
    location /payments {
        set $mtls_route payments;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
_EOC_

run_blocks();

__DATA__

=== TEST 1: mtls-status.conf answers clients on this machine
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
tls sni=a.test path=/payments as=client-a | facts status
tls sni=a.test path=/payments as=client-b | facts status
for path in status metrics; do
    curl -si "http://127.0.0.1:$STATUS_PORT/mtls/$path" | tr -d '\r' > answer
    grep -iE '^(HTTP|content-type)' answer
    sed '1,/^$/d' answer > $path
done
python3 -c 'import json; status = json.load(open("status")); print(status["counts"]["routes"], status["metrics"]["requests_total"]["payments"]["pass"])'
grep '^resty_mtls_requests_total\|^resty_mtls_metrics_shared' metrics
--- client_out
status=200
status=401
HTTP/1.1 200 OK
Content-Type: application/json
HTTP/1.1 200 OK
Content-Type: text/plain; version=0.0.4; charset=utf-8
1 1
resty_mtls_requests_total{route="payments",decision="401"} 1
resty_mtls_requests_total{route="payments",decision="pass"} 1
resty_mtls_metrics_shared 1
--- no_error_log
[crit]
[alert]



=== TEST 2: mtls-status.conf refuses all other clients
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
for path in status metrics; do
    for address in 127.0.0.1 127.0.0.2; do
        curl -s --interface "$address" -o /dev/null -w "$path $address %{http_code}\n" "http://127.0.0.1:$STATUS_PORT/mtls/$path"
    done
done
--- client_out
status 127.0.0.1 200
status 127.0.0.2 403
metrics 127.0.0.1 200
metrics 127.0.0.2 403
--- error_log
access forbidden by rule



=== TEST 3: mtls-status.conf refuses them inside `satisfy any` too
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config
    satisfy any;
    access_by_lua_block { return }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
--- client
for path in status metrics; do
    curl -s --interface 127.0.0.2 -o /dev/null -w "$path %{http_code}\n" "http://127.0.0.1:$HTTP_PORT/mtls/$path"
done
--- client_out
status 403
metrics 403
--- error_log
access forbidden by rule



=== TEST 4: mtls-status.conf beside mtls-server.conf obeys the global plugins
--- user_files eval: $::GlobalPolicy
--- http_config eval: $::Http
--- config
    include $TEST_NGINX_ROOT/nginx-conf/mtls-server.conf;
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
--- client
tls sni=a.test host=127.0.0.1 path=/mtls/metrics | facts status
tls sni=a.test host=127.0.0.1 path=/mtls/metrics as=client-a | facts status
curl -s -o /dev/null -w '%{http_code}\n' "http://127.0.0.1:$STATUS_PORT/mtls/metrics"
--- client_out
status=401
status=200
200
--- error_log
[mtls] 401



=== TEST 5: mtls-status.conf lists the warnings of the policy in force, and an empty list when there are none
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
status() {
    curl -s "http://127.0.0.1:$STATUS_PORT/mtls/status" >status
    python3 - "$@" <<'_PY_'
import json, re
status = json.load(open("status"))
print(status["epoch"], status["counts"]["warnings"], "last_error" in status, len(status["warnings"]), type(status["warnings"]).__name__)
for line in status["warnings"][:1] + status["warnings"][-1:]:
    print(re.sub(":[0-9]+:[0-9]+:", ":LINE:", re.sub("^.*/html/", "", line)))
_PY_
}
reloaded() {
    mv new.yaml policy.yaml
    for _ in $(seq 100); do
        sleep 0.1
        grep -q "$1" "$ERROR_LOG" && break
    done
    curl -s "http://127.0.0.1:$STATUS_PORT/mtls/status" >/dev/null
}
cp policy.yaml first.yaml
status
# One warning
sed 's/^- name: payments/- name: payments\n  paths: [\/]/' first.yaml >new.yaml
reloaded 'epoch 1 -> 2'
status
# An invalid policy leaves the warnings of the policy in force.
{ cat first.yaml; echo 'routs: []'; } >new.yaml
reloaded 'policy not reloaded'
status
# More warnings than status() lists
{
    cat first.yaml
    echo 'plugins:'
    for i in $(seq 130); do echo "- name: ai-number-$i"; done
} >new.yaml
reloaded 'epoch 2 -> 3'
status
cp first.yaml new.yaml
reloaded 'epoch 3 -> 4'
status
--- client_out
1 0 False 0 list
2 1 False 1 list
policy.yaml:LINE: warning: routes[0].paths: has no effect in resty-mtls
policy.yaml:LINE: warning: routes[0].paths: has no effect in resty-mtls
2 1 True 1 list
policy.yaml:LINE: warning: routes[0].paths: has no effect in resty-mtls
policy.yaml:LINE: warning: routes[0].paths: has no effect in resty-mtls
3 130 False 101 list
policy.yaml:LINE: warning: plugins[0].name: the plugin 'ai-number-1' has no effect in resty-mtls
30 more warnings: resty-mtls check lists them
4 0 False 0 list
--- no_error_log
[crit]
[alert]
--- timeout: 60



=== TEST 6: only pages of this server in a browser read status and metrics, whatever their name resolves to
--- user_files eval: $::Policy
--- http_config eval
$::Http . <<'_EOC_'
    server {
        listen 127.0.0.3:$TEST_NGINX_STATUS_PORT;
        server_name Gateway.Internal other.internal;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
    }
_EOC_
--- config eval: $::Config
--- client
# ask ADDRESS [curl options]: the status of /mtls/status and of /mtls/metrics
ask() {
    local address=$1 path
    shift
    for path in status metrics; do
        curl -s --interface 127.0.0.1 "http://$address:$STATUS_PORT/mtls/$path" -o body -w '%{http_code}\n' "$@"
    done | paste -sd ' '
}
echo "scrapers: $(ask 127.0.0.1) $(ask 127.0.0.1 -0 -H 'Host:') $(ask 127.0.0.1 -H 'Host: LOCALHOST:1') $(ask 127.0.0.1 -H 'Host: [::1]:1') $(ask 127.0.0.1 -I)"
for host in rebind.example gateway.internal localhost.rebind.example 127.0.0.1.rebind.example _; do
    echo "$host: $(ask 127.0.0.1 -H "Host: $host:$STATUS_PORT")"
done
# The first name of a server is its own.
for host in gateway.internal GATEWAY.INTERNAL:1 other.internal rebind.example; do
    echo "named, $host: $(ask 127.0.0.3 -H "Host: $host")"
done
echo "page of another site: $(ask 127.0.0.1 -H 'Sec-Fetch-Site: cross-site') $(ask 127.0.0.1 -H 'Origin: http://evil.example')"
echo "own page and user: $(ask 127.0.0.1 -H 'Sec-Fetch-Site: same-origin') $(ask 127.0.0.1 -H 'Sec-Fetch-Site: none')"
echo "POST: $(ask 127.0.0.1 -d x)"
for path in status metrics; do
    curl -s "http://127.0.0.1:$STATUS_PORT/mtls/$path" -H 'Host: rebind.example'
    curl -si "http://127.0.0.1:$STATUS_PORT/mtls/$path" | tr -d '\r' | grep -iE '^(cache-control|x-content|cross-origin)'
done
--- client_out
scrapers: 200 200 200 200 200 200 200 200 200 200
rebind.example: 403 403
gateway.internal: 403 403
localhost.rebind.example: 403 403
127.0.0.1.rebind.example: 403 403
_: 403 403
named, gateway.internal: 200 200
named, GATEWAY.INTERNAL:1: 200 200
named, other.internal: 403 403
named, rebind.example: 403 403
page of another site: 403 200 403 200
own page and user: 200 200 200 200
POST: 405 405
{"message":"Host: expected an IP address, localhost or the server_name"}
Cache-Control: no-store
X-Content-Type-Options: nosniff
{"message":"Host: expected an IP address, localhost or the server_name"}
Cache-Control: no-store
X-Content-Type-Options: nosniff
Cross-Origin-Resource-Policy: same-origin
--- no_error_log
[error]
[crit]
[alert]
