# resty-mtls check FILE on invalid and unusual policies. The same text stops a start (t/reload/010-lifecycle.t).

use lib 't/lib';
use TestMtls;
use File::Temp qw( tempdir );
use Test::More;

my $dir = tempdir(CLEANUP => 1);
my $command = "$TestMtls::Root/target/release/resty-mtls";
our $input;


sub check {
    my ($policy) = @_;

    open my $out, '>', "$dir/policy.yaml" or die $!;
    print $out expand_policy($policy);
    close $out;

    return command("check", "policy.yaml");
}


# Exit status, standard output, standard error
sub command {
    my @args = @_;

    my $pid = fork() // die $!;
    if ($pid == 0) {
        chdir $dir;
        open STDIN, '<', $input // "/dev/null";
        open STDOUT, '>', "stdout";
        open STDERR, '>', "stderr";
        exec $command, @args;
    }

    waitpid($pid, 0);
    my $status = $?;

    return [$status & 127 ? "signal " . ($status & 127) : $status >> 8, map { slurp("$dir/$_") } qw( stdout stderr )];
}


sub slurp {
    open my $in, '<', shift or die $!;
    local $/;
    return scalar(<$in>) // '';
}


# The certificates are the last entities, because their number of lines depends on their signatures.
my $good = check(<<'_EOC_');
_format_version: "3.0"
routes:
- name: payments
  snis: [a.test]
  paths: [/payments]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], send_ca_dn: true, skip_consumer_lookup: true}
  - name: rate-limiting
@{ca_certificates: ca-a ca-b}
_EOC_
like($good->[1], qr/\Adigest: [0-9a-f]{64}\n/, "check prints the digest");
$good->[1] =~ s/.*\n//;
is_deeply($good, [0, <<'_EOT_', ""], "check a good policy with warnings");
server names under which a client certificate is requested: 1
  a.test: 1 CA name sent, 59 bytes
routes: 1
routes that require a client certificate: payments
warnings: 2
policy.yaml:5:3: warning: routes[0].paths: has no effect in resty-mtls
policy.yaml:9:11: warning: routes[0].plugins[1].name: the plugin 'rate-limiting' has no effect in resty-mtls
_EOT_

for my $case (
    ["an unknown field", <<'_EOC_', <<'_EOT_'],
_format_version: "3.0"
routes:
- name: a
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], send_ca_dns: true}
_EOC_
policy.yaml:6:32: routes[0].plugins[0].config.ca_certificates[0]: no entry of 'ca_certificates' has the id 'db866236-d766-4318-8142-d16cbfe5dbd5'
policy.yaml:6:71: routes[0].plugins[0].config: unknown field 'send_ca_dns', did you mean 'send_ca_dn'?
_EOT_
    ["an unknown reference and a duplicate name", <<'_EOC_', <<'_EOT_'],
_format_version: "3.0"
routes:
- name: a
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a]}
- name: a
_EOC_
policy.yaml:6:32: routes[0].plugins[0].config.ca_certificates[0]: no entry of 'ca_certificates' has the id 'db866236-d766-4318-8142-d16cbfe5dbd5'
policy.yaml:7:3: routes[1].name: the name 'a' of a route is given twice, first at routes[0]
_EOT_
    ["a certificate that is no CA", <<'_EOC_', <<'_EOT_'],
_format_version: "3.0"
ca_certificates:
- id: 11111111-1111-4111-8111-111111111111
  cert: @{client-a}
_EOC_
policy.yaml:5:5: ca_certificates[0].cert: certificate 'CN=client-a,O=Example' is not a CA: expected the basic constraint CA:TRUE, and keyCertSign if it has a key usage
_EOT_
    ["two CAs in one entry", <<'_EOC_', <<'_EOT_'],
_format_version: "3.0"
ca_certificates:
- id: 11111111-1111-4111-8111-111111111111
  cert: @{ca-pair}
_EOC_
policy.yaml:5:5: ca_certificates[0].cert: 2 certificates found, expected exactly one; give each CA an entry of its own
_EOT_
    ["no YAML", "\@{: [\n", <<'_EOT_'],
