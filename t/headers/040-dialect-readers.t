# Libraries that read each dialect parse the headers of the gateway: structured-headers and X509Certificate in Node,
# http-sf and cryptography in Python, xfccparser in Go, and Envoy's own reader of XFCC. The requests have sixteen
# certificates, one of them with an intermediate. The numbers count the certificates or values that were read correctly.

use lib 't/lib';
use TestMtls;
use TestDialects;

our $Capture = "$TestDialects::Dialects capture captured a int awkward carol two multi delimiters san-delimiters empty 2060 upn comma forged-cn forged-o forged-uri places\n";

sub succeeds ($) {
    return system("$_[0] >/dev/null 2>&1") == 0;
}

my $node = "$TestMtls::Root/target/node";

our $Node = succeeds("node --version") && -e "$node/node_modules/structured-headers"
    ? "$Capture node '$TestMtls::Root/t/headers/readers/read.mjs' captured '$node'\n" : undef;
# t/install-test-tools.sh installs a recent cryptography there.
$ENV{PYTHONPATH} = "$TestMtls::Root/target/readers/python:$ENV{PYTHONPATH}";

our $Python = succeeds("python3 -c 'import http_sf, cryptography'")
    ? "$Capture python3 '$TestMtls::Root/t/headers/readers/read.py' captured\n" : undef;

# Istio's reader, and our model of it for machines that cannot download its module
our ($Xfccparser, $Model) = map { my $program = reader("xfcc", $_); $program ? "$Capture $program captured\n" : undef }
                                ("xfccparser", "model");
my $envoy = reader("envoy", "envoy/_bin/envoy");
our $Envoy = $envoy && $Python ? "$Capture python3 '$TestMtls::Root/t/headers/readers/envoy.py' captured '$envoy'\n" : undef;
our $Counts = "16 read, 9 with a subject, 1 with a URI, 9 with DNS names";

our $Certificates = <<'_EOC_';
one.test Client-Cert: 16
one.test Client-Cert-Chain: 1
one.test Cf-Client-Cert-Der-Base64: 16
one.test x-forwarded-client-cert: 16
one.test x-forwarded-client-cert: 17
one.test ssl-client-cert: 16
one.test X-SSL-Client-Cert: 16
one.test X-Forwarded-Tls-Client-Cert: 17
one.test X-Amzn-Mtls-Clientcert-Leaf: 16
one.test CloudFront-Viewer-Cert-Pem: 16
one.test X-Client-Cert-Leaf: 16
one.test X-Client-Cert-Chain: 1
one.test X-ARR-ClientCert: 16
one.test X-Tls-Client-Certificate-Der-Base64: 16
two.test X-Amzn-Mtls-Clientcert: 17
two.test Client-Cert: 16
two.test Client-Cert-Chain: 1
_EOC_

# One certificate has no subject, and XFCC omits seven subjects.
our $Fields = <<'_EOC_';
one.test ssl-client-subject-dn: 15
one.test ssl-client-issuer-dn: 16
one.test Cf-Cert-Subject-DN-RFC2253: 15
one.test X-CERT-SUBJECT-DN: 15
one.test x-forwarded-client-cert: 10
one.test X-Amzn-Mtls-Clientcert-Subject: 15
one.test CloudFront-Viewer-Cert-Issuer: 16
one.test X-Client-Cert-Subject-DN: 16
two.test SSL_CLIENT_S_DN: 15
two.test SSL_CLIENT_I_DN: 16
one.test Cf-Cert-Serial: 16
one.test X-Tls-Client-Serial: 16
one.test CloudFront-Viewer-Cert-Serial-Number: 16
one.test Cf-Cert-Not-After: 16
one.test X-Client-Cert-Valid-Not-After: 16
one.test X-Client-Cert-Hash: 16
one.test x-forwarded-client-cert: 13
one.test x-forwarded-client-cert: 9
one.test X-Client-Cert-DNSName-SANs: 10
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() sends headers that readers in Node parse
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Node // "true"
--- client_cases eval
$::Node ? "$::Certificates" . "two.test SSL_CLIENT_CERT: 16" : "node # SKIP there is no Node with structured-headers"
--- no_error_log
[crit]
[alert]



=== TEST 2: access() sends headers that readers in Python parse
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Python // "true"
--- client_cases eval
$::Python ? $::Certificates . $::Fields : "python # SKIP there is no Python with http-sf and cryptography"
--- no_error_log
[crit]
[alert]



=== TEST 3: access() sends an x-forwarded-client-cert that xfccparser parses, as in Istio
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Xfccparser // "true"
--- client_cases eval: $::Xfccparser ? $::Counts : "xfccparser # SKIP the Go module github.com/alecholmes/xfccparser is not there: XFCCPARSER=1 make test-deps"
--- no_error_log
[crit]
[alert]



=== TEST 4: access() sends an x-forwarded-client-cert that a model of xfccparser parses
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Model // "true"
--- client_cases eval: $::Model ? $::Counts : "model # SKIP there is no Go"
--- no_error_log
[crit]
[alert]



=== TEST 5: access() sends an x-forwarded-client-cert that Envoy parses
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Envoy // "true"
--- client_cases eval: $::Envoy ? "hash 16, subject 9, uri 1, dns 9" : "envoy # SKIP there is no envoy, or no Python with cryptography"
--- no_error_log
[crit]
[alert]
