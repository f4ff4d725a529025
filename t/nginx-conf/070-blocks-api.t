# /mtls/blocks and /mtls/flush of mtls-status.conf, included unchanged.

use lib 't/lib';
use TestMtls;

# mtls-http.conf reads the policy of this variable.
$ENV{RESTY_MTLS_POLICY} = html_dir() . "/policy.yaml";
$ENV{TEST_NGINX_STATUS_PORT} = free_port();
$ENV{STATUS_PORT} = $ENV{TEST_NGINX_STATUS_PORT};

our $Policy = ">>> policy.yaml\n" . expand_policy(policy("ca-a", route("payments", "a.test", mtls_auth("ca-a"))));

our $Http = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-http.conf;
    server {
        # All addresses of the loopback network
        listen 0.0.0.0:$TEST_NGINX_STATUS_PORT;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
    }
_EOC_

our $Config = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-server.conf;
    location /payments {
        set $mtls_route payments;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_

our $Client = <<'_EOC_';
# blocks [curl options]: status and body
blocks() { curl -s "http://127.0.0.1:$STATUS_PORT/mtls/blocks" -w '%{http_code}\n' "$@" | sed 's/"added":[0-9]*/"added":T/; s/"until":[0-9]*/"until":T/' | sort; }
json() { blocks -H 'Content-Type: application/json' "$@"; }
sha256() { openssl x509 -in "$PKI/$1.crt" -outform DER | sha256sum | cut -d' ' -f1; }
payments() { get a.test/payments $(as client-a) -o /dev/null -w '%{http_code}\n'; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: POST blocks, GET lists, DELETE unblocks
--- worker_processes: 2
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
payments
blocks
json -d "{\"sha256\": \"$(sha256 client-a)\", \"seconds\": 86400, \"reason\": \"key lost\"}"
payments
payments
blocks | python3 -c '
import json, sys
status, text = sorted(sys.stdin.read().replace(":T", ":1").split("\n"))[1:]
print(status, {key: value for key, value in sorted(json.loads(text)["blocks"][0].items()) if key != "sha256"})'
json -X DELETE -d "{\"sha256\": \"$(sha256 client-a)\"}"
payments
json -X DELETE -d "{\"sha256\": \"$(sha256 client-a)\"}"
blocks
json -d '{"serial": "0a:0b", "issuer_dn": "CN=CA,O=Example"}'
blocks | grep -o '"issuer_dn":"[^"]*"\|"serial":"[^"]*"\|"added":T\|"until"' | LC_ALL=C sort | paste -sd ' '
blocks -I | grep -ci '^content-type: application/json'
_EOC_
--- client_out
200
200
{"blocks":[]}
200
{"blocked":true}
401
401
200 {'added': 1, 'reason': 'key lost', 'until': 1}
204
200
404
{"message":"no such block"}
200
{"blocks":[]}
200
{"blocked":true}
"added":T "issuer_dn":"CN=CA,O=Example" "serial":"0a:0b"
1
--- error_log
(key lost), subject: "CN=client-a
--- no_error_log
[crit]
[alert]



=== TEST 2: bad input is 400 with a reason, another method 405 with Allow, a long body 413
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for body in '' '{' '"sha256"' '[]' '{}' 'null' '{"sha256": "xy"}' '{"sha256": null}' '{"sha256": 1}' '{"sha1": "00"}' \
    '{"serial": "01"}' '{"serial": "01", "issuer_dn": "CN"}' '{"serial": "01", "issuer_dn": "CN=a\nb"}' \
    '{"serial": "01", "issuer_dn": "CN=a", "seconds": -1}' '{"serial": "01", "issuer_dn": "CN=a", "seconds": 1e300}' \
    '{"serial": "01", "issuer_dn": "CN=a", "seconds": "1"}' '{"serial": "01", "issuer_dn": "CN=a", "reason": "a\nb"}'; do
    json -d "$body"
done
json -X DELETE -d '{"sha256": "xy"}'
json -X DELETE -d '{"sha256": "xy", "seconds": 1}'
blocks -d '{"serial": "01", "issuer_dn": "CN=a"}'
blocks -H 'Content-Type: text/plain' -d '{"serial": "01", "issuer_dn": "CN=a"}'
json -d '{"serial": "01", "issuer_dn": "CN=a"}' -H 'Origin: http://127.0.0.1'
blocks -H 'Sec-Fetch-Site: same-site'
# A name that somebody lets resolve to this machine
for host in rebind.example:$STATUS_PORT 127.0.0.1.example localhost.example 127.0.0.1:x '[::1].example' \
    127.0.0.1 '[::1]:8080' LocalHost:8080; do
    json -d '{}' -H "Host: $host"
done
# Without a Host
json -0 -d '{}' -H Host:
blocks -X PUT
blocks -X PUT -D - -o /dev/null | tr -d '\r' | grep -i '^allow'
head -c 9000 /dev/zero | tr '\0' ' ' > long
json -d @long -o /dev/null
blocks
_EOC_
--- client_out
400
{"message":"the body: expected a JSON object"}
400
{"message":"the body: expected a JSON object"}
400
{"message":"the body: expected a JSON object"}
400
{"message":"expected sha256, spki_sha256, or serial and issuer_dn"}
400
{"message":"expected sha256, spki_sha256, or serial and issuer_dn"}
400
{"message":"the body: expected a JSON object"}
400
{"message":"'xy' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without colons"}
400
{"message":"sha256: expected a string"}
400
{"message":"sha256: expected a string"}
400
{"message":"unknown field 'sha1', expected sha256, spki_sha256, serial, issuer_dn, seconds or reason"}
400
{"message":"expected sha256, spki_sha256, or serial and issuer_dn"}
400
{"message":"issuer 'CN': an attribute without '=', expected a name as in $ssl_client_i_dn, such as 'CN=CA,O=Example'"}
400
{"message":"issuer_dn: expected text on one line"}
400
{"message":"seconds: expected a number of at least 1"}
400
{"message":"seconds: expected a number of at least 1"}
400
{"message":"seconds: expected a number"}
400
{"message":"reason: expected one line of at most 500 bytes"}
400
{"message":"'xy' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without colons"}
400
{"message":"seconds and reason: expected none of them"}
400
{"message":"Content-Type: expected application\/json"}
400
{"message":"Content-Type: expected application\/json"}
403
{"message":"a request of another site"}
403
{"message":"a request of another site"}
403
{"message":"Host: expected an IP address, localhost or the server_name"}
403
{"message":"Host: expected an IP address, localhost or the server_name"}
403
{"message":"Host: expected an IP address, localhost or the server_name"}
403
{"message":"Host: expected an IP address, localhost or the server_name"}
403
{"message":"Host: expected an IP address, localhost or the server_name"}
400
{"message":"expected sha256, spki_sha256, or serial and issuer_dn"}
400
{"message":"expected sha256, spki_sha256, or serial and issuer_dn"}
400
{"message":"expected sha256, spki_sha256, or serial and issuer_dn"}
400
{"message":"expected sha256, spki_sha256, or serial and issuer_dn"}
405
{"message":"PUT, expected one of GET, HEAD, POST, DELETE"}
Allow: GET, HEAD, POST, DELETE
413
200
{"blocks":[]}
--- error_log
client intended to send too large body
--- no_error_log
[alert]



=== TEST 3: only this machine has access
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
for address in 127.0.0.1 127.0.0.2; do
    curl -s --interface "$address" -o /dev/null -w "$address %{http_code}\n" "http://127.0.0.1:$STATUS_PORT/mtls/blocks"
    curl -s --interface "$address" -o /dev/null -w "$address %{http_code}\n" -X POST "http://127.0.0.1:$STATUS_PORT/mtls/flush"
done
--- client_out
127.0.0.1 200
127.0.0.1 204
127.0.0.2 403
127.0.0.2 403
--- error_log
access forbidden by rule



=== TEST 4: POST /mtls/flush calls flush(), and nothing else does
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
flush() { curl -s "http://127.0.0.1:$STATUS_PORT/mtls/flush" -w '%{http_code} ' "$@"; grep -c '\[mtls\] flushed' "$ERROR_LOG"; }
flush
flush -X POST -H 'Origin: http://127.0.0.1'
flush -X POST -H 'Sec-Fetch-Site: cross-site'
flush -X POST
flush -d body
curl -s "http://127.0.0.1:$STATUS_PORT/mtls/flush" -D - -o /dev/null | tr -d '\r' | grep -i '^allow'
--- client_out
{"message":"GET, expected one of POST"}
405 0
{"message":"a request of another site"}
403 0
{"message":"a request of another site"}
403 0
204 1
204 2
Allow: POST
--- no_error_log
[error]
[crit]
[alert]
