# header-cert-auth behind proxies as they are: a Unix socket, HAProxy, Envoy in a chain of proxies, the PROXY protocol.

use lib 't/lib';
use TestMtls;

my ($haproxy, $envoy) = map { my $name = $_; (grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), "/usr/sbin",
    "$TestMtls::Root/target/readers/envoy/envoy/_bin")[0] } qw( haproxy envoy );
# An example of the page about header-cert-auth
sub shown {
    my ($name) = @_;

    open my $in, '<', "$TestMtls::Root/docs/header-cert-auth.md" or die $!;
    my $page = do { local $/; <$in> };
    $page =~ /^<!-- proxies: \Q$name\E -->\n```\w+\n(.*?)^```$/ms or die "the page has no example '$name'";

    return $1;
}

our $ProxyProtocol = shown("PROXY protocol") =~ s/127\.0\.0\.1:8081/127.0.0.1:\$TEST_NGINX_FRONT_PORT/r
    =~ s/location \//location \/see\/der/r =~ s/access\("payments"\)/access("der")/r
    =~ s/^    }\n\z/        content_by_lua_block { ngx.say(require("resty.mtls").client().subject_dn) }\n    }\n/mr;

$ENV{TEST_NGINX_FRONT_PORT} = $ENV{FRONT_PORT} = free_port();

our $Policy = policy("ca-a",
    route("rfc9440", "", plugin("header-cert-auth", "ca_certificates: [\@ca-a], certificate_header_name: Client-Cert, "
        . "certificate_header_format: rfc9440, skip_consumer_lookup: true, verify_depth: 5")),
    route("der", "", plugin("header-cert-auth", "ca_certificates: [\@ca-a], certificate_header_name: X-Client-Cert, "
        . "certificate_header_format: base64_encoded, skip_consumer_lookup: true")),
    map { route($_, "", plugin("header-cert-auth", "ca_certificates: [\@ca-a], certificate_header_name: "
        . "X-Forwarded-Client-Cert, certificate_header_format: xfcc, xfcc_element: $_, skip_consumer_lookup: true")) }
        qw( only last first ));

our ($NoHaproxy, $NoEnvoy) = map { !$_->[1] && "$_->[0] # SKIP there is no $_->[0]" } [ haproxy => $haproxy ], [ envoy => $envoy ];

our $Unix = 'init_by_lua_block { require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml", trusted_ips = { "unix:" } } }';
our $Tcp = $Unix =~ s/unix:/127.0.0.1/r;
our $See = <<'_EOC_';
    location ~ ^/see/(?<route>\w+) {
        access_by_lua_block { require("resty.mtls").access(ngx.var.route) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            local _, count = client.chain_pem:gsub("BEGIN", "")
            ngx.say(client.source, " ", client.verified, " ", client.subject_dn, " ", count)
        }
    }
_EOC_

our $HaproxyFront = <<"_EOC_" . <<'_EOC2_';
cat "\$PKI/server.crt" "\$PKI/server.key" >front.pem
cat >front.cfg <<END
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend front
    bind 127.0.0.1:\$FRONT_PORT ssl crt front.pem ca-file \$PKI/ca-a.crt verify optional ca-ignore-err all crt-ignore-err all
@{[ shown("haproxy.cfg") ]}
    default_backend gateway
backend gateway
    server gateway 127.0.0.1:\$HTTP_PORT
END
@{[ $haproxy // 'false' ]} -f front.cfg -db >haproxy.log 2>&1 &
front=\$!
trap 'kill \$front' EXIT
for _ in \$(seq 100); do curl -sk -o body "https://127.0.0.1:\$FRONT_PORT/" && break; sleep 0.05; done
_EOC_
for name in client-a client-int client-b; do echo "$(curl -sk $(as $name) "https://127.0.0.1:$FRONT_PORT/see/rfc9440")"; done
curl -sk "https://127.0.0.1:$FRONT_PORT/see/rfc9440" -H "Client-Cert: :$(base64_of client-a):"
_EOC2_

our $EnvoyFront = <<"_EOC_" . <<'_EOC2_';
envoy='@{[ $envoy // '' ]}'
_EOC_
python3 - "$PKI" "$FRONT_PORT" "$HTTP_PORT" >envoy.json <<'END'
import json, sys
pki, front, gateway = sys.argv[1:]
types = "type.googleapis.com/envoy.extensions."
manager = {
    "@type": types + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "a",
    "forward_client_cert_details": "APPEND_FORWARD",
    "set_current_client_cert_details": {key: True for key in ("cert", "subject", "uri", "dns")},
    "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": "u"}}]}]},
    "http_filters": [{"name": "r", "typed_config": {"@type": types + "filters.http.router.v3.Router"}}]}
