# Decisions, redirects inside nginx, subrequests and headers that the client forges, in random order: the upstream gets the
# headers of the last decision, each once, and those of the client that are not reserved, in their order.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a ca-b",
    route("a", "a.test", mtls_auth("ca-a"), plugin("tls-metadata-headers", "inject_client_cert_details: true")),
    route("c", "a.test", mtls_auth("ca-a", "skip_consumer_lookup: true"),
          plugin("client-cert-headers", "dialects: [rfc9440, nginx, xfcc]")),
    route("open", "a.test"),
    route("anonymous", "a.test", mtls_auth("ca-b", "anonymous: guest"),
          plugin("tls-metadata-headers", "inject_client_cert_details: true, client_serial_header_name: X-Real-IP")))
    . "consumers: [{username: guest}]\n";

# SEED=... and COUNT=... try others.
$ENV{SEED} //= 1;
$ENV{COUNT} //= 400;

run_blocks();

__DATA__

=== TEST 1: access() sends the headers of the last decision, whatever preceded it in the request
--- policy eval: $::Policy
--- http_config
    underscores_in_headers on;
--- config
    # The path has a letter for each step.
    location /redirect/ {
        rewrite_by_lua_block {
            local mtls = require "resty.mtls"
            local step, rest = ngx.var.uri:match("^/redirect/(.)(.*)")
            local routes = { a = "a", c = "c", n = "anonymous", o = "open" }
            if routes[step] then
                mtls.access(routes[step])
            elseif step == "d" then
                mtls.decide("a")
            elseif step == "s" then
                mtls.strip()
            elseif step == "m" then
                ngx.req.set_header("X-Of-Gateway", "1")
                ngx.req.clear_header("X-Filler-3")
            elseif step == "l" then
                ngx.location.capture("/capture")
            end

            if rest ~= "" then
                return ngx.exec("/redirect/" .. rest)
            end
        }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /jump/ {
        rewrite_by_lua_block {
            local mtls = require "resty.mtls"
            local step, rest = ngx.var.uri:match("^/jump/(.)(.*)")
            local routes = { a = "a", c = "c", n = "anonymous", o = "open" }
            if routes[step] then
                mtls.access(routes[step])
            else
                mtls.strip()
            end

            if rest ~= "" then
                return ngx.req.set_uri("/jump/" .. rest, true)
            end
        }
        auth_request /subrequest/c;
        mirror /subrequest/anonymous;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /subrequest/ {
        internal;
        rewrite_by_lua_block {
            require("resty.mtls").access(ngx.var.uri:match("[^/]*$"))
            ngx.req.set_header("X-Of-Subrequest", "1")
        }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /capture {
        internal;
        rewrite_by_lua_block {
            require("resty.mtls").access("c")
            ngx.req.set_header("X-Of-Subrequest", "1")
            ngx.req.clear_header("X-Filler-1")
        }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
cat > orders.py <<'END'
import http.client, os, random, ssl, sys

chance = random.Random(int(sys.argv[1]))
FORGED = ["X-Client-Cert-Dn", "x_client_cert_dn", "X-Client-Cert", "X-Client-Cert-Chain", "X-Consumer-Username",
          "X-Consumer-Groups", "X-Anonymous-Consumer", "Client-Cert", "Client-Cert-Chain", "X-Forwarded-Client-Cert",
          "ssl-client-verify", "X-Real-IP"]
context = ssl._create_unverified_context()
context.load_cert_chain(os.environ["PKI"] + "/client-a.crt", os.environ["PKI"] + "/client-a.key")
connection = http.client.HTTPSConnection("127.0.0.1", int(os.environ["PORT"]), timeout=20, context=context)
wrap = context.wrap_socket
context.wrap_socket = lambda sock, **options: wrap(sock, **{**options, "server_hostname": "a.test"})

def send(path, headers):
    """The lines that the upstream received: those of the client's other headers, and all others, sorted."""
    connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read().decode("latin1")
    if response.status != 200:
        return ["status %d" % response.status], []
    lines = [line for line in body.replace("\r", "").split("\n")[1:] if line]
    fillers = [line for line in lines if line.startswith("X-Filler-")]
    return fillers, sorted(line for line in lines if line not in fillers and line != "X-Of-Gateway: 1")

HOST = ("Host", "a.test")
expected = {}
for step in "acno":
    _, expected[step] = send("/redirect/" + step, [HOST])
    print(step, *sorted(line.partition(":")[0] for line in expected[step]))

wrong = 0
for _ in range(int(sys.argv[2])):
    # nginx's list has parts of 20 headers.
    headers = []
    for i in range(chance.choice([0, 1, 5, 17, 18, 19, 20, 21, 30, 37, 38, 39, 40, 41, 60])):
        forged = chance.random() < 0.4
        headers.append((chance.choice(FORGED), "forged") if forged else ("X-Filler-%d" % chance.randrange(8), str(i)))
    headers.insert(chance.randrange(len(headers) + 1), HOST)
    kind = chance.choice(["redirect", "redirect", "redirect", "jump"])
    steps = "".join(chance.choice("acnosmdl" if kind == "redirect" else "acnos") for _ in range(chance.randrange(7)))
    steps += chance.choice("acno")
    fillers, others = send("/%s/%s" % (kind, steps), headers)
    want = ["%s: %s" % header for header in headers if header[0].startswith("X-Filler-")]
    want = [line for line in want if "m" not in steps or not line.startswith("X-Filler-3")]
    # Only on the route whose plugin has this name is it reserved.
    others = [line for line in others if line != "X-Real-IP: forged" or steps[-1] == "n"]
    if fillers != want or others != expected[steps[-1]]:
        wrong += 1
        print("/%s/%s with %r: %r instead of %r, %r instead of %r" % (
            kind, steps, headers, fillers, want, others, expected[steps[-1]]))
        if wrong == 3:
            break
print("wrong: %d" % wrong)
END
python3 orders.py "$SEED" "$COUNT"
--- client_out
a Connection Host X-Client-Cert X-Client-Cert-Chain X-Client-Cert-Dn X-Client-Cert-Fingerprint X-Client-Cert-Issuer-DN X-Client-Cert-Serial X-Client-Cert-Subject-DN
c Client-Cert Connection Host X-Client-Cert-Dn ssl-client-cert ssl-client-issuer-dn ssl-client-subject-dn ssl-client-verify x-forwarded-client-cert
n Connection Host X-Anonymous-Consumer X-Consumer-ID X-Consumer-Username
o Connection Host
wrong: 0
