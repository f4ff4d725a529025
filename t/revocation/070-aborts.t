# Requests that end while a revocation status or an issuer's documents are fetched for them take no fetch with them.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Policy = revocation_policy(
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR'],
    [strict => 'revocation_check_mode: STRICT'],
) =~ s/http_timeout: 2500/http_timeout: 20000/gr . <<'_EOC_';
- name: token
  plugins:
  - {name: openid-connect, config: {issuer: "http://127.0.0.1:HTTP_PORT/idp", auth_methods: [introspection], client_id: [gw], client_secret: [s], introspection_endpoint: "http://127.0.0.1:HTTP_PORT/idp/introspect"}}
_EOC_
$Policy =~ s/HTTP_PORT/$ENV{TEST_NGINX_SERVER_PORT} || server_port()/ge;

our $Http = "    lua_check_client_abort on;\n" . init_http('fetch_allow = { "127.0.0.0/8" }');

our $Config = $TestRevocation::Config . <<'_EOC_';
    location /idp/ {
        content_by_lua_block {
            ngx.sleep(1)
            ngx.say(ngx.var.uri:find("introspect") and '{"active":true}' or "{}")
        }
    }
_EOC_

# abort HOW CASE PATH: sends a request, and ends it while the responder is slow
our $Abort = $Client . <<'_EOC_';
abort() {
    python3 - "$PORT" "$REV/$2.crt" "$REV/$2.key" "$@" <<'END'
import socket, ssl, struct, sys, time
port, certificate, key, how, case, path = sys.argv[1:]
context = ssl._create_unverified_context()
context.load_cert_chain(certificate, key)
if how == "rst_stream":
    context.set_alpn_protocols(["h2"])
plain = socket.create_connection(("127.0.0.1", int(port)))
sock = context.wrap_socket(plain, server_hostname="a.test")
frame = lambda kind, flags, stream, payload: struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
text = lambda value: bytes([len(value)]) + value.encode()
if how == "rst_stream":
    # :method GET, :scheme https, then :path and :authority, with indexed names
    block = b"\x82\x87\x04" + text(path) + b"\x01" + text("a.test")
    sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, block))
else:
    sock.sendall(("GET %s HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer opaque\r\n\r\n" % path).encode())
time.sleep(0.3)
if how == "rst_stream":
    sock.sendall(frame(3, 0, 1, struct.pack(">I", 8)))
    time.sleep(0.2)
elif how == "rst":
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
sock.close()
END
}
# timed COMMAND...: its output, and "slow" if it took half of http_timeout or more, as if it had lost its fetch
timed() {
    local start=$(date +%s%N)
    printf '%s' "$("$@")"
    [ $(( ($(date +%s%N) - start) / 1000000 )) -lt 10000 ] && echo || echo ' slow'
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() has the status of a certificate whose first request was aborted, by close, RST or RST_STREAM
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- tls_options: http2
--- client eval
$::Abort . <<'_EOC_'
abort close slow-revoked /to/ignore
timed request ignore slow-revoked
for how in close rst rst_stream; do
    abort $how abort-$how-revoked /to/ignore
    timed request ignore abort-$how-revoked
    timed request strict abort-$how-revoked
done
abort rst slow /to/strict
timed request strict slow
fetches
_EOC_
--- client_out
401
401
401
401
401
401
401
200
POST /slow-revoked/slow
POST /abort-close-revoked/slow
POST /abort-rst-revoked/slow
POST /abort-rst_stream-revoked/slow
POST /slow/slow
--- error_log
client prematurely closed connection
--- timeout: 30



=== TEST 2: access() has the introspection response of a request that was aborted
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Abort . <<'_EOC_'
abort rst good /to/token
timed request token good -H 'Authorization: Bearer other'
timed request token good -H 'Authorization: Bearer opaque'
_EOC_
--- client_out
200
200
--- timeout: 30
