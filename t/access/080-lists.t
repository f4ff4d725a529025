# client-cert-lists: files of certificates that are denied or allowed, which are read again when they change.

use lib 't/lib';
use TestMtls;
use POSIX qw( strftime );

sub pki_command ($) { my $text = `cd '$TestMtls::Pki' && $_[0]`; chomp $text; $text }
sub sha256_of ($) { pki_command("openssl x509 -in $_[0].crt -outform DER | sha256sum | cut -d' ' -f1") }

our $A = sha256_of("client-a");
our $Int = sha256_of("client-int");
our $Spki = pki_command("openssl x509 -in client-a.crt -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1");
our $Serial = pki_command("openssl x509 -in client-a.crt -noout -serial | cut -d= -f2") . " "
    . pki_command("openssl x509 -in client-a.crt -noout -issuer -nameopt RFC2253 | cut -d= -f2-");
our $Zeros = "0" x 64;
our $Soon = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(time + 3600));

sub with_lists ($;$) {
    my ($config, $more) = @_;

    return policy("ca-a", route("a", "a.test", mtls_auth("ca-a"), plugin("client-cert-lists", $config)),
        route("h", "h.test", header_cert_auth(), plugin("client-cert-lists", $config)), $more // "");
}

our $Deny = with_lists("deny: [revoked.list]");
our $Both = with_lists("deny: [revoked.list], allow: [devices.list]");

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
    location /h {
        access_by_lua_block { require("resty.mtls").access("h") }
        content_by_lua_block { ngx.say("in") }
    }
    location /metrics {
        content_by_lua_block { ngx.print(require("resty.mtls").metrics()) }
    }
_EOC_

our $Http = init_http('trusted_ips = { "127.0.0.1" }');

our $Client = <<'_EOC_';
status() { get a.test/t -o /dev/null -w '%{http_code}\n' $(as "$1"); }
is_status() { [ "$(status "$1")" = "$2" ]; }
metrics() { curl -s "http://127.0.0.1:$HTTP_PORT/metrics" | grep -E "^resty_mtls_(list|denied)"; }
logged() { grep -qF "$1" "$ERROR_LOG"; }
_EOC_

sub files { expand_policy(">>> policy.yaml\n$_[0]") . $_[1] }

run_blocks();

__DATA__

=== TEST 1: a deny list refuses by each kind of entry, and by file and line in the log
--- user_files eval
main::files(main::with_lists("deny: [other.list, revoked.list]"), ">>> other.list\n# nobody\n"
    . ">>> revoked.list\n# lost keys\n\nsha256 $::Zeros\nserial $::Serial\nsha256 $::Int until=2000-01-01T00:00:00Z\nsha256 $::Zeros until=$::Soon\n")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
code a.test/t $(as client-a)
status client-int
header h "X-Client-Cert: $(escaped client-a)"
header h "X-Client-Cert: $(escaped client-int)"
metrics
_EOC_
--- client_out
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
200
401 {"message":"TLS certificate failed verification"}
200 in
resty_mtls_denied_certificates_total{by="allow"} 0
resty_mtls_denied_certificates_total{by="block"} 0
resty_mtls_denied_certificates_total{by="deny"} 2
resty_mtls_list_entries{file="other.list"} 0
resty_mtls_list_entries{file="revoked.list"} 4
resty_mtls_list_reload_failing{file="other.list"} 0
resty_mtls_list_reload_failing{file="revoked.list"} 0
--- error_log
[mtls] 401 client-cert-lists: denied by 'revoked.list', line 4, subject: "CN=client-a
warning: routes[0].plugins[1].config.deny[1]: 'revoked.list': 1 entries have ended and have no effect, the first in line 5
warning: routes[0].plugins[1].config.deny[1]: 'revoked.list': 1 entries end within a day, the first in line 6
--- no_error_log
[crit]



=== TEST 2: an allow list lets in only what it has, and deny takes precedence
--- user_files eval: main::files($::Both, ">>> revoked.list\nspki_sha256 $::Spki\n>>> devices.list\nsha256 $::A\nsha256 $::Int until=2100-01-01T00:00:00Z\n")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
status client-a
status client-int
echo "# nobody" > revoked.list
wait_until is_status client-a 200
printf 'sha256 %064d\nsha256 %064d until=2001-01-01T00:00:00Z\n' 0 1 > devices.list
wait_until is_status client-int 401
status client-a
metrics | grep allow
wait_until logged "list in force: 'devices.list'"
wait_until logged "'devices.list': 1 entries have ended and have no effect, the first in line 2"
_EOC_
--- client_out
401
200
401
resty_mtls_denied_certificates_total{by="allow"} 2
--- error_log
[mtls] 401 client-cert-lists: denied by 'revoked.list', line 1, subject: "CN=client-a
[mtls] 401 client-cert-lists: not on 'devices.list', subject: "CN=client-int
[mtls] list in force: 'devices.list': 2 entries
[mtls] 'devices.list': 1 entries have ended and have no effect, the first in line 2



=== TEST 3: a changed list is in force on all workers, on open connections, without another policy
--- worker_processes: 2
--- user_files eval: main::files($::Deny, ">>> revoked.list\n# nobody\n")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<_EOC_ . <<'_EOC_'
A=$::A
_EOC_
cat > live.py <<'PYTHON'
import collections, http.client, os, ssl, sys, time
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(os.environ["PKI"] + "/client-a.crt", os.environ["PKI"] + "/client-a.key")
class Connection(http.client.HTTPSConnection):
    def connect(self):
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname="a.test")
connections = [Connection("127.0.0.1", int(os.environ["PORT"]), context=context, timeout=20) for _ in range(20)]
def ask():
    found = collections.Counter()
    for connection in connections:
        connection.request("GET", "/t", headers={"Host": "a.test"})
        answer = connection.getresponse()
        answer.read()
        found[answer.status] += 1
    return dict(found)
