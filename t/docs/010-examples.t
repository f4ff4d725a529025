# The examples in README.md and docs/ work as they are printed: only addresses and paths are replaced.
# t/docs/020-pages.t checks that every example is run.

use lib 't/lib';
use TestMtls;
use File::Temp qw( tempdir );

my $documents = join "", map {
    local $/;
    open my $in, '<', $_ or die "$_: $!";
    <$in>;
} "$TestMtls::Root/README.md", glob "$TestMtls::Root/docs/*.md";
my $ca = TestMtls::pki_file("ca-a.crt") =~ s/^/    /mgr;


# The code block under a marker, with a CA of the test PKI for the one that is the reader's.
sub shown ($) {
    my ($marker) = @_;

    $documents =~ /^<!-- \Q$marker\E -->\n```\w+\n(.*?)^```$/ms
        or die "no document has a block '$marker'";

    return $1 =~ s/^ +-----BEGIN.*END CERTIFICATE-----\n/$ca/msr;
}


# What stands inside http{}.
sub http ($) {
    my $http = shown($_[0]);

    $http =~ s/\Ahttp \{\n(.*)^\}\n\z/$1/ms;
    $http =~ s{/etc/nginx/tls/gateway}{\$TEST_NGINX_PKI/server}g;
    $http =~ s{/etc/nginx/tls/clients-ca}{\$TEST_NGINX_PKI/ca-a}g;
    $http =~ s{/etc/nginx/mtls/}{\$TEST_NGINX_HTML_DIR/}g;
    $http =~ s{listen +443 ssl}{listen 127.0.0.1:\$TEST_NGINX_TLS_PORT ssl}g;
    $http =~ s{http://127\.0\.0\.1:8080}{\$TEST_NGINX_UPSTREAM}g;
    $http =~ s{listen (?:127\.0\.0\.1:)?9145}{listen 127.0.0.2:\$TEST_NGINX_SERVER_PORT}g;

    return $http;
}

our $Synopsis = http("synopsis: nginx.conf");
our $Policy = ">>> policy.yaml\n" . shown("synopsis: policy.yaml");
our $Pieces = http("pieces: nginx.conf");

# The department that a certificate of the test PKI names, and an upstream for each answer.
our $Routing = http("routing: nginx.conf") =~ s/Engineering/"R&D; Lab=7"/r
    =~ s/127\.0\.0\.1:8081/127.0.0.2:\$TEST_NGINX_SERVER_PORT/r
    =~ s/127\.0\.0\.1:8080/127.0.0.3:\$TEST_NGINX_SERVER_PORT/r;

# Policies that read a header, and the line of nginx.conf with trusted_ips.
our $Trusted = http("trusted: nginx.conf") =~ s/192\.0\.2\.10/127.0.0.1/r;
our %Reads = map { $_ => ">>> policy.yaml\n" . shown("policy: $_") } qw( header-cert-auth openid-connect );

our $Metrics = http("metrics: nginx.conf");
our $Scrape = http("scrape: nginx.conf") =~ s/10\.0\.0\.9/127.0.0.1/r;

our $Short = http("short: nginx.conf");
our $ShortPolicy = ">>> policy.yaml\n" . shown("short: policy.yaml");

# Locations of a server with the files of nginx-conf/.
$ENV{RESTY_MTLS_POLICY} = html_dir() . "/policy.yaml";
our $Redirects = "include $TestMtls::Root/nginx-conf/mtls-server.conf;\n"
    . shown("redirects: nginx.conf") =~ s{include }{include $TestMtls::Root/nginx-conf/}r
    =~ s{http://app}{\$TEST_NGINX_UPSTREAM}r;
our $RedirectPolicy = ">>> policy.yaml\n" . shown("synopsis: policy.yaml") =~ s/name: payments/name: app/r
    =~ s/payments\.example\.com/a.test/r;

our $Rewrite = "include $TestMtls::Root/nginx-conf/mtls-server.conf;\n"
    . shown("rewrite: nginx.conf") =~ s{include }{include $TestMtls::Root/nginx-conf/}r =~ s/burst=50;/nodelay;/r
    =~ s{http://app}{\$TEST_NGINX_UPSTREAM}r =~ s{http://quota}{http://127.0.0.2:\$TEST_NGINX_SERVER_PORT}r;
our ($Zone) = shown("rewrite: nginx.conf") =~ /^# In http\{\}: (.*)/m;
our $Quota = <<'_EOC_';
    server {
        listen 127.0.0.2:$TEST_NGINX_SERVER_PORT;
        location / { if ($http_x_client = "") { return 403; } return 204; }
    }
_EOC_
our $ErrorPages = "include $TestMtls::Root/nginx-conf/mtls-server.conf;\n" . shown("error-pages: nginx.conf")
    . "location /app/ { set \$mtls_route app; include $TestMtls::Root/nginx-conf/mtls-location.conf; }\n";

our $Upstreams = <<'_EOC_';
    server {
        listen 127.0.0.2:$TEST_NGINX_SERVER_PORT;
        location / { return 200 "engineering\n"; }
    }
    server {
        listen 127.0.0.3:$TEST_NGINX_SERVER_PORT;
        location / { return 200 "all others\n"; }
    }
_EOC_

# After that of TestMtls; add_block_preprocessor would put it in front.
push @Test::Nginx::Util::BlockPreprocessors, sub {
    my $block = shift;
    my ($ours, $documents) = split /^(?=# DOCUMENT\n)/m, $block->http_config;

    return if !defined $documents;

    # The synopsis brings its own.
    $ours =~ s/^ *ssl_certificate(_key)? .*\n//mg if $documents =~ /^ *ssl_certificate /m;
    $block->set_value("http_config", $ours . $documents);
};

run_blocks();


# The policy with every field

my $dir = tempdir(CLEANUP => 1);
open my $out, '>', "$dir/policy.yaml" or die "$dir/policy.yaml: $!";
print $out shown("policy: every field");
close $out;

# The lists that it and the policy for lists name.
for my $list (qw( revoked devices )) {
    open my $file, '>', "$dir/$list.list" or die "$dir/$list.list: $!";
    print $file shown("lists: file");
}

my $printed = `'$TestMtls::Root/target/release/resty-mtls' check '$dir/policy.yaml' 2>&1`;

Test::More::is($printed =~ s/^digest: [0-9a-f]{64}$/digest/mr, <<'_EOC_', "the policy with every field passes");
digest
server names under which a client certificate is requested: 2
  payments.example.com, *.partners.example.com: no CA names sent
routes: 1
routes that require a client certificate: payments
warnings: 0
_EOC_

# The certificate in the vault of the policy with tls_client_auth.
for ([GATEWAY_CERT => "client-a.crt"], [GATEWAY_KEY => "client-a.key"]) {
    my ($variable, $file) = @$_;

    open my $in, '<', "$TestMtls::Pki/$file" or die "$file: $!";
    local $/;
    $ENV{$variable} = <$in>;
}

for my $case (
    ["header-cert-auth", "routes that require a client certificate in a header: payments\n"],
    ["openid-connect", "routes that require an access token: payments\n"],
    ["openid-connect consumers", "routes that require an access token: reports\n"],
    ["openid-connect tls_client_auth", "routes that require an access token: payments\n"],
) {
    my ($name, $line) = @$case;

    open my $out, '>', "$dir/policy.yaml" or die "$dir/policy.yaml: $!";
    print $out shown("policy: $name");
    close $out;

    my $printed = `'$TestMtls::Root/target/release/resty-mtls' check '$dir/policy.yaml' 2>&1`;

    Test::More::is($printed =~ s/^digest: [0-9a-f]{64}$/digest/mr, <<"_EOC_", "the policy for $name passes");
digest
server names under which a client certificate is requested: 0
routes: 1
${line}warnings: 0
_EOC_
}


# The rules, in the policy of the synopsis

open $out, '>', "$dir/policy.yaml" or die "$dir/policy.yaml: $!";
print $out shown("synopsis: policy.yaml"), shown("policy: rules");
close $out;

$printed = `'$TestMtls::Root/target/release/resty-mtls' check '$dir/policy.yaml' 2>&1`;

like($printed, qr/^routes that require a client certificate: payments\nwarnings: 0\n\z/m, "the rules pass");


my $der = TestMtls::pki_file("ca-a.crt") =~ s/^-----.*\n//mgr =~ s/\n//gr;

for my $file ([ "policy.yaml", qq(_format_version: "3.0"\nroutes: [{name: payments, snis: [payments.example.com]}]\n)
                . shown("policy: trust domains") ],
              [ "a.example.json", qq({"keys": [{"use": "x509-svid", "kty": "EC", "x5c": ["$der"]}]}\n) ],
              [ "b.example.pem", TestMtls::pki_file("ca-b.crt") ])
{
    open my $out, '>', "$dir/$file->[0]" or die "$dir/$file->[0]: $!";
    print $out $file->[1];
    close $out;
}

$printed = `'$TestMtls::Root/target/release/resty-mtls' check '$dir/policy.yaml' 2>&1`;

like($printed, qr/^routes that require a client certificate: payments\nwarnings: 0\n\z/m, "the trust domains pass");
# The lists, in the policy of the synopsis

open $out, '>', "$dir/policy.yaml" or die "$dir/policy.yaml: $!";
print $out shown("synopsis: policy.yaml"), shown("policy: lists");
close $out;

$printed = `'$TestMtls::Root/target/release/resty-mtls' check '$dir/policy.yaml' 2>&1`;

like($printed, qr/^routes that require a client certificate: payments\nwarnings: 0\n\z/m, "the lists pass");


# The plugins that report, with the CA of the synopsis

open $out, '>', "$dir/policy.yaml" or die "$dir/policy.yaml: $!";
print $out shown("synopsis: policy.yaml") =~ s/^routes:.*//msr, shown("policy: report");
close $out;

$printed = `'$TestMtls::Root/target/release/resty-mtls' check '$dir/policy.yaml' 2>&1`;

like($printed, qr/enforce: is report: requests that $_ would refuse pass;/, "the check warns that $_ reports")
    for qw( mtls-auth acl );


# policy.example.yaml, as it is and with the routes that are comments

my $example = do {
    local (@ARGV, $/) = "$TestMtls::Root/nginx-conf/policy.example.yaml";
    <> =~ s/^ +-----BEGIN.*END CERTIFICATE-----\n/$ca/msr;
};

for my $case ([ "as it is", 3, $example ], [ "with its comments", 5, $example =~ s/^# (?= *(?:- )?\w+:)//mgr ]) {
    my ($name, $routes, $text) = @$case;

    open my $out, '>', "$dir/policy.yaml" or die "$dir/policy.yaml: $!";
    print $out $text;
    close $out;

    my $printed = `'$TestMtls::Root/target/release/resty-mtls' check '$dir/policy.yaml' 2>&1`;
    like($printed, qr/^routes: $routes\n.*^warnings: 0\n\z/ms, "policy.example.yaml passes $name");
}

__DATA__

=== TEST 1: the synopsis protects an upstream and describes the client to it
--- user_files eval: $::Policy
--- http_config eval: "# DOCUMENT\n$::Synopsis"
--- config
    location /t { return 200 ok; }
--- client
code payments.example.com/
get payments.example.com/ $(as client-a) -H 'X-Client-Cert-Dn: CN=forged' | grep -oE '^(X-Client-Cert-Dn: .*[a-z]|X-Client-Cert[^:]*)'
code payments.example.com/ $(as client-b)
code www.example.com/ -H 'Host: payments.example.com' $(as client-a)
tls sni=www.example.com path=/t | facts certreq status
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
X-Client-Cert-Dn: CN=client-a,O=Example
X-Client-Cert
X-Client-Cert-Serial
X-Client-Cert-Issuer-DN
X-Client-Cert-Subject-DN
X-Client-Cert-Fingerprint
X-Client-Cert-Chain
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
421 application/json; charset=utf-8 {"message":"Misdirected Request"}
certreq=0 status=200
--- no_error_log
[crit]
[alert]



=== TEST 2: the Lua modules work without a policy document
--- http_config eval: "# DOCUMENT\n$::Pieces"
--- config
    location /t { return 200 ok; }
--- client
tls sni=api.example.com path=/ as=client-a | facts certreq ca_names status
get api.example.com/ $(as client-a) | grep -oE '^X-Client-Cert-Fingerprint: [0-9a-f]{40}' | cut -d ' ' -f 2 |
    grep -c "$(openssl x509 -in "$PKI/client-a.crt" -outform DER | sha1sum | cut -d ' ' -f 1)"
get api.example.com/ -o /dev/null -w '%{http_code}\n'
get api.example.com/ -o /dev/null -w '%{http_code}\n' $(as client-b)
get www.example.com/ -o /dev/null -w '%{http_code}\n' -H 'Host: api.example.com' $(as client-a)
tls sni=www.example.com path=/t | facts certreq status
tls tls=1.3 sni=api.example.com path=/ as=client-int sess_out=session | facts reused status
tls tls=1.3 sni=api.example.com path=/ as=client-int sess_in=session | facts reused status
--- client_out
certreq=1 ca_names=1:Test CA-A status=200
1
401
401
421
certreq=0 status=200
reused=0 status=200
reused=1 status=200



=== TEST 3: each department has an upstream of its own
--- policy eval: (split /\n/, $::Policy, 2)[1]
--- http_config eval: "# DOCUMENT\n$::Routing$::Upstreams"
--- config
    location /t { return 200 ok; }
--- client
get payments.example.com/ $(as client-awkward)
get payments.example.com/ $(as client-a)
--- client_out
engineering
all others



=== TEST 4: each metric is documented
--- user_files eval: $::Policy
--- http_config eval: "# DOCUMENT\n$::Synopsis$::Metrics"
--- config
    location /t { return 200 ok; }
--- client
get payments.example.com/ $(as client-a) -o /dev/null -w '%{http_code}\n'
curl -s "http://127.0.0.2:$HTTP_PORT/metrics" > text
grep '^resty_mtls_\(requests_total\|responses_total\|metrics_shared\)' text
sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' text > families
sed -n 's/^| `\(resty_mtls_[a-z_]*\)` |.*/\1/p' "$TEST_NGINX_ROOT/docs/metrics.md" | diff families - && echo documented
--- client_out
200
resty_mtls_requests_total{route="payments",decision="pass"} 1
resty_mtls_responses_total{route="payments",class="2xx"} 1
resty_mtls_metrics_shared 1
documented



=== TEST 5: only the named peers may send the certificate header, and no warning is logged
--- user_files eval: $::Reads{"header-cert-auth"}
--- http_config eval: "# DOCUMENT\n$::Trusted"
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("payments") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().subject_dn) }
    }
--- client
header t "X-Client-Cert: $(escaped client-a)"
--- client_out
200 CN=client-a,O=Example
--- no_error_log
[warn]
[error]



=== TEST 6: the policy for tokens loads without a warning
--- user_files eval: $::Reads{"openid-connect"}
--- http_config eval: "# DOCUMENT\n$::Trusted"
--- config
    location /t { return 200 ok; }
    location /payments { access_by_lua_block { require("resty.mtls").access("payments") } }
--- request
GET /t
--- response_body chomp
ok
--- no_error_log
[warn]
[error]



=== TEST 7: the nginx.conf and the policy of the README protect an upstream
--- user_files eval: $::ShortPolicy
--- http_config eval: "# DOCUMENT\n$::Short"
--- config
    location /t { return 200 ok; }
--- client
code payments.example.com/
get payments.example.com/ $(as client-a) -H 'X-Client-Cert-Dn: CN=forged' | grep -oE '^X-Client-Cert-Dn: .*[a-z]'
code payments.example.com/ $(as client-b)
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
X-Client-Cert-Dn: CN=client-a,O=Example
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 no certificate: the client presented none



=== TEST 8: the headers reach the upstream behind try_files
--- user_files eval: $::RedirectPolicy
--- http_config eval: "    include $TestMtls::Root/nginx-conf/mtls-http.conf;\n"
--- config eval: $::Redirects
--- client
code a.test/app/
get a.test/app/ $(as client-a) -H 'X-Client-Cert-Dn: CN=forged' | grep -oE '^X-Client-Cert-Dn: .*[a-z]'
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
X-Client-Cert-Dn: CN=client-a,O=Example
--- error_log
[mtls] 401 no certificate: the client presented none



=== TEST 9: limit_req and auth_request know the client in the rewrite phase
--- user_files eval: $::RedirectPolicy
--- http_config eval: "    include $TestMtls::Root/nginx-conf/mtls-http.conf;\n    include $TestMtls::Root/nginx-conf/mtls-variables.conf;\n    " . $::Zone =~ s/100r/1r/r . "\n" . $::Quota
--- config eval: $::Rewrite
--- client
for _ in 1 2; do get a.test/app/ $(as client-a) -o body -w '%{http_code}\n'; done
get a.test/app/ $(as client-two) | grep -oE '^X-Client-Cert-Dn: .*[a-z]'
code a.test/app/
--- client_out
200
503
X-Client-Cert-Dn: CN=client-two,OU=Sales,O=Example
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
--- error_log
limiting requests



=== TEST 10: a refusal by nginx leads to the login with its reason
--- user_files eval: $::RedirectPolicy
--- http_config eval: "    include $TestMtls::Root/nginx-conf/mtls-variables.conf;\n" . TestMtls::init_http('refusals = "nginx"')
--- config eval: $::ErrorPages
--- client
get a.test/app/ -o /dev/null -w '%{http_code} %{redirect_url}\n'
get a.test/app/ $(as client-expired) -o /dev/null -w '%{http_code} %{redirect_url}\n'
--- client_out
302 https://login.example.com/?why=no_certificate
302 https://login.example.com/?why=expired
--- error_log
[mtls] 401 no certificate



=== TEST 11: Prometheus scrapes by the name of the server, and a site with another name reads nothing
--- user_files eval: $::Policy
--- http_config eval: "# DOCUMENT\n$::Synopsis$::Scrape"
--- config
    location /t { return 200 ok; }
--- client
for host in gateway.internal:9145 127.0.0.2 rebind.example gateway.internal.rebind.example; do
    curl -s -H "Host: $host" "http://127.0.0.2:$HTTP_PORT/metrics" -w '%{http_code} %{content_type}\n' | grep -v '^#\|^resty_'
done
--- client_out
200 text/plain; version=0.0.4; charset=utf-8
200 text/plain; version=0.0.4; charset=utf-8
{"message":"Host: expected an IP address, localhost or the server_name"}
403 application/json
{"message":"Host: expected an IP address, localhost or the server_name"}
403 application/json
