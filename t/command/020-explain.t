# resty-mtls explain: the steps, what would repair the one that refuses, and the place of the rule that decided; and
# what simulate prints. That the decisions are those of the gateway is checked in 030-simulate.t.

use lib 't/lib';
use TestMtls;
use Cwd qw( getcwd );
use File::Copy qw( copy );
use File::Temp qw( tempdir );
use JSON::PP;
use MIME::Base64 qw( encode_base64url );
use Test::More;

my $dir = tempdir(CLEANUP => 1);
my $command = "$TestMtls::Root/target/release/resty-mtls";
my $docs = do { local (@ARGV, $/) = "$TestMtls::Root/docs/command.md"; <> };
my %files = (
    "ca.pem" => "ca-a.crt", "sub.pem" => "ca-a-int.crt", "client.pem" => "client-int.crt",
    "chain.pem" => "client-int.chain", "ann.pem" => "client-a.crt", "carol.pem" => "client-carol.crt",
);
copy("$TestMtls::Pki/$files{$_}", "$dir/$_") or die "$_: $!" for keys %files;
copy(make_crl("explain", "ca-a", "client-carol"), "$dir/ca.crl") or die $!;


sub shown {
    my ($marker) = @_;
    my ($block) = $docs =~ /<!-- \Q$marker\E -->\n```\w*\n(.*?)^```/ms or die "docs/command.md: $marker";

    return $block;
}


