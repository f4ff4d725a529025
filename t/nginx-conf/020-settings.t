# Settings of nginx.conf that the files of nginx-conf/ need, and those that they change.

use lib 't/lib';
use TestMtls;
use File::Temp qw( tempdir );

our $Policy = ">>> policy.yaml\n" . expand_policy(policy("ca-a", route("a", "a.test", mtls_auth("ca-a"))));

our $Http = "    include \$TEST_NGINX_ROOT/nginx-conf/mtls-http.conf;\n";

our $Config = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-server.conf;
    location /a {
        set $mtls_route a;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /plain {
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_

# --- no_environment: no variable names the policy file.
# --- without_certificate: http{} has no ssl_certificate.
#
# This preprocessor must run after that of TestMtls; add_block_preprocessor would put it in front.
push @Test::Nginx::Util::BlockPreprocessors, sub {
    my $block = shift;

    $ENV{RESTY_MTLS_POLICY} = "$ENV{TEST_NGINX_HTML_DIR}/policy.yaml";
    delete $ENV{RESTY_MTLS_POLICY} if defined $block->no_environment;

    if (defined $block->without_certificate) {
        $block->set_value("http_config", $block->http_config =~ s/^ *ssl_certificate(_key)? .*\n//mgr);
    }
};

run_blocks();


# policy.example.yaml, unchanged and with a CA in it

my $example = "$TestMtls::Root/nginx-conf/policy.example.yaml";
my $check = "$TestMtls::Root/target/release/resty-mtls check";

Test::More::is(`$check '$example' 2>&1`, <<"_EOC_", "policy.example.yaml needs a CA");
$example:11:5: ca_certificates[0].cert: line 2 of the PEM text is the placeholder of the example, 'the CA that signs your clients\\' certificates', expected the certificate of your CA in its place
_EOC_
Test::More::is($? >> 8, 1, "resty-mtls check fails then");

my $dir = tempdir(CLEANUP => 1);
my $policy = do {
    local $/;
    open my $in, '<', $example or die "$example: $!";
    <$in>;
};
my $ca = TestMtls::pki_file("ca-a.crt") =~ s/^/    /mgr;
$policy =~ s/^ +-----BEGIN.*END CERTIFICATE-----\n/$ca/ms or die "$example has no place for a CA";
open my $out, '>', "$dir/policy.yaml" or die "$dir/policy.yaml: $!";
print $out $policy;
close $out;

my $printed = `$check '$dir/policy.yaml' 2>&1`;
Test::More::is($printed =~ s/^digest: [0-9a-f]{64}$/digest/mr, <<'_EOC_', "policy.example.yaml with a CA passes");
digest
server names under which a client certificate is requested: 3
  enrolment.example.com: no CA names sent
  payments.example.com, *.partners.example.com: 1 CA name sent, 59 bytes
routes: 3
routes that require a client certificate: payments
routes without a plugin, open to every client: website
warnings: 0
_EOC_
Test::More::is($? >> 8, 0, "resty-mtls check succeeds then");

__DATA__

=== TEST 1: mtls-http.conf reads /etc/nginx/mtls/policy.yaml when the environment names no other file
--- skip_eval: 2: -e "/etc/nginx/mtls/policy.yaml"
--- no_environment
--- http_config eval: $::Http
--- config eval: $::Config
--- suppress_stderr
--- must_die
--- error_log
[mtls] /etc/nginx/mtls/policy.yaml: cannot be read: No such file or directory



=== TEST 2: mtls-http.conf needs a certificate at http level when a server has none
--- http_config eval: $::Http
--- config eval: $::Config
--- without_certificate
--- suppress_stderr
--- must_die
--- error_log eval
qr{\[emerg\] .*no ssl configured for the server}



=== TEST 3: mtls-server.conf keeps nginx from verifying certificates itself
--- user_files eval: $::Policy
--- http_config eval
$::Http . "    ssl_verify_client on;\n    ssl_client_certificate \$TEST_NGINX_PKI/ca-c.crt;\n"
--- config eval: $::Config
--- client
get a.test/a $(as client-a) -o /dev/null -w '%{http_code}\n'
get a.test/plain -o /dev/null -w '%{http_code}\n'
--- client_out
200
200



=== TEST 4: mtls-server.conf accepts no early data
--- user_files eval: $::Policy
--- http_config eval
$::Http . "    ssl_early_data on;\n"
--- config eval: $::Config
--- client
printf 'GET /plain HTTP/1.0\r\nHost: n.test\r\n\r\n' |
    openssl s_client -quiet -tls1_3 -connect "127.0.0.1:$PORT" -servername n.test -sess_out session >/dev/null 2>&1
openssl sess_id -in session -noout -text | grep -E 'Max Early Data|Protocol' | sed 's/^ *//'
--- client_out
Protocol  : TLSv1.3
Max Early Data: 0



=== TEST 5: mtls-server.conf removes reserved headers over plain HTTP too
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
curl -s "http://127.0.0.1:$HTTP_PORT/plain" -H 'X-Client-Cert-Dn: forged' -H 'X-Other: mine' | grep -iE 'client|other' | tr -d '\r'
--- client_out
X-Other: mine



=== TEST 6: mtls-location.conf without `satisfy all` would allow clients that another access module allows
This is the reason for `satisfy all` in mtls-location.conf.
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config
    satisfy any;
    allow all;
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
get a.test/t -o /dev/null -w '%{http_code}\n'
--- client_out
200
