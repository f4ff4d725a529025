# Where nginx has a shared ssl_session_cache and sessions are not shared with other nodes, TLS 1.3 sessions with a client
# certificate are kept in it instead of tickets.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: a
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {ca_certificates: [@ca-a], skip_consumer_lookup: true, verify_depth: 30}}]
- name: b
  snis: [b.test]
  plugins: [{name: mtls-auth, config: {ca_certificates: [@ca-b], skip_consumer_lookup: true}}]
_EOC_

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access(ngx.var.host:sub(1, 1)) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client.subject_dn, " of ", select(2, client.chain_pem:gsub("BEGIN CERTIFICATE", "")))
        }
    }
_EOC_

system("head -c 80 /dev/zero >'$TestMtls::Pki/ticket.key'") == 0 or bail_out("no ticket key");
our $Key = "    ssl_session_ticket_key $TestMtls::Pki/ticket.key;\n";
our $Cache = "    ssl_session_cache shared:sessions:1m;\n";

# kind: "id" of a session that the server keeps, "ticket" of another one
# chain AS VERSION N: a session of AS is made, then resumed N times, each time the newest one
our $Client = <<'_EOC_';
kind() {
    [ -s "$1" ] || { echo none; return; }
    local octets
    octets=$(openssl sess_id -in "$1" -noout -text | sed -n '/TLS session ticket:/,/^$/p' | grep -c ' - ')
    [ "$octets" = 2 ] && echo id || { [ "$octets" -gt 2 ] && echo ticket || echo "no ticket"; }
}
chain() {
    rm -f session
    echo "$(tls tls=$2 sni=a.test path=/t as=$1 sess_out=session | facts reused status body) $(kind session)"
    for _ in $(seq $3); do
        cp session before
        echo "$(tls tls=$2 sni=a.test path=/t as=$1 sess_in=before sess_out=session | facts reused status body) $(kind session)"
    done
}
_EOC_

sub init {
    return "    init_by_lua_block { require('resty.mtls').init { policy = '\$TEST_NGINX_HTML_DIR/policy.yaml', $_[0] } }\n";
}

our $Three = $Client . "chain client-int 1.3 3\n";
our $Ids = "reused=0 status=200 body=CN=client-int,O=Example of 2 id\n"
    . "reused=1 status=200 body=CN=client-int,O=Example of 2 id\n" x 3;
(our $TicketsOut = $Ids) =~ s/id$/ticket/mg;

run_blocks();

__DATA__

=== TEST 1: certificate() keeps sessions in the shared cache, also on another virtual server and in another worker
--- worker_processes: 2
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- vhosts: a.test b.test
--- config eval: $::Config
--- client eval
$::Three . <<'_EOC_'
# TLS 1.2 keeps its tickets.
chain client-int 1.2 1
# No session is resumed under another server name or by another client's.
chain client-int 1.3 0
tls tls=1.3 sni=b.test path=/t as=client-b sess_in=session | facts reused status body
tls tls=1.3 sni=b.test path=/t as=client-int sess_in=session | facts reused status
tls tls=1.3 sni=a.test path=/t as=client-b sess_in=session | facts reused status body
_EOC_
--- client_out eval
$::Ids . <<'_EOC_'
reused=0 status=200 body=CN=client-int,O=Example of 2 ticket
reused=1 status=200 body=CN=client-int,O=Example of 2 ticket
reused=0 status=200 body=CN=client-int,O=Example of 2 id
reused=0 status=200 body=CN=client-b,O=Example of 1
reused=0 status=401
reused=1 status=200 body=CN=client-int,O=Example of 2
_EOC_
--- no_error_log
[crit]
[alert]



=== TEST 2: certificate() makes tickets where the session is too large for the cache
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- config eval: $::Config
--- client eval
$::Client . "chain client-dn8k 1.3 1 | sed 's/body=.* of/body=... of/'\n"
--- client_out
reused=0 status=200 body=... of 1 ticket
reused=1 status=200 body=... of 1 ticket



=== TEST 3: certificate() makes tickets where nginx has no shared cache
--- policy eval: $::Policy
--- http_config eval: "    ssl_session_cache builtin:100;\n"
--- config eval: $::Config
--- client eval: $::Three
--- client_out eval: $::TicketsOut



=== TEST 4: certificate() makes tickets where ssl_session_ticket_key names a key that other nodes may have
--- policy eval: $::Policy
--- http_config eval: $::Cache . $::Key
--- config eval: $::Config
--- client eval: $::Three
--- client_out eval: $::TicketsOut



=== TEST 5: init() session_tickets: false keeps sessions in the cache, whatever keys there are
--- policy eval: $::Policy
--- http_config eval: main::init("session_tickets = false") . $::Cache . $::Key
--- config eval: $::Config
--- client eval: $::Three
--- client_out eval: $::Ids



=== TEST 6: init() session_tickets: true makes tickets
--- policy eval: $::Policy
--- http_config eval: main::init("session_tickets = true") . $::Cache
--- config eval: $::Config
--- client eval: $::Three
--- client_out eval: $::TicketsOut



=== TEST 7: init() refuses another value of session_tickets
--- policy eval: $::Policy
--- http_config
    init_by_lua_block { require("resty.mtls").init { policy = "policy.yaml", session_tickets = "off" } }
--- must_die
--- error_log
mtls.init: session_tickets must be a boolean or 'auto', got 'off'