tls = {"@type": types + "transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": {
    "tls_certificates": [{"certificate_chain": {"filename": pki + "/server.crt"}, "private_key": {"filename": pki + "/server.key"}}],
    "validation_context": {"trusted_ca": {"filename": pki + "/ca-a.crt"}, "trust_chain_verification": "ACCEPT_UNTRUSTED"}}}
at = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": int(port)}}
print(json.dumps({"static_resources": {
    "listeners": [{"address": at(front), "filter_chains": [{
        "transport_socket": {"name": "tls", "typed_config": tls}, "filters": [{"name": "h", "typed_config": manager}]}]}],
    "clusters": [{"name": "u", "connect_timeout": "20s", "load_assignment": {
        "cluster_name": "u", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(gateway)}}]}]}}]}}))
END
"$envoy" -c envoy.json --disable-hot-restart --concurrency 1 >envoy.log 2>&1 &
front=$!
trap 'kill $front' EXIT
for _ in $(seq 100); do curl -sk -o body "https://127.0.0.1:$FRONT_PORT/" && break; sleep 0.1; done
element() {
    echo "Hash=$(openssl x509 -in "$PKI/$1.crt" -outform DER | openssl dgst -sha256 -r | cut -d' ' -f1);Cert=\"$(escaped "$1")\""
}
through() {
    local route=$1 name=$2 before=${3-}
    echo "$route $name: $(curl -sk $(as "$name") ${before:+-H "X-Forwarded-Client-Cert: $before"} "https://127.0.0.1:$FRONT_PORT/see/$route")"
}
for route in only last first; do through $route client-a; done
for route in only last first; do through $route client-a "$(element client-multi);URI=spiffe://b"; done
# Text that would hide the element of the proxy, or replace it, and a client whose own names look like an element
through last client-b "$(element client-a)"
through last client-a "$(element client-multi);Subject=\""
through last client-comma
# The client forger has a URI that Envoy writes as the end of its own element and as another element, with client-multi in it
printf '[x]\nsubjectAltName = @names\nextendedKeyUsage = clientAuth\n[names]\nURI.1 = urn:x,%s\n' \
    "$(element client-multi | sed 's/"/\\"/g')" >forger.ext
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout forger.key -subj /CN=forger -out forger.csr 2>log
openssl x509 -req -in forger.csr -CA "$PKI/ca-a.crt" -CAkey "$PKI/ca-a.key" -set_serial 4711 -days 1 -extfile forger.ext \
    -extensions x -out forger.crt 2>log
PKI=. through last forger
PKI=. through first forger
grep -o '\[mtls\] 401 [^:]*: [^,]*' "$ERROR_LOG" | sort | uniq -c | sed 's/^ *//'
_EOC2_

run_blocks();

__DATA__

=== TEST 1: the header counts from a Unix socket only where trusted_ips has `unix:`
--- policy eval: $::Policy
--- http_config eval: $::Unix
--- config eval: "$::See    listen unix:\$TEST_NGINX_HTML_DIR/front.sock;\n"
--- client
line="Client-Cert: :$(base64_of client-a):"
curl -s --unix-socket "${ERROR_LOG%/logs/*}/html/front.sock" http://a.test/see/rfc9440 -H "$line"
header see/rfc9440 "$line"
--- client_out
header SUCCESS CN=client-a,O=Example 1
401 {"message":"No required TLS certificate was sent"}
--- error_log
[mtls] 401 no certificate: the header is from a peer that is not in trusted_ips



