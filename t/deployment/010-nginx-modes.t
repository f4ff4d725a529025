# The modes in which nginx runs. t/reload/010-lifecycle.t covers lua_code_cache off.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a ca-b",
    route("a", "a.test", mtls_auth("ca-a"), plugin("tls-metadata-headers", "inject_client_cert_details: true")),
    route("n", "n.test"));

# s0.test to s299.test: every third trusts CA-A, every third CA-B, and every third requests no certificate.
our $Many = "_format_version: \"3.0\"\n\@{ca_certificates: ca-a ca-b}\nroutes:\n";
our $Names = '';
for my $i (0 .. 299) {
    my $ca = ("a", "b", "")[$i % 3];
    $Many .= "- name: s$i\n  snis: [s$i.test]\n";
    $Many .= "  plugins: [{name: mtls-auth, config: {ca_certificates: [\@ca-$ca], skip_consumer_lookup: true}}]\n" if $ca;
    $Names .= "s$i.test ";
}

our $Location = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local subject = ngx.req.get_headers()["X-Client-Cert-Subject-DN"]
            ngx.say(require("resty.mtls").client().verified, " ", subject)
        }
    }
    location /pid {
        content_by_lua_block { ngx.say(ngx.worker.pid()) }
    }
_EOC_

our $Cache = "    ssl_session_tickets off;\n    ssl_session_cache shared:sessions:1m;\n";

# all_clients N: prints N times the results of trusted and untrusted clients, on full and resumed handshakes
our $Client = <<'_EOC_';
all_clients() {
    for version in 1.2 1.3; do
        for _ in $(seq "$1"); do
            rm -f session
            tls tls=$version sni=a.test path=/t as=client-int sess_out=session | facts reused status body
            tls tls=$version sni=a.test path=/t as=client-int sess_in=session | facts reused status body
            tls tls=$version sni=a.test path=/t as=client-b | facts reused status
            tls tls=$version sni=a.test path=/t | facts reused status
            tls tls=$version sni=n.test host=a.test path=/t as=client-int | facts reused status
        done
    done | LC_ALL=C sort | uniq -c | sed 's/^ *//'
}
_EOC_

sub all_clients {
    my $n = 2 * shift;

    return <<"_EOC_";
$n reused=0 status=200 body=SUCCESS CN=client-int,O=Example
@{[2 * $n]} reused=0 status=401
$n reused=0 status=421
$n reused=1 status=200 body=SUCCESS CN=client-int,O=Example
_EOC_
}

# The privileged agent needs OpenResty's patch of nginx. lua-nginx-module built without the patch contains this text.
our $NoAgent = grep {
    open my $in, '<:raw', $_ or bail_out("$_: $!");
    local $/;
    index(scalar <$in>, "missing privileged agent process patch") >= 0
} map { -e $_ ? $_ : `command -v $_` =~ s/\n//r } $ENV{TEST_NGINX_BINARY} // "nginx",
    split " ", $ENV{TEST_NGINX_LOAD_MODULES} // "";

run_blocks();

__DATA__

=== TEST 1: access() works in 300 server blocks and four workers
--- worker_processes: 4
--- policy eval: $::Many
--- http_config eval: $::Cache
--- vhosts eval: $::Names
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access((ngx.var.host:gsub("%.test$", ""))) }
        content_by_lua_block { ngx.say("in") }
    }
--- client
for i in 0 1 2 3 4 5 100 101 102 297 298 299; do
    rm -f session
    for as in client-a client-b; do
        echo "$((i % 3)) $as $(tls sni=s$i.test path=/t as=$as sess_out=session-$as | facts reused certreq status)"
    done
    # Offers the session to a name with an equal policy, and to one with another.
    echo "$((i % 3)) resumed $(tls sni=s$(((i + 3) % 300)).test path=/t as=client-a sess_in=session-client-a | facts reused status)"
    echo "$((i % 3)) resumed+1 $(tls sni=s$(((i + 1) % 300)).test path=/t as=client-a sess_in=session-client-a | facts reused status)"
    echo "$((i % 3)) hosts $(tls sni=s$i.test host=s$(((i + 3) % 300)).test,s$(((i + 1) % 300)).test path=/t as=client-a | facts status)"
done | sort | uniq -c | sed 's/^ *//'
--- client_out
4 0 client-a reused=0 certreq=1 status=200
4 0 client-b reused=0 certreq=1 status=401
4 0 hosts status=200,421
4 0 resumed reused=1 status=200
4 0 resumed+1 reused=0 status=401
4 1 client-a reused=0 certreq=1 status=401
4 1 client-b reused=0 certreq=1 status=200
4 1 hosts status=401,200
4 1 resumed reused=1 status=401
4 1 resumed+1 reused=0 status=200
4 2 client-a reused=0 certreq=0 status=200
4 2 client-b reused=0 certreq=0 status=200
4 2 hosts status=200,421
4 2 resumed reused=1 status=200
4 2 resumed+1 reused=0 status=200
--- no_error_log
[crit]
[alert]



