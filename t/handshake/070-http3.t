# HTTP/3 has the same TLS handshake inside QUIC, and requests get the same responses.

use lib 't/lib';
use TestMtls;
use TestRotation;

my $nginx = $ENV{TEST_NGINX_BINARY} // "nginx";

for my $needed (
    ["nginx -V | grep http_v3_module", "$nginx -V 2>&1 | grep -q with-http_v3_module", "this nginx does not speak HTTP/3"],
    ["aioquic", "python3 -c 'import aioquic'", "python3-aioquic is not installed"],
    ["curl", "curl --version | grep -q HTTP3", "this curl does not speak HTTP/3"],
) {
    plan(skip_all => $needed->[2]) if system("$needed->[1] >/dev/null 2>&1");
}

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: a
  snis: [a.test]
  plugins: &a
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
  - name: tls-metadata-headers
    config: {inject_client_cert_details: true, client_cert_chain_header_name: X-Chain}
- name: b
  snis: [b.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-b], skip_consumer_lookup: true}
- name: c
  snis: [c.test]
  plugins: *a
- name: n
  snis: [n.test]
_EOC_

our $Removed = expand_policy($Policy =~ s/ca_certificates: \[\@ca-a\]/ca_certificates: [\@ca-b]/r);

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access(ngx.var.host:sub(1, 1)) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client and client.verified .. " " .. client.subject_dn or "-", " chain ",
                    client and select(2, client.chain_pem:gsub("BEGIN", "")) or 0)
        }
    }
    location /up {
        access_by_lua_block { require("resty.mtls").access(ngx.var.host:sub(1, 1)) }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /reload {
        content_by_lua_block { assert(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_to .. ".yaml")) }
    }
_EOC_

our $Tickets = "    ssl_early_data on;\n    ssl_session_tickets on;\n";
our $Cache = "    ssl_session_tickets off;\n    ssl_session_cache shared:sessions:1m;\n";

our $Client = <<'_EOC_';
# h3 OPTION...: as tls, over HTTP/3
h3() { TLS_CLIENT=$TEST_NGINX_ROOT/t/clients/http3.py tls path=/t "$@"; }
_EOC_

our $Matrix = $Client . <<'_EOC_';
# resume FROM TO AS: client-int makes a session under FROM, and AS offers it to TO
resume() {
    rm -f session
    h3 sni=$1.test as=client-int sess_out=session >/dev/null
    echo "$1>$2 $3 $(h3 sni=$2.test as=$3 sess_in=session | facts reused certreq status body)"
}
echo "- $(h3 sni=a.test | facts reused certreq status body)"
resume a a client-int
resume a b client-int
resume a b client-b
resume n b client-b
resume n a client-int
resume a n client-int
resume n n client-int
resume a c client-int
h3 sni=a.test host=a.test,b.test,n.test,c.test,a.test as=client-int | facts certreq status
h3 sni=n.test host=n.test,a.test,n.test as=client-int | facts certreq status
# A session of an HTTP/1.1 connection is offered over HTTP/3.
h3 sni=a.test as=client-int sess_out=session >/dev/null
get n.test/reload?to=removed
h3 sni=a.test as=client-int sess_in=session | facts reused certreq status
get n.test/reload?to=policy
h3 sni=a.test as=client-int sess_in=session | facts reused certreq status
_EOC_
$Matrix =~ s/^# What an HTTP.*\n//m;

our $Expected = <<'_EOC_';
- reused=0 certreq=1 status=401 body={"message":"No required TLS certificate was sent"}
a>a client-int reused=1 certreq=0 status=200 body=SUCCESS CN=client-int,O=Example chain 2
a>b client-int reused=0 certreq=1 status=401 body={"message":"TLS certificate failed verification"}
a>b client-b reused=0 certreq=1 status=200 body=SUCCESS CN=client-b,O=Example chain 1
n>b client-b reused=0 certreq=1 status=200 body=SUCCESS CN=client-b,O=Example chain 1
n>a client-int reused=0 certreq=1 status=200 body=SUCCESS CN=client-int,O=Example chain 2
a>n client-int reused=0 certreq=0 status=200 body=- chain 0
n>n client-int reused=1 certreq=0 status=200 body=- chain 0
a>c client-int reused=1 certreq=0 status=200 body=SUCCESS CN=client-int,O=Example chain 2
certreq=1 status=200,421,200,200,200
certreq=0 status=200,421,200
reused=0 certreq=1 status=401
reused=1 certreq=0 status=200
_EOC_

# Each stream of a QUIC connection takes one.
worker_connections(512);

run_blocks();

__DATA__

=== TEST 1: access() over HTTP/3 with tickets: a session serves only names with the same certificate request
--- quic
--- user_files eval: ">>> removed.yaml\n$::Removed"
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval: $::Matrix
--- client_out eval: $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 2: access() over HTTP/3 with a session cache: a session serves only names with the same certificate request
--- quic
--- user_files eval: ">>> removed.yaml\n$::Removed"
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- vhosts: a.test b.test c.test n.test
--- config eval: $::Config
--- client eval: $::Matrix
--- client_out eval: $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 3: access() over HTTP/3 sends the headers that it sends over HTTP/1.1
--- quic
--- policy eval: $::Policy
--- config eval: $::Config
--- client
for as in client-a client-int; do
    get a.test/up $(as $as) -H 'X-Client-Cert: forged' | grep ^X- >one
    curl -sk --http3-only --max-time 20 --connect-to "::127.0.0.1:$PORT" $(as $as) -H 'X-Client-Cert: forged' \
        https://a.test/up | grep ^X- >three
    cmp one three && sed 's/:.*//' three | paste -sd ' '
done
--- client_out
X-Client-Cert-Dn X-Client-Cert X-Client-Cert-Serial X-Client-Cert-Issuer-DN X-Client-Cert-Subject-DN X-Client-Cert-Fingerprint X-Chain
X-Client-Cert-Dn X-Client-Cert X-Client-Cert-Serial X-Client-Cert-Issuer-DN X-Client-Cert-Subject-DN X-Client-Cert-Fingerprint X-Chain
--- no_error_log
[error]
[crit]
[alert]



=== TEST 4: access() over HTTP/3 answers 425 to early data, where this nginx accepts any over QUIC
--- quic
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
h3 sni=a.test as=client-a sess_out=session >/dev/null
h3 sni=a.test host=a.test,a.test as=client-a sess_in=session early=1 | facts reused early status body
_EOC_
--- client_out_like
\Areused=1 early=(?:accepted status=425,200|refused status=200,200) body=SUCCESS CN=client-a,O=Example chain 1\n\z
--- no_error_log
[crit]
[alert]



=== TEST 5: a change of the policy over HTTP/3: as over HTTP/1.1, and connections end by CONNECTION_CLOSE
--- quic
--- policy eval: $::RotationPolicy
--- http_config eval: $::Cache
--- config eval: $::RotationConfig
--- client eval: TestRotation::rotation("h3")
--- client_out eval: $::RotationExpected
--- no_error_log
[crit]
[alert]
