# The counters of metrics() and the text format.

use lib 't/lib';
use TestMtls;

# The parser of Prometheus' own client library
our $Parser = system("python3 -c 'import prometheus_client' 2>/dev/null") == 0;
$Parser or Test::More::diag("TEST 2 and TEST 3 are skipped, prometheus_client is not there: pip install prometheus_client");

our $Http = "    lua_shared_dict mtls_metrics 1m;\n";

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: client-a
  acls: [{group: staff}]
- username: client-int
- username: guest
routes:
- name: pay
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP}}
- name: staff
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP}}
  - {name: acl, config: {allow: [staff]}}
- name: open
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, anonymous: guest}}
- name: upstream
  snis: [a.test]
  plugins:
  - {name: tls-metadata-headers, config: {inject_client_cert_details: true}}
_EOC_

our $Config = <<'_EOC_';
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        log_by_lua_block { require("resty.mtls").log() }
        content_by_lua_block { ngx.say("in") }
    }
    location /none {
        access_by_lua_block { require("resty.mtls").access() }
        content_by_lua_block { ngx.say("in") }
    }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
_EOC_

our $Client = <<'_EOC_';
metrics() { curl -s "http://127.0.0.1:$HTTP_PORT/mtls/metrics"; }

# family NAME...: the samples of these families, without the prefix
family() {
    local name
    for name in "$@"; do
        metrics | sed -n "s/^resty_mtls_\($name[ {_].*\)/\1/p"
    done
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: metrics() returns the counts of requests and handshakes
--- http_config eval: $::Http
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
{
    # Three requests of one connection, then two resumed ones
    tls sni=a.test host=a.test,a.test,a.test path=/to/pay as=client-a sess_out=session
    tls sni=a.test path=/to/pay as=client-a sess_in=session times=2
    # Refusals of each kind
    tls sni=a.test path=/to/pay
    tls sni=a.test path=/to/pay as=client-b
    tls sni=a.test path=/to/staff as=client-int
    tls sni=n.test host=a.test path=/to/pay
    curl -s "http://127.0.0.1:$HTTP_PORT/to/pay"
    # A client without a certificate and one with an untrusted certificate become the anonymous consumer.
    tls sni=a.test path=/to/open
    tls sni=a.test path=/to/open as=client-expired
    # A route without authentication, a request without a route, and a handshake without a request
    tls sni=a.test path=/to/upstream as=client-a
    tls sni=a.test path=/none as=client-a
    : | openssl s_client -connect "127.0.0.1:$PORT" -servername a.test -cert "$PKI/client-a.crt" -key "$PKI/client-a.key"
} > did 2>&1
metrics | sed 's/digest="[0-9a-f]\{64\}"/digest="DIGEST"/; s/\(\(expiry_seconds\(_sum\)\?\|since_seconds\){.*}\) [0-9]\{8,10\}$/\1 SECONDS/'
_EOC_
--- client_out
# HELP resty_mtls_client_hellos_total TLS handshakes that client_hello() ran for, resumptions included.
# TYPE resty_mtls_client_hellos_total counter
resty_mtls_client_hellos_total 12
# HELP resty_mtls_certificate_requests_total Full TLS handshakes in which a client certificate was requested.
# TYPE resty_mtls_certificate_requests_total counter
resty_mtls_certificate_requests_total 9
# HELP resty_mtls_certificates_presented_total Full TLS handshakes in which the client sent a certificate, verified or not.
# TYPE resty_mtls_certificates_presented_total counter
resty_mtls_certificates_presented_total 7
# HELP resty_mtls_handshake_errors_total Failures of client_hello() and certificate(), after which the handshake went on.
# TYPE resty_mtls_handshake_errors_total counter
resty_mtls_handshake_errors_total{phase="certificate"} 0
resty_mtls_handshake_errors_total{phase="client_hello"} 0
# HELP resty_mtls_connections_total TLS connections on which access() decided about at least one request, by kind of handshake.
# TYPE resty_mtls_connections_total counter
resty_mtls_connections_total{session="full"} 8
resty_mtls_connections_total{session="resumed"} 2
# HELP resty_mtls_requests_total Requests that access() decided about: pass, or the status of the refusal.
# TYPE resty_mtls_requests_total counter
resty_mtls_requests_total{route="",decision="pass"} 1
resty_mtls_requests_total{route="open",decision="pass"} 2
resty_mtls_requests_total{route="pay",decision="401"} 3
resty_mtls_requests_total{route="pay",decision="421"} 1
resty_mtls_requests_total{route="pay",decision="pass"} 5
resty_mtls_requests_total{route="staff",decision="403"} 1
resty_mtls_requests_total{route="upstream",decision="pass"} 1
# HELP resty_mtls_would_refuse_total Requests that passed although a plugin with 'enforce: report' would refuse them, by its status.
# TYPE resty_mtls_would_refuse_total counter
# HELP resty_mtls_verdicts_total Verdicts on the client certificates of requests, on routes that verify them; NONE: no certificate.
# TYPE resty_mtls_verdicts_total counter
resty_mtls_verdicts_total{verdict="FAILED:certificate has expired"} 1
resty_mtls_verdicts_total{verdict="FAILED:unable to get local issuer certificate"} 1
resty_mtls_verdicts_total{verdict="NONE"} 3
resty_mtls_verdicts_total{verdict="SUCCESS"} 6
# HELP resty_mtls_responses_total Responses to requests that access() decided about, counted by log().
# TYPE resty_mtls_responses_total counter
resty_mtls_responses_total{route="open",class="2xx"} 2
resty_mtls_responses_total{route="pay",class="2xx"} 5
resty_mtls_responses_total{route="pay",class="4xx"} 4
resty_mtls_responses_total{route="staff",class="4xx"} 1
resty_mtls_responses_total{route="upstream",class="2xx"} 1
# HELP resty_mtls_cache_lookups_total Cache look-ups: decisions of a connection, and clients, verdicts and revocation statuses of a worker.
# TYPE resty_mtls_cache_lookups_total counter
resty_mtls_cache_lookups_total{cache="client",result="hit"} 3
resty_mtls_cache_lookups_total{cache="client",result="miss"} 4
resty_mtls_cache_lookups_total{cache="decision",result="hit"} 2
resty_mtls_cache_lookups_total{cache="decision",result="miss"} 10
resty_mtls_cache_lookups_total{cache="status",result="hit"} 0
resty_mtls_cache_lookups_total{cache="status",result="miss"} 0
resty_mtls_cache_lookups_total{cache="verdict",result="hit"} 2
resty_mtls_cache_lookups_total{cache="verdict",result="miss"} 4
# HELP resty_mtls_denied_certificates_total Valid certificates that were denied: blocked, on a deny list, or not on an allow list.
# TYPE resty_mtls_denied_certificates_total counter
resty_mtls_denied_certificates_total{by="allow"} 0
resty_mtls_denied_certificates_total{by="block"} 0
resty_mtls_denied_certificates_total{by="deny"} 0
# HELP resty_mtls_blocks Blocks of certificates in force on this node.
# TYPE resty_mtls_blocks gauge
resty_mtls_blocks 0
# HELP resty_mtls_trusted_certificates_total Verified chains, by the purposes of TLS in the extendedKeyUsage of the client certificate.
# TYPE resty_mtls_trusted_certificates_total counter
resty_mtls_trusted_certificates_total{eku="both"} 0
resty_mtls_trusted_certificates_total{eku="client"} 2
resty_mtls_trusted_certificates_total{eku="none"} 0
resty_mtls_trusted_certificates_total{eku="other"} 0
resty_mtls_trusted_certificates_total{eku="server"} 0
# HELP resty_mtls_certificate_spool_total First-seen certificates for certificate_spool of mtls.init: written, present (there already), full (over a bound), dropped (queue full), failed.
# TYPE resty_mtls_certificate_spool_total counter
# HELP resty_mtls_list_entries Entries of each list of client-cert-lists in force in the worker that answers.
# TYPE resty_mtls_list_entries gauge
# HELP resty_mtls_list_reload_failing 1: the file of the list cannot be read, and an earlier list is in force; 0: it is in force.
# TYPE resty_mtls_list_reload_failing gauge
# HELP resty_mtls_headers_left_out_total Upstream headers that could not be set, once for each client, route and worker.
# TYPE resty_mtls_headers_left_out_total counter
# HELP resty_mtls_revocation_answers_total Revocation statuses from OCSP responders and CRLs; rejected: the response cannot be used.
# TYPE resty_mtls_revocation_answers_total counter
# HELP resty_mtls_revocation_waits_total Requests that needed a revocation status that was not known: answered, unknown (the sources have none), late (not within status_wait), down (not waited for, the sources are down), shortage.
# TYPE resty_mtls_revocation_waits_total counter
# HELP resty_mtls_crl_time_to_next_update_seconds Time until nextUpdate of a CRL of the policy; negative after it.
# TYPE resty_mtls_crl_time_to_next_update_seconds gauge
# HELP resty_mtls_crl_entries Entries of a CRL of the policy.
# TYPE resty_mtls_crl_entries gauge
# HELP resty_mtls_crl_bytes Length of a CRL of the policy.
# TYPE resty_mtls_crl_bytes gauge
# HELP resty_mtls_crl_host_time_to_next_update_seconds Time until nextUpdate of the CRLs that were fetched from a host, the first to end; negative after it.
# TYPE resty_mtls_crl_host_time_to_next_update_seconds gauge
# HELP resty_mtls_crl_host_entries Entries of the CRLs that were fetched from a host.
# TYPE resty_mtls_crl_host_entries gauge
# HELP resty_mtls_crl_host_bytes Length of the CRLs that were fetched from a host.
# TYPE resty_mtls_crl_host_bytes gauge
# HELP resty_mtls_revocation_source_failing 1: the last answer of a source of revocation statuses on a host failed or was not usable; 0: none did.
# TYPE resty_mtls_revocation_source_failing gauge
# HELP resty_mtls_revocation_sources_down Sources of revocation statuses that are known to be down: the last answer, within a minute, failed.
# TYPE resty_mtls_revocation_sources_down gauge
resty_mtls_revocation_sources_down{kind="crl"} 0
resty_mtls_revocation_sources_down{kind="ocsp"} 0
# HELP resty_mtls_ca_time_to_expiry_seconds Time until the end of a CA certificate of the policy; negative after it.
# TYPE resty_mtls_ca_time_to_expiry_seconds gauge
resty_mtls_ca_time_to_expiry_seconds{id="db866236-d766-4318-8142-d16cbfe5dbd5",subject="CN=Test CA-A,O=Example Lab,C=CZ"} SECONDS
# HELP resty_mtls_fetch_duration_seconds Duration of fetches over the network, by outcome: ok, status (not 2xx), timeout, error, shortage (of this machine).
# TYPE resty_mtls_fetch_duration_seconds histogram
# HELP resty_mtls_crl_updates_total Fetches of the CRLs that the policy names by URL.
# TYPE resty_mtls_crl_updates_total counter
resty_mtls_crl_updates_total{outcome="failed"} 0
resty_mtls_crl_updates_total{outcome="unchanged"} 0
resty_mtls_crl_updates_total{outcome="updated"} 0
# HELP resty_mtls_lease_takeovers_total Fetches whose worker died or was stuck for 3 seconds, so that another took over.
# TYPE resty_mtls_lease_takeovers_total counter
resty_mtls_lease_takeovers_total 0
# HELP resty_mtls_shortages_total Resources that this machine lacked for a fetch or a cached value. Requests that depend on a fetch get 503; without room in the dictionary or a timer they are served.
# TYPE resty_mtls_shortages_total counter
resty_mtls_shortages_total{resource="connections"} 0
resty_mtls_shortages_total{resource="descriptors"} 0
resty_mtls_shortages_total{resource="dictionary"} 0
resty_mtls_shortages_total{resource="memory"} 0
resty_mtls_shortages_total{resource="ports"} 0
resty_mtls_shortages_total{resource="random"} 0
resty_mtls_shortages_total{resource="timers"} 0
# HELP resty_mtls_certificate_time_to_expiry_seconds Remaining lifetime of trusted client certificates in use; each worker observes each once an hour.
# TYPE resty_mtls_certificate_time_to_expiry_seconds histogram
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="86400"} 0
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="259200"} 0
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="604800"} 0
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="1209600"} 0
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="2592000"} 0
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="5184000"} 0
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="7776000"} 0
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="15552000"} 0
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="31536000"} 0
resty_mtls_certificate_time_to_expiry_seconds_bucket{consumer="client-a",le="+Inf"} 1
resty_mtls_certificate_time_to_expiry_seconds_sum{consumer="client-a"} SECONDS
resty_mtls_certificate_time_to_expiry_seconds_count{consumer="client-a"} 1
# HELP resty_mtls_policy_reloads_total Reloads of the policy, summed over workers; failed: the previous policy stays in force.
# TYPE resty_mtls_policy_reloads_total counter
resty_mtls_policy_reloads_total{result="failed"} 0
resty_mtls_policy_reloads_total{result="ok"} 0
# HELP resty_mtls_policy_epoch Number of the worker's policy among all that have been in force on this node.
# TYPE resty_mtls_policy_epoch gauge
resty_mtls_policy_epoch{worker="0"} 1
# HELP resty_mtls_policy_in_force_epoch Number of the policy in force on this node; a worker with a lower one is behind.
# TYPE resty_mtls_policy_in_force_epoch gauge
resty_mtls_policy_in_force_epoch 1
# HELP resty_mtls_policy_in_force_since_seconds When the worker's policy was put in force, in seconds since 1970.
# TYPE resty_mtls_policy_in_force_since_seconds gauge
resty_mtls_policy_in_force_since_seconds{worker="0"} SECONDS
# HELP resty_mtls_policy_reload_failing 1: the last reload of the worker failed, and an earlier policy is in force; 0: it succeeded.
# TYPE resty_mtls_policy_reload_failing gauge
resty_mtls_policy_reload_failing{worker="0"} 0
# HELP resty_mtls_policy_info The policy in force in the worker.
# TYPE resty_mtls_policy_info gauge
resty_mtls_policy_info{worker="0",digest="DIGEST"} 1
# HELP resty_mtls_fleet_connected 1: this node follows the Redis server of its fleet; 0: it cannot, and what it has stays in force.
# TYPE resty_mtls_fleet_connected gauge
# HELP resty_mtls_fleet_last_sync_age_seconds Time since this node last compared its blocks with those in Redis; once a minute.
# TYPE resty_mtls_fleet_last_sync_age_seconds gauge
# HELP resty_mtls_fleet_errors_total Failures of the fleet: connect, timeout, tls, auth, full, reply, shortage, value, limit, error.
# TYPE resty_mtls_fleet_errors_total counter
# HELP resty_mtls_metrics_shared 1: these are sums over all workers; 0: they are those of one worker.
# TYPE resty_mtls_metrics_shared gauge
resty_mtls_metrics_shared 1
--- no_error_log
[crit]
[alert]