=== TEST 2: access() works with reuseport, where each of four workers has its own listening socket
--- worker_processes: 4
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- tls_options: reuseport
--- config eval: $::Location
--- client eval
$::Client . <<'_EOC_';
all_clients 10
workers=$(for _ in $(seq 40); do get a.test/pid; done | sort -u | wc -l)
[ "$workers" -ge 2 ] && echo "several workers" || echo "$workers worker"
_EOC_
--- client_out eval
::all_clients(10) . "several workers\n"
--- no_error_log
[crit]
[alert]



=== TEST 3: access() works where the default server has ssl_reject_handshake
--- policy eval: $::Policy
--- http_config eval
$::Cache . <<"_EOC_";
    server {
        listen 127.0.0.1:\$TEST_NGINX_TLS_PORT ssl;
        server_name a.test n.test;
$::Location
    }
_EOC_
--- config
    ssl_reject_handshake on;
    location /t { return 200 "default\n"; }
--- client eval
$::Client . <<'_EOC_';
all_clients 2
for version in 1.2 1.3; do
    for name in x.test ''; do
        tls tls=$version sni=$name host=a.test path=/t as=client-int | sed 's/.*:://'
    done
    # A session of a served name is of no use either.
    tls tls=$version sni=a.test path=/t as=client-int sess_out=session >/dev/null
    tls tls=$version sni=x.test host=a.test path=/t as=client-int sess_in=session | sed 's/.*:://'
done
_EOC_
--- client_out eval
::all_clients(2) . "tlsv1 unrecognized name\n" x 6
--- no_error_log
[crit]
[alert]



=== TEST 4: access() works behind proxy_protocol
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- tls_options: proxy_protocol
--- config
    set_real_ip_from 127.0.0.1;
    real_ip_header proxy_protocol;
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            ngx.say(require("resty.mtls").client().verified, " ", ngx.var.proxy_protocol_addr, " reused ",
                    ngx.var.ssl_session_reused)
        }
    }
--- client
for version in "--tlsv1.2 --tls-max 1.2" "--tlsv1.3"; do
    for as in client-int client-b; do
        # curl keeps the session, and not the connection, between the two requests.
        curl -sk --haproxy-protocol --http1.1 $version $(as $as) -H 'Connection: close' \
            --connect-to "::127.0.0.1:$PORT" https://a.test/t https://a.test/t
        echo
    done
done
curl -sk --connect-to "::127.0.0.1:$PORT" $(as client-int) https://a.test/t || echo "no PROXY line, no connection"
--- client_out
SUCCESS 127.0.0.1 reused .
SUCCESS 127.0.0.1 reused r

{"message":"TLS certificate failed verification"}{"message":"TLS certificate failed verification"}
SUCCESS 127.0.0.1 reused .
SUCCESS 127.0.0.1 reused r

{"message":"TLS certificate failed verification"}{"message":"TLS certificate failed verification"}
no PROXY line, no connection
--- no_error_log
[crit]
[alert]



=== TEST 5: access() works with master_process off
--- master_process: off
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- config eval
$::Location . <<'_EOC_';
    location /reload {
        content_by_lua_block { ngx.say(require("resty.mtls").reload(), " ", ngx.worker.pid()) }
    }
_EOC_
--- client eval
$::Client . <<'_EOC_';
all_clients 5
[ "$(get n.test/reload)" = "true $(cat "$PID_FILE")" ] && echo "reloaded in the only process"
all_clients 5
_EOC_
--- client_out eval
::all_clients(5) . "reloaded in the only process\n" . ::all_clients(5)
--- no_error_log
[crit]
[alert]



=== TEST 6: access() works beside a privileged agent, where nginx has OpenResty's patch for it
--- skip_eval: 5: $::NoAgent
--- worker_processes: 2
--- policy eval: $::Policy
--- http_config eval
$::Cache . <<'_EOC_';
    init_by_lua_block {
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml" }
        assert(require("ngx.process").enable_privileged_agent())
    }
    init_worker_by_lua_block {
        if require("ngx.process").type() == "privileged agent" then
            local mtls = require "resty.mtls"
            assert(ngx.timer.at(0, function()
                local before = mtls.status()
                assert(mtls.reload())
                local after = mtls.status()
                ngx.log(ngx.WARN, "agent: ", after.counts.routes, " routes, epoch +", after.epoch - before.epoch, ", ",
                        after.digest == before.digest and "same policy" or "other policy")
            end))
        end
    }
_EOC_
--- config eval: $::Location
--- client eval
$::Client . <<'_EOC_';
all_clients 5
kill -HUP "$(cat "$PID_FILE")"
for _ in $(seq 100); do sleep 0.05; [ "$(grep -c 'agent: 2 routes' "$ERROR_LOG")" = 2 ] && break; done
all_clients 5
_EOC_
--- client_out eval
::all_clients(5) . ::all_clients(5)
--- grep_error_log eval: qr/agent: [^,]*, [^,]*, \w+ policy/
--- grep_error_log_out
agent: 2 routes, epoch +1, same policy
agent: 2 routes, epoch +1, same policy
--- no_error_log
[crit]
[alert]