=== TEST 2: trusted_ips without `unix:` trusts no Unix socket
--- policy eval: $::Policy
--- http_config eval: $::Tcp
--- config eval: "$::See    listen unix:\$TEST_NGINX_HTML_DIR/front.sock;\n"
--- client
line="Client-Cert: :$(base64_of client-a):"
curl -s --unix-socket "${ERROR_LOG%/logs/*}/html/front.sock" http://a.test/see/rfc9440 -H "$line"; echo
header see/rfc9440 "$line"
--- no_error_log
[crit]
--- client_out
{"message":"No required TLS certificate was sent"}
200 header SUCCESS CN=client-a,O=Example 1



=== TEST 3: HAProxy's Client-Cert and its chain as one byte sequence, which may be empty, are read
--- policy eval: $::Policy
--- http_config eval: $::Tcp
--- config eval: $::See
--- client eval: $::NoHaproxy ? "true" : $::HaproxyFront
--- client_cases eval
$::NoHaproxy || <<'_EOC_'
header SUCCESS CN=client-a,O=Example 1
header SUCCESS CN=client-int,O=Example 2
{"message":"TLS certificate failed verification"}
{"message":"No required TLS certificate was sent"}
_EOC_
--- no_error_log
[crit]



=== TEST 4: xfcc_element takes the element of the nearest Envoy or the outermost proxy, and none that a client hides or forges
--- policy eval: $::Policy
--- http_config eval: $::Tcp
--- config eval: $::See
--- client eval: $::NoEnvoy ? "true" : $::EnvoyFront
--- client_cases eval
$::NoEnvoy || <<'_EOC_'
only client-a: header SUCCESS CN=client-a,O=Example 1
last client-a: header SUCCESS CN=client-a,O=Example 1
first client-a: header SUCCESS CN=client-a,O=Example 1
only client-a: {"message":"TLS certificate failed verification"}
last client-a: header SUCCESS CN=client-a,O=Example 1
first client-a: header SUCCESS OU=2,OU=1,OU=7+CN=a,C=CZ 1
last client-b: {"message":"TLS certificate failed verification"}
last client-a: {"message":"TLS certificate failed verification"}
last client-comma: header SUCCESS CN=client-comma,O=DigiCert\, Inc.,C=US 1
last forger: {"message":"TLS certificate failed verification"}
first forger: header SUCCESS CN=forger 1
1 [mtls] 401 certificate header refused: an element before the last has a certificate with a comma in a name
1 [mtls] 401 certificate header refused: several elements
1 [mtls] 401 certificate header refused: text after a value
_EOC_
--- no_error_log
[crit]



=== TEST 5: the certificate in a PROXY protocol header can be put into the request header
--- skip_nginx: 3: < 1.23.2
--- policy eval: $::Policy
--- http_config eval: $::Tcp
--- config eval: $::ProxyProtocol
--- client
cat >proxied.py <<'END'
import socket, struct, sys
tlv = lambda kind, value: bytes([kind]) + struct.pack(">H", len(value)) + value
port, header, *file = sys.argv[1:]
ssl = tlv(0x20, bytes([7]) + struct.pack(">I", 0) + tlv(0x28, open(file[0], "rb").read())) if file else b""
body = b"\x7f\0\0\1" * 2 + struct.pack(">HH", 1, 2) + ssl
sock = socket.create_connection(("127.0.0.1", int(port)))
sock.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", len(body)) + body
             + b"GET /see/der HTTP/1.0\r\n" + header.encode() + b"\r\n\r\n")
print(sock.makefile().read().strip().split("\n")[-1])
END
for name in client-a client-b; do openssl x509 -in "$PKI/$name.crt" -outform DER -out "$name.der"; done
python3 proxied.py "$FRONT_PORT" "X-A: b" client-a.der
python3 proxied.py "$FRONT_PORT" "X-Client-Cert: $(base64_of client-a)" client-b.der
python3 proxied.py "$FRONT_PORT" "X-Client-Cert: $(base64_of client-a)"
--- client_out
CN=client-a,O=Example
{"message":"TLS certificate failed verification"}
{"message":"No required TLS certificate was sent"}
--- no_error_log
[crit]