=== TEST 2: metrics() returns text that the parser of Prometheus' own client reads
--- skip_eval: 4: !$::Parser
--- http_config eval: $::Http
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
metrics | "$TEST_NGINX_ROOT/t/metrics/prometheus.py"
for route in pay staff open upstream; do
    tls sni=a.test path=/to/$route
    tls sni=a.test path=/to/$route as=client-a
    tls sni=a.test path=/to/$route as=client-b
done > did
metrics | "$TEST_NGINX_ROOT/t/metrics/prometheus.py"
_EOC_
--- client_out_like
\Aok: \d\d families, \d\d samples
ok: \d\d families, \d\d samples
\z
--- no_error_log
[crit]
[alert]



=== TEST 3: metrics() accepts any name of a route or consumer
--- skip_eval: 4: !$::Parser
--- http_config eval: $::Http
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: 'quote"back\slash{le="1"} 1'
- username: "Ann Żółw 🐢"
- username: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
routes:
- name: one
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, default_consumer: 'quote"back\slash{le="1"} 1'}}
- name: two
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, default_consumer: "Ann Żółw 🐢"}}
- name: "3\" \\n\\ 🐢"
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, default_consumer: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}
--- config
    location /t/ {
        access_by_lua_block {
            local route = ngx.var.uri:sub(4)
            require("resty.mtls").access(route == "3" and "3\" \\n\\ 🐢" or route)
        }
        content_by_lua_block { ngx.say("in") }
    }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
