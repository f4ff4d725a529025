# resty-mtls replay: which clients of an audit log, which nginx wrote, another policy would refuse or map
# otherwise.

use lib 't/lib';
use TestMtls;

our $Old = policy("ca-a ca-b",
    route("payments", "a.test", mtls_auth("ca-a", "consumer_by: [username]")),
    route("partners", "b.test", mtls_auth("ca-a ca-b")),
    route("website", ""),
    route("waf", "w.test", header_cert_auth()),
    "consumers:\n- {username: client-a}\n- {username: client-int}\n- {username: carol}\n");

# Without CA-B on partners, with another consumer for client-a, and a rule against client-int
our $New = expand_policy(policy("ca-a ca-b",
    route("payments", "a.test", mtls_auth("ca-a", "consumer_by: [username]"),
          plugin("client-cert-acl", "deny: [{name: no-int, subject.CN: client-int}]")),
    route("partners", "b.test", mtls_auth("ca-a")),
    route("waf", "w.test", header_cert_auth()),
    "consumers:\n- {username: ann}\n- {username: client-int}\n- {username: carol}\n"
    . "mtls_auth_credentials:\n- {consumer: ann, subject_name: client-a}\n"));

# All plugins in report mode, and without CA-B
our $Report = policy("ca-a ca-b",
    route("orders", "a.test", mtls_auth("ca-a", "skip_consumer_lookup: true, enforce: report")),
    route("people", "a.test", mtls_auth("ca-a", "consumer_by: [username]"), plugin("acl", "allow: [staff], enforce: report")),
    "consumers:\n- {username: client-a}\n");

# No report mode, and with CA-B. acl admits client-a.
our $Enforced = expand_policy(policy("ca-a ca-b",
    route("orders", "a.test", mtls_auth("ca-a ca-b")),
    route("people", "a.test", mtls_auth("ca-a", "consumer_by: [username]"), plugin("acl", "allow: [staff]")),
    "consumers:\n- {username: client-a, acls: [{group: staff}]}\n"));

our $HttpConfig = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-variables.conf;
    include $TEST_NGINX_ROOT/nginx-conf/mtls-audit.conf;
    access_log $TEST_NGINX_HTML_DIR/audit.log mtls_audit;
    access_log $TEST_NGINX_HTML_DIR/ecs.log mtls_audit_ecs;
    init_by_lua_block {
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml", trusted_ips = { "127.0.0.1" } }
    }
_EOC_

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access(ngx.var.http_x_route) }
        content_by_lua_block { ngx.say("ok") }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: replay finds who would be refused, mapped otherwise, and is not judged
--- user_files eval: ">>> new.yaml\n$::New"
--- policy eval: $::Old
--- http_config eval: $::HttpConfig
--- config eval: $::Config
--- client
# On a slow machine it reports its progress.
replay() {
    "$TEST_NGINX_ROOT/target/release/resty-mtls" replay "$@" 2>errors
    echo "exit $?"
    grep -vE '^resty-mtls: replay: [0-9]+ ' errors
}
request() { get "$2.test/t" -o /dev/null -H "X-Route: $1" "${@:3}"; }
for client in client-a client-int client-carol client-b; do request payments a $(as "$client"); done
request payments a $(as client-a)
request payments a
request partners b $(as client-a)
request partners b $(as client-b)
request website www
request waf w -H "X-Client-Cert: $(escaped client-a)"
get a.test/none -o /dev/null

mkdir certs
for client in client-a client-b client-int client-carol; do
    file=$PKI/$client.chain; [ -e "$file" ] || file=$PKI/$client.crt
    name=$(openssl x509 -in "$file" -outform DER | sha256sum | cut -d' ' -f1)
    cp "$file" "certs/$name.pem"
done
for _ in 1 2 3 4 5; do [ "$(wc -l <ecs.log)" -ge 11 ] && break; sleep 0.1; done

replay new.yaml ecs.log --certs certs
replay new.yaml audit.log --certs certs >other
replay new.yaml ecs.log --certs certs | diff - other && echo "both formats alike"
replay policy.yaml ecs.log --certs certs | sed -n '1,4p;$p'
echo "without certificates:"
(cat audit.log; echo '{"decision":'; echo '[]') | replay new.yaml - | grep -v '^    '
replay new.yaml audit.log --certs certs --json | perl -MJSON::PP -0777 -ne 's/exit.*//; my $r = decode_json($_);
    print "$_->{route} $_->{before}{consumer} -> $_->{after}{consumer}\n" for @{ $r->{mapped} };
    print "$r->{requests} requests, $r->{same} same, ", scalar @{ $r->{not_judged} }, " not judged\n"'
