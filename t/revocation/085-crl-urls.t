# CRLs of a policy that the gateway fetches from a URL, which here is a location of the same nginx.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Url = "http://127.0.0.1:$ENV{HTTP_PORT}/url.crl";
our $Policy = revocation_policy(
    [ignore => "revocation_check_mode: IGNORE_CA_ERROR, crls: [{url: '$Url', refresh: 1}]"],
    [strict => "revocation_check_mode: STRICT, crls: [{url: '$Url', refresh: 1}]"],
    [stale => "revocation_check_mode: STRICT, crls: [{url: '$Url', refresh: 1, max_stale: 8640000}]"],
);
our $Http = init_http("");
our $Stateful = init_http('state_dir = os.execute("mkdir -p -m 0700 $TEST_NGINX_HTML_DIR/state") and "$TEST_NGINX_HTML_DIR/state"');
our $Config = $TestRevocation::Config . <<"_EOC_";
    location = /url.crl {
        alias $Dir/url.crl;
        access_log $Dir/fetches;
    }
    location /seen {
        content_by_lua_block {
            local mtls = require "resty.mtls"
            local status = mtls.status()
            for _, source in ipairs(status.revocation_sources) do
                ngx.say(source.kind, " ", source.url, " ", source.state, " ", source.error or "-")
            end

            for _, crl in ipairs(status.crls or {}) do
                ngx.say(crl.file, " ", crl.issuer, " ", crl.entries > 0, " ", crl.bytes > 100, " ", crl.next_update > ngx.time())
            end

            for line in mtls.metrics():gmatch("[^\\n]+") do
                if line:find("^resty_mtls_crl_[^u]") or line:find("^resty_mtls_revocation_source") then
                    ngx.say((line:gsub(" %d%d+\$", " MANY"):gsub("{.*issuer=", "{issuer=")))
                end
            end
        }
    }
_EOC_

# url FILE: the URL has this file of \$REV from now on. status: the statuses of local and local-revoked on the routes.
# until STATUSES: waits until the statuses are these, for 10 seconds.
our $Client = $TestRevocation::Client . <<'_EOC_';
url() { if [ "$1" ]; then cp "$REV/$1" "$REV/url.new" && mv "$REV/url.new" "$REV/url.crl"; else rm -f "$REV/url.crl"; fi; }
status() {
    echo "$(request ignore local) $(request ignore local-revoked) $(request strict local) $(request strict local-revoked)"
}
seen() { curl -s "http://127.0.0.1:$HTTP_PORT/seen" | sed "s,http://,,; s/127.0.0.1:$HTTP_PORT/HOST/"; }
until_status() {
    local n
    for n in $(seq 100); do
        [ "$(status)" != "$1" ] || break
        sleep 0.1
    done
    status
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() uses a fetched CRL, keeps the last good one, and takes no older one and none of another CA
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
url ""
status
seen | head -n 1
url ca-a.crl
until_status "200 401 200 401"
seen
url expired.crl
logged() { wait_until grep -q "CRL not updated: .*$1" "$ERROR_LOG"; }
logged "is older than the one in use"
status
url ca-a-int.crl
logged "which has not ended"
status
: > "$REV/fetches"
url ""
wait_until grep -q ' 404 ' "$REV/fetches"
status
url ca-a.crl
wait_until grep -q ' 304 ' "$REV/fetches"
grep -c ' 304 ' "$REV/fetches" | sed 's/^[1-9].*/fetched only if modified/'
_EOC_
--- client_out
200 200 401 401
crl HOST/url.crl down status 404
200 401 200 401
crl HOST/url.crl up -
HOST/url.crl CN=Test CA-A,O=Example Lab,C=CZ true true true
resty_mtls_crl_time_to_next_update_seconds{issuer="CN=Test CA-A,O=Example Lab,C=CZ"} MANY
resty_mtls_crl_entries{issuer="CN=Test CA-A,O=Example Lab,C=CZ"} MANY
resty_mtls_crl_bytes{issuer="CN=Test CA-A,O=Example Lab,C=CZ"} MANY
resty_mtls_crl_host_time_to_next_update_seconds{host="HOST"} MANY
resty_mtls_crl_host_entries{host="HOST"} MANY
resty_mtls_crl_host_bytes{host="HOST"} MANY
resty_mtls_revocation_source_failing{kind="crl",host="HOST"} 0
resty_mtls_revocation_sources_down{kind="crl"} 0
resty_mtls_revocation_sources_down{kind="ocsp"} 0
200 401 200 401
200 401 200 401
200 401 200 401
fetched only if modified
--- error_log eval
["[mtls] CRL not updated: $::Url: status 404",
 "[mtls] CRL updated: $::Url",
 "[mtls] CRL not updated: $::Url: not usable: CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': is older than the one in use",
 "[mtls] CRL not updated: $::Url: not usable: CRL of 'CN=Test CA-A Intermediate,O=Example Lab': the one in use is of 'CN=Test CA-A,O=Example Lab,C=CZ', which has not ended"]
--- no_error_log
[crit]
[alert]
[emerg]
--- timeout: 40



=== TEST 2: access() refuses by an expired CRL in STRICT, unless max_stale allows it, and revokes by it in any case
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
url expired.crl
until_status "200 401 401 401"
echo "$(request stale local) $(request stale local-revoked)"
_EOC_
--- client_out
200 401 401 401
200 401
--- no_error_log
[crit]
[alert]
[emerg]
--- timeout: 40



=== TEST 3: with state_dir a fetched CRL is in a file of mode 0600, and its workers after SIGKILL have it at once
--- user_files eval: $::Policy
--- http_config eval: $::Stateful
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
url ca-a.crl
until_status "200 401 200 401"
url ""
sleep 1.5
stat -c '%a' "$TMP"/state/crl-*.der | sort | uniq -c | sed 's/^ *//'
pid=$(get "a.test/worker/strict" $(certificate_of local))
kill -KILL "$pid"
for n in $(seq 50); do get "a.test/worker/strict" $(certificate_of local) >/dev/null && break; sleep 0.1; done
status
_EOC_
--- client_out
200 401 200 401
2 600
200 401 200 401
--- no_error_log
[crit]
[emerg]
--- timeout: 40
