# Work of over two seconds is reported on a terminal, and standard output is the same as without reports.

use lib 't/lib';
use TestMtls;
use File::Temp qw( tempdir );
use POSIX qw( mkfifo );
use Socket;
use Test::More;

my $dir = tempdir(CLEANUP => 1);
my $command = "'$TestMtls::Root/target/release/resty-mtls'";
my $on_terminal = "python3 '$TestMtls::Root/t/clients/on_terminal.py'";


sub slurp {
    open my $in, '<', shift or die $!;
    local $/;
    return scalar(<$in>) // '';
}


sub write_file {
    my ($name, $content) = @_;

    open my $out, '>', "$dir/$name" or die $!;
    print $out $content;
    close $out;
}


# Exit status, standard output, standard error
sub execute {
    my ($line) = @_;

    system("cd '$dir' && { $line; } > stdout 2> stderr < /dev/null");

    return [$? >> 8, map { slurp("$dir/$_") } qw( stdout stderr )];
}


plan(skip_all => "there is no pseudo-terminal") if execute("$on_terminal x '' true")->[0] == 77;

# Each waits for a file that another process writes once the report is there.
mkfifo("$dir/fifo", 0600) or die $!;
write_file("ca.pem", TestMtls::pki_file("ca-a.crt"));
write_file("ingress.yaml", "kind: Pod\n");
for my $case ([ "ca", "ca.pem" ], [ "inspect", "ca.pem" ], [ "inspect --json", "ca.pem" ], [ "import-ingress", "ingress.yaml" ]) {
    my ($call, $file) = @$case;
    my ($name) = $call =~ /^(\S+)/;
    my ($status, $out, $err) = @{ execute("$command $call $file") };
    my $found = execute("$on_terminal 'reading fifo' 'cat $file > fifo' $command $call fifo");
    like($found->[2], qr/\A(?:resty-mtls: $name: reading fifo, \d+ seconds\n)+\Q$err\Eexit $status\n\z/, "$call reports that it waits for a file");
    is($found->[1], $out, "the output of $call is the same");
}

# Work that is not waiting: the command is stopped meanwhile.
my $ca = TestMtls::pki_file("ca-a.crt") =~ s/^/    /mgr;
my $id = "11111111-1111-4111-8111-111111111111";
write_file("large.yaml", "_format_version: '3.0'\nca_certificates:\n- id: $id\n  cert: |\n${ca}routes:\n" . join "", map { <<"_EOC_" } 1 .. 5000);
- name: route-$_
  snis: [a$_.test, b$_.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [$id], skip_consumer_lookup: true}}
_EOC_
write_file("cases.yaml", "cases:\n- {name: open, route: route-1, expect: {status: 401}}\n");
write_file("audit.log", qq({"decision":"no_certificate","route":"route-1","server_name":"a1.test","host":"a1.test"}\n));
for my $call ("check large.yaml", "check --json large.yaml", "explain large.yaml --route route-1", "simulate large.yaml cases.yaml",
              "replay large.yaml audit.log") {
    my ($name) = $call =~ /^(\S+)/;
    my ($status, $out) = @{ execute("$command $call") };
    my $found = execute("$on_terminal --stop x '' $command $call");
    like($found->[2], qr/\A(?:resty-mtls: $name: reading the policy, \d+ seconds\n)+exit $status\n\z/, "$call reports that it reads the policy");
    is($found->[1], $out, "the output of $call is the same");
}

# A source that does not answer until the report is there
my $server;
socket($server, PF_INET, SOCK_STREAM, 0) && bind($server, sockaddr_in(0, INADDR_LOOPBACK)) && listen($server, 5) or die $!;
my ($port) = sockaddr_in(getsockname($server));
my $url = "http://127.0.0.1:$port/ca.crl";
write_file("online.yaml", "_format_version: '3.0'\nca_certificates:\n- id: $id\n  cert: |\n${ca}routes:\n" . <<"_EOC_");
- name: api
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [$id], skip_consumer_lookup: true, http_timeout: 60000, crls: [{url: '$url'}]}}
_EOC_
my $pid = fork() // die $!;
if ($pid == 0) {
    # Answers each request with an error once it may.
    while (accept(my $client, $server)) {
        select(undef, undef, undef, 0.02) while !-e "$dir/may-answer";
        syswrite($client, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        close $client;
    }
    POSIX::_exit(0);
}
my $found = execute("$on_terminal 'waiting for' 'touch may-answer' $command explain online.yaml --route api --cert $TestMtls::Pki/client-a.crt --online");
kill 'KILL', $pid;
waitpid $pid, 0;
like($found->[2], qr{\A(?:resty-mtls: explain: waiting for \Q$url\E, \d+ seconds\n)+exit [04]\n\z}, "explain --online reports for which source it waits");
like($found->[1], qr/revocation source: CRL '\Q$url\E'/, "and prints what it answered");

# Programs read what is no terminal, and lines in between come later there: the first one after ten seconds.
is(execute("$command ca fifo & sleep 3; cat ca.pem > fifo; wait \$!")->[2], "", "no report in a file after three seconds");

done_testing();
