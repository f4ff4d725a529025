# A signed CRL entry or OCSP response with the status "revoked" is proof, whatever else is missing, stale or unsupported.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Http = init_http('fetch_allow = { "127.0.0.0/8" }');

sub local_policy {
    my ($more, @files) = @_;
    my $crls = "crls: [" . join(", ", map { "$Dir/$_" } @files) . "]";

    return revocation_policy(
        [skip => "revocation_check_mode: SKIP$more, $crls"],
        [ignore => "revocation_check_mode: IGNORE_CA_ERROR$more, $crls"],
        [strict => "revocation_check_mode: STRICT$more, $crls"],
    );
}

our $Online = revocation_policy(
    [skip => 'revocation_check_mode: SKIP'],
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR'],
    [strict => 'revocation_check_mode: STRICT'],
);

# Two routes for each CRL, named after it
sub policy_of_each_list {
    my ($more, $also, @files) = @_;

    return revocation_policy(map {
        my $crls = "crls: [" . join(", ", map { "$Dir/$_" } "$_.crl", @$also) . "]";

        (["$_-ignore" => "revocation_check_mode: IGNORE_CA_ERROR$more, $crls"],
         ["$_-strict" => "revocation_check_mode: STRICT$more, $crls"])
    } @files);
}

our @Lists = qw( int int-expired int-future int-critical int-ca-scope int-user-scope int-empty-scope int-entry hold );
our @Others = qw( int-forged hold-expired empty );
our $Below = policy_of_each_list("", [], @Lists, @Others);
our $Anchor = policy_of_each_list(", allow_partial_chain: true", ["ca-a-int.crl"], @Lists, @Others);
our $EachList = <<'_EOC_';
each_list() {
    local case=$1 list
    shift
    for list in "$@"; do echo "$case $list: $(request "$list-ignore" "$case") $(request "$list-strict" "$case")"; done
}
_EOC_

workers(2);
run_blocks();

__DATA__

=== TEST 1: access() takes an intermediate as revoked that a signed CRL lists, whatever its own CRL or OCSP says
--- user_files eval: $::Below
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . $::EachList . <<"_EOC_";
each_list local-int @::Lists @::Others
each_list leaf-only @::Lists
fetches
_EOC_
--- client_out
local-int int: 401 401
local-int int-expired: 401 401
local-int int-future: 401 401
local-int int-critical: 401 401
local-int int-ca-scope: 401 401
local-int int-user-scope: 401 401
local-int int-empty-scope: 401 401
local-int int-entry: 401 401
local-int hold: 401 401
local-int int-forged: 200 401
local-int hold-expired: 200 401
local-int empty: 200 401
leaf-only int: 401 401
leaf-only int-expired: 401 401
leaf-only int-future: 401 401
leaf-only int-critical: 401 401
leaf-only int-ca-scope: 401 401
leaf-only int-user-scope: 401 401
leaf-only int-empty-scope: 401 401
leaf-only int-entry: 401 401
leaf-only hold: 401 401
--- error_log
FAILED:certificate revoked at depth 1, subject: "CN=local-int"
FAILED:certificate revoked at depth 1, subject: "CN=leaf-only"
--- no_error_log
[crit]
[alert]



=== TEST 2: access() takes a trust anchor that is not self-signed as revoked in the same way
--- user_files eval: $::Anchor
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . $::EachList . <<"_EOC_";
each_list local-int @::Lists @::Others
_EOC_
--- client_out
local-int int: 401 401
local-int int-expired: 401 401
local-int int-future: 401 401
local-int int-critical: 401 401
local-int int-ca-scope: 401 401
local-int int-user-scope: 401 401
local-int int-empty-scope: 401 401
local-int int-entry: 401 401
local-int hold: 401 401
local-int int-forged: 200 401
local-int hold-expired: 200 401
local-int empty: 200 200
--- error_log
FAILED:certificate revoked at depth 1, subject: "CN=local-int"
FAILED:CRL signature failure at depth 1, subject: "CN=local-int"
FAILED:CRL has expired at depth 1, subject: "CN=local-int"



=== TEST 3: access() needs no CRL for a trust anchor whose issuer publishes none
--- user_files eval: main::local_policy(", allow_partial_chain: true", "ca-a-int.crl")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval: $::Client . "table local-int local-int-revoked"
--- client_out
local-int: 200 200 200
local-int-revoked: 200 401 401
--- error_log
FAILED:certificate revoked at depth 0, subject: "CN=local-int-revoked"



=== TEST 4: access() takes a certificate as good again only by a newer CRL
--- user_files eval: main::local_policy("", "int.crl", "ca-a-int.crl", "int-gone.crl")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval: $::Client . "table local-int"
--- client_out
local-int: 200 200 200



