# openid-connect: introspection with a client certificate (tls_client_auth, RFC 8705 section 2).

use lib 't/lib';
use TestMtls;

my $port = free_port();
my $idp = "https://localhost:$port";
my %id = ("client-a" => "aaaaaaaa-0000-4000-8000-000000000001", "client-b" => "aaaaaaaa-0000-4000-8000-000000000002");

sub pem {
    my ($name) = @_;

    open my $in, '<', "$TestMtls::Pki/$name" or die "$name: $!";
    local $/;

    return scalar(<$in>) =~ s/\n/\\n/gr;
}

my $certificates = CORE::join "", map {
    qq(- {id: $id{$_}, cert: "${ \pem("$_.crt") }", key: "${ \pem("$_.key") }"}\n)
} sort keys %id;

# Each route is [ name, name of the certificate, further fields of openid-connect ].
sub routes {
    return CORE::join "", map {
        my ($name, $certificate, $fields) = @$_;
        $fields =~ s/\@idp/$idp/g;

        <<"_EOC_";
- name: $name
  plugins:
  - name: openid-connect
    config: {issuer: "$idp/realm", auth_methods: [introspection], client_id: [gw], client_secret: [s3cret],
             tls_client_auth_cert_id: $id{$certificate}, timeout: 2000, hide_credentials: true, audience_required: [api],
             upstream_headers_claims: [sub, body], upstream_headers_names: [X-Sub, X-Body], $fields}
_EOC_
    } @_;
}

our $Policy = ">>> policy.yaml\n_format_version: \"3.0\"\ncertificates:\n$certificates"
    . "routes:\n" . routes(
    [ discovered => "client-a", 'client_auth: [tls_client_auth]' ],
    [ plain => "client-a", 'introspection_endpoint_auth_method: tls_client_auth, introspection_endpoint: "@idp/other"' ],
    [ alias => "client-a", 'client_auth: [self_signed_tls_client_auth], introspection_endpoint: "@idp/none", '
        . 'mtls_introspection_endpoint: "@idp/other"' ],
    [ stranger => "client-b", 'client_auth: [tls_client_auth], introspection_endpoint: "@idp/other"' ],
    [ basic => "client-a", 'client_auth: [client_secret_basic], introspection_endpoint: "@idp/other", '
        . 'mtls_introspection_endpoint: "@idp/none"' ],
    [ address => "client-a", 'client_auth: [tls_client_auth], introspection_endpoint: "@idp/other"' =~ s/\@idp/https:\/\/127.0.0.1:$port/r ],
    [ unverified => "client-a", 'client_auth: [tls_client_auth], tls_client_auth_ssl_verify: false, introspection_endpoint: '
        . '"@idp/other"' =~ s/\@idp/https:\/\/127.0.0.1:$port/r ],
);

# The issuer, which verifies client certificates with nginx's own directives. No plugin requests a certificate, since
# that would also apply to this server{}.
our $Issuer = <<"_EOC_";
    server {
        listen 127.0.0.1:$port ssl;
        ssl_certificate $TestMtls::Pki/server.crt;
        ssl_certificate_key $TestMtls::Pki/server.key;
        ssl_client_certificate $TestMtls::Pki/ca-a.crt;
        ssl_verify_client optional;
        ssl_session_tickets off;
        location = /realm/.well-known/openid-configuration {
            return 200 '{"issuer": "$idp/realm", "introspection_endpoint": "$idp/none", "mtls_endpoint_aliases": {"introspection_endpoint": "$idp/alias"}}';
        }
        location / {
            content_by_lua_block {
                ngx.req.read_body()
                if ngx.var.ssl_client_verify ~= "SUCCESS" then
                    return ngx.exit(401)
                end

                ngx.say('{"active": true, "aud": "api", "sub": "', ngx.var.uri, " ", ngx.var.ssl_client_s_dn, '", "body": "',
                        ngx.req.get_body_data(), " ", ngx.var.http_authorization or "", '"}')
            }
        }
    }
_EOC_

our $Http = init_http('fetch_allow = { "127.0.0.0/8" }') . "    lua_ssl_trusted_certificate $TestMtls::Pki/server-ca.crt;\n" . $Issuer;
our $Old = $Http =~ s/(init_by_lua_block \{)/$1\n        ngx.config.ngx_lua_version = 10021/r;
our $Config = <<'_EOC_';
    location ~ ^/to/(?<route>[\w-]+) {
        access_by_lua_block { require("resty.mtls").access(ngx.var.route) }
        content_by_lua_block { ngx.say(ngx.var.http_x_sub, " | ", ngx.var.http_x_body) }
    }
    location = /shared {
        content_by_lua_block {
            local dict = ngx.shared.mtls
            local found = 0
            for _, key in ipairs(dict:get_keys(0)) do
                local text = key .. tostring(dict:get(key))
                if text:find("PRIVATE KEY", 1, true) or text:find("s3cret", 1, true) then
                    ngx.say(key)
                end
                found = found + 1
            end
            ngx.say(found > 3)
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() introspects tokens with the certificate of the policy, at the endpoint for clients with one
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
for route in discovered plain alias stranger basic address unverified; do
    echo "$route: $(get a.test/to/$route -H 'Authorization: Bearer opaque')"
done
get a.test/shared
while read -r line; do
    case $line in -*) ;; *) grep -cF "$line" "$ERROR_LOG" ;; esac
done <"$PKI/client-a.key" | sort -u
--- client_out
discovered: /alias CN=client-a,O=Example | token=opaque&token_type_hint=access_token&client_id=gw 
plain: /other CN=client-a,O=Example | token=opaque&token_type_hint=access_token&client_id=gw 
alias: /other CN=client-a,O=Example | token=opaque&token_type_hint=access_token&client_id=gw 
stranger: {"message":"Service Unavailable"}
basic: {"message":"Service Unavailable"}
address: {"message":"Service Unavailable"}
unverified: /other CN=client-a,O=Example | token=opaque&token_type_hint=access_token&client_id=gw 
true
0
--- error_log
/other: status 400
/other: status 401
: TLS handshake: 
--- no_error_log
[crit]
has no effect in resty-mtls



=== TEST 2: init() refuses tls_client_auth where the sockets of ngx_lua cannot send a certificate
--- user_files eval: $::Policy
--- http_config eval: $::Old
--- config eval: $::Config
--- must_die
--- error_log
[mtls] tls_client_auth of openid-connect needs lua-nginx-module 0.10.22 or newer, whose sockets can send a client certificate
