# CA certificates in files and directories beside the policy, and their watch.

use lib 't/lib';
use TestMtls;

sub entry ($) { "_format_version: '3.0'\nca_certificates:\n- {id: \@ca-a, $_[0]}\n" }

our $Routes = "routes:\n" . route("a", "a.test", mtls_auth("ca-a"));
our $File = entry("file: clients-ca.pem") . $Routes;
our $Directory = entry("directory: cas") . $Routes;

# The intermediate has expired, and its twin has not.
our $Expired = "_format_version: '3.0'\n\@{ca_certificates: ca-a ca-a-int-expired}\n"
               . "routes:\n" . route("a", "a.test", mtls_auth("ca-a ca-a-int-expired"));

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().subject_dn) }
    }
    location /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
_EOC_

our $Client = <<'_EOC_';
both() { echo "$(get a.test/t $(as client-a) -o /dev/null -w '%{http_code}') $(get a.test/t $(as client-b) -o /dev/null -w '%{http_code}')"; }
# becomes "STATUS STATUS": waits until the watch has taken the change
becomes() { wait_until is "$1"; both; }
is() { [ "$(both)" = "$1" ]; }
# refused N: waits until the log has N refused reloads
refused() { wait_until log_has "$1"; both; errors | tail -1; }
log_has() { [ "$(errors | wc -l)" = "$1" ]; }
errors() { grep -o '\[mtls\] policy not reloaded: .*' "$ERROR_LOG" | sed 's/, context:.*//; s| /[^ ]*/policy| policy|'; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: a changed bundle is put in force; a bad one keeps the old CAs and names the line
--- policy eval: $::File
--- user_files eval
">>> clients-ca.pem\n# CA-A\n" . TestMtls::pki_file("ca-a.crt")
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
both
{ cat clients-ca.pem "$PKI/ca-b.crt"; } > new && mv new clients-ca.pem
becomes "200 200"
# A bundle that is cut within a certificate
{ cat "$PKI/ca-a.crt"; head -3 "$PKI/ca-b.crt"; } > clients-ca.pem
refused 1
# A key in the bundle
cat "$PKI/ca-a.crt" "$PKI/ca-a.key" > clients-ca.pem
refused 2
# PKCS #7, with CRLF
openssl crl2pkcs7 -nocrl -certfile "$PKI/ca-a.crt" | sed 's/$/\r/' > clients-ca.pem
becomes "200 401"
openssl crl2pkcs7 -nocrl -certfile "$PKI/ca-pair.crt" -outform DER > clients-ca.pem
becomes "200 200"
cp "$PKI/ca-b.crt" clients-ca.pem
becomes "401 200"
cp "$PKI/ca-pair.crt" clients-ca.pem
becomes "200 200"
# A CA that is removed at the end of the bundle is removed.
cp "$PKI/ca-a.crt" clients-ca.pem
becomes "200 401"
_EOC_
--- client_out_like
^200 401
200 200
200 200
\[mtls\] policy not reloaded: policy.yaml:3:52: ca_certificates\[0\].file: 'clients-ca.pem', line \d+: the block has no line '-----END CERTIFICATE-----'
200 200
\[mtls\] policy not reloaded: policy.yaml:3:52: ca_certificates\[0\].file: 'clients-ca.pem', line \d+: a private key, which must not be in a file of certificates
200 401
200 200
401 200
200 200
200 401
$
--- no_error_log
[crit]
[alert]



=== TEST 2: a directory that a ConfigMap swaps by its symbolic link is read again, and a new worker has the same
--- policy eval: $::Directory
--- user_files eval
">>> cas/..1/a.pem\n" . TestMtls::pki_file("ca-a.crt") . ">>> cas/a.pem\n" . TestMtls::pki_file("ca-a.crt")
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
rm cas/a.pem
ln -s ..1 cas/..data
ln -s ..data/a.pem cas/a.pem
# The watch takes this as well, though the certificates are the same.
sleep 1.7
becomes "200 401"
mkdir cas/..2
cp "$PKI/ca-b.crt" cas/..2/a.pem
ln -s ..2 cas/..new && mv -T cas/..new cas/..data
becomes "401 200"
cp "$PKI/ca-a.crt" cas/b.crt
becomes "200 200"
# The directory is bad, and a worker that nginx starts anew has the policy in force.
echo x > cas/b.crt
refused 1
old=$(workers)
kill -9 $old
another() { [ -n "$(workers)" ] && [ "$(workers)" != "$old" ]; }
wait_until another
both
rm cas/b.crt
becomes "401 200"
_EOC_
--- client_out
200 401
401 200
200 200
200 200
[mtls] policy not reloaded: policy.yaml:3:57: ca_certificates[0].directory: 'cas/b.crt': 'x' is neither PEM nor DER, expected '-----BEGIN CERTIFICATE-----'
200 200
401 200
--- no_error_log
[crit]



=== TEST 3: an expired CA of the policy does not hide the renewed one that the client sends
--- policy eval: $::Expired
--- config eval: $::Config
--- client
get a.test/t $(as client-int)
get a.test/metrics | sed -n 's/^\(resty_mtls_ca_time_to_expiry_seconds.*"} -\?\)[0-9]*$/\1N/p'
--- client_out
CN=client-int,O=Example
resty_mtls_ca_time_to_expiry_seconds{id="db866236-d766-4318-8142-d16cbfe5dbd5",subject="CN=Test CA-A,O=Example Lab,C=CZ"} N
resty_mtls_ca_time_to_expiry_seconds{id="f4566f55-7a55-4f8a-8aee-f66af3a8af4e",subject="CN=Test CA-A Intermediate,O=Example Lab"} -N
--- no_error_log
[error]
[alert]