--- client eval
$::Client . <<'_EOC_'
for path in one two 3; do tls sni=a.test path=/t/$path as=client-a; done | facts status
metrics > text
"$TEST_NGINX_ROOT/t/metrics/prometheus.py" < text | sed 's/[0-9]* families, [0-9]* samples/families, samples/'
"$TEST_NGINX_ROOT/t/metrics/prometheus.py" resty_mtls_requests_total route < text
"$TEST_NGINX_ROOT/t/metrics/prometheus.py" resty_mtls_certificate_time_to_expiry_seconds_count consumer < text
_EOC_
--- client_out
status=200
ok: families, samples
'3" \\n\\ \U0001f422'
'one'
'two'
'Ann \u017b\xf3\u0142w \U0001f422'
'other'
'quote"back\\slash{le="1"} 1'



=== TEST 4: metrics() limits the number of routes and consumers
--- http_config eval: $::Http
--- policy eval
my @names = map { sprintf "%03d", $_ } 1 .. 210;
"_format_version: \"3.0\"\n\@{ca_certificates: ca-a}\nconsumers:\n"
. CORE::join("", map { "- username: c-$_\n" } @names)
. "routes:\n"
. CORE::join("", map { <<"_EOC_" } @names);
- name: r-$_
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [\@ca-a], revocation_check_mode: SKIP, default_consumer: c-$_}}
_EOC_
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
urls=$(for i in $(seq -f %03g 210) 205; do echo "https://a.test/to/r-$i"; done)
curl -sk --http1.1 --connect-to "::127.0.0.1:$PORT" $(as client-a) $urls | sort | uniq -c | sed 's/^ *//'
metrics > text
grep -c '^resty_mtls_requests_total' text
grep '^resty_mtls_requests_total.*\(r-200\|r-201\|other\)' text
grep '^resty_mtls_responses_total.*\(r-200\|r-201\|other\)' text
grep -c '^resty_mtls_certificate_time_to_expiry_seconds_count' text
grep '^resty_mtls_certificate_time_to_expiry_seconds_count.*\(c-100\|c-101\|other\)' text
_EOC_
--- client_out
211 in
201
resty_mtls_requests_total{route="other",decision="pass"} 11
resty_mtls_requests_total{route="r-200",decision="pass"} 1
resty_mtls_responses_total{route="other",class="2xx"} 11
resty_mtls_responses_total{route="r-200",class="2xx"} 1
101
resty_mtls_certificate_time_to_expiry_seconds_count{consumer="c-100"} 1
resty_mtls_certificate_time_to_expiry_seconds_count{consumer="other"} 110
--- timeout: 20



