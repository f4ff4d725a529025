# The option certificate_spool: certificates that a worker has verified for the first time, for resty-mtls replay.

use lib 't/lib';
use TestMtls;

our $Old = policy("ca-a ca-b",
    route("payments", "a.test", mtls_auth("ca-a", "consumer_by: [username]")),
    route("partners", "b.test", mtls_auth("ca-a ca-b")),
    route("waf", "w.test", header_cert_auth()),
    "consumers:\n- {username: client-a}\n- {username: client-int}\n");

# Without CA-B on partners, and with a rule against client-int
our $New = expand_policy(policy("ca-a ca-b",
    route("payments", "a.test", mtls_auth("ca-a", "consumer_by: [username]"),
          plugin("client-cert-acl", "deny: [{name: no-int, subject.CN: client-int}]")),
    route("partners", "b.test", mtls_auth("ca-a")),
    route("waf", "w.test", header_cert_auth(),
          plugin("client-cert-acl", "deny: [{name: no-two, subject.CN: client-two}]")),
    "consumers:\n- {username: client-a}\n- {username: client-int}\n"));

# The lines of docs/logging.md under the marker "spool: lua"
open my $in, '<', "$TestMtls::Root/docs/logging.md" or die $!;
our ($Shown) = do { local $/; <$in> } =~ /^<!-- spool: lua -->\n```lua\n(.*?)^```$/ms or die "no example";
$Shown =~ s{"/etc/nginx/mtls/}{"\$TEST_NGINX_HTML_DIR/};
$Shown =~ s{"/var/lib/nginx-mtls/certificates"}{"\$TEST_NGINX_HTML_DIR/spool"} or die "another example";
$Shown =~ s{^\}\n\z}{    trusted_ips = { "127.0.0.1" },\n\}\n}m or die "another example";

our $ShownHttp = <<"_EOC_";
    include \$TEST_NGINX_ROOT/nginx-conf/mtls-variables.conf;
    include \$TEST_NGINX_ROOT/nginx-conf/mtls-audit.conf;
    lua_shared_dict mtls_metrics 1m;
    access_log \$TEST_NGINX_HTML_DIR/audit.log mtls_audit;
    init_by_lua_block {
        os.execute("mkdir -p -m 0700 '\$TEST_NGINX_HTML_DIR/spool'")
        local mtls = require "resty.mtls"
        $Shown
    }
_EOC_

# http FIELDS: a spool that has these fields
sub http ($) {
    my ($fields) = @_;

    return <<"_EOC_";
    lua_shared_dict mtls_metrics 1m;
    init_by_lua_block {
        os.execute("mkdir -p -m 0700 '\$TEST_NGINX_HTML_DIR/spool'")
        require("resty.mtls").init {
            policy = "\$TEST_NGINX_HTML_DIR/policy.yaml",
            certificate_spool = { directory = "\$TEST_NGINX_HTML_DIR/spool", $fields },
        }
    }
_EOC_
}

our $OneHttp = http("max_certificates = 1");
our $SpoolHttp = http("max_bytes = 1000000");

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access(ngx.var.http_x_route) }
        content_by_lua_block { ngx.say("ok") }
    }
    location = /status {
        access_log off;
        content_by_lua_block {
            local spool = require("resty.mtls").status().certificate_spool
            ngx.say(ngx.worker.pid(), " ", spool and spool.certificates .. " certificates, " .. spool.bytes .. " bytes")
        }
    }
    location = /metrics {
        access_log off;
        content_by_lua_block { ngx.print(require("resty.mtls").metrics()) }
    }
_EOC_