replay new.yaml none.log
--- client_out_like eval
my $digest = qr/[0-9a-f]{64}/;
qr{\Awould be refused: 3 \(3 requests\)
  payments a\.test CN=client-int,O=Example \(1 request\)
    status 403: deny rule 'no-int' holds
    remedy: compare the certificate with the rules: rule 'no-int' at new\.yaml:\d+
  partners b\.test CN=client-b,O=Example \(1 request\)
    status 401: FAILED:unable to get local issuer certificate at depth 0: its CA 'CN=Test CA-B,O=Example Lab,C=CZ' is none that this route trusts
    remedy: add 'CN=Test CA-B,O=Example Lab,C=CZ' \(ca_certificates b03f[^\n]*
  website www\.test without certificate \(1 request\)
    status 500: the policy has no such route
    remedy: add the route, or change the location that names it
would be mapped otherwise: 1 \(2 requests\)
  payments a\.test CN=client-a,O=Example \(2 requests\)
    as 'ann'
would be let in: 0 \(0 requests\)
not judged: 0 \(0 requests\)
same: 5
requests: 11, not decided by the module: 1, lines not read: 0, left out over the limit: 0
exit 4
both formats alike
would be refused: 0 \(0 requests\)
would be mapped otherwise: 0 \(0 requests\)
would be let in: 0 \(0 requests\)
not judged: 0 \(0 requests\)
exit 0
without certificates:
would be refused: 1 \(1 request\)
  website www\.test without certificate \(1 request\)
would be mapped otherwise: 0 \(0 requests\)
would be let in: 0 \(0 requests\)
not judged: 7 \(8 requests\)
(?:  [^\n]*\n){7}same: 1
requests: 13, not decided by the module: 1, lines not read: 2, left out over the limit: 0
exit 4
standard input:12: not read: [^\n]*
standard input:13: not read: not a JSON object
payments client-a -> ann
11 requests, 5 same, 0 not judged
exit 1
resty-mtls: replay: none\.log: cannot be read: No such file or directory \(os error 2\)
\z}
--- no_error_log
[crit]
[alert]



=== TEST 2: replay does not judge a client by intermediates that it may not have sent, nor calls a reported refusal the same
--- user_files eval: ">>> new.yaml\n$::Enforced"
--- policy eval: $::Report
--- http_config eval: $::HttpConfig
--- config eval: $::Config
--- client
# On a slow machine it reports its progress.
replay() {
    "$TEST_NGINX_ROOT/target/release/resty-mtls" replay "$@" 2>errors
    echo "exit $?"
    grep -vE '^resty-mtls: replay: (reading the policy, )?[0-9]+ ' errors
}
request() { get "a.test/t" -o /dev/null -H "X-Route: $1" "${@:2}"; }
request orders $(as client-int)
request orders --cert "$PKI/client-int.crt" --key "$PKI/client-int.key"
request orders $(as client-b)
request orders $(as client-c)
request people $(as client-a)
mkdir certs
for client in client-a.crt client-b.crt client-int.chain; do
    cp "$PKI/$client" "certs/$(openssl x509 -in "$PKI/$client" -outform DER | sha256sum | cut -d' ' -f1).pem"
done
logged() { [ "$(wc -l <audit.log)" -ge 5 ] && [ "$(wc -l <ecs.log)" -ge 5 ]; }
wait_until logged
sed -E 's/.*("decision".*),"consumer".*/\1/' audit.log
sed -E 's/.*("mtls.decision".*)\}/\1/' ecs.log | sort -u | head -1

replay new.yaml audit.log --certs certs >of-audit
cat of-audit
replay new.yaml ecs.log --certs certs | diff of-audit - && echo "both formats alike"
# As the formats were before they had the reason
sed -E 's/"reason":"[^"]*",//' audit.log >old.log
replay new.yaml old.log --certs certs | diff of-audit - && echo "mtls_audit without the reason alike"
sed -E 's/"mtls.reason":"[^"]*","mtls.verify"/"mtls.reason"/' ecs.log >old-ecs.log
grep -c verify old-ecs.log
replay new.yaml old-ecs.log --certs certs | diff of-audit - && echo "mtls_audit_ecs without the reason alike"
replay new.yaml audit.log --certs certs --strict | tail -1
head -1 audit.log >judged.log
replay new.yaml judged.log --certs certs --strict | tail -1
replay new.yaml audit.log --certs certs --json | perl -MJSON::PP -0777 -ne 's/exit.*//; my $r = decode_json($_);
    print "$_->{subject}: $_->{before}{verify}\n" for @{ $r->{not_judged} }'
--- client_out_like
\A"decision":"pass","reason":"","verify":"SUCCESS"
"decision":"would_refuse","reason":"untrusted","verify":"FAILED:unable to get local issuer certificate"
"decision":"would_refuse","reason":"untrusted","verify":"FAILED:unable to get local issuer certificate"
"decision":"would_refuse","reason":"untrusted","verify":"FAILED:unable to get local issuer certificate"
"decision":"would_refuse","reason":"forbidden","verify":"SUCCESS"
"mtls\.decision":"pass","mtls\.reason":"","mtls\.verify":"SUCCESS"
would be refused: 0 \(0 requests\)
would be mapped otherwise: 0 \(0 requests\)
would be let in: 2 \(2 requests\)
  orders a\.test CN=client-b,O=Example \(1 request\)
    without a consumer
  people a\.test CN=client-a,O=Example \(1 request\)
    as 'client-a'
not judged: 2 \(2 requests\)
  orders a\.test CN=client-int,O=Example \(1 request\)
    in the log its chain failed \(unable to get local issuer certificate\); the file has intermediates that it may not have sent
  orders a\.test CN=client-c,O=Example \(1 request\)
    certs/[0-9a-f]{64}\.pem is not there; in the log: FAILED:unable to get local issuer certificate
same: 1
requests: 5, not decided by the module: 0, lines not read: 0, left out over the limit: 0
exit 0
both formats alike
mtls_audit without the reason alike
0
mtls_audit_ecs without the reason alike
exit 4
exit 0
CN=client-int,O=Example: FAILED:unable to get local issuer certificate
CN=client-c,O=Example: FAILED:unable to get local issuer certificate
\z
--- no_error_log
[crit]
[alert]