=== TEST 5: status() returns the metrics as a table
--- http_config eval: $::Http
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
tls sni=a.test host=a.test,a.test path=/to/pay as=client-a > did
tls sni=a.test path=/to/pay > did
curl -si "http://127.0.0.1:$HTTP_PORT/mtls/status" | tr -d '\r' > answer
grep -i content-type answer
sed '1,/^$/d' answer | python3 -c '
import json, re, sys
status = json.load(sys.stdin)
metrics = status.pop("metrics")
print(*(re.sub("^.*/html/", "", warning) for warning in status.pop("warnings")))
node = status.pop("node")
worker = node["workers"][0]
print(sorted(node), sorted(worker), abs(worker["since"] - status.pop("since")) < 60, worker["epoch"], worker["failed"])
print([(row["consumer"], row["not_after"] > node["since"]) for row in status.pop("certificates")])
status["digest"] = re.fullmatch("[0-9a-f]{64}", status["digest"]) and "digest"
print(json.dumps(status, sort_keys=True))
print(sorted(metrics))
expiry = metrics.pop("certificate_time_to_expiry_seconds")
print(sorted(expiry["client-a"]), expiry["client-a"]["count"])
for name in ("client_hellos_total", "requests_total", "responses_total", "verdicts_total", "policy_epoch"):
    print(name, json.dumps(metrics[name], sort_keys=True))
