# Every request checks the validity period: a certificate that expires during its connection is refused from then on.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: client-short
routes:
- name: mapped
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a]}
- name: holder
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true}
_EOC_

our $Config = <<'_EOC_';
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        content_by_lua_block { ngx.say("connection ", ngx.var.connection_requests) }
    }
_EOC_

# one_connection STEP...: requests on one connection; a step is a route, or @ and the Unix time to wait for
our $Client = <<'_EOC_';
one_connection() {
    python3 - "$PORT" client-short.crt client-short.key "$@" <<'END'
import http.client, socket, ssl, sys, time
port, certificate, key, *steps = sys.argv[1:]
context = ssl._create_unverified_context()
context.load_cert_chain(certificate, key)
connection = http.client.HTTPConnection("a.test")
connection.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))), server_hostname="a.test")
connection.auto_open = False
for step in steps:
    if step.startswith("@"):
        time.sleep(max(0, float(step[1:]) - time.time()))
        continue
    connection.request("GET", "/to/" + step)
    answer = connection.getresponse()
    print(step, answer.status, answer.read().decode().strip())
END
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() answers 401 one second after notAfter on a live connection
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
# With a longer life, if a loaded machine has sent the requests of before the end too late.
for seconds in 5 20 60; do
    end=$("$TEST_NGINX_ROOT/t/pki/make" short-lived "$TMP" $seconds)
    one_connection mapped holder mapped @$((end - 2)) mapped holder @$((end + 1)) mapped holder mapped >statuses
    [ "$(head -n 5 statuses | grep -c ' 200 ')" -lt 5 ] || break
done
cat statuses
_EOC_
--- client_out
mapped 200 connection 1
holder 200 connection 2
mapped 200 connection 3
mapped 200 connection 4
holder 200 connection 5
mapped 401 {"message":"TLS certificate failed verification"}
holder 401 {"message":"TLS certificate failed verification"}
mapped 401 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 FAILED:certificate has expired at depth 0, subject: "CN=client-short", issuer: "CN=Test CA-A,O=Example Lab,C=CZ", serial: 5407



=== TEST 2: access() answers 401 after notAfter on a resumed session and on a new connection
--- policy eval: $::Policy
--- config eval: $::Config
--- client
short="crt=client-short.crt key=client-short.key"
# With a longer life, if a loaded machine has sent the requests of before the end too late.
for seconds in 5 20 60; do
    end=$("$TEST_NGINX_ROOT/t/pki/make" short-lived "$TMP" $seconds)
    for version in 1.2 1.3; do
        tls tls=$version sni=a.test path=/to/mapped $short sess_out=session-$version | facts reused body
        tls tls=$version sni=a.test path=/to/mapped $short sess_in=session-$version | facts reused body
    done >before
    [ "$(grep -c connection before)" -lt 4 ] || break
done
cat before
while [ "$(date +%s)" -le "$end" ]; do sleep 0.2; done
for version in 1.2 1.3; do
    tls tls=$version sni=a.test path=/to/mapped $short sess_in=session-$version | facts reused body
done
code a.test/to/mapped --cert client-short.crt --key client-short.key
--- client_out
reused=0 body=connection 1
reused=1 body=connection 1
reused=0 body=connection 1
reused=1 body=connection 1
reused=1 body={"message":"TLS certificate failed verification"}
reused=1 body={"message":"TLS certificate failed verification"}
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 FAILED:certificate has expired at depth 0, subject: "CN=client-short"