# Exit status, standard output, standard error
sub run_explain {
    my $line = join " ", map { "'$_'" } $command, "explain", @_;
    my $out = `cd '$dir' && $line 2>stderr`;
    my $status = $? >> 8;

    return ($status, $out, do { local (@ARGV, $/) = "$dir/stderr"; <> // "" });
}


open my $policy, '>', "$dir/policy.yaml" or die $!;
print $policy shown("explain: policy.yaml");
close $policy;

is(join("", (run_explain("policy.yaml", "--route", "payments", "--cert", "client.pem"))[1, 2]),
   shown("explain: result"), "the example of the page");

my ($status, $out, $err) = run_explain("policy.yaml", "--route", "payments", "--cert", "chain.pem", "--json");
my $json = decode_json($out);
is($status, 0, "with the intermediate the client is let in");
is($err, "", "without a message");
is_deeply([@$json{qw( status decision verdict reason consumer groups anonymous )}, $json->{allowed} ? 1 : 0],
          [200, "pass", "SUCCESS", undef, undef, ["client-int"], JSON::PP::false, 1], "the fields of --json");
is_deeply($json->{rule}, { plugin => "client-cert-acl", name => "ours", file => "policy.yaml", line => 14 },
          "the rule that decided, with its place");
is_deeply([map { "$_->{step} $_->{ok}" } @{ $json->{steps} }],
          ["certificate request 1", "session binding 1", "certificate 1", "chain 1", "revocation 1", "consumer 1",
           "client-cert-acl 1"], "the steps");
is_deeply($json->{headers}, [["X-Client-Cert-Dn", "CN=client-int,O=Example"]], "the headers");

($status, $out) = run_explain("policy.yaml", "--route", "payments", "--cert", "carol.pem");
is($status, 4, "a revoked client is refused");
like($out, qr/^FAIL\ \ revocation:\ revoked\ by\ the\ CRL\ 'ca\.crl':\ 'CN=carol,O=Example'\ at\ depth\ 0,
              \s+since\s+2020-01-01T00:00:00Z,\s+\d+\s+days\s+ago\n\ +remedy:\ the\ client\ needs\ a\ new\ certificate\n/mx,
     "which is said, with the CRL, the date and the remedy");

($status, $out) = run_explain("policy.yaml", "--route", "payments", "--cert", "ann.pem");
is($status, 4, "a client that a rule refuses");
like($out, qr/^FAIL  client-cert-acl: deny rule 'not-ann' holds\n/m, "which is said");
like($out, qr/^decided by: client-cert-acl rule 'not-ann' at policy\.yaml:16$/m, "with its place");

($status, $out) = run_explain("policy.yaml", "--route", "payments", "--cert", "client.pem", "--time", "2001-01-01");
like($out, qr/^FAIL  chain: FAILED:/m, "another time");
is($status, 4, "is used");

# The proxy in front passes the certificate on.
(my $pem = TestMtls::pki_file("client-int.chain")) =~ s/([^A-Za-z0-9])/sprintf "%%%02X", ord $1/ge;
($status, $out) = run_explain("policy.yaml", "--route", "waf", "--host", "waf.test", "--header", "X-Client-Cert: $pem");
is($status, 0, "a certificate in a header") or diag($out);
like($out, qr/^ok    certificate: 'CN=client-int,O=Example' in the header 'X-Client-Cert', which counts from peers\n/m,
     "is read");

my $misuse = "; see resty-mtls explain --help\n";
my $no_file = "cannot be read: No such file or directory (os error 2)\n";
for my $case (
    [["policy.yaml", "--route", "paymens"], 1, "no route 'paymens' in the policy, did you mean 'payments'?\n"],
    [["policy.yaml", "--route", "payments", "--cert", "none.pem"], 1, "none.pem: $no_file"],
    [["policy.yaml", "--route", "payments", "--cert", "policy.yaml"], 1,
     "policy.yaml: '_format_version: \"3.0\"' is neither PEM nor DER, expected '-----BEGIN CERTIFICATE-----'\n"],
    [[], 2, "0 files, expected one policy$misuse"],
    [["policy.yaml", "--header", "X"], 2, "--header: expected 'Name: value'$misuse"],
    [["policy.yaml", "--time", "tomorrow"], 2,
     "--time: 'tomorrow', expected a time such as 2027-01-31T08:00:00Z, 2027-01-31, or seconds since 1970$misuse"],
) {
    my ($args, $expected, $message) = @$case;
    is_deeply([run_explain(@$args)], [$expected, "", "resty-mtls: explain: $message"], "explain @$args");
}
is_deeply([run_explain("none.yaml")], [1, "", "none.yaml: $no_file"], "explain without a policy");


# simulate: the example beside the policy, and what it prints for a case that is not as expected

sub run_simulate {
    my $line = join " ", map { "'$_'" } $command, "simulate", @_;
    my $out = `cd '$dir' && $line 2>stderr`;
    my $status = $? >> 8;
    my $err = do { local (@ARGV, $/) = "$dir/stderr"; <> // "" };

    # On a slow machine it reports its progress.
    return ($status, $out, $err =~ s/^resty-mtls: simulate: \d+ of \d+ cases\n//mgr);
}


sub write_file {
    my ($name, $text) = @_;

    open my $out, '>', "$dir/$name" or die "$name: $!";
    print $out $text;
    close $out;
}


sub conf {
    my ($name) = @_;

    local (@ARGV, $/) = "$TestMtls::Root/nginx-conf/$name";
    return scalar <>;
}


my $ca = TestMtls::pki_file("ca-a.crt") =~ s/^/    /mgr;
write_file("policy.example.yaml", conf("policy.example.yaml") =~ s/^ +-----BEGIN.*?END CERTIFICATE-----\n/$ca/msr);
write_file("cases.example.yaml", conf("cases.example.yaml"));
copy("$TestMtls::Pki/client-a.crt", "$dir/client.pem") or die $!;
is_deeply([run_simulate("policy.example.yaml", "cases.example.yaml")], [0, <<'_EOC_', ""], "the example of cases");
TAP version 13
1..5
ok 1 - a client of the CA is let in
ok 2 - a client without a certificate is refused
ok 3 - a connection under another name is not enough
ok 4 - an expired certificate is refused
ok 5 - the website forwards no certificate
_EOC_

write_file("wrong.yaml", <<'_EOC_');
cases:
- name: "ann <is #1>"
  route: payments
  cert: ann.pem
  expect: {status: 200, consumer: ann, groups: [], headers: {X-Client-Cert-Dn: x}}
_EOC_
is_deeply([run_simulate("policy.yaml", "wrong.yaml", "--junit", "junit.xml")], [4, <<'_EOC_', ""], "a case that is not as expected");
TAP version 13
1..1
not ok 1 - ann <is \#1>
# at wrong.yaml:2
# status: expected 200, found 403
# consumer: expected 'ann', found none
# groups: expected [], found ["client-a"]
# header X-Client-Cert-Dn: expected 'x', found none
# reason: client-cert-acl: deny rule 'not-ann' holds, subject: "CN=client-a,O=Example", issuer: "CN=Test CA-A,O=Example Lab,C=CZ", serial: 1007
# client-cert-acl: deny rule 'not-ann' holds
# remedy: compare the certificate with the rules: rule 'not-ann' at policy.yaml:16
_EOC_
like(do { local (@ARGV, $/) = "$dir/junit.xml"; <> }, qr{^<\?xml version="1.0" encoding="UTF-8"\?>
<testsuite name="resty-mtls simulate" tests="1" failures="1" errors="0">
  <testcase classname="payments" name="ann &lt;is #1&gt;" file="wrong.yaml" line="2">
    <failure message="status: expected 200, found 403; [^"]*">
at wrong.yaml:2
.*
    </failure>
  </testcase>
</testsuite>
\z}s, "as JUnit XML");
($status, $out) = run_simulate("policy.yaml", "wrong.yaml", "--json");
$json = decode_json($out);
is($json->{cases}[0]{result}{decision}, "forbidden", "as JSON");
is_deeply([@$json{qw( ok )}, $json->{cases}[0]{line}], [JSON::PP::false, 2], "with its line");


# Tokens that are bound to the certificate, with the keys of their issuer in a file

sub base64url { MIME::Base64::encode_base64url(shift) }

sub token {
    my ($claims) = @_;

    my $signed = join ".", map { base64url(JSON::PP->new->canonical->encode($_)) } { alg => "RS256", kid => "k" }, $claims;
    write_file("signed", $signed);
    my $signature = `cd '$dir' && openssl dgst -sha256 -sign issuer.key signed`;

    return "$signed." . base64url($signature);
}


system("openssl genrsa -out '$dir/issuer.key' 2048 2>/dev/null") == 0 or die;
my ($modulus) = `openssl rsa -in '$dir/issuer.key' -noout -modulus` =~ /=(\w+)/;
write_file("keys.json", encode_json({ keys => [{ kty => "RSA", kid => "k", e => "AQAB", n => base64url(pack "H*", $modulus) }] }));
write_file("token-policy.yaml", <<'_EOC_');
_format_version: "3.0"
routes:
- name: tokens
  snis: [tokens.example.com]
  plugins:
  - name: tls-handshake-modifier
  - name: openid-connect
    config:
      issuer: https://idp.example.com
      jwks_endpoint: https://idp.example.com/keys
      auth_methods: [bearer]
      audience_required: [api]
      proof_of_possession_mtls: strict
_EOC_
my $digest = base64url(pack "H*", (`openssl x509 -in '$dir/ann.pem' -noout -fingerprint -sha256` =~ /=(\S+)/)[0] =~ s/://gr);
my %claims = (iss => "https://idp.example.com", aud => "api", exp => 1_800_000_100, cnf => { "x5t#S256" => $digest });
my @cases = map { { route => "tokens", time => "1800000000", jwks => "keys.json", cert => "ann.pem", %$_ } } (
    { name => "bound", token => token(\%claims), expect => { status => 200 } },
    { name => "another certificate", token => token(\%claims), cert => "carol.pem", expect => { status => 401 } },
    { name => "no certificate", token => token(\%claims), cert => undef, expect => { status => 401 } },
    { name => "expired", token => token(\%claims), time => "1800000200", expect => { status => 401 } },
    { name => "not bound", token => token({ %claims, cnf => {} }), expect => { status => 401 } },
    { name => "no token", expect => { status => 401 } },
    { name => "without keys", token => token(\%claims), jwks => undef, expect => { status => 503 } },
);
# What a case gives does not count for the next.
write_file("tokens.json", encode_json({ cases => \@cases }));
is_deeply([(run_simulate("token-policy.yaml", "tokens.json"))[0, 1]], [0, "TAP version 13\n1..7\n"
          . join "", map { "ok $_ - $cases[$_ - 1]{name}\n" } 1 .. 7], "tokens");

write_file("bad.yaml", "cases:\n- {rout: payments, expect: {status: 200}}\n- {cert: none.pem, expect: {status: 200}}\n");
is_deeply([run_simulate("policy.yaml", "bad.yaml")],
          [1, "", "bad.yaml:2:4: cases[0]: unknown key 'rout', did you mean 'route'?\n"], "an unknown key");
write_file("bad.yaml", "cases:\n- {route: payments, expect: {status: 200}}\n- {route: payments, cert: none.pem, expect: {status: 200}}\n");
is_deeply([run_simulate("policy.yaml", "bad.yaml")],
          [1, "", "bad.yaml:3: none.pem: cannot be read: No such file or directory (os error 2)\n"], "a missing file");

# Without a route only the global plugins judge.
write_file("bad.yaml", "cases:\n- {name: x, expect: {status: 200}}\n");
is_deeply([run_simulate("policy.yaml", "bad.yaml")],
          [1, "", "bad.yaml:2: no 'route', and the policy has no global plugin, expected 'payments', 'waf'\n"],
          "a case without a route for a policy without global plugins");
write_file("global.yaml", "_format_version: '3.0'\nroutes: [{name: api}]\nplugins: [{name: tls-handshake-modifier}]\n");
is_deeply([run_simulate("global.yaml", "bad.yaml")], [0, <<'_EOC_', ""], "a case without a route for a policy with one");
TAP version 13
1..1
ok 1 - x
# route: none is given: only the global plugins are judged
_EOC_

# Blocks, as GET /mtls/blocks lists them
my $sha256 = lc(`openssl x509 -in '$TestMtls::Pki/client-a.crt' -noout -fingerprint -sha256` =~ s/.*=|[:\n]//gr);
my @client = ("policy.yaml", "--route", "payments", "--cert", "ann.pem", "--blocks");
for my $case ([ "{\"blocks\":[]}", "ok    blocks: none of the given blocks names it" ],
              [ "{\"blocks\":[{\"sha256\":\"$sha256\",\"added\":1,\"until\":2}]}", "ok    blocks: none of the given blocks names it" ],
              [ "{\"blocks\":[{\"sha256\":\"$sha256\",\"added\":1,\"reason\":\"lost\"}]}", "FAIL  blocks: blocked by sha256 $sha256" ]) {
    my ($json, $line) = @$case;
    write_file("blocks.json", $json);
    like((run_explain(@client, "blocks.json"))[1], qr/^\Q$line\E/m, "explain with the blocks $json");
}
write_file("blocks.json", "{}");
is_deeply([run_explain(@client, "blocks.json")],
          [1, "", "resty-mtls: explain: blocks.json: expected {\"blocks\": [...]}, as /mtls/blocks lists them\n"], "no blocks");

# A PKCS #12 file, and a policy in standard input
my $export = "openssl pkcs12 -export -in '$TestMtls::Pki/client-a.crt' -inkey '$TestMtls::Pki/client-a.key'";
system("$export -out '$dir/empty.p12' -passout pass: && $export -out '$dir/client.p12' -passout pass:secret") == 0 or die;
write_file("password", "secret\n");
my @payments = ("--route", "payments", "--cert");
my $expected = [run_explain("policy.yaml", @payments, "$TestMtls::Pki/client-a.crt")];
is_deeply([run_explain("policy.yaml", @payments, "empty.p12")], $expected, "a PKCS #12 file without a password");
is_deeply([run_explain("policy.yaml", @payments, "client.p12", "--password-file", "password")], $expected, "a PKCS #12 file with its password");
is_deeply([run_explain("policy.yaml", @payments, "client.pem", "--password-file", "password")],
          [1, "", "resty-mtls: explain: client.pem: not a PKCS #12 file, expected one with --password-file\n"], "a password for another file");
write_file("p12.yaml", "cases:\n- {name: x, route: payments, cert: client.p12, expect: {status: 401}}\n");
is_deeply([run_simulate("policy.yaml", "p12.yaml")],
          [1, "", "p12.yaml:2: client.p12: a PKCS #12 file with a password, expected the certificates in PEM, as "
                  . "'openssl pkcs12 -nokeys -in FILE' prints them\n"], "simulate reads no PKCS #12 file with a password");
write_file("input.yaml", "_format_version: '3.0'\nroutes: [{name: open}]\n");
is(`cd '$dir' && '$command' explain - --route open < input.yaml | tail -1`, "let in: status 200, decision pass, verdict NONE\n",
   "a policy in standard input");

done_testing();
