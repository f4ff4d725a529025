# pinned_certificates: certificates of clients that are trusted by themselves.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("strict", "strict.test",
          plugin("mtls-auth", "pinned_certificates: [partners.pem], revocation_check_mode: STRICT, skip_consumer_lookup: true, "
                              . "send_ca_dn: true")),
    route("both", "both.test", mtls_auth("ca-a", "pinned_certificates: [partners.pem]")),
    route("header", "header.test",
          plugin("header-cert-auth", "pinned_certificates: [partners.pem], certificate_header_name: X-Client-Cert, "
                                     . "certificate_header_format: url_encoded, skip_consumer_lookup: true")),
    "consumers:\n- {username: client-a}\n");

our $Files = ">>> partners.pem\n# Partners\n" . TestMtls::pki_file("client-self.crt") . TestMtls::pki_file("client-b.crt")
             . TestMtls::pki_file("client-server-eku.crt") . TestMtls::pki_file("client-expired.crt");

our $Config = <<'_EOC_';
    location ~ ^/(\w+)$ {
        access_by_lua_block { require("resty.mtls").access(ngx.var[1]) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client.verified, " ", client.subject_dn, " ", client.source)
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: a pinned certificate is trusted while it is valid, also in STRICT, and on resumed sessions; its issuer is not
--- policy eval: $::Policy
--- user_files eval: $::Files
--- config eval: $::Config
--- client
for certificate in client-self client-b client-server-eku client-expired client-a client-c; do
    for version in 1.2 1.3; do
        echo "$certificate $(tls sni=strict.test path=/strict tls=$version as=$certificate sess_out=session | facts ca_names status)" \
             "$(tls sni=strict.test path=/strict tls=$version as=$certificate sess_in=session | facts reused status)"
    done
done
echo "both $(tls sni=both.test path=/both as=client-self | facts status) $(tls sni=both.test path=/both as=client-a | facts status)"
grep -o '\[mtls\] 401 .* at depth' "$ERROR_LOG" | sort | uniq -c | sed 's/^ *//'
--- client_out
client-self ca_names=3:client-a+Test CA-B+Test CA-A status=200 reused=1 status=200
client-self ca_names=3:client-a+Test CA-B+Test CA-A status=200 reused=1 status=200
client-b ca_names=3:client-a+Test CA-B+Test CA-A status=200 reused=1 status=200
client-b ca_names=3:client-a+Test CA-B+Test CA-A status=200 reused=1 status=200
client-server-eku ca_names=3:client-a+Test CA-B+Test CA-A status=200 reused=1 status=200
client-server-eku ca_names=3:client-a+Test CA-B+Test CA-A status=200 reused=1 status=200
client-expired ca_names=3:client-a+Test CA-B+Test CA-A status=401 reused=1 status=401
client-expired ca_names=3:client-a+Test CA-B+Test CA-A status=401 reused=1 status=401
client-a ca_names=3:client-a+Test CA-B+Test CA-A status=401 reused=1 status=401
client-a ca_names=3:client-a+Test CA-B+Test CA-A status=401 reused=1 status=401
client-c ca_names=3:client-a+Test CA-B+Test CA-A status=401 reused=1 status=401
client-c ca_names=3:client-a+Test CA-B+Test CA-A status=401 reused=1 status=401
both status=200 status=200
4 [mtls] 401 FAILED:certificate has expired at depth
8 [mtls] 401 FAILED:unable to get local issuer certificate at depth
--- no_error_log
[crit]
[alert]



=== TEST 2: a pinned certificate in a header is trusted by the same rule
--- http_config eval: TestMtls::init_http('trusted_ips = { "127.0.0.1" }')
--- user_files eval: ">>> policy.yaml\n" . TestMtls::expand_policy($::Policy) . $::Files
--- config eval: $::Config
--- client
for certificate in client-self client-b client-a client-expired; do
    echo "$certificate $(curl -s "http://127.0.0.1:$HTTP_PORT/header" -H "X-Client-Cert: $(escaped $certificate)")"
done
--- client_out
client-self SUCCESS CN=client-a header
client-b SUCCESS CN=client-b,O=Example header
client-a {"message":"TLS certificate failed verification"}
client-expired {"message":"TLS certificate failed verification"}
--- no_error_log
[crit]
[alert]



=== TEST 3: a changed file of pinned certificates is put in force, and a bad one keeps the old ones
--- policy eval: $::Policy
--- user_files eval: $::Files
--- config eval: $::Config
--- client
status() { tls sni=strict.test path=/strict as=$1 | facts status; }
is() { [ "$(status $1)" = "$2" ]; }
status client-c
cat "$PKI/client-c.crt" "$PKI/client-self.crt" > partners.pem
wait_until is client-c status=200
status client-b
head -3 "$PKI/client-c.crt" > partners.pem
wait_until grep -q 'policy not reloaded: .*pinned_certificates\[0\]: .partners.pem., line 1: the block has no line' "$ERROR_LOG"
status client-c
--- client_out
status=401
status=401
status=200
--- no_error_log
[crit]
[alert]
