# Side by side with those who invented a dialect: nginx, Apache and HAProxy get the same certificates and set the same
# headers from their own variables. Where the bytes differ stands in t/origins-deviations.txt, and only there.

use lib '.';
use t::TestMtls;
use t::TestDialects;

$ENV{NGINX_PORT} = server_port() + 3;

# Good ones, awkward and hostile ones, one that does not verify, and none. Neither nginx nor Apache lets anything through
# that fails for another reason than a missing issuer.
our $Certificates = join " ", qw(
    a int awkward ctrl serial0 serial-negative serial200 sans1000 45k empty dn8k 2060 multi delimiters backslash strings bmp
    san-delimiters san-latin1 upn self none
);

my %variables = (
    cert => "escaped_cert", verify => "verify", "subject-dn" => "s_dn", "issuer-dn" => "i_dn",
    map { $_ => tr/-/_/r } qw( s-dn-legacy i-dn-legacy serial fingerprint v-start v-end v-remain ),
);

our $Nginx = <<"_EOC_" . join("", map { "proxy_set_header ssl-client-$_ \$ssl_client_$variables{$_};\n" } sort keys %variables) . "}\n";
server {
    listen 127.0.0.1:$ENV{NGINX_PORT} ssl;
    ssl_client_certificate $t::TestMtls::Pki/ca-a.crt;
    ssl_verify_client optional_no_ca;
    ssl_verify_depth 10;
    location /to { proxy_pass http://unix:\$TEST_NGINX_HTML_DIR/echo.sock:; }
_EOC_

sub compare ($) {
    my ($name) = @_;
    my %binaries = (apache => [qw( apache2 httpd )], haproxy => ["haproxy"]);

    for my $binary (@{ $binaries{$name} }) {
        return "$t::TestDialects::Dialects origins $name 0 $Certificates" . ($name eq "haproxy" ? " forged\n" : "\n") if grep { -x "$_/$binary" } split ":", $ENV{PATH};
    }

    return undef;
}

our ($Apache, $Haproxy) = (compare("apache"), compare("haproxy"));

run_blocks();

__DATA__

=== TEST 1: client-cert-headers `nginx` sends the bytes of nginx's variables
--- policy eval: $::Policy
--- http_config eval: $::Nginx
--- config eval: $::Config
--- client eval: "$::Dialects origins nginx $ENV{NGINX_PORT} $::Certificates\n"
--- client_out
259 same, 5 as listed
--- no_error_log
[crit]
[alert]



=== TEST 2: client-cert-headers `apache` sends the bytes of mod_ssl's variables
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Apache // "true"
--- client_cases eval: $::Apache ? "282 same, 136 as listed" : "apache # SKIP there is no apache2 or httpd"
--- no_error_log
[crit]
[alert]



=== TEST 3: client-cert-headers `haproxy` sends the bytes of HAProxy's sample fetches
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Haproxy // "true"
--- client_cases eval: $::Haproxy ? "212 same, 41 as listed" : "haproxy # SKIP there is no haproxy"
--- no_error_log
[crit]
[alert]