=== TEST 5: access() does not do so by a CRL of another scope or an older one
--- user_files eval: main::local_policy("", "int-ca-scope.crl", "ca-a-int.crl", "int-gone.crl")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval: $::Client . "table local-int"
--- client_out
local-int: 200 401 401
--- error_log
FAILED:certificate revoked at depth 1, subject: "CN=local-int"



=== TEST 6: access() takes an expired CRL as proof of revocation only, and init() warns about it
--- user_files eval: main::local_policy("", "expired.crl", "empty-scope.crl")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table local local-revoked
grep -o '\[mtls\] .*policy.yaml.*' "$ERROR_LOG" | sed 's/[^ ]*policy.yaml:[0-9]*:[0-9]*/POLICY/; s/20[0-9T:-]*Z/TIME/' | sort -u
"$TEST_NGINX_ROOT/target/release/resty-mtls" check "$TEST_NGINX_HTML_DIR/policy.yaml" 2>&1 | grep -c "expired at\|empty issuing"
_EOC_
--- client_out
local: 200 200 401
local-revoked: 200 401 401
[mtls] POLICY: warning: routes[0].plugins[0].config.crls: CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': expired at TIME: listed certificates are revoked, but it makes no other certificate good
[mtls] POLICY: warning: routes[0].plugins[0].config.crls: CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': has an empty issuingDistributionPoint, which RFC 5280 section 5.2.5 does not allow
[mtls] POLICY: warning: routes[0].plugins[0].config.crls: have no effect with the revocation_check_mode 'SKIP'
2
--- error_log
FAILED:CRL has expired at depth 0, subject: "CN=local"
FAILED:certificate revoked at depth 0, subject: "CN=local-revoked"



=== TEST 7: access() treats fetched CRLs and OCSP answers in the same way
--- user_files eval: $::Online
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table old-revoked endless endless-revoked crl-old-revoked crl-scope crl-scope-revoked
table crl-empty-scope crl-empty-scope-revoked crl-critical-revoked
grep -o 'unusable response: CRL of .*' "$ERROR_LOG" | sed 's/, c[a-z]*: .*//' | sort -u
_EOC_
--- client_out
old-revoked: 200 401 401
endless: 200 200 200
endless-revoked: 200 401 401
crl-old-revoked: 200 401 401
crl-scope: 200 200 401
crl-scope-revoked: 200 401 401
crl-empty-scope: 200 200 401
crl-empty-scope-revoked: 200 401 401
crl-critical-revoked: 200 401 401
unusable response: CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': covers only certificates of CAs
unusable response: CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': has an empty issuingDistributionPoint, which RFC 5280 section 5.2.5 does not allow
--- error_log
FAILED:certificate revoked at depth 0, subject: "CN=old-revoked"
FAILED:certificate revoked at depth 0, subject: "CN=crl-old-revoked"



=== TEST 8: watch logs once, in one worker, a CRL that expires, and shows it as a metric
--- user_files eval: main::local_policy("", "empty.crl")
--- http_config eval
$::Http . "    lua_shared_dict mtls_metrics 1m;\n"
--- config eval
$::Config . <<'_EOC_'
    location /reload {
        content_by_lua_block { ngx.say(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/policy.yaml")) }
    }
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
_EOC_
--- client eval
$::Client . <<'_EOC_'
gauge() { curl -s "http://127.0.0.1:$HTTP_PORT/mtls/metrics" | sed -n "s|^resty_mtls_crl_time_to_next_update_seconds{file=\"$REV/|{file=\"|p"; }
gauge | sed 's/ [0-9]\{5\}$/ NEARLY A DAY/'
mkdir -p ca
: > ca/index.txt
cat > ca/ca.cnf <<END
[ca]
default_ca = test
[test]
database = ca/index.txt
certificate = $REV/ca-a.crt
private_key = $REV/ca-a.key
default_md = sha256
END
openssl ca -gencrl -config ca/ca.cnf -crlsec 4 -out "$REV/empty.crl" 2> /dev/null
# Both workers load the CRL before it expires.
for _ in $(seq 12); do curl -s "http://127.0.0.1:$HTTP_PORT/reload"; done | sort -u
for _ in $(seq 80); do
    request ignore local > /dev/null
    grep -q 'expired at' "$ERROR_LOG" && break
    sleep 0.1
done
sleep 2.5
grep -o "\[mtls\] '.*expired at.*" "$ERROR_LOG" | sed "s|$REV/||; s/20[0-9T:-]*Z/TIME/; s/, context.*//"
request strict local
echo
gauge | sed 's/ -[0-9]$/ NEGATIVE/'
_EOC_
--- client_out
{file="empty.crl",issuer="CN=Test CA-A,O=Example Lab,C=CZ"} NEARLY A DAY
true
[mtls] 'empty.crl': CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': expired at TIME: listed certificates are revoked, but it makes no other certificate good
401
{file="empty.crl",issuer="CN=Test CA-A,O=Example Lab,C=CZ"} NEGATIVE
--- error_log
FAILED:CRL has expired at depth 0, subject: "CN=local"
