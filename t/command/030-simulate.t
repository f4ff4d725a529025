# resty-mtls simulate: the same cases through nginx give the same answers. t/access/020-certificate-chains.t does that
# with the chains of published test suites.

use lib 't/lib';
use TestMtls;

make_crl("simulate", "ca-a", "client-carol");

our $Crl = ">>> ca.crl\n" . TestMtls::pki_file("simulate.crl");

my $details = plugin("tls-metadata-headers", "inject_client_cert_details: true");
my $nginx = plugin("client-cert-headers", "dialects: [{name: nginx, when: presented}, {name: xfcc}]");

our $Policy = policy("ca-a ca-b ca-a-int",
    route("open", "open.test"),
    route("plain", 'a.test "*.wild.test"', mtls_auth("ca-a"), $details),
    route("other", "b.test", mtls_auth("ca-b", "skip_consumer_lookup: true, send_ca_dn: true"), $nginx),
    route("nosni", '""', mtls_auth("ca-a")),
    route("consumers", "c.test", mtls_auth("ca-a", "consumer_by: [username, custom_id]"), plugin("acl", "allow: [staff]")),
    route("anonymous", "d.test", mtls_auth("ca-a", "anonymous: nobody"), $nginx),
    route("default", "e.test", mtls_auth("ca-a ca-b", "default_consumer: nobody")),
    route("rules", "f.test", mtls_auth("ca-a ca-b"),
          plugin("client-cert-acl", "allow: [{name: ours, subject.O: Example}], "
                                    . "deny: [{name: int, subject.CN: client-int}, {name: ca, ca: \@ca-b}]")),
    route("revoked", "g.test", mtls_auth("ca-a", "skip_consumer_lookup: true, crls: [ca.crl]")),
    route("strict", "h.test",
          mtls_auth("ca-a", "skip_consumer_lookup: true, revocation_check_mode: STRICT, crls: [ca.crl]")),
    route("partial", "i.test", mtls_auth("ca-a-int", "skip_consumer_lookup: true, allow_partial_chain: true")),
    route("eku", "j.test", mtls_auth("ca-a", "client_auth_eku: allow_server_auth")),
    route("fresh", "k.test", mtls_auth("ca-a", "skip_consumer_lookup: true, resumption: false")),
    route("handshake", "l.test", plugin("tls-handshake-modifier"), $details),
    route("waf", "w.test", header_cert_auth(), $nginx),
    "consumers:\n- {username: client-a, acls: [{group: staff}, {group: all}]}\n- {username: nobody}\n"
    . "- {username: ann, custom_id: client-two}\n- {username: carol}\n- {username: client-server-eku}\n"
    . "mtls_auth_credentials:\n- {consumer: ann, subject_name: client-multi}\n- {consumer: carol, subject_name: carol}\n");

# Route, server name, Host and client; "-" is the same, or none
our $Cases = join "", map { "$_\n" } (
    "open open.test - -", "open a.test open.test client-a", "open open.test a.test -",
    (map { my $client = $_; map { "$_ - $client" } "plain a.test", "other b.test", "consumers c.test", "anonymous d.test",
           "default e.test", "rules f.test", "revoked g.test", "strict h.test", "eku j.test", "fresh k.test",
           "handshake l.test" }
        qw( - client-a client-b client-int client-carol client-expired client-server-eku client-self client-multi )),
    "plain x.wild.test - client-a", "plain x.y.wild.test - client-a", "plain A.Test. a.test client-a",
    "plain b.test a.test client-a", "plain a.test b.test client-a", "plain - a.test client-a",
    "nosni - a.test client-a", "nosni - 127.0.0.1 client-a", "partial i.test - client-int",
    "partial i.test - client-a", "plain unknown.test - client-a", "plain a.test - client-no-eku",
    "plain a.test - client-future", "plain a.test - client-deep", "plain a.test - client-san",
    "plain a.test - client-comma", "other b.test - client-strings", "other b.test - client-sales-b",
    "waf w.test - client-a", "waf w.test - client-b", "waf w.test - -", "waf w.test - client-int", "waf w.test - junk",
);

# Writes cases.json from what nginx answers.
our $Writer = <<'_EOC_';
>>> write_cases.pl
use JSON::PP;
my @names = qw( X-Client-Cert X-Client-Cert-Dn X-Client-Cert-San X-Client-Cert-Serial X-Client-Cert-Issuer-DN
    X-Client-Cert-Subject-DN X-Client-Cert-Fingerprint X-Client-Cert-Chain X-Consumer-Id X-Consumer-Username
    X-Consumer-Custom-Id X-Credential-Identifier X-Anonymous-Consumer X-Consumer-Groups X-Authenticated-Groups
    ssl-client-verify ssl-client-subject-dn ssl-client-issuer-dn ssl-client-cert X-Forwarded-Client-Cert );