policy.yaml:1:1: not valid YAML: unexpected character: `@'
_EOT_
    ["nothing", "", <<'_EOT_'],
policy.yaml:1:1: the document is empty, expected a mapping with '_format_version'
_EOT_
    ["a plugin without what it needs", <<'_EOC_', <<'_EOT_'],
_format_version: "3.0"
plugins:
- name: header-cert-auth
  config: {}
- name: openid-connect
  config: {issuer: "https://idp.example.com", auth_methods: [authorization_code]}
_EOC_
policy.yaml:4:11: plugins[0].config: the required field 'certificate_header_format' is missing
policy.yaml:4:11: plugins[0].config: the required field 'certificate_header_name' is missing
policy.yaml:4:11: plugins[0].config: the required field 'ca_certificates' is missing
policy.yaml:6:61: plugins[1].config.auth_methods: the method 'authorization_code' is not supported, expected 'bearer', 'introspection' or both
_EOT_
    ["a variable that is not set", <<'_EOC_', <<'_EOT_'],
_format_version: "3.0"
plugins:
- name: openid-connect
  config:
    issuer: ${{ env "DECK_NOT_SET" }}
    client_id: [${{ env "HOME" }}]
_EOC_
policy.yaml:5:13: environment variable 'DECK_NOT_SET' present in the policy but not set
policy.yaml:6:17: environment variables must be prefixed with 'DECK_', found: 'HOME'
_EOT_
    ["an alias bomb", "_format_version: '3.0'\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
     . join("", map { "a" . ($_ + 1) . ": &a" . ($_ + 1) . " [" . join(",", ("*a$_") x 10) . "]\n" } 0 .. 8), <<'_EOT_'],
policy.yaml:8:18: more than 4000000 values, aliases expanded
_EOT_
    ["deep nesting", "[" x 100_000, <<'_EOT_'],
policy.yaml:1:256: nested deeper than 32 levels
_EOT_
) {
    my ($what, $policy, $text) = @$case;
    is_deeply(check($policy), [1, "", $text], "check $what");
}

open my $large, '>', "$dir/large.yaml" or die $!;
truncate($large, 100 << 20) or die $!;
close $large;
is_deeply(command("check", "large.yaml"), [1, "", "large.yaml: over 32 MB, the limit for a policy\n"], "check 100 MB");
is_deeply(command("check", "none.yaml"), [1, "", "none.yaml: cannot be read: No such file or directory (os error 2)\n"], "check a missing file");

mkdir "$dir/empty" or die $!;
is_deeply(command("check", "empty"), [1, "", "empty: has no file of a policy, expected .yaml, .yml or .json\n"], "check an empty directory");

mkdir "$dir/$_" or die $! for qw( one two );
for my $file ([ "one/routes.yaml", "routes:\n- name: a\n  service: s\n" ], [ "two/services.yaml", "services:\n- name: s\n" ]) {
    open my $out, '>', "$dir/$file->[0]" or die $!;
    print $out "_format_version: '3.0'\n$file->[1]";
    close $out;
}
is(command("check", "one", "two/services.yaml")->[0], 0, "check files and directories as one policy");
is_deeply(command("check", "one"), [1, "", "one/routes.yaml:4:12: routes[0].service: no service has the id or name 's'\n"], "check one of them");

# Standard input

sub check_input {
    my ($text) = @_;

    open my $out, '>', "$dir/input" or die $!;
    print $out $text;
    close $out;
    local $input = "$dir/input";

    return command("check", "-");
}


my $empty = check_input(qq{_format_version: "3.0"\n});
is_deeply([$empty->[0], $empty->[1] =~ s/^digest: .*\n//r, $empty->[2]],
          [0, "server names under which a client certificate is requested: 0\nroutes: 0\nwarnings: 0\n", ""], "check - of a good policy");
is_deeply(check_input("routs: []\n"), [1, "", <<'_EOT_'], "check - of a bad policy");
standard input:1:1: unknown field 'routs', did you mean 'routes'?
standard input:1:1: the required field '_format_version' is missing
_EOT_
is_deeply(command("check", "-"), [1, "", "standard input:1:1: the document is empty, expected a mapping with '_format_version'\n"],
          "check - of nothing");
{
    local $input = "$dir/large.yaml";
    is_deeply(command("check", "-"), [1, "", "standard input: over 32 MB, the limit for a policy\n"], "check - of 100 MB");
}

for my $case (
    [[], "no command, expected one of check, "],
    [["check"], "check: no file, expected one, or - for standard input"],
    [["check", "-", "b"], "check: '-' beside files, expected it alone"],
    [["check", "-x"], "check: unknown option '-x', expected one of --json, --help (./-x for a file of that name)"],
    [["chek", "a"], "unknown command 'chek', did you mean 'check'?"],
    [["policy.yaml"], "unknown command 'policy.yaml', expected one of check, "],
    [["--version", "x"], "--version: takes no argument, found 'x'"],
    [["dialects", "envy"], "dialects: unknown dialect 'envy', expected one of "],
) {
    my ($args, $message) = @$case;
    my ($status, $out, $err) = @{ command(@$args) };
    is_deeply([$status, $out, scalar(() = $err =~ /\n/g)], [2, "", 1], "misuse in one line: @$args");
    my $help = $message =~ /\A(check|dialects):/ ? "$1 --help" : "--help";
    like($err, qr/\Aresty-mtls: \Q$message\E.*; see resty-mtls $help\n\z/, "misuse says what is wrong: @$args");
}


# Standard output that cannot be written

sub output_to {
    my ($line) = @_;

    my $status = system("cd '$dir' && { $line; } 2>stderr");

    return [$status >> 8, slurp("$dir/stderr")];
}


open my $good_policy, '>', "$dir/good.yaml" or die $!;
print $good_policy qq{_format_version: "3.0"\nroutes: [{name: open}]\n};
close $good_policy;
my $full = "resty-mtls: cannot write to standard output: No space left on device (os error 28)\n";
for my $args ("check good.yaml", "check --json good.yaml", "dialects", "dialects --json", "--help", "help check", "--version",
              "inspect $TestMtls::Pki/client-a.crt", "ca $TestMtls::Pki/ca-a.crt") {
    is_deeply(output_to("'$command' $args > /dev/full"), [1, $full], "$args to a full disk");
}

pipe(my $read, my $write) or die $!;
close $read;
my $pid = fork() // die $!;
if ($pid == 0) {
    open STDOUT, '>&', $write;
    open STDERR, '>', "$dir/stderr";
    exec $command, "--help";
}
waitpid($pid, 0);
is_deeply([$? >> 8, slurp("$dir/stderr")], [1, ""], "a pipe that is closed");

done_testing();
