# Early data (0-RTT) can be replayed, with the client certificate of the session. A route that uses the certificate
# answers it with 425, and serves the request after the handshake.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: a
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}}]
- name: b
  snis: [b.test]
  plugins: [{name: mtls-auth, config: {ca_certificates: [@ca-b], skip_consumer_lookup: true}}]
- name: headers
  snis: [a.test]
  plugins:
  - name: tls-handshake-modifier
  - name: tls-metadata-headers
    config: {inject_client_cert_details: true}
- name: open
  snis: [n.test]
_EOC_

our $Config = <<'_EOC_';
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        content_by_lua_block { ngx.say("in", ngx.var.ssl_early_data and " early" or "", " ", ngx.var.connection_requests) }
    }
_EOC_

our $Tickets = "    ssl_early_data on;\n    ssl_session_tickets on;\n";
our $Cache = "    ssl_early_data on;\n    ssl_session_tickets off;\n    ssl_session_cache shared:sessions:1m;\n";

# early SNI HOSTS PATH AS: makes a session, then connects with it and sends the first request as early data
our $Client = <<'_EOC_';
early() {
    rm -f session
    tls tls=1.3 sni=$1 path=/none as=$4 sess_out=session >/dev/null
    echo "$1 $2 $3 $(tls tls=1.3 sni=$1 host=$2 path=/to/$3 as=$4 sess_in=session early=1 | facts reused early status body)"
}
early a.test a.test a client-a
early a.test a.test,a.test,a.test a client-a
early a.test a.test,a.test headers client-a
early n.test n.test open client-a
early n.test n.test,n.test open client-a
# A Host of another certificate request is refused in early data too.
early n.test b.test,b.test b client-b
rm -f session
tls tls=1.3 sni=a.test path=/none sess_out=session >/dev/null
tls tls=1.3 sni=a.test host=a.test,a.test path=/to/a sess_in=session early=1 | facts early status body
echo "$(grep -c '\[mtls\] 425 too early: the request was sent as early data' "$ERROR_LOG") in the log"
_EOC_

our $Expected = <<'_EOC_';
a.test a.test a reused=1 early=accepted status=425 body={"message":"Too Early"}
a.test a.test,a.test,a.test a reused=1 early=accepted status=425,200,200 body=in 3
a.test a.test,a.test headers reused=1 early=accepted status=425,200 body=in 2
n.test n.test open reused=1 early=accepted status=200 body=in early 1
n.test n.test,n.test open reused=1 early=accepted status=200,200 body=in 2
n.test b.test,b.test b reused=1 early=accepted status=425,421 body={"message":"Misdirected Request"}
early=accepted status=425,401 body={"message":"No required TLS certificate was sent"}
5 in the log
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() answers 425 to early data on a ticket
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval: $::Client
--- client_out eval: $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 2: access() answers 425 to early data on a cached session
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- vhosts: a.test b.test n.test
--- config eval: $::Config
--- client eval: $::Client
--- client_out eval: $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 3: nginx accepts no early data unless ssl_early_data is on
--- policy eval: $::Policy
--- config eval: $::Config
--- client
tls tls=1.3 sni=a.test path=/none as=client-a sess_out=session >/dev/null
tls tls=1.3 sni=a.test path=/to/a as=client-a sess_in=session early=1
--- client_out_like
error=early data
--- no_error_log
[crit]
[alert]



=== TEST 4: access() sets $mtls_decision to too_early
--- policy eval: $::Policy
--- http_config eval
$::Tickets . <<'_EOC_';
    map "" $mtls_decision { default ""; }
    log_format decision '$status $mtls_decision';
_EOC_
--- config eval
$::Config =~ s|location /to/ \{|$&\n        access_log \$TEST_NGINX_HTML_DIR/decisions.log decision;|r
--- client
tls tls=1.3 sni=a.test path=/none as=client-a sess_out=session >/dev/null
tls tls=1.3 sni=a.test host=a.test,a.test path=/to/a as=client-a sess_in=session early=1 | facts status
cat decisions.log
--- client_out
status=425,200
425 too_early
200 pass
--- no_error_log
[crit]
[alert]
