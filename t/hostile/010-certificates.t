# Certificates that a hostile or broken CA may issue. Each gets a definite response, and the worker survives.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a"), plugin("tls-metadata-headers", "inject_client_cert_details: true")));

our $Config = <<'_EOC_';
    # Newer releases of nginx have another default.
    proxy_http_version 1.0;
    location /a { access_by_lua_block { require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location /fields {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client.serial)
            ngx.say((client.subject_dn:gsub("%c", "?")))
            ngx.say(client.subject.CN and (client.subject.CN[1]:gsub("%c", "?")))
            ngx.say(#client.san.dns, " ", client.san.dns[1] and (client.san.dns[1]:gsub("%c", "?")))
            ngx.say(#client.pem)
        }
    }
_EOC_

our $Client = <<'_EOC_';
# headers ...: the name of each header that arrived with its value, or its length if that is long, and the worker's
# state
headers() {
    get a.test/a $(as $1) > echo
    tr -d '\r' < echo | grep -aE '^(X-|[^ ]* [^ ]* HTTP)' | grep -avE '^X-(Client-Cert|Client-Cert-Chain|Client-Cert-Fingerprint|Client-Cert-Issuer-DN): ' |
        awk '{ print (length($0) > 500 ? $1 " " length($0) : $0) }'
    grep -aoE '^X-Client-Cert(-Chain)?:' echo | paste -sd ' '
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() sends CR, LF and NUL of a DN as escapes
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
headers client-ctrl | grep -v Serial
get a.test/fields $(as client-ctrl) | sed -n 2,4p
_EOC_
--- client_out
GET /a HTTP/1.0
X-Client-Cert-Dn: CN=x\0D\0AX-Admin: 1\0D\0A\00end
X-Client-Cert-San: DNS:evil%0D%0AX-Admin:%201, URI:spiffe://evil%00%0D%0AX-Admin:%201
X-Client-Cert-Subject-DN: CN=x\0D\0AX-Admin: 1\0D\0A\00end
X-Client-Cert: X-Client-Cert-Chain:
CN=x\0D\0AX-Admin: 1\0D\0A\00end
x??X-Admin: 1???end
1 evil??X-Admin: 1
--- no_error_log
[crit]
[alert]



=== TEST 2: access() sends a serial number of 200 octets on one line
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
headers client-serial200 | sed 's/5A/@/g'
get a.test/fields $(as client-serial200) | head -1 | sed 's/5A/@/g'
headers client-serial0 | grep Serial
_EOC_
--- client_out eval
"GET /a HTTP/1.0\nX-Client-Cert-Dn: CN=client-a\nX-Client-Cert-Serial: " . "@" x 200 . "\n"
. "X-Client-Cert-Subject-DN: CN=client-a\nX-Client-Cert: X-Client-Cert-Chain:\n"
. "@" x 200 . "\nX-Client-Cert-Serial: 00\n"



=== TEST 3: access() omits a header that is too long, and logs it
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
headers client-sans1000 | grep -v Serial
headers client-45k | grep -v Serial
get a.test/fields $(as client-sans1000) | tail -2 | head -1
get a.test/fields $(as client-45k) | tail -1 | grep -c '^6....$'
_EOC_
--- client_out
GET /a HTTP/1.0
X-Client-Cert-Dn: CN=client-a
X-Client-Cert-San-Too-Large: 1
X-Client-Cert-Too-Large: 1
X-Client-Cert-Subject-DN: CN=client-a
X-Client-Cert-Chain-Too-Large: 1

GET /a HTTP/1.0
X-Client-Cert-Dn: CN=client-a
X-Client-Cert-Too-Large: 1
X-Client-Cert-Subject-DN: CN=client-a
X-Client-Cert-Chain-Too-Large: 1

1000 host0000.example.com
1
--- error_log
X-Client-Cert-San left out
X-Client-Cert left out
X-Client-Cert-Chain left out



=== TEST 4: access() answers every hostile certificate, and the worker survives
--- policy eval: $::Policy
--- config eval: $::Config
--- client
worker=$(pgrep -P "$(cat "$PID_FILE")" -f 'worker process$')
for name in ctrl serial200 serial0 sans1000 45k empty deep int awkward self forged expired future server-eku; do
    for version in 1.2 1.3; do
        echo "$name $version $(tls tls=$version sni=a.test host=a.test,a.test path=/fields as=client-$name sess_out=session |
            facts status) $(tls tls=$version sni=a.test path=/fields as=client-$name sess_in=session | facts status)"
    done
done
[ "$worker" = "$(pgrep -P "$(cat "$PID_FILE")" -f 'worker process$')" ] && echo alive
--- client_out
ctrl 1.2 status=200,200 status=200
ctrl 1.3 status=200,200 status=200
serial200 1.2 status=200,200 status=200
serial200 1.3 status=200,200 status=200
serial0 1.2 status=200,200 status=200
serial0 1.3 status=200,200 status=200
sans1000 1.2 status=200,200 status=200
sans1000 1.3 status=200,200 status=200
45k 1.2 status=200,200 status=200
45k 1.3 status=200,200 status=200
empty 1.2 status=200,200 status=200
empty 1.3 status=200,200 status=200
deep 1.2 status=401,401 status=401
deep 1.3 status=401,401 status=401
int 1.2 status=200,200 status=200
int 1.3 status=200,200 status=200
awkward 1.2 status=200,200 status=200
awkward 1.3 status=200,200 status=200
self 1.2 status=401,401 status=401
self 1.3 status=401,401 status=401
forged 1.2 status=401,401 status=401
forged 1.3 status=401,401 status=401
expired 1.2 status=401,401 status=401
expired 1.3 status=401,401 status=401
future 1.2 status=401,401 status=401
future 1.3 status=401,401 status=401
server-eku 1.2 status=401,401 status=401
server-eku 1.3 status=401,401 status=401
alive
--- no_error_log
[crit]
[alert]
