# Certificates that are made to break header lines, for every dialect. t/headers/dialects.py decodes every line that the
# upstream receives and compares it with the certificate. For each missing header there must be a logged reason, and
# -Too-Large where the dialect has it. The expected output lists the missing headers.

use lib 't/lib';
use TestMtls;
use TestDialects;

run_blocks();

__DATA__

=== TEST 1: access() sends lines that decode to the certificate, or none
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
"$::Dialects hostile a int awkward ctrl delimiters backslash strings bmp multi empty san-delimiters san-latin1 upn comma forged-cn forged-o forged-uri places"
--- client_out
a
int
awkward
  X-Forwarded-Tls-Client-Cert-Info: the value of 'O' would be read as something else
  X-SSL-Client-SAN: a subject alternative name would be read as something else
  x-forwarded-client-cert: Subject: the value of 'O' would be read as something else
  x-forwarded-client-cert: URI: a name would be read as something else
ctrl
  SSL_CLIENT_SAN_DNS_: a subject alternative name is not printable ASCII
  X-Client-Cert-SPIFFE: a subject alternative name is not printable ASCII
  X-Forwarded-Tls-Client-Cert-Info: a control character in a name
  X-SSL-Client-CN: a control character in the value
  X-SSL-Client-DN: a control character in the value
  X-SSL-Client-SAN: a subject alternative name is not printable ASCII
  X-Tls-Client-Subject: a control character in the value
  x-forwarded-client-cert: a subject alternative name is not printable ASCII
delimiters
  Cf-Cert-Subject-DN-Legacy: the value of 'O' would be read as something else
  X-CERT-SUBJECT-DN-L: the value of 'O' would be read as something else
  X-Forwarded-Tls-Client-Cert-Info: the value of 'O' would be read as something else
  X-SSL-Client-DN: the value of 'O' would be read as something else
  ssl-client-s-dn-legacy: the value of 'O' would be read as something else
  x-forwarded-client-cert: Subject: the value of 'O' would be read as something else
backslash
  Cf-Cert-Subject-DN-Legacy: the value of 'O' would be read as something else
  X-CERT-SUBJECT-DN-L: the value of 'O' would be read as something else
  X-Forwarded-Tls-Client-Cert-Info: the value of 'O' would be read as something else
  X-SSL-Client-DN: the value of 'CN' would be read as something else
  ssl-client-s-dn-legacy: the value of 'O' would be read as something else
  x-forwarded-client-cert: Subject: the value of 'O' would be read as something else
strings
  Cf-Cert-Subject-DN-Legacy: the value of 'O' would be read as something else
  X-CERT-SUBJECT-DN-L: the value of 'O' would be read as something else
  ssl-client-s-dn-legacy: the value of 'O' would be read as something else
  x-forwarded-client-cert: Subject: the value of 'O' would be read as something else
bmp
  Cf-Cert-Subject-DN-Legacy: the value of 'CN' would be read as something else
  X-CERT-SUBJECT-DN-L: the value of 'CN' would be read as something else
  ssl-client-s-dn-legacy: the value of 'CN' would be read as something else
  x-forwarded-client-cert: Subject: the value of 'CN' would be read as something else
multi
  x-forwarded-client-cert: Subject: 'OU' shares a relative distinguished name with another attribute
empty
san-delimiters
  X-Forwarded-Tls-Client-Cert-Info: a subject alternative name would be read as something else
  X-SSL-Client-SAN: a subject alternative name would be read as something else
  x-forwarded-client-cert: DNS: a name would be read as something else
  x-forwarded-client-cert: URI: a name would be read as something else
san-latin1
  SSL_CLIENT_SAN_DNS_: a subject alternative name is not printable ASCII
  X-Forwarded-Tls-Client-Cert-Info: a subject alternative name is not printable ASCII
  X-SSL-Client-SAN: a subject alternative name is not printable ASCII
  x-forwarded-client-cert: a subject alternative name is not printable ASCII
upn
comma
  X-Forwarded-Tls-Client-Cert-Info: the value of 'O' would be read as something else
  x-forwarded-client-cert: Subject: the value of 'O' would be read as something else
forged-cn
  Cf-Cert-Subject-DN-Legacy: the value of 'CN' would be read as something else
  X-CERT-SUBJECT-DN-L: the value of 'CN' would be read as something else
  X-Forwarded-Tls-Client-Cert-Info: the value of 'CN' would be read as something else
  X-SSL-Client-DN: the value of 'CN' would be read as something else
  ssl-client-s-dn-legacy: the value of 'CN' would be read as something else
  x-forwarded-client-cert: Subject: the value of 'CN' would be read as something else
forged-o
  Cf-Cert-Subject-DN-Legacy: the value of 'O' would be read as something else
  X-CERT-SUBJECT-DN-L: the value of 'O' would be read as something else
  X-Forwarded-Tls-Client-Cert-Info: the value of 'O' would be read as something else
  X-SSL-Client-DN: the value of 'O' would be read as something else
  ssl-client-s-dn-legacy: the value of 'O' would be read as something else
  x-forwarded-client-cert: Subject: the value of 'O' would be read as something else
