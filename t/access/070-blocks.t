# mtls.block(): a blocked certificate is refused from the next request on, wherever it is used.

use lib 't/lib';
use TestMtls;
use File::Temp qw( tempdir );

my $nginx = $ENV{TEST_NGINX_BINARY} // "nginx";

our $NoHttp3 = system("$nginx -V 2>&1 | grep -q with-http_v3_module") ? "this nginx does not speak HTTP/3"
    : system("python3 -c 'import aioquic' 2>/dev/null") ? "python3-aioquic is not installed"
    : "";

# nginx's workers write here.
my $state = tempdir("resty-mtls-blocks-XXXXX", TMPDIR => 1, CLEANUP => 1);
chown((getpwnam("nobody"))[2], -1, $state) or die "$state: $!" if $> == 0;
$ENV{STATE_DIR} = $state;

our $Policy = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a")),
    route("b", "a.test", mtls_auth("ca-a", "anonymous: nobody")),
    route("h", "h.test", header_cert_auth()),
    route("free", "")) . "consumers:\n- {username: nobody}\n";

our $Files = ">>> policy.yaml\n" . expand_policy($Policy);

our $Http = init_http('trusted_ips = { "127.0.0.1" }');
our $StateHttp = init_http("state_dir = \"$state\"");

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in ", ngx.worker.pid()) }
    }
    location /b {
        access_by_lua_block { require("resty.mtls").access("b") }
        content_by_lua_block { ngx.say("anonymous") }
    }
    location /h {
        access_by_lua_block { require("resty.mtls").access("h") }
        content_by_lua_block { ngx.say("in") }
    }
    # Blocks the certificate of the request.
    location /self {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            ngx.say(require("resty.mtls").block { sha256 = require("resty.mtls").client().fingerprint_sha256 })
        }
    }
    location /block {
        content_by_lua_block {
            local args = ngx.req.get_uri_args()
            args.seconds = tonumber(args.seconds)
            ngx.say(require("resty.mtls").block(args))
        }
    }
    location /unblock {
        content_by_lua_block { ngx.say(require("resty.mtls").unblock(ngx.req.get_uri_args())) }
    }
    location /blocked {
        content_by_lua_block {
            for _, block in ipairs(require("resty.mtls").blocked()) do
                ngx.say(block.sha256 and "sha256" or block.spki_sha256 and "spki_sha256"
                        or block.serial .. " " .. block.issuer_dn, " ", ngx.time() - block.added < 100, " ",
                        block.until_ and block.until_ - block.added, " ", block.reason)
            end
        }
    }
    location /example {
        content_by_lua_block {
$TEST_EXAMPLE
            ngx.say(ok, " ", err)
        }
    }
    location /metrics {
        content_by_lua_block { ngx.print(require("resty.mtls").metrics()) }
    }
_EOC_

# The example of the documentation.
open my $page, '<', "$TestMtls::Root/docs/lists.md" or die;
my ($example) = do { local $/; <$page> } =~ /<!-- lists: block -->\n```lua\n(.*?)```/s or die "no example";
$Config =~ s/\$TEST_EXAMPLE/$example/;

our $Client = <<'_EOC_';
sha256() { openssl x509 -in "$PKI/$1.crt" -outform DER | sha256sum | cut -d' ' -f1; }
spki_sha256() { openssl x509 -in "$PKI/$1.crt" -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1; }
serial() { openssl x509 -in "$PKI/$1.crt" -noout -serial | cut -d= -f2; }
issuer() { openssl x509 -in "$PKI/$1.crt" -noout -issuer -nameopt RFC2253 | cut -d= -f2-; }
# do_ block|unblock FIELD=VALUE...: the call, over plain HTTP
do_() {
    local name=$1 option options=()
    shift
    for option in "$@"; do options+=(--data-urlencode "$option"); done
    curl -s -G "http://127.0.0.1:$HTTP_PORT/$name" "${options[@]}"
}
status() { get a.test/t -o /dev/null -w '%{http_code}\n' $(as "$1"); }
_EOC_

run_blocks();

__DATA__

=== TEST 1: block() refuses by each selector, unblock() lets in again
--- user_files eval: $::Files
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for selector in "sha256=$(sha256 client-a)" "spki_sha256=$(spki_sha256 client-a)"; do
    echo "${selector%%=*} $(status client-a) $(do_ block "$selector" "reason=key lost") $(status client-a) $(status client-int)" \
        "$(do_ unblock "$selector") $(status client-a)"
done
serial=$(serial client-a) issuer=$(issuer client-a)
echo "serial $(status client-a) $(do_ block "serial=$serial" "issuer_dn=$issuer") $(status client-a) $(status client-int)" \
    "$(do_ unblock "serial=$serial" "issuer_dn=$issuer") $(status client-a)"
