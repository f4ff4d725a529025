# The identity of a certificate is what its CA signed (TBS). Neither the encoding of its signature or key nor
# certificates sent beside it make it another one.

use lib 't/lib';
use TestMtls;
use Digest::SHA qw( sha256_hex );
use MIME::Base64 qw( decode_base64 );

my $pki = $TestMtls::Pki;

sub sha256_of {
    my ($name) = @_;
    open my $in, '<', "$pki/$name.crt" or bail_out("$name: $!");
    my ($pem) = join("", <$in>) =~ /-----BEGIN CERTIFICATE-----(.*?)-----END/s;

    return sha256_hex(decode_base64($pem));
}

our $Partner = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-a-int}
consumers: [{username: partner-admin}, {username: house-admin}]
mtls_auth_credentials:
- {subject_name: client-int, consumer: partner-admin, ca_certificate: @ca-a-int}
- {subject_name: client-int, consumer: house-admin}
- {subject_name: client-a, consumer: house-admin}
plugins:
- name: mtls-auth
  config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP}
routes:
- {name: a, snis: [a.test]}
_EOC_

my $leaf = sha256_of("client-a");

our $Rules = <<"_EOC_";
_format_version: "3.0"
\@{ca_certificates: ca-a}
plugins:
- name: mtls-auth
  config: {ca_certificates: [\@ca-a], skip_consumer_lookup: true, revocation_check_mode: SKIP}
routes:
- {name: all, snis: [a.test]}
- {name: deny, plugins: [{name: client-cert-acl, config: {deny: [{name: d, sha256: $leaf}]}}]}
- {name: allow-not, plugins: [{name: client-cert-acl, config: {allow: [{name: d, not: {sha256: $leaf}}]}}]}
- {name: allow, plugins: [{name: client-cert-acl, config: {allow: [{name: d, sha256: $leaf}]}}]}
- {name: deny-not, plugins: [{name: client-cert-acl, config: {deny: [{name: d, not: {sha256: $leaf}}]}}]}
_EOC_

chomp(my $spki = `openssl x509 -in $pki/client-a.crt -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -r`);
$spki =~ s/ .*//;

our $Keys = $Rules;
$Keys =~ s/sha256: $leaf/spki_sha256: $spki/g;

our $Client = <<'_EOC_';
malleate() { python3 "$ROOT/t/pki/malleate_signature.py" "$PKI/$1" "${2:-0}" >"malleated-$1"; }
_EOC_
$Client = "ROOT='$TestMtls::Root'\n$Client";

run_blocks();

__DATA__

=== TEST 1: access() finds the CA of a credential in any certificate of that CA
--- policy eval: $::Partner
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().consumer.username) }
    }
--- client eval
$::Client . <<'_EOC_';
consumer_of() { get a.test/t --cert "$1" --key "$PKI/$2.key"; }
consumer_of "$PKI/client-int.chain" client-int
malleate client-int.chain 1
cmp -s malleated-client-int.chain "$PKI/client-int.chain" || consumer_of malleated-client-int.chain client-int
malleate client-int.chain 0
consumer_of malleated-client-int.chain client-int
# A second certificate of the same CA subject and key
openssl x509 -x509toreq -in "$PKI/ca-a-int.crt" -signkey "$PKI/ca-a-int.key" -out int.csr 2>/dev/null
printf 'basicConstraints=critical,CA:TRUE\n' >int.cnf
openssl x509 -req -in int.csr -CA "$PKI/ca-a.crt" -CAkey "$PKI/ca-a.key" -set_serial 77 -days 3 -extfile int.cnf \
    -out int-again.crt 2>/dev/null
cat "$PKI/client-int.crt" int-again.crt >again.chain
consumer_of again.chain client-int
cat "$PKI/client-int.crt" "$PKI/client-b.crt" int-again.crt "$PKI/ca-b.crt" >junk.chain
consumer_of junk.chain client-int
consumer_of "$PKI/client-a.crt" client-a
_EOC_
--- client_out
partner-admin
partner-admin
partner-admin
partner-admin
partner-admin
house-admin



