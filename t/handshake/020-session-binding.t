# Whatever server names a client sends, a request reaches a protected route only over a TLS session whose handshake made
# that route's certificate request. a.test and b.test trust different CAs, c.test has the certificate request of a.test,
# n.test has none.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: a
  snis: [a.test]
  plugins: &a
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], send_ca_dn: true, skip_consumer_lookup: true}
- name: b
  snis: [b.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-b], send_ca_dn: true, skip_consumer_lookup: true}
- name: c
  snis: [c.test]
  plugins: *a
- name: n
  snis: [n.test]
_EOC_

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access(ngx.var.host:sub(1, 1)) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(ngx.var.host, " ", client and client.verified .. " " .. client.subject_dn or "-")
        }
    }
_EOC_

our $Tickets = "    ssl_session_tickets on;\n    ssl_ecdh_curve X25519:P-256;\n";
our $Cache = "    ssl_session_tickets off;\n    ssl_session_cache shared:sessions:1m;\n    ssl_ecdh_curve X25519:P-256;\n";

# resume VERSION FROM TO AS: client-a makes a session under FROM, and AS offers it to TO
our $Client = <<'_EOC_';
resume() {
    local version=$1 from=$2 to=$3 as=$4
    rm -f session
    tls tls=$version sni=$from.test path=/t as=client-a sess_out=session >/dev/null
    [ -s session ] || echo "no session was made at $from"
    echo "$version $from>$to $as $(tls tls=$version sni=$to.test path=/t as=$as sess_in=session |
        facts reused certreq ca_names status body)"
}
# hello FROM TO HOST AS: the server name changes from FROM to TO after a HelloRetryRequest; the request is for HOST
hello() {
    rm -f session
    echo "hrr $1>$2 host $3 $(tls tls=1.3 sni=$1.test sni2=$2.test host=$3.test path=/t as=$4 sess_out=session \
        groups=P-521:X25519 | facts retried certreq status body)"
    echo "hrr $1>$2 resumed at $3 $(tls tls=1.3 sni=$3.test path=/t as=$4 sess_in=session | facts reused certreq status body)"
}
for version in 1.2 1.3; do
    resume $version a a client-a
    resume $version a b client-a
    resume $version a b client-b
    resume $version n b client-b
    resume $version n a client-a
    resume $version a n client-a
    resume $version n n client-a
    resume $version a c client-a
    echo "$version host!=sni $(tls tls=$version sni=a.test host=a.test,b.test,n.test,c.test,a.test path=/t as=client-a | facts status)"
    echo "$version host!=sni $(tls tls=$version sni=n.test host=n.test,a.test,n.test path=/t as=client-a | facts status)"
    echo "$version no sni $(tls tls=$version sni= host=a.test,n.test path=/t as=client-a | facts certreq status)"
done

hello b b b client-b
hello n b b client-b
hello b n b client-b
hello b n n client-b
hello a b b client-a
hello a b b client-b
hello a b a client-a
_EOC_

our $Expected = '';

for my $v ("1.2", "1.3") {
    $Expected .= <<"_EOC_";
$v a>a client-a reused=1 certreq=0 ca_names=0 status=200 body=a.test SUCCESS CN=client-a,O=Example
$v a>b client-a reused=0 certreq=1 ca_names=1:Test CA-B status=401 body={"message":"TLS certificate failed verification"}
$v a>b client-b reused=0 certreq=1 ca_names=1:Test CA-B status=200 body=b.test SUCCESS CN=client-b,O=Example
$v n>b client-b reused=0 certreq=1 ca_names=1:Test CA-B status=200 body=b.test SUCCESS CN=client-b,O=Example
$v n>a client-a reused=0 certreq=1 ca_names=1:Test CA-A status=200 body=a.test SUCCESS CN=client-a,O=Example
$v a>n client-a reused=0 certreq=0 ca_names=0 status=200 body=n.test -
$v n>n client-a reused=1 certreq=0 ca_names=0 status=200 body=n.test -
$v a>c client-a reused=1 certreq=0 ca_names=0 status=200 body=c.test SUCCESS CN=client-a,O=Example
$v host!=sni status=200,421,200,200,200
$v host!=sni status=200,421,200
$v no sni certreq=0 status=421,200
_EOC_
}

$Expected .= <<'_EOC_';
hrr b>b host b retried=1 certreq=1 status=200 body=b.test SUCCESS CN=client-b,O=Example
hrr b>b resumed at b reused=1 certreq=0 status=200 body=b.test SUCCESS CN=client-b,O=Example
hrr n>b host b retried=1 certreq=0 status=421 body={"message":"Misdirected Request"}
hrr n>b resumed at b reused=0 certreq=1 status=200 body=b.test SUCCESS CN=client-b,O=Example
hrr b>n host b retried=1 certreq=1 status=200 body=b.test SUCCESS CN=client-b,O=Example
hrr b>n resumed at b reused=1 certreq=0 status=200 body=b.test SUCCESS CN=client-b,O=Example
hrr b>n host n retried=1 certreq=1 status=200 body=n.test FAILED:not verified CN=client-b,O=Example
hrr b>n resumed at n reused=0 certreq=0 status=200 body=n.test -
hrr a>b host b retried=1 certreq=1 status=421 body={"message":"Misdirected Request"}
hrr a>b resumed at b reused=0 certreq=1 status=401 body={"message":"TLS certificate failed verification"}
hrr a>b host b retried=1 certreq=1 status=421 body={"message":"Misdirected Request"}
hrr a>b resumed at b reused=0 certreq=1 status=200 body=b.test SUCCESS CN=client-b,O=Example
hrr a>b host a retried=1 certreq=1 status=200 body=a.test SUCCESS CN=client-a,O=Example
hrr a>b resumed at a reused=1 certreq=0 status=200 body=a.test SUCCESS CN=client-a,O=Example
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() with tickets, default server: a session serves only names with the same certificate request
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval: $::Client
--- client_cases eval: $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 2: access() with tickets, named servers: a session serves only names with the same certificate request
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- vhosts: a.test b.test c.test n.test
--- config eval: $::Config
--- client eval: $::Client
--- client_cases eval: $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 3: access() with a session cache, default server: a session serves only names with the same certificate request
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- config eval: $::Config
--- client eval: $::Client
--- client_cases eval: $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 4: access() with a session cache, named servers: a session serves only names with the same certificate request
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- vhosts: a.test b.test c.test n.test
--- config eval: $::Config
--- client eval: $::Client
--- client_cases eval: $::Expected
--- no_error_log
[crit]
[alert]
