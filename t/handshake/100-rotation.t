# A change of the policy under open connections and offered sessions: the certificate of a connection whose server name is
# the Host is verified by the policy in force, and a refusal that a new handshake may change ends the connection.

use lib 't/lib';
use TestMtls;
use TestRotation;
use Digest::MD5 qw( md5_hex );

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
_EOC_

our $Removed = expand_policy($Policy =~ s/\[\@ca-a\]/[\@ca-b]/r);

# A megabyte in small and large pieces, over a second
our $Streams = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
    location /download {
        content_by_lua_block {
            for i = 1, 100 do
                ngx.print(string.rep(tostring(i), i % 3 == 0 and 17000 or 10))
                ngx.flush(true)
                ngx.sleep(0.01)
            end
        }
    }
    location /upload {
        client_body_buffer_size 64k;
        content_by_lua_block {
            ngx.req.read_body()
            ngx.say(ngx.md5(ngx.req.get_body_data()))
        }
    }
    location /remove {
        content_by_lua_block { assert(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/removed.yaml")) }
    }
_EOC_

our $NoH2 = system("python3 -c 'import h2' 2>/dev/null") != 0;

# With the LuaJIT of nginx 1.26 in Debian 13, a worker ends by a signal at the first trace after jit.attach().
our $NoTraces = $NoH2 || `'$ENV{TEST_NGINX_BINARY}' -v 2>&1` !~ m{nginx/1\.22\.};

my $download = md5_hex(CORE::join "", map { $_ x ($_ % 3 == 0 ? 17000 : 10) } 1..100);
my $upload = md5_hex(("x" x 10000) . ("y" x 10000));

our $StreamsExpected = <<"_EOC_";
before: 200
refused: 401 401 401
GOAWAY: after the last stream
open streams: 6
@{[CORE::join "\n", ("download: 200, 1072290 bytes, $download") x 5]}
upload: $upload
a stream after GOAWAY: None
_EOC_

run_blocks();

__DATA__

=== TEST 1: a change of the policy over HTTP/1.1 and TLS 1.2: verified anew, no cell is unsafe, nobody is locked out
--- policy eval: $::RotationPolicy
--- http_config: ssl_session_cache shared:sessions:1m;
--- config eval: $::RotationConfig
--- client eval: TestRotation::rotation("http/1.1")
--- client_out eval: $::RotationExpected
--- no_error_log
[crit]
[alert]



=== TEST 2: a change of the policy over HTTP/1.1 and TLS 1.3: as with TLS 1.2
--- policy eval: $::RotationPolicy
--- config eval: $::RotationConfig
--- client eval: TestRotation::rotation("http/1.1+1.3")
--- client_out eval: $::RotationExpected
--- no_error_log
[crit]
[alert]



=== TEST 3: a change of the policy over HTTP/2: as over HTTP/1.1, and connections end by GOAWAY
--- policy eval: $::RotationPolicy
--- skip_eval: 4: $::NoH2
--- tls_options: http2
--- config eval: $::RotationConfig
--- client eval: TestRotation::rotation("h2")
--- client_out eval: $::RotationExpected
--- no_error_log
[crit]
[alert]



=== TEST 4: a refusal that ends an HTTP/2 connection leaves its open streams as they are
--- policy eval: $::Policy
--- user_files eval: ">>> removed.yaml\n$::Removed"
--- skip_eval: 4: $::NoH2
--- tls_options: http2
--- config eval: $::Streams
--- client
python3 "$TEST_NGINX_ROOT/t/clients/http2.py" "$PORT" a.test "$PKI/client-a.crt" "$PKI/client-a.key" "$HTTP_PORT"
--- client_out eval: $::StreamsExpected
--- no_error_log
[crit]
[alert]



=== TEST 5: connections are ended by code that is not compiled, since nginx may run other Lua code meanwhile
--- policy eval: $::Policy
--- user_files eval: ">>> removed.yaml\n$::Removed"
--- skip_eval: 4: $::NoTraces
--- tls_options: http2
--- config eval
my $trace = q{
    location /trace {
        content_by_lua_block {
            jit.opt.start("hotloop=1", "hotexit=1")
            jit.attach(function(what, _, func, pc, parent)
                if what == "start" then
                    local info = require("jit.util").funcinfo(func, pc)
                    traced = (traced or "") .. tostring(info.source) .. ":" .. tostring(info.linedefined) .. " "
                end
            end, "trace")
        }
    }
    location /traced {
        content_by_lua_block {
            ngx.say("traces: ", traced and #traced > 0 and "some" or "none")
            local first, last
            local number = 0
            for line in io.lines(package.searchpath("resty.mtls.internal.graceful_close", package.path)) do
                number = number + 1
                first = first or line:find("^local function shut_down") and number
            end
            ngx.say("of the end of a connection: ",
                    traced and traced:find("graceful_close.lua:" .. first .. " ", 1, true) and "some" or "none")
        }
    }
};
$::Streams . $trace
--- client
cat > "$TMP/many.py" <<'EOF'
import sys
import urllib.request
sys.path.insert(0, sys.argv[1])
import http2
port, sni, crt, key, http_port = sys.argv[2:]
def get(path):
    return urllib.request.urlopen("http://127.0.0.1:%s%s" % (http_port, path), timeout=20).read().decode()
connections = [http2.Connection(http2.tls_context(crt, key), port, sni) for _ in range(20)]
print("before:", *{c.response(c.request(sni, "/t")).status for c in connections})
get("/trace")
get("/remove")
print("refused:", *{c.response(c.request(sni, "/t")).status for c in connections})
print("ended:", sum(c.last_stream is not None for c in connections))
print(get("/traced"), end="")
EOF
python3 "$TMP/many.py" "$TEST_NGINX_ROOT/t/clients" "$PORT" a.test "$PKI/client-a.crt" "$PKI/client-a.key" "$HTTP_PORT"
--- client_out
before: 200
refused: 401
ended: 20
traces: some
of the end of a connection: none
--- no_error_log
[crit]
[alert]
