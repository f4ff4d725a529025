# "" in snis: a certificate is requested from clients without SNI, and from them alone.

use lib 't/lib';
use TestMtls;

our $Policy = TestMtls::policy("ca-a ca-b",
    route("devices", '""', mtls_auth("ca-a")),
    route("api", "api.test", mtls_auth("ca-b")),
    route("open", "open.test"));

our $Config = <<'_EOC_';
    location /devices { access_by_lua_block { require("resty.mtls").access("devices") } content_by_lua_block { ngx.say("in") } }
    location /api { access_by_lua_block { require("resty.mtls").access("api") } content_by_lua_block { ngx.say("in") } }
    location /open { access_by_lua_block { require("resty.mtls").access("open") } content_by_lua_block { ngx.say("in") } }
_EOC_

run_blocks();

__DATA__

=== TEST 1: only clients without SNI are asked for a certificate, whatever Host they send
--- policy eval: $::Policy
--- config eval: $::Config
--- client
for version in 1.2 1.3; do
    tls sni= tls=$version host=127.0.0.1 path=/devices as=client-a | facts status
    tls sni= tls=$version host=devices.test path=/devices as=client-a | facts status
    tls sni= tls=$version host=127.0.0.1 path=/devices as=client-b | facts status
    tls sni= tls=$version host=127.0.0.1 path=/devices | facts status
    tls sni=other.test tls=$version host=other.test path=/devices as=client-a | facts status
    tls sni=api.test tls=$version path=/api as=client-b | facts status
done
grep -o '\[mtls\] 401.*' "$ERROR_LOG" | sed 's/, client:.*//' | grep -v subject
--- client_out
status=200
status=200
status=401
status=401
status=401
status=200
status=200
status=200
status=401
status=401
status=401
status=200
[mtls] 401 no certificate: the client presented none
[mtls] 401 no certificate: none was requested: the client sent the server name 'other.test', under which no route requests one
[mtls] 401 no certificate: the client presented none
[mtls] 401 no certificate: none was requested: the client sent the server name 'other.test', under which no route requests one
--- no_error_log
[crit]
[alert]



=== TEST 2: a session without SNI is none of another server name, and the reverse
--- policy eval: $::Policy
--- config eval: $::Config
--- client
tls sni= host=api.test path=/api as=client-a | facts status
tls sni=api.test host=127.0.0.1 path=/devices as=client-a | facts status
tls sni=open.test host=127.0.0.1 path=/devices as=client-a | facts status
tls sni=open.test host=open.test path=/devices as=client-a | facts status
tls sni=open.test host=open.test path=/open | facts status
--- client_out
status=421
status=421
status=421
status=401
status=200
--- no_error_log
[crit]
[alert]