forged-uri
  X-Forwarded-Tls-Client-Cert-Info: a subject alternative name would be read as something else
  x-forwarded-client-cert: URI: a name would be read as something else
places
--- no_error_log
[crit]
[alert]



=== TEST 2: access() sends unusual serial numbers, dates and sizes completely or not at all
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
"$::Dialects hostile serial0 serial-negative serial200 2060 dn8k sans1000 45k"
--- client_out
serial0
serial-negative
serial200
  X-Client-Cert-Serial-Number: N bytes are over the limit of 50
2060
  X-SSL-Client-NotAfter: a year outside 1950 to 2049 cannot be written with two digits
dn8k
  Client-Cert: N bytes are over the limit of 10240
  X-Client-Cert-Subject-DN: N bytes are over the limit of 512
  x-forwarded-client-cert: N bytes are over the limit of 16384
sans1000
  Cf-Client-Cert-Der-Base64: N bytes are over the limit of 16384
  Client-Cert: N bytes are over the limit of 10240
  CloudFront-Viewer-Cert-Pem: N bytes are over the limit of 16384
  SSL_CLIENT_CERT: N bytes are over the limit of 16384
  SSL_CLIENT_SAN_DNS_: 1000 values are over the limit of 16
  X-ARR-ClientCert: N bytes are over the limit of 16384
  X-Amzn-Mtls-Clientcert: N bytes are over the limit of 16384
  X-Amzn-Mtls-Clientcert-Leaf: N bytes are over the limit of 16384
  X-Client-Cert-DNSName-SANs: N bytes are over the limit of 512
  X-Client-Cert-Leaf: N bytes are over the limit of 16384
  X-Forwarded-Tls-Client-Cert: N bytes are over the limit of 16384
  X-Forwarded-Tls-Client-Cert-Info: N bytes are over the limit of 16384
  X-SSL-Client-Cert: N bytes are over the limit of 16384
  X-SSL-Client-SAN: N bytes are over the limit of 16384
  X-Tls-Client-Certificate-Der-Base64: N bytes are over the limit of 16384
  ssl-client-cert: N bytes are over the limit of 16384
  x-forwarded-client-cert: N bytes are over the limit of 16384
45k
  Cf-Client-Cert-Der-Base64: N bytes are over the limit of 16384
  Client-Cert: N bytes are over the limit of 10240
  CloudFront-Viewer-Cert-Pem: N bytes are over the limit of 16384
  SSL_CLIENT_CERT: N bytes are over the limit of 16384
  X-ARR-ClientCert: N bytes are over the limit of 16384
  X-Amzn-Mtls-Clientcert: N bytes are over the limit of 16384
  X-Amzn-Mtls-Clientcert-Leaf: N bytes are over the limit of 16384
  X-Client-Cert-Leaf: N bytes are over the limit of 16384
  X-Forwarded-Tls-Client-Cert: N bytes are over the limit of 16384
  X-SSL-Client-Cert: N bytes are over the limit of 16384
  X-Tls-Client-Certificate-Der-Base64: N bytes are over the limit of 16384
  ssl-client-cert: N bytes are over the limit of 16384
  x-forwarded-client-cert: N bytes are over the limit of 16384
--- no_error_log
[crit]
[alert]



=== TEST 3: access() sends the same lines on a resumed session
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
"$::Dialects resumed a int awkward 45k sans1000 deep"
--- client_out
a TLSv1_2 resumed same, 0 chains; resumed same, 0 chains
a TLSv1_3 resumed same, 0 chains; resumed same, 0 chains
int TLSv1_2 resumed same, 3 chains; resumed same, 1 chains
int TLSv1_3 resumed same, 3 chains; resumed same, 1 chains
awkward TLSv1_2 resumed same, 0 chains; resumed same, 0 chains
awkward TLSv1_3 resumed same, 0 chains; resumed same, 0 chains
45k TLSv1_2 resumed same, 0 chains; resumed same, 0 chains
45k TLSv1_3 resumed same, 0 chains; resumed same, 0 chains
sans1000 TLSv1_2 resumed same, 0 chains; resumed same, 0 chains
sans1000 TLSv1_3 resumed same, 0 chains; resumed same, 0 chains
deep TLSv1_2 full same, 3 chains; full same, 1 chains
deep TLSv1_3 full same, 3 chains; full same, 1 chains
--- no_error_log
[crit]
[alert]



=== TEST 4: OpenSSL refuses a certificate with invalid UTF-8 in the handshake
--- policy eval: $::Policy
--- config eval: $::Config
--- client
gnutls_cli() {
    printf 'GET /to HTTP/1.0\r\nHost: one.test\r\n\r\n' | timeout 20 gnutls-cli --insecure --sni-hostname one.test \
        --x509certfile "$PKI/client-$1.crt" --x509keyfile "$PKI/client-$1.key" -p "$PORT" 127.0.0.1 2>&1
}
gnutls_cli not-utf8 | grep -F '***' | tail -2
# This server has no upstream.
gnutls_cli upn | grep -o '^HTTP/1.1 [0-9]*'
--- client_out
*** Received alert [50]: Decode error
*** Server has terminated the connection abnormally.
HTTP/1.1 502
--- error_log
invalid utf8string
--- no_error_log
[alert]
[emerg]