'
_EOC_
--- client_out
Content-Type: application/json
X-Content-Type-Options: nosniff
policy.yaml:35:3: warning: routes[3]: has tls-metadata-headers but neither mtls-auth nor tls-handshake-modifier, so the certificate that it forwards is not requested
['epoch', 'since', 'workers'] ['epoch', 'failed', 'pid', 'since', 'worker'] True 1 False
[('client-a', True)]
{"counts": {"certificate_requests": 1, "routes": 4, "server_names": 1, "warnings": 1}, "digest": "digest", "epoch": 1, "version": "0.1.0", "worker": 0}
['blocks', 'ca_time_to_expiry_seconds', 'cache_lookups_total', 'certificate_requests_total', 'certificate_time_to_expiry_seconds', 'certificates_presented_total', 'client_hellos_total', 'connections_total', 'crl_updates_total', 'denied_certificates_total', 'handshake_errors_total', 'lease_takeovers_total', 'metrics_shared', 'policy_epoch', 'policy_in_force_epoch', 'policy_in_force_since_seconds', 'policy_info', 'policy_reload_failing', 'policy_reloads_total', 'requests_total', 'responses_total', 'revocation_sources_down', 'shortages_total', 'trusted_certificates_total', 'verdicts_total']
['count', 'sum'] 1
client_hellos_total 2
requests_total {"pay": {"401": 1, "pass": 2}}
responses_total {"pay": {"2xx": 2, "4xx": 1}}
verdicts_total {"NONE": 1, "SUCCESS": 2}
policy_epoch {"0": 1}
--- no_error_log
[crit]
[alert]



