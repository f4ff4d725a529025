# Subrequests share the list of request headers with their main request in nginx. What is removed or set for one must
# not change the other, however many headers the client sends and however nginx has split the list.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a ca-b",
    route("a", "a.test", mtls_auth("ca-a"), plugin("tls-metadata-headers", "inject_client_cert_details: true")),
    route("b", "a.test", mtls_auth("ca-b", "anonymous: guest, skip_consumer_lookup: true")))
    . "consumers: [{username: guest}]\n";

our $Http = "    include $TestMtls::Root/nginx-conf/mtls-variables.conf;\n    log_format sub '\$http_x_consumer_username|\$http_x_client_cert_serial|\$http_authorization';\n";

our $Backend = free_port();
our $Backends = <<"_EOC_";
    server {
        listen 127.0.0.1:$Backend;
        location / { access_log \$TEST_NGINX_HTML_DIR/subs.log sub; return 204; }
    }
_EOC_

our $Config = <<"_EOC_";
    include $TestMtls::Root/nginx-conf/mtls-server.conf;
    location /stripped {
        set \$mtls_route a;
        include $TestMtls::Root/nginx-conf/mtls-location-rewrite.conf;
        auth_request /check;
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location = /check { internal; proxy_pass http://127.0.0.1:$Backend; }
    location /decided {
        set \$mtls_route a;
        include $TestMtls::Root/nginx-conf/mtls-location-rewrite.conf;
        auth_request /b;
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location /access-phase {
        set \$mtls_route a;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        auth_request /b-in-access;
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location = /b-in-access {
        set \$mtls_route b;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        proxy_pass http://127.0.0.1:$Backend;
    }
    location /main-in-access {
        set \$mtls_route a;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        auth_request /b;
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location /open {
        auth_request /b;
        mirror /b;
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    # It sets the variable of its main request, too.
    location = /b {
        set \$mtls_route b;
        include $TestMtls::Root/nginx-conf/mtls-location-rewrite.conf;
        proxy_pass http://127.0.0.1:$Backend;
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: the upstream gets the headers of the route, and the subrequest those of its own
--- policy eval: $::Policy
--- http_config eval: $::Http . $::Backends
--- config eval: $::Config
--- client
fillers=()
for i in {1..40}; do fillers+=(-H "X-Filler-$i: $i"); done
forged=(-H 'X-Client-Cert-Serial: forged' -H 'X-Consumer-Username: forged')
for path in stripped decided; do
    for forge in 0 1; do
        for n in {0..40..4} 17 18 19; do
            get a.test/$path $(as client-a) -H 'Authorization: x' "${forged[@]:0:$((4*forge))}" "${fillers[@]:0:$((2*n))}" >got
            echo "$path $(grep -c '^X-Client-Cert' got) $(grep -cE 'X-Consumer|forged' got) $(($(grep -c '^X-Filler' got) - n)) $(grep -c '^Authorization: x' got)"
        done
    done
done | sort | uniq -c
get a.test/decided -o /dev/null -w '%{http_code}\n'
LC_ALL=C sort subs.log | uniq -c
# mtls-location.conf: enforced is the route of the main request.
get a.test/access-phase -o /dev/null -w '%{http_code}\n'
get a.test/access-phase $(as client-a) >got; grep -c '^X-Client-Cert' got; grep -c X-Consumer got
--- client_out
     28 decided 7 0 0 1
     28 stripped 7 0 0 1
401
     28 -|-|x
     28 guest|-|x
401
7
0
--- error_log
[mtls] 401



=== TEST 2: a request of HTTP/1.0 without headers, or with none but reserved ones, has subrequests as others do
--- policy eval: $::Policy
--- http_config eval: $::Http . $::Backends
--- config eval: $::Config
--- client
cat >raw.py <<'END'
import os, socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.load_cert_chain(os.environ["PKI"] + "/client-a.crt", os.environ["PKI"] + "/client-a.key")
forged = ("X-Client-Cert-Serial: forged\r\n", "X-Consumer-Username: forged\r\n", "X-Client-Cert: forged\r\n")
for path in "stripped", "decided", "access-phase", "main-in-access", "open":
    for count in range(4):
        with socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), 20) as tcp:
            with context.wrap_socket(tcp, server_hostname="a.test") as tls:
                tls.sendall(("GET https://a.test/%s HTTP/1.0\r\n%s\r\n" % (path, "".join(forged[:count]))).encode())
                got = b""
                while data := tls.recv(65536):
                    got += data
        names = [line.split(b":")[0].decode() for line in got.partition(b"\r\n\r\n")[2].splitlines()[1:] if line]
        print(path, got[9:12].decode(), sum(name.startswith("X-Client-Cert") for name in names), got.count(b"forged"),
              got.count(b"X-Consumer"))
END
python3 raw.py | uniq -c
lines() { [ "$(wc -l <subs.log)" = "$1" ]; }
# One for each main request, and another one for the mirror of open.
wait_until lines 24
LC_ALL=C sort subs.log | uniq -c
--- client_out
      4 stripped 200 7 0 0
      4 decided 200 7 0 0
      4 access-phase 200 7 0 0
      4 main-in-access 200 7 0 0
      4 open 200 0 0 0
      8 -|-|-
     16 guest|-|-