our $Client = <<'_EOC_';
request() { get "$2.test/t" -o /dev/null -w '%{http_code}\n' -H "X-Route: $1" "${@:3}"; }
# spooled NAME: the file of the certificate NAME
spooled() { echo "spool/$(openssl x509 -in "$PKI/$1.crt" -outform DER | sha256sum | cut -d' ' -f1).pem"; }
count() { get a.test/metrics | sed -n "s/^resty_mtls_certificate_spool_total{outcome=\"$1\"} //p"; }
counts() { [ "$(count "$1")" = "$2" ]; }
warnings() { grep -o '\[mtls\] certificate_spool.*' "$ERROR_LOG" | sed "s/'[^']*spool'/'DIR'/; s/, context:.*//"; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: certificates that a worker has verified are in the spool with their chain, and replay judges them by a new policy
--- user_files eval: ">>> new.yaml\n$::New"
--- policy eval: $::Old
--- http_config eval: $::ShownHttp
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
# On a slow machine it reports its progress.
replay() {
    "$TEST_NGINX_ROOT/target/release/resty-mtls" replay "$@" 2>errors
    echo "exit $?"
    grep -vE '^resty-mtls: replay: (reading the policy, )?[0-9]+ ' errors
}
umask 022
for client in client-a client-a client-int client-carol client-expired; do request payments a $(as $client); done
request payments a $(as client-b)
request payments a $(as client-self)
request payments a
request waf w -H "X-Client-Cert: $(escaped client-two)"
wait_until counts written 4
find spool -name '*.pem' | wc -l
request partners b $(as client-b)
wait_until counts written 5
cmp "$PKI/client-a.crt" "$(spooled client-a)"
cmp "$PKI/client-int.chain" "$(spooled client-int)"
for client in client-a client-int client-carol client-expired client-self client-two client-b; do
    [ -e "$(spooled $client)" ] && echo "$client: $(stat -c %a "$(spooled $client)")"
done
get a.test/status | cut -d' ' -f2- | sed "s/$(cat spool/*.pem | wc -c) bytes/the bytes of all/"
logged() { [ "$(wc -l <audit.log)" -ge 10 ]; }
wait_until logged
replay new.yaml audit.log --certs spool
_EOC_
--- client_out_like eval
qr{\A200
200
200
401
401
401
401
401
200
4
200
client-a: 600
client-int: 600
client-carol: 600
client-two: 600
client-b: 600
5 certificates, the bytes of all
would be refused: 3 \(3 requests\)
  payments a\.test CN=client-int,O=Example \(1 request\)
    status 403: deny rule 'no-int' holds
    remedy: compare the certificate with the rules: rule 'no-int' at new\.yaml:\d+
  waf w\.test CN=client-two,OU=Sales,O=Example \(1 request\)
    status 403: deny rule 'no-two' holds
    remedy: compare the certificate with the rules: rule 'no-two' at new\.yaml:\d+
  partners b\.test CN=client-b,O=Example \(1 request\)
    status 401: FAILED:unable to get local issuer certificate at depth 0: its CA 'CN=Test CA-B,O=Example Lab,C=CZ' is none that this route trusts
    remedy: add 'CN=Test CA-B,O=Example Lab,C=CZ' \(ca_certificates b03f[^\n]*
would be mapped otherwise: 0 \(0 requests\)
would be let in: 0 \(0 requests\)
not judged: 1 \(1 request\)
  payments a\.test CN=client-a \(1 request\)
    spool/[0-9a-f]{64}\.pem is not there; in the log: FAILED:self-signed certificate
same: 5
requests: 10, not decided by the module: 0, lines not read: 0, left out over the limit: 0
exit 4
\z}
--- no_error_log
certificate_spool
[crit]
[alert]



=== TEST 2: workers keep to max_certificates together and over a reload, and one warning says so
--- policy eval: $::Old
--- http_config eval: $::OneHttp
--- config eval: $::Config
--- worker_processes: 2
--- tls_options: reuseport
--- client eval
$::Client . <<'_EOC_';
request payments a $(as client-a)
wait_until counts written 1
for client in client-int client-carol; do
    request payments a $(as $client)
done
wait_until counts full 2
find spool -name '*.pem' | wc -l
reload_nginx
# Both workers
for client in client-int client-carol; do
    for _ in $(seq 20); do request payments a $(as $client) >/dev/null; done
done
wait_until counts full 6
request payments a $(as client-a)
wait_until counts present 1
[ "$(find spool -name '*.pem')" = "$(spooled client-a)" ] && echo "only client-a"
warnings
echo removed
rm "$(spooled client-a)"
for _ in $(seq 20); do request partners b $(as client-b) >/dev/null; done
wait_until [ -e "$(spooled client-b)" ]
_EOC_
--- client_out
200
200
401
1
200
only client-a
[mtls] certificate_spool: 'DIR' has reached max_certificates (1): further certificates are not written
removed
--- no_error_log
[crit]
[alert]



=== TEST 3: requests get the same answers while certificates cannot be written, and the reason is logged once
--- policy eval: $::Old
--- http_config eval: $::SpoolHttp
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
ln -s /dev/full spool/.usage
request payments a $(as client-a)
request payments a $(as client-carol)
wait_until counts failed 2
rm spool/.usage
rmdir spool
request payments a $(as client-int)
wait_until counts failed 3
mkdir -m 0700 spool
request partners b $(as client-b)
wait_until counts written 1
ls spool/*.pem | wc -l
warnings
_EOC_
--- client_out
200
401
200
200
1
[mtls] certificate_spool: 'DIR': No space left on device (os error 28): certificates are not written
[mtls] certificate_spool: 'DIR': No such file or directory (os error 2): certificates are not written
--- no_error_log
[crit]
[alert]



=== TEST 4: init() refuses a spool that cannot be used, and options of another type or range
--- policy eval: $::Old
--- http_config
    init_by_lua_block {
        local mtls = require "resty.mtls"
        local dir = "$TEST_NGINX_HTML_DIR"
        for _, spool in ipairs {
            "spool", 7, {}, { directory = "spool" }, { directory = dir, max = 1 }, { directory = dir, max_bytes = 0 },
            { directory = dir, max_certificates = 1.5 }, { directory = dir, max_certificates = "1" }, dir, dir .. "/none",
        } do
            local _, err = pcall(mtls.init, { policy = dir .. "/policy.yaml", certificate_spool = spool })
            ngx.log(ngx.WARN, "refused: ", (err:gsub("'/[^']*'", "DIR"):gsub("^.-mtls", "mtls")))
        end
        mtls.init { policy = dir .. "/policy.yaml" }
    }
--- config eval: $::Config
--- client
grep -o 'refused: .*' "$ERROR_LOG"
get a.test/status | cut -d' ' -f2-
--- client_out
refused: mtls.init: certificate_spool must be an absolute path of a directory or a table of options, got 'spool'
refused: mtls.init: certificate_spool must be an absolute path of a directory or a table of options, got number
refused: mtls.init: certificate_spool must have directory
refused: mtls.init: certificate_spool: directory must be an absolute path of a directory
refused: mtls.init: certificate_spool: unknown option 'max', expected one of directory, max_bytes, max_certificates
refused: mtls.init: certificate_spool: max_bytes must be a whole number from 1 to 1099511627776
refused: mtls.init: certificate_spool: max_certificates must be a whole number from 1 to 1000000
refused: mtls.init: certificate_spool: max_certificates must be a whole number from 1 to 1000000
refused: mtls] certificate_spool: DIR has mode 0755, expected 0700: other users could read who the clients are, or write certificates of their own
refused: mtls] certificate_spool: DIR: No such file or directory (os error 2)
nil
--- no_error_log
[crit]
[alert]
