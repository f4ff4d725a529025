# client_auth_eku: which extendedKeyUsage a client certificate may have.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    (map { my $mode = $_; my $host = s/_/-/gr; route($mode, "$host.test", mtls_auth("ca-a", "client_auth_eku: $mode")) }
        qw( required allow_server_auth any )),
    "consumers:\n- {username: client-a}\n");

our $Config = <<'_EOC_';
    location ~ ^/(\w+)$ {
        access_by_lua_block { require("resty.mtls").access(ngx.var[1]) }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
    location = /mtls/metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
_EOC_

run_blocks();

__DATA__

=== TEST 1: each mode accepts its purposes, over TLS and on resumed sessions, and the log says what is missing
--- policy eval: $::Policy
--- config eval: $::Config
--- client
for certificate in client-a client-server-eku client-no-eku client-email-eku client-encipher; do
    for mode in required allow_server_auth any; do
        echo "$certificate $mode $(tls sni="${mode//_/-}.test" path="/$mode" as=$certificate sess_out=session | facts status)" \
             "$(tls sni="${mode//_/-}.test" path="/$mode" as=$certificate sess_in=session | facts status reused)"
    done
done
grep -o '\[mtls\] 401 .*, subject' "$ERROR_LOG" | sort | uniq -c | sed 's/^ *//'
get a.test/mtls/metrics | sed -n 's/^resty_mtls_\(trusted_.*\)/\1/p'
--- client_out
client-a required status=200 status=200 reused=1
client-a allow_server_auth status=200 status=200 reused=1
client-a any status=200 status=200 reused=1
client-server-eku required status=401 status=401 reused=1
client-server-eku allow_server_auth status=200 status=200 reused=1
client-server-eku any status=200 status=200 reused=1
client-no-eku required status=200 status=200 reused=1
client-no-eku allow_server_auth status=200 status=200 reused=1
client-no-eku any status=200 status=200 reused=1
client-email-eku required status=401 status=401 reused=1
client-email-eku allow_server_auth status=401 status=401 reused=1
client-email-eku any status=200 status=200 reused=1
client-encipher required status=401 status=401 reused=1
client-encipher allow_server_auth status=401 status=401 reused=1
client-encipher any status=401 status=401 reused=1
2 [mtls] 401 FAILED:unsuitable certificate purpose at depth 0: its extendedKeyUsage has neither clientAuth nor serverAuth, subject
2 [mtls] 401 FAILED:unsuitable certificate purpose at depth 0: its extendedKeyUsage has no clientAuth, subject
2 [mtls] 401 FAILED:unsuitable certificate purpose at depth 0: its extendedKeyUsage has serverAuth and no clientAuth, subject
6 [mtls] 401 FAILED:unsuitable certificate purpose at depth 0: its keyUsage has no digitalSignature, subject
trusted_certificates_total{eku="both"} 0
trusted_certificates_total{eku="client"} 3
trusted_certificates_total{eku="none"} 3
trusted_certificates_total{eku="other"} 1
trusted_certificates_total{eku="server"} 2
--- no_error_log
[crit]
[alert]



=== TEST 2: a policy that would let in every holder of a DNS name is not loaded
--- http_config eval: TestMtls::init_http("")
--- user_files eval
">>> policy.yaml\n" . TestMtls::expand_policy(TestMtls::policy("ca-a",
    TestMtls::route("a", "a.test", TestMtls::mtls_auth("ca-a", "client_auth_eku: any, skip_consumer_lookup: true"))))
--- config
--- must_die
--- error_log eval
qr/plugins\[0\]\.config\.client_auth_eku: 'any' lets in every holder of a certificate of the CAs at routes\[0\], of public CAs every owner of a DNS name; expected consumers/
--- no_error_log
[alert]



=== TEST 3: a rule that holds for all certificates of a CA does not limit them
--- http_config eval: TestMtls::init_http("")
--- user_files eval
">>> policy.yaml\n" . TestMtls::expand_policy(TestMtls::policy("ca-a ca-b",
    TestMtls::route("a", "a.test", TestMtls::mtls_auth("ca-a", "client_auth_eku: any, skip_consumer_lookup: true"),
        TestMtls::plugin("client-cert-acl", 'allow: [{ca: @ca-a}, {issuer.CN: CA-A}]')),
    TestMtls::route("b", "b.test", TestMtls::mtls_auth("ca-a ca-b", "client_auth_eku: any, skip_consumer_lookup: true"),
        TestMtls::plugin("client-cert-acl", 'allow: [{ca: @ca-b}]'))))
--- config
--- must_die
--- error_log eval
[
    qr/plugins\[0\]\.config\.client_auth_eku: 'any' lets in every holder of a certificate of the CAs at routes\[0\], of public CAs every owner of a DNS name; expected consumers \(without skip_consumer_lookup and default_consumer\), or acl, client-cert-acl or client-cert-lists with 'allow' and without enforce: report, in client-cert-acl by subject, san, spiffe_id or digest/,
    "(and 1 more: run resty-mtls check)",
]
--- no_error_log
[alert]
