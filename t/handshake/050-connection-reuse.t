# HTTP/2 clients coalesce connections, and HTTP/1.1 clients can: one connection carries requests for many server names.
# A request is served where its Host has the certificate request and trust of the connection's own name, and gets 421
# otherwise.

use lib 't/lib';
use TestMtls;

my $crl = make_crl("reuse", "ca-a", "client-a");

# Server names, the status of client-a there on its own connection, and the plugins
our @Routes = (
    [a => 200, auth_plugin()],
    # These plugins decide about the client after the handshake, so they change nothing.
    [consumer => 200, auth_plugin("skip_consumer_lookup: false, consumer_by: [username], authenticated_group_by: DN")],
    [acl => 403, auth_plugin("skip_consumer_lookup: false"), "{name: acl, config: {allow: [nobody]}}"],
    [crl => 401, auth_plugin("crls: [$crl]")],
    # The CA names change nothing either.
    [named => 200, auth_plugin("send_ca_dn: true")],
    # Settings of trust do.
    [other => 401, auth_plugin("ca_certificates: [\@ca-b]")],
    [both => 200, auth_plugin("ca_certificates: [\@ca-a, \@ca-b]")],
    [depth => 200, auth_plugin("verify_depth: 1")],
    [level => 200, auth_plugin("auth_level: 1")],
    [partial => 200, auth_plugin("allow_partial_chain: true")],
    [fresh => 200, auth_plugin("resumption: false")],
    [asks => 200, "{name: tls-handshake-modifier}"],
    # A route without plugins accepts every client on any connection.
    [none => 200],
);

our %SameRequest = map { $_ => 1 } qw( a consumer acl crl named );

sub auth_plugin {
    my %config = (ca_certificates => '[@ca-a]', skip_consumer_lookup => "true",
                  map { split /: /, $_, 2 } split /, (?=\w+: )/, shift // "");

    return "{name: mtls-auth, config: {" . join(", ", map { "$_: $config{$_}" } sort keys %config) . "}}";
}

our $Policy = "_format_version: \"3.0\"\n\@{ca_certificates: ca-a ca-b}\nconsumers: [{username: client-a}]\nroutes:\n";
our $Expected = '';

for my $route (@Routes) {
    my ($from, undef, @plugins) = @$route;
    $Policy .= "- {name: $from, snis: [$from.test], plugins: [" . join(", ", @plugins) . "]}\n";
    $Expected .= "$from " . CORE::join(" ", map {
        my ($to, $own) = @$_;
        $to eq "none" || $to eq $from || $SameRequest{$to} && $SameRequest{$from} ? $own : 421;
    } @Routes) . "\n";
}

our $Names = join " ", map { "$_->[0].test" } @Routes;

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access((ngx.var.host:gsub("%.test$", ""))) }
        content_by_lua_block { ngx.say("in") }
    }
_EOC_

our $Client = "names='$Names'\n" . <<'_EOC_';
# http2 SNI: requests for every name on one connection
http2() {
    local to args=()
    for to in $names; do
        args+=(-sk --http2 --connect-to "::127.0.0.1:$PORT" $(as client-a) -H "Host: $to" -o /dev/null
            -w '%{http_version}:%{num_connects}:%{http_code} ' "https://$1/t" --next)
    done
    curl "${args[@]:0:${#args[@]}-1}" | sed 's/^2:1:/2:0:/; s/2:0://g; s/ $//'
}
http1() {
    tls tls=$1 sni=$2 host=${names// /,} path=/t as=client-a | facts status | tr '=,' '  ' | sed 's/^status //'
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() over HTTP/2 serves on one connection every name with the same certificate request
--- policy eval: $::Policy
--- tls_options: http2
--- config eval: $::Config
--- client eval
$::Client . 'for from in $names; do echo "${from%.test} $(http2 $from)"; done'
--- client_out eval: $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 2: access() over HTTP/2 serves the same names in server blocks of their own
--- policy eval: $::Policy
--- tls_options: http2
--- vhosts eval: $::Names
--- config eval: $::Config
--- client eval
$::Client . 'for from in $names; do echo "${from%.test} $(http2 $from)"; done'
--- client_out eval: $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 3: access() over HTTP/1.1 serves on one connection every name with the same certificate request
--- policy eval: $::Policy
--- vhosts eval: $::Names
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for version in 1.2 1.3; do
    for from in $names; do echo "${from%.test} $(http1 $version $from)"; done
done
_EOC_
--- client_out eval: $::Expected . $::Expected
--- no_error_log
[crit]
[alert]



=== TEST 4: access() on a resumed session serves the names that a connection serves
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for from in a none fresh asks other; do
    rm -f session
    tls sni=$from.test path=/t as=client-a sess_out=session >/dev/null
    [ -e session ] || { echo "$from none"; continue; }
    echo "$from $(for to in $names; do
        tls sni=$to path=/t as=client-a sess_in=session | facts reused
    done | sed 's/reused=//' | paste -sd ' ')"
done
_EOC_
--- client_out eval
my $out = '';
for my $from (qw( a none fresh asks other )) {
    $out .= $from eq "fresh" ? "fresh none\n" : "$from " . CORE::join(" ", map {
        $_->[0] eq $from || $::SameRequest{$_->[0]} && $::SameRequest{$from} ? 1 : 0;
    } @::Routes) . "\n";
}
$out;
--- no_error_log
[crit]
[alert]