my @cases;
while (<STDIN>) {
    my ($number, $route, $sni, $host, $client, $status) = split;
    open my $in, '<', "answer.$number" or die "$number: $!";
    local $/;
    my ($head, $body) = split /\r\n\r\n/, scalar(<$in>), 2;
    my %of = map { /^X-(Verify|Consumer|Groups): *(.*?)\r?$/m ? ($1 => $2) : () } split /\n/, $head;
    my %upstream = $status == 200 ? map { /^([\w-]+): (.*?)\r?$/ ? (lc $1 => $2) : () } split /\n/, $body : ();
    my %case = (
        name => "$route under $sni for $host by $client", route => $route, host => $host, sni => $sni eq "-" ? "" : $sni,
        expect => {
            status => 0 + $status, verdict => $of{Verify},
            consumer => $of{Consumer} eq "" ? undef : $of{Consumer},
            groups => [split /, /, $of{Groups}], headers => { map { $_ => $upstream{lc $_} } @names },
        },
    );
    if ($route eq "waf") {
        open my $header, '<', "header.$number";
        $case{header} = { "X-Client-Cert" => <$header> =~ s{^\S+ ?}{}r =~ s{\s+\z}{}r }
            if $client ne "-";
    } elsif ($client ne "-") {
        $case{cert} = -e "$ENV{PKI}/$client.chain" ? "$ENV{PKI}/$client.chain" : "$ENV{PKI}/$client.crt";
    }
    push @cases, \%case;
}
print JSON::PP->new->canonical->encode({ cases => \@cases });
_EOC_

# Every header of a result is compared: none has another name than cases.json.
our $Compare = <<'_EOC_';
>>> compare_headers.pl
use JSON::PP;
sub json { local (@ARGV, $/) = shift; decode_json(scalar <>) }
my %known = map { lc $_ => 1 } map { keys %{ $_->{expect}{headers} } } @{ json("cases.json")->{cases} };
my %found = map { $_->[0] => 1 } map { @{ $_->{result}{headers} } } @{ json("result.json")->{cases} };
print scalar(keys %found), " headers\n";
print "not compared: $_\n" for grep { !$known{lc $_} } sort keys %found;
_EOC_

our $Config = <<'_EOC_';
    location /sim {
        access_by_lua_block { require("resty.mtls").access(ngx.var.http_x_route) }
        add_header X-Verify $mtls_verify always;
        add_header X-Consumer $mtls_consumer always;
        add_header X-Groups $mtls_groups always;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_

our $HttpConfig = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-variables.conf;
    init_by_lua_block {
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml", trusted_ips = { "127.0.0.1" } }
    }
_EOC_

our $Client = <<'_EOC_';
number=0
while read -r route sni host client; do
    number=$((number + 1))
    [ "$host" = - ] && host=$sni
    options=()
    case $route:$client in
        *:-) ;;
        waf:junk) echo 'X-Client-Cert: junk' >"header.$number"; options=(-H "@header.$number") ;;
        waf:*) printf 'X-Client-Cert: %s\n' "$(escaped "$client")" >"header.$number"; options=(-H "@header.$number") ;;
        *) read -ra options <<< "$(as "$client")" ;;
    esac
    url=https://$sni/sim
    [ "$sni" = - ] && url=https://127.0.0.1:$PORT/sim
    status=$(curl -sk --http1.1 --max-time 20 --connect-to "::127.0.0.1:$PORT" -H "Host: $host" -H "X-Route: $route" \
        "${options[@]}" -i -o "answer.$number" -w '%{http_code}' "$url")
    echo "$number $route $sni $host $client $status"
done < cases.list > answers.list
perl write_cases.pl < answers.list > cases.json
_EOC_

run_blocks();

__DATA__

=== TEST 1: simulate gives the answers of nginx
--- user_files eval: $::Crl . $::Writer . $::Compare . ">>> cases.list\n$::Cases"
--- policy eval: $::Policy
--- http_config eval: $::HttpConfig
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
# On a slow machine it reports its progress.
simulate() { "$TEST_NGINX_ROOT/target/release/resty-mtls" simulate policy.yaml "$@" 2>errors; }
simulate cases.json --junit junit.xml > tap; echo "exit $?"
grep -v '^resty-mtls: simulate: [0-9]* of 125 cases$' errors
grep -A20 '^not ok' tap | head -60
cut -d' ' -f6 answers.list | sort | uniq -c | sed 's/^ *//'
perl -ne 'print "$1 cases\n" if /^1\.\.(\d+)/' tap
grep -o '<testsuite [^>]*>' junit.xml
simulate cases.json --json > result.json
perl compare_headers.pl

# The alarm: one case in which nginx answered otherwise
perl -pe 's/"verdict":"SUCCESS"/"verdict":"NONE"/; s/"status":200/"status":401/' cases.json > wrong.json
simulate wrong.json | sed -n '/^not ok/{s/ - .*//;p;n;n;p;q}'
_EOC_
--- client_out
exit 0
57 200
63 401
3 403
2 421
125 cases
<testsuite name="resty-mtls simulate" tests="125" failures="0" errors="0">
17 headers
not ok 1
# status: expected 401, found 200
--- no_error_log
[crit]
[alert]
