# /mtls/ and /mtls/policy of mtls-status.conf, included unchanged, and what a browser may send to /mtls/blocks. The page
# itself is tested by t/nginx-conf/090-page-browser.t.

use lib 't/lib';
use TestMtls;

# mtls-http.conf reads the policy of this variable.
$ENV{RESTY_MTLS_POLICY} = html_dir() . "/policy.yaml";
$ENV{TEST_NGINX_STATUS_PORT} = free_port();
$ENV{STATUS_PORT} = $ENV{TEST_NGINX_STATUS_PORT};

our $Policy = ">>> policy.yaml\n" . expand_policy(<<'_EOC_');
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: client-a
routes:
- name: payments
  snis: [a.test, "*.b.test"]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], send_ca_dn: true, revocation_check_mode: SKIP}}
  - {name: acl, config: {deny: [x], enforce: report}}
- name: "<img src=x onerror=alert(1)>"
  snis: [c.test]
plugins:
- {name: client-cert-headers, config: {dialects: [rfc9440]}}
_EOC_

our $Listed = ">>> policy.yaml\n" . expand_policy(<<'_EOC_') . ">>> deny.list\nserial 01 CN=x\n";
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: payments
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}}
  - {name: client-cert-lists, config: {deny: [deny.list]}}
_EOC_

our $ManyRoutes = ">>> policy.yaml\n" . qq(_format_version: "3.0"\nroutes:\n)
    . join("", map { sprintf "- {name: r%04d, snis: [n%04d.test]}\n", $_, $_ } 0 .. 1999)
    . "plugins: [{name: tls-handshake-modifier}]\n";

our $Http = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-http.conf;
    server {
        # All addresses of the loopback network
        listen 0.0.0.0:$TEST_NGINX_STATUS_PORT;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
    }
_EOC_

our $Config = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-server.conf;
    location /payments {
        set $mtls_route payments;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_

our $Client = <<'_EOC_';
# ask PATH [curl options]: body and status
ask() { local path=$1; shift; curl -s "http://127.0.0.1:$STATUS_PORT/mtls/$path" -w '%{http_code}\n' "$@"; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: the page is one document without foreign sources, and its CSP admits its script and style alone
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
curl -s "http://127.0.0.1:$STATUS_PORT/mtls/" -D headers -o page
tr -d '\r' <headers | sed -n 's/^\(HTTP.*\)/\1/p; /^\(Content-Type\|X-\|Cache-Control\|Referrer-Policy\|Cross\|Content-Security\)/p' \
    | sed "s/'sha256-[A-Za-z0-9+\/=]*'/'sha256-DIGEST'/g" | LC_ALL=C sort
python3 - <<'_PY_'
import base64, hashlib, html.parser, re
text = open("page", encoding="utf-8").read()
csp = re.search(r"^Content-Security-Policy: (.*)", open("headers").read(), re.M).group(1)
for tag, directive in ("script", "script-src"), ("style", "style-src"):
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
    print(tag, len(found), f"{directive} 'sha256-{digest}'" in csp)

class Page(html.parser.HTMLParser):
    sources, ids, labelled, missing = [], set(), [], []
    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "action", "srcset", "style") or name.startswith("on"):
                self.sources.append(f"{name}={value}") if not value.startswith("#") else self.labelled.append(value[1:])
            if name == "id":
                self.ids.add(value)
            if name in ("aria-labelledby", "aria-describedby"):
                self.labelled += value.split()
page = Page()
page.feed(text)
print(page.sources)
print("references without a target:", [name for name in page.labelled if name not in page.ids])
print("ids of the script without an element:", sorted(set(re.findall(r'(?:byId|put)\("([\w-]+)"', text)) - page.ids))
print("HTML from text:", re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text))
_PY_
ask '' -I -o /dev/null
ask '' -X POST
# A link of another site may lead to it. A name that somebody lets resolve to this machine may not.
ask '' -o /dev/null -H 'Sec-Fetch-Site: cross-site'
ask '' -H 'Host: rebind.example'
ask '' --interface 127.0.0.2 -o /dev/null
ask policy --interface 127.0.0.2 -o /dev/null
_EOC_
--- client_out
Cache-Control: no-store
Content-Security-Policy: default-src 'none'; script-src 'sha256-DIGEST'; style-src 'sha256-DIGEST'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'
Content-Type: text/html; charset=utf-8
Cross-Origin-Opener-Policy: same-origin
Cross-Origin-Resource-Policy: same-origin
HTTP/1.1 200 OK
Referrer-Policy: no-referrer
X-Content-Type-Options: nosniff
X-Frame-Options: DENY
script 1 True
style 1 True
['href=data:,', 'href=status', 'href=metrics']
references without a target: []
ids of the script without an element: []
HTML from text: []
200
{"message":"POST, expected one of GET, HEAD"}
405
200
{"message":"Host: expected an IP address, localhost or the server_name"}
403
403
403
--- error_log
access forbidden by rule
--- no_error_log
[crit]
[alert]



