# resty-mtls explain --online: it asks the sources that the gateway asks, and decides as it does.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Url = "http://127.0.0.1:$ENV{HTTP_PORT}/url.crl";
our $Policy = revocation_policy(
    [skip => 'revocation_check_mode: SKIP'],
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR'],
    [strict => 'revocation_check_mode: STRICT'],
    [listed => "revocation_check_mode: STRICT, crls: [{url: '$Url'}, {url: 'https://crl.test/a.crl'}]"],
);

# Three requests, of which the responder answers each by a run of openssl, take longer than 0.8 s on a busy machine.
(our $SlowPolicy = $Policy) =~ s/http_timeout: 2500/http_timeout: 25000/g;

our $Http = init_http('fetch_allow = { "127.0.0.0/8" }');
our $Config = $TestRevocation::Config . <<"_EOC_";
    location = /url.crl { alias $Dir/ca-a.crl; }
_EOC_

$ENV{COMMAND} = "$TestMtls::Root/target/release/resty-mtls";

# explain ROUTE CASE [options]: the result of the command
# steps ROUTE CASE [options]: its steps about revocation with one line each, without times, and the outcome
# compare CASE...: the cases for which the command and the gateway differ
our $Client = $TestRevocation::Client . <<'_EOC_';
explain() {
    local route=$1 case=$2
    shift 2
    "$COMMAND" explain policy.yaml --route "$route" --sni a.test --cert "$REV/$case.crt" --online "$@"
}
steps() {
    explain "$@" --json >result
    echo "exit $?"
    python3 - <<'END'
import json, re
result = json.load(open("result"))
for step in result["steps"]:
    if step["step"].startswith("revocation"):
        mark = {True: "ok", False: "FAIL", None: "?"}[step["ok"]]
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", step["detail"])
        text = re.sub(r"\d+ entries", "N entries", text)
        text = re.sub(r"(\d+ days?|less than a day) ago", "N days ago", text)
        print(mark, step["step"] + ":", re.sub(r"127\.0\.0\.1:\d+", "HOST", text))
END
}
compare() {
    local case route gateway command
    for case in "$@"; do
        for route in ignore strict; do
            gateway=$(request $route $case)
            command=$(explain $route $case --fetch-allow 127.0.0.1 | sed -n 's/^\(let in\|refused\): status \([0-9]*\),.*/\2/p')
            [ "$gateway" = "$command" ] || echo "$case on $route: $gateway, and $command by the command"
        done
    done
    echo "$# cases"
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: explain --online decides as the gateway, and has what each source answered
--- user_files eval: $::SlowPolicy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
compare good revoked unknown wrong-signer server server-revoked down garbage get-revoked second nonce-revoked \
        redirect-revoked broken-revoked nowhere crl crl-revoked crl-garbage fallback-revoked fallback-unknown-revoked \
        preferred
for case in server server-revoked fallback-revoked preferred; do
    echo "$case:"
    steps strict $case --fetch-allow=127.0.0.0/8
done
echo "errors:"
steps ignore error --fetch-allow 127.0.0.1
steps strict garbage --fetch-allow 127.0.0.1
steps ignore crl-huge --fetch-allow 127.0.0.1
steps ignore down --fetch-allow 127.0.0.1
echo "CRLs of the policy:"
steps listed local
steps listed local-revoked
echo "not asked:"
: >"$REV/requests"
steps skip revoked
steps strict good
grep ' /good/\| /revoked/' "$REV/requests"
_EOC_
--- client_out
20 cases
server:
exit 0
ok revocation source: OCSP 'http://HOST/': good, thisUpdate TIME, nextUpdate TIME
ok revocation: good by OCSP 'http://HOST/'
server-revoked:
exit 4
FAIL revocation source: OCSP 'http://HOST/': revoked, thisUpdate TIME, nextUpdate TIME
FAIL revocation: revoked by OCSP 'http://HOST/'
fallback-revoked:
exit 4
? revocation source: OCSP 'http://HOST/fallback-revoked/error': no status: status 500
FAIL revocation source: CRL 'http://HOST/fallback-revoked/crl': revoked, thisUpdate TIME, nextUpdate TIME, N entries
FAIL revocation: revoked by CRL 'http://HOST/fallback-revoked/crl'
preferred:
exit 0
ok revocation source: OCSP 'http://HOST/preferred/good': good, thisUpdate TIME, nextUpdate TIME
ok revocation: good by OCSP 'http://HOST/preferred/good'; not asked, because that one answered: CRL 'http://HOST/preferred/crl'
errors:
exit 0
? revocation source: OCSP 'http://HOST/error/error': no status: status 500
ok revocation: no source has a status, which counts as good
exit 4
? revocation source: OCSP 'http://HOST/garbage/garbage': no status: OCSP response is unreadable: too long
FAIL revocation: no source has a status, and revocation_check_mode is STRICT
exit 0
? revocation source: CRL 'http://HOST/crl-huge/huge': no status: body is over 16777216 bytes
ok revocation: no source has a status, which counts as good
exit 0
? revocation source: OCSP 'http://HOST/': no status: Connection refused
ok revocation: no source has a status, which counts as good
CRLs of the policy:
exit 0
ok revocation source: CRL 'http://HOST/url.crl' of the policy: in use, thisUpdate TIME, nextUpdate TIME, N entries
? revocation source: CRL 'https://crl.test/a.crl' of the policy: not in use: not asked, because https is not spoken here
ok revocation: good by the local CRLs of the policy
exit 4
ok revocation source: CRL 'http://HOST/url.crl' of the policy: in use, thisUpdate TIME, nextUpdate TIME, N entries
? revocation source: CRL 'https://crl.test/a.crl' of the policy: not in use: not asked, because https is not spoken here
FAIL revocation: revoked by the CRL 'http://HOST/url.crl': 'CN=local-revoked' at depth 0, since TIME, N days ago
not asked:
exit 0
ok revocation: not checked (revocation_check_mode: SKIP)
exit 4
? revocation source: OCSP 'http://HOST/good/good': no status: 127.0.0.1 is a loopback, link-local or other special address that --fetch-allow does not name
FAIL revocation: no source has a status, and revocation_check_mode is STRICT
--- no_error_log
[alert]


=== TEST 2: explain --online and its options
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
explain strict good --time 2027-01-01 2>&1
echo $?
explain strict good --fetch-allow 127.0.0.0/33 2>&1
echo $?
"$COMMAND" explain policy.yaml --fetch-allow ::1 2>&1
echo $?
_EOC_
--- client_out
resty-mtls: explain: --time: not with --online, whose answers are of now; see resty-mtls explain --help
2
resty-mtls: explain: --fetch-allow: expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8: '127.0.0.0/33'; see resty-mtls explain --help
2
resty-mtls: explain: --fetch-allow: only with --online; see resty-mtls explain --help
2