=== TEST 2: access() matches sha256 in both encodings of a signature to deny, and in one to allow
--- policy eval: $::Rules
--- config
    location ~ ^/(.+)$ {
        access_by_lua_block { require("resty.mtls").access(ngx.var[1]) }
        content_by_lua_block { ngx.say("in") }
    }
--- client eval
$::Client . <<'_EOC_';
malleate client-a.crt
for crt in "$PKI/client-a.crt" malleated-client-a.crt "$PKI/client-two.crt"; do
    key=client-a
    [ "${crt##*/}" = client-two.crt ] && key=client-two
    for route in all deny allow-not allow deny-not; do
        printf '%s ' "$(get "a.test/$route" --cert "$crt" --key "$PKI/$key.key" -o body -w '%{http_code}')"
    done
    echo
done
_EOC_
--- client_out
200 403 403 200 200 
200 403 403 403 403 
200 200 200 403 403 
--- error_log
client-cert-acl: deny rule 'd' holds



=== TEST 3: access() drops certificates that the client sent and that are in no chain
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
plugins:
- name: mtls-auth
  config: {ca_certificates: [@ca-a], skip_consumer_lookup: true, revocation_check_mode: SKIP}
- name: client-cert-headers
  config: {dialects: [rfc9440]}
routes:
- {name: a, snis: [a.test]}
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local _, commas = (ngx.var.http_client_cert_chain or ""):gsub("[^,]+", "")
            local _, count = require("resty.mtls").client().chain_pem:gsub("BEGIN", "")
            local chain = require("resty.mtls").client():header_value("kong", "client_cert_chain")
            local _, escaped = chain:gsub("BEGIN", "")
            ngx.say(commas, " ", count, " ", escaped)
        }
    }
--- client
cd "$PKI"
sent() { cat "$@" >"$TMP/sent"; get a.test/t --cert "$TMP/sent" --key client-int.key; }
sent client-int.crt ca-a-int.crt
sent client-int.crt client-b.crt ca-a-int.crt ca-b.crt
sent client-int.crt ca-a.crt ca-a-int.crt
sent client-int.crt ca-a-int.crt ca-a.crt
sent client-int.crt ca-b.crt ca-a-int.crt
--- client_out
1 2 2
1 2 2
2 3 3
2 3 3
1 2 2



=== TEST 4: access() matches spki_sha256 in every encoding of the key to deny, and in one to allow
--- policy eval: $::Keys
--- config
    location ~ ^/(.+)$ {
        access_by_lua_block { require("resty.mtls").access(ngx.var[1]) }
        content_by_lua_block { ngx.say("in") }
    }
--- client
for form in uncompressed compressed hybrid; do
    openssl ec -in "$PKI/client-a.key" -conv_form $form -out $form.key 2>/dev/null
    openssl req -new -key $form.key -subj /CN=again -out $form.csr 2>/dev/null
    openssl x509 -req -in $form.csr -CA "$PKI/ca-a.crt" -CAkey "$PKI/ca-a.key" -set_serial 78 -days 3 -out $form.crt 2>/dev/null
    for route in all deny allow-not allow deny-not; do
        printf '%s ' "$(get "a.test/$route" --cert $form.crt --key "$PKI/client-a.key" -o body -w '%{http_code}')"
    done
    openssl x509 -in $form.crt -noout -pubkey | openssl pkey -pubin -outform der | tail -c +27 | head -c 1 | od -An -tx1 |
        sed 's/ 04/uncompressed/; s/ 0[23]/compressed/; s/ 0[67]/hybrid/'
done
--- client_out
200 403 403 200 200 uncompressed
200 403 403 403 403 compressed
200 403 403 403 403 hybrid
--- error_log
client-cert-acl: deny rule 'd' holds
client-cert-acl: deny rule 'd' may hold: the public key is that of the rule in another encoding, or unreadable
