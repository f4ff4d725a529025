# Clients that keep connections and know no 421 are on a new connection after it. Each sends two requests under a policy
# that requests no certificate, and three more after a reload by which the name starts to request one. "N:STATUS" has the
# number of the connection.

use lib 't/lib';
use TestMtls;
use TestRotation;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    enabled: false
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
_EOC_

our $Requested = expand_policy($Policy =~ s/    enabled: false\n//r);

our $Http = <<'_EOC_';
    upstream gateway {
        server 127.0.0.1:$TEST_NGINX_TLS_PORT;
        keepalive 4;
    }
_EOC_

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
    location /change {
        content_by_lua_block {
            assert(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/requested.yaml"))
            ngx.say("changed")
        }
    }
    location /front {
        proxy_pass https://gateway/t;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host a.test;
        proxy_ssl_server_name on;
        proxy_ssl_name a.test;
        proxy_ssl_certificate $TEST_NGINX_PKI/client-a.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client-a.key;
    }
_EOC_

our $Client = <<'_EOC_';
change=http://127.0.0.1:$HTTP_PORT/change
certificate="$PKI/client-a.crt $PKI/client-a.key"
pooled=$TEST_NGINX_ROOT/t/clients/pooled
curl_pooled() {
    local one=(-sk $1 --connect-to "::127.0.0.1:$PORT" $(as client-a) -o /dev/null -w '%{num_connects}:%{http_code} ' https://a.test/t)
    curl "${one[@]}" --next "${one[@]}" --next -s -o /dev/null "$change" --next "${one[@]}" --next "${one[@]}" --next "${one[@]}"
}
front() {
    for i in 1 2 3 4 5; do
        [ $i != 3 ] || curl -s -o /dev/null "$change"
        curl -s -o /dev/null -w '%{http_code} ' "http://127.0.0.1:$HTTP_PORT/front"
    done
}
java_pooled() {
    echo "127.0.0.1 a.test" >hosts
    openssl pkcs12 -export -in "$PKI/client-a.crt" -inkey "$PKI/client-a.key" -passout pass:pass -out client.p12
    java -Djdk.net.hosts.file=hosts -Djdk.internal.httpclient.disableHostnameVerification=true \
        "$pooled/Pooled.java" "$1" "$PORT" "$change" client.p12
}
_EOC_

our $Go = "$TestMtls::Root/target/readers/pooled/pooled";
our %Missing = (
    go => -x $Go ? "" : "the client in Go is not built (t/install-test-tools.sh)",
    java => system("java -version >/dev/null 2>&1 && command -v javac >/dev/null") == 0 ? "" : "no JDK is installed",
    requests => system("python3 -c 'import requests' 2>/dev/null") == 0 ? "" : "requests is not installed",
);

run_blocks();

__DATA__

=== TEST 1: after a 421 curl is on a new connection, over HTTP/1.1
--- policy eval: $::Policy
--- user_files eval: ">>> requested.yaml\n$::Requested"
--- config eval: $::Config
--- http_config eval: $::Http
--- client eval
$::Client . "curl_pooled --http1.1"
--- client_out chomp
1:200 0:200 0:421 1:200 0:200 
--- no_error_log
[crit]
[alert]



=== TEST 2: after a 421 curl is on a new connection, over HTTP/2
--- policy eval: $::Policy
--- tls_options: http2
--- user_files eval: ">>> requested.yaml\n$::Requested"
--- config eval: $::Config
--- http_config eval: $::Http
--- client eval
$::Client . "curl_pooled --http2"
--- client_out chomp
1:200 0:200 0:421 1:200 0:200 
--- no_error_log
[crit]
[alert]



=== TEST 3: after a 421 an nginx in front with keepalive is on a new connection
--- policy eval: $::Policy
--- user_files eval: ">>> requested.yaml\n$::Requested"
--- config eval: $::Config
--- http_config eval: $::Http
--- client eval
$::Client . "front"
--- client_out chomp
200 200 421 200 200 
--- no_error_log
[crit]
[alert]



=== TEST 4: after a 421 Python's requests is on a new connection
--- policy eval: $::Policy
--- skip_eval: 4: $::Missing{requests}
--- user_files eval: ">>> requested.yaml\n$::Requested"
--- config eval: $::Config
--- http_config eval: $::Http
--- client eval
$::Client . 'python3 "$pooled/pooled.py" "$PORT" "$change" $certificate'
--- client_out eval: "200 200 421 200 200 \n"
--- no_error_log
[crit]
[alert]



=== TEST 5: after a 421 Go's net/http is on a new connection, over HTTP/1.1
--- policy eval: $::Policy
--- skip_eval: 4: $::Missing{go}
--- user_files eval: ">>> requested.yaml\n$::Requested"
--- config eval: $::Config
--- http_config eval: $::Http
--- client eval
$::Client . "'$::Go' h1 \$PORT \$change \$certificate"
--- client_out eval: "1:200 1:200 1:421 2:200 2:200 \n"
--- no_error_log
[crit]
[alert]



=== TEST 6: after a 421 Go's net/http is on a new connection, over HTTP/2
--- policy eval: $::Policy
--- skip_eval: 4: $::Missing{go}
--- tls_options: http2
--- user_files eval: ">>> requested.yaml\n$::Requested"
--- config eval: $::Config
--- http_config eval: $::Http
--- client eval
$::Client . "'$::Go' h2 \$PORT \$change \$certificate"
--- client_out eval: "1:200 1:200 1:421 2:200 2:200 \n"
--- no_error_log
[crit]
[alert]



=== TEST 7: after a 421 Java's HttpClient is on a new connection, over HTTP/1.1
--- policy eval: $::Policy
--- skip_eval: 4: $::Missing{java}
--- user_files eval: ">>> requested.yaml\n$::Requested"
--- config eval: $::Config
--- http_config eval: $::Http
--- client eval
$::Client . "java_pooled h1"
--- client_out eval: "200 200 421 200 200 \n"
--- no_error_log
[crit]
[alert]



=== TEST 8: after a 421, or what its HttpClient makes of GOAWAY, Java is on a new connection, over HTTP/2
--- policy eval: $::Policy
--- skip_eval: 4: $::Missing{java}
--- tls_options: http2
--- user_files eval: ">>> requested.yaml\n$::Requested"
--- config eval: $::Config
--- http_config eval: $::Http
--- client eval
$::Client . "java_pooled h2"
--- client_out_like
\A200 200 (?:421|GOAWAY) 200 200 \n\z
--- no_error_log
[crit]
[alert]
