# Another policy comes into force while a revocation status or an issuer's documents are fetched.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Http = init_http('fetch_allow = { "127.0.0.0/8" }');

sub policy_file {
    my ($name, $more, $first) = @_;

    return ">>> policy.yaml\n" . expand_policy(<<"_EOC_");
_format_version: "3.0"
\@{ca_certificates: ca-a ca-b}
routes:
- name: $name
  plugins: [{name: mtls-auth, config: {ca_certificates: [\@ca-b], skip_consumer_lookup: true}}]
- name: ignore
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [\@ca-a], skip_consumer_lookup: true, http_timeout: 10000, $more}}
- name: strict
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [\@ca-a], skip_consumer_lookup: true, revocation_check_mode: STRICT, http_timeout: 10000, $more}}
_EOC_
}

our $Policy = policy_file("other", "ssl_verify: false");
our $Short = policy_file("other", "cert_cache_ttl: 10");
our $Nothing = ">>> policy.yaml\n_format_version: '3.0'\n";

# Serves the issuer https://127.0.0.1:TLS_PORT/idp slowly, with a certificate that does not verify.
our $Issuer = $Config . <<'_EOC_';
    location = /reload {
        content_by_lua_block { ngx.say(require("resty.mtls").reload()) }
    }
    location /idp/ {
        content_by_lua_block {
            local file = io.open("$TEST_NGINX_HTML_DIR/fetches", "a")
            file:write(ngx.var.uri, "\n")
            file:close()
            ngx.sleep(1.5)
            local document = assert(io.open("$TEST_NGINX_HTML_DIR" .. ngx.var.uri:gsub("/[.]well.known", "")))
            ngx.print(document:read("*a"))
            document:close()
        }
    }
_EOC_

# reload: puts another policy in force. renamed: changes an unrelated route and the numbers of all routes.
our $Wait = <<'_EOC_';
reload() { curl -s "http://127.0.0.1:$HTTP_PORT/reload"; }
renamed() {
    sed -i "s/^- name: other.*/- name: other-$1/" policy.yaml
    sed -i "s/^routes:/routes:\n- name: more-$1\n  snis: [more-$1.test]\n  plugins: [{name: mtls-auth, config: {ca_certificates: [$(ca_id)], skip_consumer_lookup: true, verify_depth: $1}}]/" policy.yaml
    reload
}
ca_id() { sed -n 's/^- id: //p' policy.yaml | head -1; }
wait_for() { for _ in $(seq 100); do [ "$(fetches | wc -l)" -ge "$1" ] && break; sleep 0.05; done; }
_EOC_

# The key and a token of an attacker who impersonates the issuer
our $Forge = <<'_EOC_';
mkdir -p idp
openssl genrsa -out idp.key 2048 2>/dev/null
cat >forge.py <<'END'
import base64, json, subprocess, sys, time
issuer = sys.argv[1]
b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
run = lambda *command, **more: subprocess.run(command, stdout=subprocess.PIPE, check=True, **more).stdout
modulus = bytes.fromhex(run("openssl", "rsa", "-in", "idp.key", "-noout", "-modulus").decode().strip().split("=")[1])
json.dump({"issuer": issuer, "jwks_uri": issuer + "/jwks", "introspection_endpoint": issuer + "/introspect"},
          open("idp/openid-configuration", "w"))
json.dump({"keys": [{"kty": "RSA", "kid": "k", "use": "sig", "n": b64(modulus), "e": "AQAB"}]}, open("idp/jwks", "w"))
json.dump({"active": True}, open("idp/introspect", "w"))
head = b64(json.dumps({"alg": "RS256", "kid": "k", "typ": "at+jwt"}).encode())
body = b64(json.dumps({"iss": issuer, "exp": int(time.time()) + 600, "iat": int(time.time()), "sub": "admin", "aud": "api",
                       "client_id": "x", "jti": "1"}).encode())
text = head + "." + body
print(text + "." + b64(run("openssl", "dgst", "-sha256", "-sign", "idp.key", input=text.encode())))
END
token=$(python3 forge.py "https://127.0.0.1:$PORT/idp")
bearer() { get "a.test/to/$1" -H "Authorization: Bearer ${2:-$token}" -o body -w '%{http_code}'; }
_EOC_