echo "again $(do_ unblock "serial=$serial" "issuer_dn=$issuer")"
do_ block "sha256=$(sha256 client-a)" "reason=key lost" >/dev/null
code a.test/t $(as client-a)
get a.test/b $(as client-a)
grep -o '\[mtls\] 401 blocked by sha256 [^,]*, [^,]*' "$ERROR_LOG" | sed "s/$(sha256 client-a)/HEX/" | sort -u
_EOC_
--- client_out
sha256 200 true 401 200 true 200
spki_sha256 200 true 401 200 true 200
serial 200 true 401 200 true 200
again nilnil
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
anonymous
[mtls] 401 blocked by sha256 HEX (key lost), subject: "CN=client-a
--- error_log eval
[qr/\[mtls\] 401 blocked by serial \w+ .*, subject: "CN=client-a.*", issuer: ".*", serial: /,
 qr/\[notice\] .*\[mtls\] blocked: spki_sha256 \w{64}/,
 qr/\[notice\] .*\[mtls\] unblocked: spki_sha256 \w{64}/]
--- no_error_log
[crit]
[alert]



=== TEST 2: block() refuses the next request on the same HTTP/1.1 or HTTP/2 connection and on a resumed one
--- user_files eval: $::Files
--- http_config eval: $::Http
--- tls_options: http2
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
twice() {
    curl -sk "$1" --max-time 20 --connect-to "::127.0.0.1:$PORT" $(as client-a) -w ' %{http_code} %{http_version} %{num_connects}\n' \
        -o /dev/null https://a.test/t -o /dev/null https://a.test/self -o /dev/null https://a.test/t -o /dev/null https://a.test/t
    do_ unblock "sha256=$(sha256 client-a)"
}
twice --http1.1
twice --http2
tls path=/t sni=a.test as=client-a sess_out=session | facts status
do_ block "sha256=$(sha256 client-a)"
tls path=/t sni=a.test as=client-a sess_in=session | facts reused status
_EOC_
--- client_out
 200 1.1 1
 200 1.1 0
 401 1.1 0
 401 1.1 0
true
 200 2 1
 200 2 0
 401 2 0
 401 2 0
true
status=200
true
reused=1 status=401
--- no_error_log
[crit]
[alert]



=== TEST 3: block() refuses on connections of all workers, and unblock() lets the same connections in
--- worker_processes: 4
--- user_files eval: $::Files
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
cat > live.py <<'PYTHON'
import collections, http.client, os, ssl, subprocess, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(os.environ["PKI"] + "/client-a.crt", os.environ["PKI"] + "/client-a.key")
class Connection(http.client.HTTPSConnection):
    def connect(self):
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname="a.test")
connections = [Connection("127.0.0.1", int(os.environ["PORT"]), context=context, timeout=20) for _ in range(40)]
workers = set()
def ask():
    found = collections.Counter()
    for connection in connections:
        connection.request("GET", "/t", headers={"Host": "a.test"})
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status == 200:
            workers.add(body.split()[1])
        found[answer.status] += 1
    return dict(found)
def call(name):
    url = "http://127.0.0.1:%s/%s?sha256=%s" % (os.environ["HTTP_PORT"], name, sys.argv[1])
    return subprocess.run(["curl", "-s", url], capture_output=True, text=True).stdout.strip()
print(ask(), len(workers) > 1)
for _ in range(3):
    print(call("block"), ask(), call("unblock"), ask())
PYTHON
python3 live.py "$(sha256 client-a)"
_EOC_
--- client_out
{200: 40} True
true {401: 40} true {200: 40}
true {401: 40} true {200: 40}
true {401: 40} true {200: 40}
--- no_error_log
[crit]
[alert]



=== TEST 4: block() refuses the certificate in a header
--- user_files eval: $::Files
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for _ in 1 2; do header h "X-Client-Cert: $(escaped client-a)"; done
do_ block "sha256=$(sha256 client-a)"
for _ in 1 2; do header h "X-Client-Cert: $(escaped client-a)"; done
_EOC_
--- client_out
200 in
200 in
true
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 blocked by sha256



=== TEST 5: block() by sha256 refuses the other encoding of an ECDSA certificate too
--- user_files eval: $::Files
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
"$TEST_NGINX_ROOT/t/pki/malleate_signature.py" "$PKI/client-a.crt" > other.crt
sha256_of() { openssl x509 -in "$1" -outform DER | sha256sum | cut -d' ' -f1; }
[ "$(sha256_of other.crt)" != "$(sha256 client-a)" ] && echo "other bytes"
other() { get a.test/t -o /dev/null -w '%{http_code}\n' --cert other.crt --key "$PKI/client-a.key"; }
other
do_ block "sha256=$(sha256 client-a)"
other
do_ unblock "sha256=$(sha256 client-a)"
do_ block "sha256=$(sha256_of other.crt)"
status client-a
_EOC_
--- client_out
other bytes
200
true
401
true
true
401
--- error_log
[mtls] 401 blocked by sha256