=== TEST 2: /mtls/policy has routes with their plugins and server names, and refuses what it does not know
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
ask policy >answer
python3 - <<'_PY_'
import json
text, code = open("answer").read().rstrip("\n").rsplit("\n", 1)
policy = json.loads(text)
print(code, policy["epoch"], len(policy["digest"]), policy["routes"]["total"], policy["routes"]["without_route"])
for route in policy["routes"]["items"]:
    print(route)
for name in policy["server_names"]["items"]:
    print({key: value for key, value in sorted(name.items()) if key != "ca_names_bytes"})
_PY_
ask 'policy?list=routes&filter=PAY' | sed 's/"digest":"[0-9a-f]*"/"digest":D/'
ask 'policy?list=server_names&from=1&limit=1&filter=test' -o names; grep -o '"name":"[^"]*"\|"matching":[0-9]*\|"from":[0-9]*' names
for query in list=secrets from=-1 from=1x limit=0 limit=1001 from=1234567890 from from=1\&from=2 x=1 \
    filter=$(printf 'x%.0s' $(seq 256)) filter=%ff; do
    ask "policy?$query"
done
ask policy -X POST
ask policy -o /dev/null -H 'Sec-Fetch-Site: none'
ask policy -o /dev/null -H 'Sec-Fetch-Site: same-origin'
ask policy -H 'Sec-Fetch-Site: same-site'
ask policy -H 'Origin: null'
ask policy -H 'Host: rebind.example'
_EOC_
--- client_out
200 1 64 2 ['client-cert-headers']
{'name': 'payments', 'plugins': ['mtls-auth', 'client-cert-headers', 'acl'], 'report_only': ['acl']}
{'name': '<img src=x onerror=alert(1)>', 'plugins': ['client-cert-headers'], 'report_only': []}
{'ca_names': 1, 'ca_names_sent': True, 'name': '*.b.test', 'resumption': True}
{'ca_names': 1, 'ca_names_sent': True, 'name': 'a.test', 'resumption': True}
{"epoch":1,"digest":D,"routes":{"from":0,"items":[{"name":"payments","plugins":["mtls-auth","client-cert-headers","acl"],"report_only":["acl"]}],"matching":1,"total":2,"without_route":["client-cert-headers"],"without_route_report_only":[]}}
200
200
"from":1
"name":"a.test"
"matching":2
{"message":"list: expected routes or server_names"}
400
{"message":"from: expected a number of at most 9 digits"}
400
{"message":"from: expected a number of at most 9 digits"}
400
{"message":"limit: expected a number from 1 to 1000"}
400
{"message":"limit: expected a number from 1 to 1000"}
400
{"message":"from: expected a number of at most 9 digits"}
400
{"message":"from: expected a number of at most 9 digits"}
400
{"message":"from: expected a number of at most 9 digits"}
400
{"message":"unknown parameter 'x', expected list, from, limit or filter"}
400
{"message":"filter: expected text of at most 255 bytes"}
400
{"message":"filter: expected text in UTF-8"}
400
{"message":"POST, expected one of GET, HEAD"}
405
200
200
{"message":"a request of another site"}
403
{"message":"a request of another site"}
403
{"message":"Host: expected an IP address, localhost or the server_name"}
403
--- no_error_log
[error]
[crit]
[alert]



