# The caches of clients and decisions in a worker: their contents, bounds and allocations.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a", route("a", "a.test", mtls_auth("ca-a")));

our $UntrustedHeader = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: token
  snis: [a.test]
  plugins:
  - name: openid-connect
    config:
      issuer: "http://127.0.0.1:1"
      auth_methods: [bearer]
      audience_required: [x]
      proof_of_possession_mtls: strict
      proof_of_possession_mtls_from_header:
        certificate_header_name: X-Proxied
        certificate_header_format: base64_encoded
        secure_source: false
        ca_certificates: [@ca-a]
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
_EOC_

# A thousand routes, each of which sends other headers.
our $Many = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers: [{username: guest}]
plugins:
- name: mtls-auth
  config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, consumer_by: [], default_consumer: guest, anonymous: guest}
routes:
- {name: a, snis: [a.test]}
_EOC_
$Many .= "- {name: r$_, plugins: [{name: client-cert-headers, config: "
         . "{dialects: [{name: rfc9440, when: presented, max_bytes: " . (8192 + $_) . "}]}}]}\n"
    for 0 .. 999;

run_blocks();

__DATA__

=== TEST 1: access() does not cache certificates that it does not trust
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
--- client
worker=$(pgrep -P "$(cat "$PID_FILE")" | head -n 1)
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$worker/status"; }
openssl ecparam -name prime256v1 -genkey -noout -out key
sans=$(printf 'DNS:h%04d,' {1..3000})
for serial in $(seq 40); do
    openssl req -x509 -key key -subj /CN=x -set_serial "$serial" -addext "subjectAltName=${sans%,}" -out "crt$serial"
done
for serial in 1 2 3 4; do get a.test/t --cert "crt$serial" --key key >/dev/null; done
before=$(rss)
for serial in $(seq 5 40); do get a.test/t --cert "crt$serial" --key key -o /dev/null -w '%{http_code}\n'; done | sort | uniq -c
after=$(rss)
[ $((after - before)) -lt $((4096 + SLACK)) ] && echo flat || echo "grew from $before to $after KB"
--- client_out
     36 401
flat
--- no_error_log
[alert]



=== TEST 2: access() of a cached client is compiled by LuaJIT and allocates nothing
--- policy eval: $::Policy
--- config
    location /t {
        content_by_lua_block {
            local access, clear_header = require("resty.mtls").access, ngx.req.clear_header
            local state_of_request = require("resty.mtls.internal.request_state").current
            access("a")
            local function work(n)
                for _ = 1, n do
                    -- As after decide(), which sets no headers. A new request has none either.
                    state_of_request().lacks_headers = 1
                    clear_header("X-Client-Cert-Dn")
                    access("a")
                end
            end

            work(1000)
            collectgarbage()
            collectgarbage("stop")
            local before = collectgarbage("count")
            work(2000)
            local grown = collectgarbage("count") - before
            collectgarbage("restart")
            -- Calls from the interpreter allocate an object for each pointer.
            ngx.say(grown < 20 and "nothing" or grown .. " KB")
        }
    }
--- client
get a.test/t $(as client-a)
--- client_out
nothing



=== TEST 3: access() caches no certificate of a header before a token is bound to it
--- http_config
    lua_shared_dict mtls 10m;
--- policy eval: $::UntrustedHeader
--- config
    keepalive_requests 10000;
    location /a { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.say("in") } }
    location /token { access_by_lua_block { require("resty.mtls").access("token") } content_by_lua_block { ngx.say("in") } }
    location /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
--- client
openssl ecparam -name prime256v1 -genkey -noout -out key
openssl req -x509 -key key -subj /CN=x -set_serial 0x7172737475767778 -outform DER -out untrusted
get a.test/a $(as client-a)
# The certificate stays readable with any serial number.
python3 - <<'END'
import base64, collections, http.client, os
der = open("untrusted", "rb").read()
proxy = http.client.HTTPConnection("127.0.0.1", int(os.environ["HTTP_PORT"]))
answers = collections.Counter()
for i in range(1100):
    other = der.replace(b"qrstuvwx", b"q%07d" % i)
    assert other != der
    proxy.request("GET", "/token", headers={"Host": "a.test", "Authorization": "Bearer x", "X-Proxied": base64.b64encode(other)})
    answer = proxy.getresponse()
    answer.read()
    answers[answer.status] += 1