sub token_policy {
    my ($verify, $more) = @_;

    return expand_policy(<<"_EOC_");
_format_version: "3.0"
\@{ca_certificates: ca-a}
plugins:
- name: tls-handshake-modifier
routes:
- name: token
  plugins:
  - {name: openid-connect, config: {issuer: "https://127.0.0.1:\$PORT/idp", timeout: 8000, ssl_verify: $verify, $more}}
_EOC_
}

$ENV{TOKEN_POLICY} = token_policy('VERIFY', 'auth_methods: [bearer], client_id: [ID]');
$ENV{INTROSPECTION_POLICY} = token_policy('VERIFY', 'auth_methods: [introspection], client_id: [ID], client_secret: [s], '
    . 'introspection_endpoint: "https://127.0.0.1:$PORT/idp/introspect"');

run_blocks();

__DATA__

=== TEST 1: access() uses an answer that was fetched before a reload of the same options
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Issuer
--- client eval
$::Client . $::Wait . <<'_EOC_'
cd "$(dirname "$0")"
request ignore slow-revoked >first &
request strict slow >second &
wait_for 2
renamed 1
sleep 0.5
renamed 2
wait
echo "$(cat first) $(cat second)"
echo "$(request ignore slow-revoked) $(request strict slow)"
fetches | sort
_EOC_
--- client_out
true
true
401 200
401 200
POST /slow-revoked/slow
POST /slow/slow
--- no_error_log
revocation status unknown



=== TEST 2: access() fetches again under changed options, and marks no failure
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Issuer
--- client eval
$::Client . $::Wait . <<'_EOC_'
cd "$(dirname "$0")"
request ignore slow-revoked >first &
request ignore slow-revoked >third &
request strict slow >second &
wait_for 2
sed -i 's/ssl_verify: false/ssl_verify: true/' policy.yaml
reload
wait
echo "$(cat first) $(cat second) $(cat third)"
echo "$(request ignore slow-revoked) $(request strict slow)"
fetches | sort
_EOC_
--- client_out
true
401 200 401
401 200
POST /slow-revoked/slow
POST /slow-revoked/slow
POST /slow/slow
POST /slow/slow
--- no_error_log
revocation status unknown



=== TEST 3: access() uses an answer that a timer fetched ahead during a reload
--- user_files eval: $::Short
--- http_config eval: $::Http
--- config eval: $::Issuer
--- client eval
$::Client . $::Wait . <<'_EOC_'
cd "$(dirname "$0")"
request strict slow; echo
sleep 8.3
request strict slow; echo
wait_for 2
renamed 1
sleep 3.5
request strict slow; echo
fetches
_EOC_
--- client_out
200
200
true
200
POST /slow/slow
POST /slow/slow
--- no_error_log
a fetched value could not be refreshed
--- timeout: 30



=== TEST 4: access() does not use documents of an issuer that was not verified in a policy that verifies it
--- user_files eval: $::Nothing
--- http_config eval: $::Http
--- config eval: $::Issuer
--- client eval
$::Client . $::Wait . $::Forge . <<'_EOC_'
cd "$(dirname "$0")"
with() { eval "cat <<END
$TOKEN_POLICY
END" | sed "s/VERIFY/$1/; s/\[ID\]/[gw]/" >policy.yaml; reload; }
with false
bearer token >first &
for _ in $(seq 100); do [ -s fetches ] && break; sleep 0.05; done
with true
wait
cat first; echo
bearer token; echo
echo "while it verifies: $(wc -l <fetches)"
with false
bearer token; echo
with true
bearer token; echo
_EOC_
--- client_out
true
true
503
503
while it verifies: 2
true
200
true
503
--- error_log
TLS handshake: 
--- timeout: 30



=== TEST 5: access() does not use the introspection response of one client of the issuer for another
--- user_files eval: $::Nothing
--- http_config eval: $::Http
--- config eval: $::Issuer
--- client eval
$::Client . $::Wait . $::Forge . <<'_EOC_'
cd "$(dirname "$0")"
with() { eval "cat <<END
$INTROSPECTION_POLICY
END" | sed "s/VERIFY/$1/; s/\[ID\]/[$2]/" >policy.yaml; reload; }
with false gw
bearer token opaque >first &
for _ in $(seq 100); do [ -s fetches ] && break; sleep 0.05; done
with false other
wait
cat first; echo
cat fetches
: >fetches
bearer token another >first &
for _ in $(seq 100); do [ -s fetches ] && break; sleep 0.05; done
with true other
wait
cat first; echo
_EOC_
--- client_out
true
true
200
/idp/introspect
/idp/introspect
true
503
--- error_log
TLS handshake: 
--- timeout: 30