=== TEST 3: /mtls/blocks takes requests of the page itself, and refuses those of another site, port or scheme
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
own="http://127.0.0.1:$STATUS_PORT"
body="{\"sha256\": \"$(printf '0%.0s' $(seq 64))\"}"
blocks() { echo "$(ask blocks "$@" -o /dev/null) $(ask blocks | grep -c '"sha256"')"; }
post() { blocks -H 'Content-Type: application/json' -d "$body" "$@"; }
post -H "Origin: $own" -H 'Sec-Fetch-Site: cross-site'
post -H "Origin: $own" -H 'Sec-Fetch-Site: same-site'
post -H "Origin: $own" -H 'Sec-Fetch-Site: none'
post -H "Origin: http://127.0.0.1" -H 'Sec-Fetch-Site: same-origin'
post -H "Origin: https://127.0.0.1:$STATUS_PORT" -H 'Sec-Fetch-Site: same-origin'
post -H "Origin: http://evil.example"
post -H "Origin: $own.evil.example"
post -H "Origin: null"
post -H "Origin: http://rebind.example:$STATUS_PORT" -H "Host: rebind.example:$STATUS_PORT" -H 'Sec-Fetch-Site: same-origin'
# HTML forms cannot send JSON.
blocks -d "$body" -H "Origin: $own" -H 'Sec-Fetch-Site: same-origin'
echo own
post -H "Origin: $own" -H 'Sec-Fetch-Site: same-origin'
post -X DELETE -H "Origin: $own" -H 'Sec-Fetch-Site: same-origin'
post -H "Origin: http://LOCALHOST:8080" -H 'Host: localhost:8080'
blocks -H 'Sec-Fetch-Site: same-origin'
ask flush -o /dev/null -X POST -H "Origin: $own" -H 'Sec-Fetch-Site: same-origin'
_EOC_
--- client_out
403 0
403 0
403 0
403 0
403 0
403 0
403 0
403 0
403 0
400 0
own
200 1
204 0
200 1
200 1
204
--- no_error_log
[error]
[crit]
[alert]



=== TEST 4: certificates of status() has the first end of each consumer's certificates
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
ends() { ask status | python3 -c 'import json, sys; print(*[sorted(row.items()) for row in json.loads(sys.stdin.readline()).get("certificates", [])])'; }
echo "before: $(ends)"
get a.test/payments $(as client-a) -o /dev/null -w '%{http_code}\n'
until=$(date -d "$(openssl x509 -in "$PKI/client-a.crt" -noout -enddate | cut -d= -f2)" +%s)
ends | sed "s/, $until)/, END)/"
_EOC_
--- client_out
before: 
200
[('consumer', 'client-a'), ('not_after', END)]
--- no_error_log
[error]
[crit]
[alert]



=== TEST 5: a policy of 2,000 routes is read in pages
--- user_files eval: $::ManyRoutes
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for list in routes server_names; do
    for from in 0 900 1800; do
        ask "policy?list=$list&limit=900&from=$from"
    done | grep -o '"name":"[rn][0-9]*' >found
    echo "$list: $(wc -l <found) $(sort -u found | wc -l)"
done
ask policy | wc -c | awk '{ print ($1 < 20000 ? "short" : $1) }'
_EOC_
--- client_out
routes: 2000 2000
server_names: 2000 2000
short
--- no_error_log
[error]
[crit]
[alert]



=== TEST 6: lists of status() has the lists in force, and why a file cannot be read
--- user_files eval: $::Listed
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
lists() {
    ask status | python3 -c '
import json, os, sys
for row in json.loads(sys.stdin.readline())["lists"]:
    print(row["file"], row["entries"], row["modified"] == int(os.environ["MODIFIED"]), row.get("error"))'
}
export MODIFIED=$(stat -c %Y deny.list)
lists
printf 'serial 0z CN=x\n' >deny.list
for _ in $(seq 100); do
    ask status | grep -q '"error"' && break
    sleep 0.1
done
lists
_EOC_
--- client_out
deny.list 1 True None
deny.list 1 True 'deny.list': line 1: '0z' is not a serial number, expected at most 64 bytes in hexadecimal, with or without colons
--- no_error_log
[crit]
[alert]



=== TEST 7: /mtls is at /mtls/, on the same port, for the same clients
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
for address in 127.0.0.1 127.0.0.2; do
    curl -s --interface $address "http://127.0.0.1:$STATUS_PORT/mtls?x" -o /dev/null -D headers -w "$address %{http_code}\n"
    tr -d '\r' < headers | grep -i '^location'
done
curl -sL "http://127.0.0.1:$STATUS_PORT/mtls" -o /dev/null -w "%{http_code} %{url_effective}\n" | sed "s/$STATUS_PORT/PORT/"
--- client_out
127.0.0.1 301
Location: /mtls/
127.0.0.2 403
200 http://127.0.0.1:PORT/mtls/
--- error_log
access forbidden by rule
