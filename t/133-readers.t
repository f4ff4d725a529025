# What real readers of each dialect make of the headers of a gateway request: structured-headers and X509Certificate in Node,
# http-sf and cryptography in Python. Every header is read from requests with eleven certificates, one of which comes with
# an intermediate; the numbers count certificates or values that were read and are those presented.

use lib '.';
use t::TestMtls;
use t::TestDialects;

our $Capture = "$t::TestDialects::Dialects capture captured a int awkward carol two multi delimiters san-delimiters empty 2060 upn\n";

sub there ($) {
    return system("$_[0] >/dev/null 2>&1") == 0;
}

my $node = "$t::TestMtls::Root/target/node";

our $Node = there("node --version") && -e "$node/node_modules/structured-headers"
    ? "$Capture node '$t::TestMtls::Root/t/readers/read.mjs' captured '$node'\n" : undef;
our $Python = there("python3 -c 'import http_sf, cryptography'")
    ? "$Capture python3 '$t::TestMtls::Root/t/readers/read.py' captured\n" : undef;

our $Certificates = <<'_EOC_';
one.test Client-Cert: 11
one.test Client-Cert-Chain: 1
one.test Cf-Client-Cert-Der-Base64: 11
one.test x-forwarded-client-cert: 11
one.test x-forwarded-client-cert: 12
one.test ssl-client-cert: 11
one.test X-SSL-Client-Cert: 11
one.test X-Forwarded-Tls-Client-Cert: 12
one.test X-Amzn-Mtls-Clientcert-Leaf: 11
one.test CloudFront-Viewer-Cert-Pem: 11
one.test X-Client-Cert-Leaf: 11
one.test X-Client-Cert-Chain: 1
one.test X-ARR-ClientCert: 11
one.test X-Tls-Client-Certificate-Der-Base64: 11
two.test X-Amzn-Mtls-Clientcert: 12
two.test Client-Cert: 11
two.test Client-Cert-Chain: 1
_EOC_

# One certificate has no subject, six have DNS names.
our $Fields = <<'_EOC_';
one.test ssl-client-subject-dn: 10
one.test ssl-client-issuer-dn: 11
one.test Cf-Cert-Subject-DN-RFC2253: 10
one.test X-CERT-SUBJECT-DN: 10
one.test x-forwarded-client-cert: 11
one.test X-Amzn-Mtls-Clientcert-Subject: 10
one.test CloudFront-Viewer-Cert-Issuer: 11
one.test X-Client-Cert-Subject-DN: 11
two.test SSL_CLIENT_S_DN: 10
two.test SSL_CLIENT_I_DN: 11
one.test Cf-Cert-Serial: 11
one.test X-Tls-Client-Serial: 11
one.test CloudFront-Viewer-Cert-Serial-Number: 11
one.test Cf-Cert-Not-After: 11
one.test X-Client-Cert-Valid-Not-After: 11
one.test X-Client-Cert-Hash: 11
one.test x-forwarded-client-cert: 11
one.test x-forwarded-client-cert: 11
one.test X-Client-Cert-DNSName-SANs: 6
_EOC_

run_blocks();

__DATA__

=== TEST 1: client-cert-headers is read in Node
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Node // "true"
--- client_cases eval
$::Node ? "$::Certificates" . "two.test SSL_CLIENT_CERT: 11" : "node # SKIP there is no Node with structured-headers"
--- no_error_log
[crit]
[alert]



=== TEST 2: client-cert-headers is read in Python
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval: $::Python // "true"
--- client_cases eval
$::Python ? $::Certificates . $::Fields : "python # SKIP there is no Python with http-sf and cryptography"
--- no_error_log
[crit]
[alert]
