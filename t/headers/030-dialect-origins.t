# Compares each dialect with the server that it comes from: nginx, Apache, HAProxy, Caddy and Envoy receive the same
# certificates and set the same headers from their own variables. t/headers/origins-deviations.txt lists every
# difference.

use lib 't/lib';
use TestMtls;
use TestDialects;

$ENV{NGINX_PORT} = free_port();

# Plain, unusual and hostile certificates, one that does not verify, and none. nginx and Apache forward a certificate
# that does not verify only if its issuer is missing.
our $Certificates = join " ", qw(
    a int awkward ctrl serial0 serial-negative serial200 sans1000 45k empty dn8k 2060 multi delimiters backslash strings bmp
    san-delimiters san-latin1 upn self comma forged-cn forged-o forged-uri places none
);

my %variables = (
    cert => "escaped_cert", verify => "verify", "subject-dn" => "s_dn", "issuer-dn" => "i_dn",
    map { $_ => tr/-/_/r } qw( s-dn-legacy i-dn-legacy serial fingerprint v-start v-end v-remain ),
);

our $Nginx = <<"_EOC_" . join("", map { "proxy_set_header ssl-client-$_ \$ssl_client_$variables{$_};\n" } sort keys %variables) . "}\n";
server {
    listen 127.0.0.1:$ENV{NGINX_PORT} ssl;
    ssl_client_certificate $TestMtls::Pki/ca-a.crt;
    ssl_verify_client optional_no_ca;
    ssl_verify_depth 10;
    location /to { proxy_pass http://unix:\$TEST_NGINX_HTML_DIR/echo.sock:; }
_EOC_

sub compare ($) {
    my ($name) = @_;
    my %binaries = (apache => [qw( apache2 httpd )], haproxy => ["haproxy"]);

    for my $binary (@{ $binaries{$name} }) {
        return "$TestDialects::Dialects origins $name 0 $Certificates" . ($name eq "haproxy" ? " forged\n" : "\n") if grep { -x "$_/$binary" } split ":", $ENV{PATH};
    }

    return undef;
}

our ($Apache, $Haproxy) = (compare("apache"), compare("haproxy"));

# Unusual names of a published collection, where it is installed
our $Odd = -e "$TestMtls::Root/../shared/corpora/odd-names-dev.json";

# Go and BoringSSL refuse some certificates that OpenSSL reads. Those are compared with the other three servers only.
my %refused = (
    caddy => [qw( ctrl serial-negative strings san-latin1 forged-uri none )],
    envoy => [qw( ctrl 45k none )],
);

sub compare_with ($$$) {
    my ($name, $file, $certificates) = @_;
    my $binary = reader($name, $file) // return undef;
    my %refused = map { $_ => 1 } @{ $refused{$name} };

    return join(" ", $TestDialects::Dialects, "origins", $name, $binary, grep { !$refused{$_} } split " ", $certificates)
           . "\n";
}

our ($Caddy, $Envoy) = map { compare_with($_->[0], $_->[1], $Certificates) } ["caddy", "bin/caddy"], ["envoy", "envoy/_bin/envoy"];
our ($OddCaddy, $OddEnvoy) = map { $Odd ? compare_with($_->[0], $_->[1], "odd") : undef }
                                 ["caddy", "bin/caddy"], ["envoy", "envoy/_bin/envoy"];
our $Counts = '[1-9][0-9]* same, [0-9]+ as listed(, refused there:( odd-[0-9]+)+)?';

run_blocks();

__DATA__

=== TEST 1: access() sends for `nginx` the bytes of nginx's variables
--- policy eval: $::Policy
--- http_config eval: $::Nginx
--- config eval: $::Config
--- client eval: "$::Dialects origins nginx $ENV{NGINX_PORT} $::Certificates\n"
--- client_out
316 same, 8 as listed
--- no_error_log
[crit]
[alert]



=== TEST 2: access() sends for `apache` the bytes of mod_ssl's variables
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Apache // "true"
--- client_cases eval: $::Apache ? "351 same, 162 as listed" : "apache # SKIP there is no apache2 or httpd"
--- no_error_log
[crit]
[alert]



=== TEST 3: access() sends for `haproxy` the bytes of HAProxy's sample fetches
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Haproxy // "true"
--- client_cases eval: $::Haproxy ? "258 same, 50 as listed" : "haproxy # SKIP there is no haproxy"
--- no_error_log
[crit]
[alert]



=== TEST 4: access() sends for `caddy` the bytes of Caddy's placeholders
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Caddy // "true"
--- client_cases eval: $::Caddy ? "125 same, 1 as listed" : "caddy # SKIP there is no caddy"
--- no_error_log
[crit]
[alert]



=== TEST 5: access() sends for `xfcc` the values of Envoy or none
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Envoy // "true"
--- client_cases eval: $::Envoy ? "145 same, 23 as listed" : "envoy # SKIP there is no envoy"
--- no_error_log
[crit]
[alert]



=== TEST 6: access() sends for `caddy` Caddy's bytes of published odd names
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::OddCaddy ? $::OddCaddy =~ s/\n/ >counts; grep -cxE '$::Counts' counts; grep -vxE '$::Counts' counts/r : "true"
--- client_cases eval: $::OddCaddy ? 1 : "caddy # SKIP there is no caddy, or no ../shared/corpora"
--- no_error_log
[crit]
[alert]



=== TEST 7: access() sends for `xfcc` Envoy's values of published odd names, or none
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::OddEnvoy ? $::OddEnvoy =~ s/\n/ >counts; grep -cxE '$::Counts' counts; grep -vxE '$::Counts' counts/r : "true"
--- client_cases eval: $::OddEnvoy ? 1 : "envoy # SKIP there is no envoy, or no ../shared/corpora"
--- no_error_log
[crit]
[alert]
