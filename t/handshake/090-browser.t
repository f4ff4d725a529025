# Browsers coalesce HTTP/2 connections: they use the connection of n.shop.test for a.shop.test too, because the server's
# certificate covers both. After a 421 they open a new connection, which requests a client certificate. `make
# test-browser` installs the browsers.

use lib 't/lib';
use TestMtls;

sub found ($) {
    my ($command) = @_;

    return system("command -v $command >/dev/null 2>&1") == 0;
}

our $Chromium = found "chromium";
our $Firefox = found "firefox-esr";

# A browser on a busy machine may need several attempts.
plan(skip_all => "make test-browser runs it") if !$ENV{TEST_BROWSER};
plan(skip_all => "neither chromium nor firefox-esr is installed: make test-browser") if !$Chromium && !$Firefox;
plan(skip_all => "not root: the browsers run in a mount namespace") if $> != 0;
plan(skip_all => "no certutil and pk12util (libnss3-tools)") if !found "certutil" || !found "pk12util";

our $Policy = policy("ca-a ca-b",
    route("a", "a.shop.test", mtls_auth("ca-a", "send_ca_dn: true, skip_consumer_lookup: true")),
    route("b", "b.shop.test", mtls_auth("ca-b", "send_ca_dn: true, skip_consumer_lookup: true")),
    route("n", "n.shop.test"));

# Browsers refuse a wildcard directly under a top-level domain, and a CA that they do not trust.
my $made = system("bash", "-ec", <<"_EOC_");
cd "$TestMtls::Pki"
[ browser.crt -nt browser-ca.crt ] && exit
{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj '/CN=Test Browser CA' \\
        -keyout browser-ca.key -out browser-ca.crt
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=n.shop.test' -keyout browser.key -out browser.csr
    openssl x509 -req -in browser.csr -CA browser-ca.crt -CAkey browser-ca.key -days 2 -out browser.crt \\
        -extfile <(printf 'subjectAltName=DNS:n.shop.test,DNS:a.shop.test,DNS:b.shop.test\\nextendedKeyUsage=serverAuth\\n')
} 2>/dev/null
_EOC_
$made == 0 or bail_out("no certificate for browsers");

# The same with a second name that starts to request a certificate
my $auth = mtls_auth("ca-a", "send_ca_dn: true, skip_consumer_lookup: true");
our $Before = policy("ca-a", route("a", "a.shop.test", $auth =~ s/\n/\n    enabled: false\n/r));
our $Requested = expand_policy(policy("ca-a", route("a", "a.shop.test", $auth)));

our $Http = "    log_format seen '\$host \$status \$connection \$server_protocol';\n";

our $Config = <<"_EOC_" . <<'_EOC_';
    ssl_certificate $TestMtls::Pki/browser.crt;
    ssl_certificate_key $TestMtls::Pki/browser.key;
