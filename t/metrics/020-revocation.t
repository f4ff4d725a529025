# The counters of fetches and of their answers, with real responders.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Policy = revocation_policy([ignore => 'revocation_check_mode: IGNORE_CA_ERROR']);
our $Http = init_http('fetch_allow = { "127.0.0.0/8" }') . "    lua_shared_dict mtls_metrics 1m;\n";

run_blocks();

__DATA__

=== TEST 1: metrics() counts fetches by their result, answers, and look-ups of statuses
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval
$::Config . "    include \$TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;\n";
--- client eval
$::Client . <<'_EOC_'
for case in good revoked garbage down error slow crl crl-revoked; do
    for _ in 1 2; do
        get a.test/to/ignore --cert "$REV/$case.crt" --key "$REV/$case.key" -o /dev/null
    done
done
curl -s "http://127.0.0.1:$HTTP_PORT/mtls/metrics" > text
grep -E '^resty_mtls_(fetch_duration_seconds_count|revocation_answers_total|cache_lookups_total.cache="status")' text
# OCSP responders that fail are asked by POST and by GET, while there is time.
# The fetch that timed out took the 800 ms of the policy.
sed -n 's/^resty_mtls_fetch_duration_seconds_bucket{kind="ocsp",outcome="timeout",le="\(1\|5\)"}/le=\1:/p' text
# All responders but the closed one have one host; the list is valid for days.
responder=$(openssl x509 -in "$REV/good.crt" -noout -ocsp_uri | cut -d/ -f3)
closed=$(openssl x509 -in "$REV/down.crt" -noout -ocsp_uri | cut -d/ -f3)
sed "s/$responder/RESPONDER/; s/$closed/CLOSED/" text | grep -E '^resty_mtls_(revocation_source|crl_host)' |
    sed -E '/seconds/s/ [0-9]{5,}$/ DAYS/; /_(bytes|entries)/s/ [1-9][0-9]+$/ MANY/' | LC_ALL=C sort
curl -s "http://127.0.0.1:$HTTP_PORT/mtls/status" | python3 -c '
import json, sys, time
for source in json.load(sys.stdin)["revocation_sources"]:
    path = source["url"].split("/", 3)[3].split("/")[0]
    print(source["kind"], path or "(closed)", source["state"], source.get("error", "-").split(":")[-1].strip(),
          *(name for name in ("answered_at", "failed_at") if abs(source.get(name, 0) - time.time()) < 60),
          *(["a CRL in force"] if source.get("entries") and source["next_update"] > time.time() else []))
' | LC_ALL=C sort
_EOC_
--- client_out
resty_mtls_cache_lookups_total{cache="status",result="hit"} 16
resty_mtls_cache_lookups_total{cache="status",result="miss"} 8
resty_mtls_revocation_answers_total{source="crl",answer="good"} 1
resty_mtls_revocation_answers_total{source="crl",answer="revoked"} 1
resty_mtls_revocation_answers_total{source="ocsp",answer="good"} 1
resty_mtls_revocation_answers_total{source="ocsp",answer="rejected"} 1
resty_mtls_revocation_answers_total{source="ocsp",answer="revoked"} 1
resty_mtls_fetch_duration_seconds_count{kind="crl",outcome="ok"} 2
resty_mtls_fetch_duration_seconds_count{kind="ocsp",outcome="error"} 2
resty_mtls_fetch_duration_seconds_count{kind="ocsp",outcome="ok"} 3
resty_mtls_fetch_duration_seconds_count{kind="ocsp",outcome="status"} 2
resty_mtls_fetch_duration_seconds_count{kind="ocsp",outcome="timeout"} 1
le=1: 0
le=5: 1
resty_mtls_crl_host_bytes{host="RESPONDER"} MANY
resty_mtls_crl_host_entries{host="RESPONDER"} MANY
resty_mtls_crl_host_time_to_next_update_seconds{host="RESPONDER"} DAYS
resty_mtls_revocation_source_failing{kind="crl",host="RESPONDER"} 0
resty_mtls_revocation_source_failing{kind="ocsp",host="CLOSED"} 1
resty_mtls_revocation_source_failing{kind="ocsp",host="RESPONDER"} 1
resty_mtls_revocation_sources_down{kind="crl"} 0
resty_mtls_revocation_sources_down{kind="ocsp"} 4
crl crl up - answered_at a CRL in force
crl crl-revoked up - answered_at a CRL in force
ocsp (closed) down connection refused failed_at
ocsp error down status 500 failed_at
ocsp garbage down too long failed_at
ocsp good up - answered_at
ocsp revoked up - answered_at
ocsp slow down timeout failed_at
--- no_error_log
[crit]
[alert]



=== TEST 2: a source that failed is down for other certificates of the CA, but not for those of another CA
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval
$::Config . "    include \$TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;\n";
--- client eval
$::Client . <<'_EOC_'
for case in down down-again down-int; do
    get a.test/to/ignore --cert "$REV/$case.crt" --key "$REV/$case.key" -o /dev/null
    curl -s "http://127.0.0.1:$HTTP_PORT/mtls/metrics" | grep '^resty_mtls_revocation_waits_total' | tr '\n' ' '
    echo
done
_EOC_
--- client_out eval
my $waits = "resty_mtls_revocation_waits_total{outcome=";
qq($waits"unknown"} 1 \n) . qq($waits"down"} 1 ${waits}"unknown"} 1 \n) . qq($waits"down"} 1 ${waits}"unknown"} 2 \n)
--- no_error_log
[crit]
[alert]