print(dict(answers))
END
get a.test/a $(as client-a)
get a.test/metrics | grep 'cache="client"'
--- client_out
in
{401: 1100}
in
resty_mtls_cache_lookups_total{cache="client",result="hit"} 1
resty_mtls_cache_lookups_total{cache="client",result="miss"} 1
--- no_error_log
[crit]
[alert]
--- timeout: 30



=== TEST 4: access() caches no more for a client that sends many chains, nor for clients that it does not trust
--- policy eval: $::Many
--- config
    keepalive_requests 10000;
    location ~ ^/(\d+)$ {
        access_by_lua_block { require("resty.mtls").access("r" .. ngx.var[1]) }
        content_by_lua_block { ngx.exit(204) }
    }
--- client eval
<<'_EOC_';
trusted= untrusted=
for i in $(seq 64); do
    openssl req -x509 -key "$PKI/client-a.key" -subj "/CN=junk-$i" -days 3 -out "junk-$i.crt" 2>/dev/null
    cat "$PKI/client-a.crt" "junk-$i.crt" >"chain-$i"
    cat "junk-$i.crt" "$PKI/ca-b.crt" >"untrusted-$i"
    trusted="$trusted chain-$i" untrusted="$untrusted untrusted-$i"
done
many() {
    python3 "$TEST_NGINX_ROOT/t/clients/memory_growth.py" "$PORT" a.test "$PID_FILE" 1000 "$@" <"$PKI/client-a.key" >out
    head -1 out
    growth=$(tail -1 out)
    [ "$growth" -le $((LIMIT + SLACK)) ] && echo "within bounds" || echo "$growth KB"
}
LIMIT=12288 many $trusted
LIMIT=40960 many $untrusted
_EOC_
--- client_out
204: 64000
within bounds
204: 64000
within bounds
--- timeout: 60



=== TEST 5: access() of a cached client makes no garbage, nor does a second one for the same route
--- policy eval: $::Policy
--- config
    keepalive_requests 10000;
    location /nothing { access_by_lua_block { return } content_by_lua_block { ngx.exit(204) } }
    location /table { access_by_lua_block { local t = {} t.x = t; ngx.ctx = t } content_by_lua_block { ngx.exit(204) } }
    location /access { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.exit(204) } }
    location /twice {
        rewrite_by_lua_block { require("resty.mtls").access("a") }
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.exit(204) }
    }
    location /gc {
        content_by_lua_block {
            local before = collectgarbage("count")
            collectgarbage()
            collectgarbage("stop")
            ngx.say(before * 1024, " ", collectgarbage("count") * 1024)
        }
    }
--- client
python3 - <<'END'
import http.client, os, socket, ssl
pki = os.environ["PKI"]
context = ssl.create_default_context(cafile=pki + "/server-ca.crt")
# The default of Python 3.13 refuses CAs without an AKI.
context.verify_flags &= ~ssl.VERIFY_X509_STRICT
context.check_hostname = False
context.load_cert_chain(pki + "/client-a.crt", pki + "/client-a.key")
client = http.client.HTTPConnection("a.test")
client.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))), server_hostname="a.test")
def get(path):
    client.request("GET", path)
    return client.getresponse().read()
def garbage(path, n=500):
    for _ in range(150):
        get(path)
    before = float(get("/gc").split()[1])
    for _ in range(n):
        get(path)
    return (float(get("/gc").split()[0]) - before) / n
# The least of three: timers and code that is being compiled make garbage too, up to 30 bytes. A table has 64.
rounds = [[garbage(path) for path in ("/nothing", "/table", "/access", "/twice")] for _ in range(3)]
nothing, table, access, twice = [min(round) for round in zip(*rounds)]
for name, bytes in ("access", access), ("twice", twice):
    print(name + ":", "nothing" if bytes - nothing < 30 else "%.1f bytes more" % (bytes - nothing))
print("a table:", "garbage" if table > nothing + 60 else "%.1f after %.1f" % (table, nothing))
END
--- client_out
access: nothing
twice: nothing
a table: garbage