=== TEST 6: block() with seconds ends by itself; bad selectors are errors, and misuse raises
--- user_files eval: $::Files
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
do_ block "sha256=$(sha256 client-a)" seconds=2 reason=short
do_ block "serial=0A:0b" "issuer_dn=C = DE, O = \"Example, Inc\"" seconds=1000
do_ example
do_ blocked
do_ unblock sha256=7d5c3b2b6a9f2c0e5d7b8a1f4e3c2d1b0a9f8e7d6c5b4a39281706f5e4d3c2b1
status client-a
sleep 2.2
status client-a
do_ blocked
do_ metrics | grep -E '^resty_mtls_(blocks|denied)'
do_ block
do_ block sha256=xy
do_ block "sha256=$(sha256 client-a)" "spki_sha256=$(sha256 client-a)"
do_ block serial=01
do_ block serial=01 issuer_dn=/CN=a
do_ block "sha256=$(sha256 client-a)" seconds=0
do_ block "sha256=$(sha256 client-a)" second=60
do_ unblock "sha256=$(sha256 client-a)" sha1=00
do_ block "sha256=$(sha256 client-a)" "reason=$(printf 'a%.0s' $(seq 501))"
do_ unblock sha256=xy
_EOC_
--- client_out
true
true
true nil
sha256 true 2 short
0A:0b C = DE, O = "Example, Inc" true 1000 nil
sha256 true 86400 laptop stolen
true
401
200
0A:0b C = DE, O = "Example, Inc" true 1000 nil
resty_mtls_denied_certificates_total{by="allow"} 0
resty_mtls_denied_certificates_total{by="block"} 1
resty_mtls_denied_certificates_total{by="deny"} 0
resty_mtls_blocks 1
nilexpected sha256, spki_sha256, or serial and issuer_dn
nil'xy' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without colons
nilexpected sha256, spki_sha256, or serial and issuer_dn
nilexpected sha256, spki_sha256, or serial and issuer_dn
nilissuer '/CN=a': '/CN' is no type of attribute, expected a name as in $ssl_client_i_dn, such as 'CN=CA,O=Example'
nilseconds: expected a number of at least 1
nilunknown field 'second', expected sha256, spki_sha256, serial, issuer_dn, seconds or reason
nilunknown field 'sha1', expected sha256, spki_sha256, serial, issuer_dn, seconds or reason
nilreason: expected one line of at most 500 bytes
nil'xy' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without colons
--- error_log
(short), subject: "CN=client-a



=== TEST 7: blocks survive nginx -s reload
--- worker_processes: 2
--- user_files eval: $::Files
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
do_ block "sha256=$(sha256 client-a)" reason=kept
reload_nginx
for _ in 1 2 3 4; do status client-a; done | sort | uniq -c | sed 's/^ *//'
do_ blocked
do_ unblock "sha256=$(sha256 client-a)"
reload_nginx
status client-a
_EOC_
--- client_out
true
4 401
sha256 true nil kept
true
200
--- no_error_log
[crit]



=== TEST 8: blocks are written to state_dir
--- user_files eval: $::Files
--- http_config eval: $::StateHttp
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
do_ block "sha256=$(sha256 client-a)" reason=stored
stat -c '%a' "$STATE_DIR"/blocks-*.state
_EOC_
--- client_out
true
600
--- no_error_log
[crit]



=== TEST 9: blocks in state_dir are in force after a restart
--- user_files eval: $::Files
--- http_config eval: $::StateHttp
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
status client-a
do_ blocked
do_ unblock "sha256=$(sha256 client-a)"
status client-a
chmod 500 "$STATE_DIR"
rm -rf "$STATE_DIR"
do_ block "sha256=$(sha256 client-a)"
status client-a
_EOC_
--- client_out
401
sha256 true nil stored
true
200
true
401
--- error_log
[mtls] blocks: '
No such file or directory (os error 2); they are in force, but will not outlive a restart



=== TEST 10: block() refuses the next request on the same HTTP/3 connection
--- user_files eval: $::Files
--- http_config eval: $::Http
--- config eval: $::Config
--- quic eval: $::NoHttp3 ? undef : "on"
--- client eval
$::NoHttp3 ? "true" : <<'_EOC_'
echo "HTTP/3 $(TLS_CLIENT=$TEST_NGINX_ROOT/t/clients/http3.py tls path=/self sni=a.test host=a.test,a.test as=client-a | facts status)"
_EOC_
--- client_cases eval: $::NoHttp3 ? "HTTP/3 # SKIP $::NoHttp3" : "HTTP/3 status=200,401"
--- no_error_log
[crit]
[alert]