=== TEST 6: log() counts each request that access() decided about, and no other
--- http_config eval: $::Http
--- policy eval: $::Policy
--- config
    location /ok { access_by_lua_block { require("resty.mtls").access("pay") } content_by_lua_block { ngx.say("in") } }
    location /bad { access_by_lua_block { require("resty.mtls").access("pay") } content_by_lua_block { error("bad") } }
    location /unknown { access_by_lua_block { require("resty.mtls").access("nowhere") } content_by_lua_block { } }
    location /open { content_by_lua_block { ngx.say("in") } }
    log_by_lua_block {
        -- After another statement
        ngx.log(ngx.INFO, "mine: ", ngx.status)
        require("resty.mtls").log()
    }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
--- client eval
$::Client . <<'_EOC_'
for path in ok ok bad unknown open; do tls sni=a.test path=/$path as=client-a | facts status; done
family responses_total requests_total
_EOC_
--- client_out
status=200
status=200
status=500
status=500
status=200
responses_total{route="pay",class="2xx"} 2
responses_total{route="pay",class="5xx"} 1
requests_total{route="pay",decision="pass"} 3
--- no_error_log
[crit]
[alert]



=== TEST 7: metrics() counts a handshake once, also with a HelloRetryRequest and in TLS 1.2
--- http_config eval: "    ssl_ecdh_curve X25519:prime256v1;\n$::Http"
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
tls tls=1.3 sni=a.test path=/to/pay as=client-a groups=P-521:X25519 | facts retried status
family client_hellos_total certificate_requests_total certificates_presented_total connections_total
tls tls=1.2 sni=a.test path=/to/pay as=client-a sess_out=session | facts version status
tls tls=1.2 sni=a.test path=/to/pay as=client-a sess_in=session | facts reused status
family client_hellos_total certificate_requests_total certificates_presented_total connections_total
_EOC_
--- client_out
retried=1 status=200
client_hellos_total 1
certificate_requests_total 1
certificates_presented_total 1
connections_total{session="full"} 1
connections_total{session="resumed"} 0
version=TLSv1.2 status=200
reused=1 status=200
client_hellos_total 3
certificate_requests_total 2
certificates_presented_total 2
connections_total{session="full"} 2
connections_total{session="resumed"} 1
--- no_error_log
[crit]
[alert]
[error]



