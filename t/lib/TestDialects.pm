package TestDialects;

# Routes that send every dialect to the upstream of t/headers/dialects.py, for the tests of the header dialects.

use strict;
use warnings;
use TestMtls ();
use Exporter qw( import );

our @EXPORT = qw( $Policy $Config $Dialects reader );

# t/install-test-tools.sh installs there what the system does not have.
$ENV{PYTHONPATH} = join ":", "$TestMtls::Root/target/python", $ENV{PYTHONPATH} // ();

# reader NAME, FILE: the path of FILE of the package NAME that t/install-test-tools.sh installed, or that of the command
# NAME, or undef.
sub reader ($$) {
    my ($name, $file) = @_;

    for my $candidate ("$TestMtls::Root/target/readers/$name/$file", map { "$_/$name" } split ":", $ENV{PATH}) {
        return $candidate if -x $candidate && !-d $candidate;
    }

    return undef;
}

our $Dialects = "python3 $TestMtls::Root/t/headers/dialects.py";

# one.test has every dialect but apache, because its names differ from nginx's in '_' only; two.test has apache and the
# passthrough modes. NAME.test sends the dialect NAME alone, for any client.
my @alone = qw( nginx apache haproxy caddy envoy );

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: nobody
routes:
- name: one
  snis: [one.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], default_consumer: nobody, verify_depth: 20}
  - name: client-cert-headers
    config:
      dialects:
      - rfc9440
      - cloudflare
      - cloudflare-worker
      - {name: cloudflare-forwarding, on: every_request}
      - {name: xfcc, detail: [cert, chain, subject, uri, dns]}
      - name: nginx
        headers: {ssl_client_s_dn_legacy: ssl-client-s-dn-legacy, ssl_client_serial: ssl-client-serial}
      - haproxy
      - traefik
      - aws-alb
      - cloudfront
      - gcp
      - azure
      - caddy
- name: two
  snis: [two.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], default_consumer: nobody, verify_depth: 20}
  - name: client-cert-headers
    config:
      dialects:
      - apache
      - {name: aws-alb, mode: passthrough}
      - {name: cloudfront, mode: passthrough}
_EOC_

for my $name (@alone) {
    my $headers = $name ne "nginx" ? "" : ", headers: {" . join(", ", map { "ssl_client_$_: ssl-client-" . tr/_/-/r }
                                            qw( s_dn_legacy i_dn_legacy serial fingerprint v_start v_end v_remain )) . "}";
    my $dialect = $name eq "envoy" ? "xfcc, detail: [cert, chain, subject, uri, dns]" : $name;
    $Policy .= <<"_EOC_";
- name: $name
  snis: [$name.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [\@ca-a], default_consumer: nobody, anonymous: nobody, verify_depth: 20}
  - name: client-cert-headers
    config:
      dialects: [{name: $dialect, when: presented, max_bytes: 65536$headers}]
_EOC_
}

our $Config = <<'_EOC_';
    location /to {
        access_by_lua_block { require("resty.mtls").access((ngx.var.host:gsub("%.test$", ""))) }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/echo.sock:;
    }
_EOC_

1;