def wait_for(status):
    end = time.time() + 10
    while time.time() < end and ask() != {status: 20}:
        time.sleep(0.05)
    return ask()
print(ask())
for text in ["sha256 " + sys.argv[1], "# nobody", "sha256 " + sys.argv[1]]:
    open("new", "w").write(text + "\n")
    os.rename("new", "revoked.list")
    print(wait_for(200 if text[0] == "#" else 401))
PYTHON
python3 live.py "$A"
grep -c 'policy reloaded' "$ERROR_LOG"
_EOC_
--- client_out
{200: 20}
{401: 20}
{200: 20}
{401: 20}
0
--- error_log
[mtls] list in force: 'revoked.list': 1 entries



=== TEST 4: a list that cannot be read is an error with the line, and the old list stays in force
--- user_files eval: main::files($::Deny, ">>> revoked.list\nsha256 $::A\n")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
# The watch of a worker starts with its first request.
status client-a
reported() { logged "list not reloaded, the previous one stays in force: 'revoked.list': $1" && echo "$1: $(status client-a)"; }
printf '# a\nsha256 00\n' > revoked.list
wait_until reported "line 2: '00' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without colons"
metrics | grep list_
printf 'sha256 %064d' 0 > revoked.list
wait_until reported "line 1: no line end, as if the file were cut"
: > revoked.list
wait_until reported "cannot be read: the file is empty, expected at least a line with a comment"
rm revoked.list
wait_until reported "cannot be read: No such file or directory (os error 2)"
printf '# nobody\n' > revoked.list
wait_until is_status client-a 200
metrics | grep list_
wait_until logged "list in force: 'revoked.list'"
_EOC_
--- client_out
401
line 2: '00' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without colons: 401
resty_mtls_list_entries{file="revoked.list"} 1
resty_mtls_list_reload_failing{file="revoked.list"} 1
line 1: no line end, as if the file were cut: 401
cannot be read: the file is empty, expected at least a line with a comment: 401
cannot be read: No such file or directory (os error 2): 401
resty_mtls_list_entries{file="revoked.list"} 0
resty_mtls_list_reload_failing{file="revoked.list"} 0
--- error_log
[mtls] list in force: 'revoked.list': 0 entries



=== TEST 5: a worker that nginx starts later has the list of the file, and refuses while that cannot be read
--- user_files eval: main::files($::Deny, ">>> revoked.list\n# nobody\n")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<_EOC_ . <<'_EOC_'
A=$::A
_EOC_
kill_worker() {
    local old
    old=$(workers)
    kill -9 "$old"
    for _ in $(seq 200); do
        sleep 0.02
        [ -n "$(workers)" ] && [ "$(workers)" != "$old" ] && return
    done
}
status client-a
echo "sha256 $A" > revoked.list
wait_until is_status client-a 401
kill_worker
status client-a
status client-int
echo "bad" > revoked.list
wait_until logged "'revoked.list': line 1"
status client-int
kill_worker
status client-a
status client-int
echo "sha256 $A" > revoked.list
wait_until is_status client-int 200
status client-a
_EOC_
--- client_out
200
401
200
200
503
503
401
--- error_log
[mtls] 503 client-cert-lists: 'revoked.list': line 1: 'bad', expected



=== TEST 6: nginx -s reload with a list that cannot be read leaves the old workers running
--- user_files eval: main::files($::Deny, ">>> revoked.list\nsha256 $::A\n")
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
status client-a
old=$(workers)
echo "bad" > revoked.list
kill -HUP "$(cat "$PID_FILE")"
wait_until logged "policy.yaml"
[ "$(workers)" = "$old" ] && echo "old workers"
status client-a
echo "# nobody" > revoked.list
reload_nginx
status client-a
_EOC_
--- client_out
401
old workers
401
200
--- error_log
config.deny[0]: 'revoked.list': line 1: 'bad', expected 'sha256 HEX', 'spki_sha256 HEX' or 'serial HEX ISSUER'



=== TEST 7: init() refuses a list that cannot be read
--- user_files eval: main::files($::Deny, ">>> revoked.list\nsha1 00\n")
--- http_config eval: $::Http
--- config eval: $::Config
--- must_die
--- error_log
config.deny[0]: 'revoked.list': line 1: 'sha1', expected 'sha256 HEX', 'spki_sha256 HEX' or 'serial HEX ISSUER'