=== TEST 8: metrics() counts headers that are left out once per client and route
--- http_config eval: $::Http
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: upstream
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], skip_consumer_lookup: true, revocation_check_mode: SKIP}}
  - {name: tls-metadata-headers, config: {inject_client_cert_details: true}}
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
tls sni=a.test host=a.test,a.test path=/to/upstream as=client-45k | facts status
tls sni=a.test host=a.test path=/to/upstream as=client-45k | facts status
family headers_left_out_total
_EOC_
--- client_out
status=200,200
status=200
headers_left_out_total{reason="too_large"} 2
--- error_log
[mtls] header X-Client-Cert left out
[mtls] header X-Client-Cert-Chain left out



=== TEST 9: count() and observe() accept the metrics that exist
--- http_config eval: $::Http
--- policy eval: $::Policy
--- config
    location /t {
        content_by_lua_block {
            local metrics = require "resty.mtls.internal.metrics"
            local output = require "resty.mtls.internal.metrics_output"
            metrics.count("headers_left_out_total", "too_large")
            metrics.count("headers_left_out_total", "too_large")
            for i = 1, 150 do
                metrics.count("headers_left_out_total", "reason " .. i)
            end
            metrics.observe("fetch_duration_seconds", 0.25, "jwks", "ok")
            metrics.observe("fetch_duration_seconds", 31, "jwks", "ok")
            ngx.say(select(2, pcall(metrics.count, "headers_total", "a")))
            ngx.say(select(2, pcall(metrics.count, "fetch_duration_seconds", "jwks", "ok")))
            ngx.say(select(2, pcall(metrics.observe, "headers_left_out_total", 1, "a")))
            local text = output.text()
            for line in text:gmatch("[^\n]+") do
                if line:find("too_large") or line:find("jwks") or line:find('reason="other"', 1, true) then
                    ngx.say(line)
                end
            end
            ngx.say(select(2, text:gsub("\nresty_mtls_headers_left_out_total", "")))
        }
    }
--- response_body
metrics: no counter 'headers_total'
metrics: no counter 'fetch_duration_seconds'
metrics: no histogram 'headers_left_out_total'
resty_mtls_headers_left_out_total{reason="other"} 51
resty_mtls_headers_left_out_total{reason="too_large"} 2
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="0.005"} 0
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="0.01"} 0
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="0.025"} 0
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="0.05"} 0
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="0.1"} 0
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="0.25"} 1
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="0.5"} 1
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="1"} 1
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="2.5"} 1
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="5"} 1
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="10"} 1
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="30"} 1
resty_mtls_fetch_duration_seconds_bucket{kind="jwks",outcome="ok",le="+Inf"} 2
resty_mtls_fetch_duration_seconds_sum{kind="jwks",outcome="ok"} 31.25
resty_mtls_fetch_duration_seconds_count{kind="jwks",outcome="ok"} 2
101



=== TEST 10: decided() and responded() are compiled by LuaJIT and allocate nothing
--- http_config eval: $::Http
--- policy eval: $::Policy
--- config
    location /t {
        content_by_lua_block {
            local metrics = require "resty.mtls.internal.metrics"
            local output = require "resty.mtls.internal.metrics_output"
            local traces, aborts = 0, 0
            local function work(n)
                for _ = 1, n do
                    metrics.count_decision("pay", 0, 0, false)
                    metrics.count_response("pay", 200)
                end
            end

            jit.attach(function(what)
                traces = traces + (what == "stop" and 1 or 0)
                aborts = aborts + (what == "abort" and 1 or 0)
            end, "trace")
            work(10000)
            jit.attach(function() end)
            collectgarbage()
            collectgarbage("stop")
            local before = collectgarbage("count")
            work(1000000)
            local grown = collectgarbage("count") - before
            collectgarbage("restart")
            -- LuaJIT gives up a trace now and then, and compiles it later. Code that it cannot compile aborts ten times.
            ngx.say(traces > 0, " ", aborts < 4, " ", math.floor(grown), " KB")
            ngx.say(output.text():match("resty_mtls_requests_total{[^\n]+"))
        }
    }
--- response_body
true true 0 KB
resty_mtls_requests_total{route="pay",decision="pass"} 1010000
