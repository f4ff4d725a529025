# The files of nginx-conf/, included unchanged.

use lib 't/lib';
use TestMtls;

# mtls-http.conf reads the policy of this variable.
$ENV{RESTY_MTLS_POLICY} = html_dir() . "/policy.yaml";

our $Policy = ">>> policy.yaml\n" . expand_policy(policy("ca-a", route("payments", "a.test", mtls_auth("ca-a"))));

our $Http = "    include $TestMtls::Root/nginx-conf/mtls-http.conf;\n";

our $Config = <<"_EOC_";
    include $TestMtls::Root/nginx-conf/mtls-server.conf;
    location /payments {
        set \$mtls_route payments;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location /open {
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: mtls-location.conf protects its location, and mtls-server.conf removes reserved headers in the others
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
tls sni=a.test path=/payments | facts certreq status body
get a.test/payments $(as client-a) -H 'X-Client-Cert-Dn: forged' | tr -d '\r' | grep -i '^x-client'
code a.test/payments $(as client-b)
code n.test/payments -H 'Host: a.test' $(as client-a)
tls sni=n.test path=/open | facts certreq status
get n.test/open -H 'X-Client-Cert-Dn: forged' -H 'X_Client_Cert_San: forged' | grep -ci forged
--- client_out
certreq=1 status=401 body={"message":"No required TLS certificate was sent"}
X-Client-Cert-Dn: CN=client-a,O=Example
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
421 application/json; charset=utf-8 {"message":"Misdirected Request"}
certreq=0 status=200
0
--- error_log
[mtls] 401



=== TEST 2: mtls-location.conf without a route answers 500
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config
    location /none {
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
get a.test/none $(as client-a) -o /dev/null -w '%{http_code}\n'
--- client_out
500
--- error_log
[mtls] 500 no route '': $mtls_route is not set in this location, expected 'set $mtls_route NAME;' in it, with the name of a route of the policy
--- no_error_log
stack traceback



=== TEST 3: mtls-location.conf with an unknown route, or without one beside a location with one, answers 500
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config
    location /unknown {
        set $mtls_route paymnets;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /forgotten {
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
get a.test/unknown $(as client-a) -o /dev/null -w '%{http_code}\n'
get a.test/forgotten $(as client-a) -o body -w '%{http_code}\n'
grep -c 'route\|mtls\|paym' body
--- client_out
500
500
0
--- error_log
[mtls] 500 no route 'paymnets' in the policy, did you mean 'payments'?
[mtls] 500 no route '': $mtls_route is not set in this location, expected 'set $mtls_route NAME;' in it, with the name of a route of the policy
--- no_error_log
stack traceback



=== TEST 4: mtls-location.conf protects its location inside `satisfy any`
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config
    satisfy any;
    allow all;
    location /payments {
        set $mtls_route payments;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
code a.test/payments
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
--- error_log
[mtls] 401



=== TEST 5: mtls-http.conf stops the start on a bad policy, with one line
--- user_files
>>> policy.yaml
_format_version: "3.0"
routes:
- name: payments
  plugins:
  - name: mtls-auht
--- http_config eval: $::Http
--- config eval: $::Config
--- suppress_stderr
--- must_die
--- error_log
policy.yaml:5:11: routes[0].plugins[0].name: unknown plugin 'mtls-auht', did you mean 'mtls-auth'?



=== TEST 6: policy.example.yaml loads once the operator has put a CA into it
--- user_files eval
open my $in, '<', "$TestMtls::Root/nginx-conf/policy.example.yaml" or die $!;
local $/;
my $policy = <$in>;
open my $pem, '<', "$TestMtls::Pki/ca-a.crt" or die $!;
my ($base64) = <$pem> =~ /-----\n(.*)\n-----/s;
$base64 =~ s/\n/\n    /g;
$policy =~ s/the CA that signs your clients' certificates/$base64/ or die "no place for the CA";
">>> policy.yaml\n$policy"
--- http_config eval: $::Http
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("payments") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
for name in payments.example.com x.partners.example.com enrolment.example.com www.example.com; do
    echo "$name $(tls sni=$name path=/t as=client-a | facts certreq ca_names status)"
done
--- client_out
payments.example.com certreq=1 ca_names=1:Test CA-A status=200
x.partners.example.com certreq=1 ca_names=1:Test CA-A status=200
enrolment.example.com certreq=1 ca_names=0 status=200
www.example.com certreq=0 ca_names=0 status=401
--- error_log
[mtls] 401