_EOC_
    location /page {
        access_log $TEST_NGINX_HTML_DIR/seen.log seen;
        default_type text/html;
        content_by_lua_block {
            ngx.say("<!doctype html><title>page</title><p id=p>")
            for _, host in ipairs { "a", "b", "a" } do
                ngx.say("<script src='https://", host, ".shop.test:$TEST_NGINX_TLS_PORT/t?", math.random(), "'></script>")
            end
        }
    }
    location /rotation {
        default_type text/html;
        content_by_lua_block {
            ngx.say([[<!doctype html><title>page</title><p id=p></p><script>(async () => {
                for (const path of ['/t', '/t', '/change', '/t', '/t', '/t'])
                    document.getElementById('p').append((await fetch(path)).status + ' ');
            })()</script>]])
        }
    }
    location /change {
        content_by_lua_block { assert(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/requested.yaml")) }
    }
    location /t {
        access_log $TEST_NGINX_HTML_DIR/seen.log seen;
        default_type text/javascript;
        access_by_lua_block { require("resty.mtls").access(ngx.var.host:sub(1, 1)) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say("document.getElementById('p').append('", ngx.var.host, ":", client and client.subject.CN[1] or "-", " ')")
        }
    }
_EOC_

our $Client = <<'_EOC_';
export HOME=$TMP/home
# store DIRECTORY: makes a store of NSS with the server's CA and the client certificates
store() {
    mkdir -p "$1"
    certutil -N -d "sql:$1" --empty-password
    certutil -A -d "sql:$1" -n browser-ca -t C,, -i "$PKI/browser-ca.crt"
    for name in client-a client-b; do
        openssl pkcs12 -export -in "$PKI/$name.crt" -inkey "$PKI/$name.key" -name $name -passout pass:x -out $name.p12
        pk12util -d "sql:$1" -i $name.p12 -W x >/dev/null
    done
}
# browse COMMAND...: runs a browser as root in a mount namespace with our /etc/hosts and our policy for Chromium
browse() {
    echo '127.0.0.1 n.shop.test a.shop.test b.shop.test' >hosts
    unshare --mount sh -c '
        mount --bind hosts /etc/hosts
        [ ! -d managed ] || { mount -t tmpfs none /etc/chromium && mkdir /etc/chromium/policies && cp -r managed /etc/chromium/policies/; }
        exec timeout 60 "$@"' sh "$@"
}
# seen: the statuses of each host in order, and on which connection each was received
seen() {
    for host in n a b; do
        echo "$host: $(awk -v host=$host.shop.test '
            $1 == "n.shop.test" { opened = $3 }
            $1 == host { print $2, ($3 == opened ? "on the connection of n" : "on its own") }' seen.log | uniq | paste -sd ,)"
    done
    echo "$(awk '$4 != "HTTP/2.0"' seen.log | wc -l) not over HTTP/2"
}
_EOC_

# After one 421 a browser may stop coalescing connections.
our $Seen = <<'_EOC_';
(?s)(?=.*421)n: 200 on the connection of n
a: (421 on the connection of n,)?200 on its own
b: (421 on the connection of n,)?200 on its own
0 not over HTTP/2
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() answers 421, and Chromium opens a new connection with a certificate
--- skip_eval: 4: !$::Chromium
--- tls_options: http2
--- policy eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
store "$HOME/.pki/nssdb"
mkdir managed
echo '{"AutoSelectCertificateForUrls": ["{\"pattern\":\"https://[*.]shop.test\",\"filter\":{}}"]}' >managed/test.json
browse chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --disable-dev-shm-usage --user-data-dir="$TMP/chromium" \
    --virtual-time-budget=20000 --dump-dom "https://n.shop.test:$PORT/page" >dom 2>log || tail -n 20 log
grep -o '[ab]\.shop\.test:client-[ab]' dom
seen
_EOC_
--- client_out_like eval
'\Aa\.shop\.test:client-a\nb\.shop\.test:client-b\na\.shop\.test:client-a\n' . $::Seen
--- no_error_log
[crit]
[alert]



=== TEST 2: access() answers 421, and Firefox opens a new connection with a certificate
--- skip_eval: 4: !$::Firefox
--- tls_options: http2
--- policy eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
store profile
while read -r name value; do echo "user_pref(\"$name\", $value);"; done >profile/user.js <<'END'
security.default_personal_cert "Select Automatically"
network.trr.mode 5
network.captive-portal-service.enabled false
network.connectivity-service.enabled false
network.http.http3.enable false
app.update.auto false
app.normandy.enabled false
browser.safebrowsing.update.enabled false
datareporting.policy.dataSubmissionEnabled false
services.settings.server "data:,"
toolkit.telemetry.enabled false
END
browse firefox-esr --headless --no-remote --profile "$TMP/profile" --screenshot "$TMP/shot.png" "https://n.shop.test:$PORT/page" \
    >log 2>&1 || tail -n 20 log
seen
_EOC_
--- client_out_like eval: $::Seen
--- no_error_log
[crit]
[alert]



=== TEST 3: a name that starts to request a certificate: Chromium is on a new connection with one after its 421
--- skip_eval: 4: !$::Chromium
--- tls_options: http2
--- policy eval: $::Before
--- user_files eval: ">>> requested.yaml\n$::Requested"
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
store "$HOME/.pki/nssdb"
mkdir managed
echo '{"AutoSelectCertificateForUrls": ["{\"pattern\":\"https://[*.]shop.test\",\"filter\":{}}"]}' >managed/test.json
browse chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --disable-dev-shm-usage --user-data-dir="$TMP/chromium" \
    --virtual-time-budget=20000 --dump-dom "https://a.shop.test:$PORT/rotation" >dom 2>log || tail -n 20 log
grep -o '<p id="p">[0-9 ]*' dom
# Statuses, and which of the connections they were on
awk '!($3 in number) { number[$3] = ++count } { print number[$3] ":" $2, $4 }' seen.log
_EOC_
--- client_out
<p id="p">200 200 200 200 200 200 
1:200 HTTP/2.0
1:200 HTTP/2.0
1:421 HTTP/2.0
2:200 HTTP/2.0
2:200 HTTP/2.0
2:200 HTTP/2.0
--- no_error_log
[crit]
[alert]
