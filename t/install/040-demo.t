# nginx-conf/demo/run, which `make run` calls.

use strict;
use warnings;
use lib 't/lib';
use TestProcess;
use Test::More;
use Cwd qw( abs_path );
use File::Basename qw( dirname );
use File::Temp qw( tempdir );

my $root = abs_path(dirname(__FILE__) . "/../..");
my $run = "$root/nginx-conf/demo/run";


# With ONCE=1 the demo makes its requests and ends.

# nginx would inherit the sockets that a variable NGINX names.
my $printed = `NGINX='7;8;' ONCE=1 '$run' 2>&1`;

is($? >> 8, 0, "with ONCE=1 the demo succeeds") or diag($printed);
is(join("\n", $printed =~ /^== .*|^    HTTP\S+ \d+|^  (?:ok|WRONG.*)$/mg), <<'_EOC_' =~ s/\n\z//r, "the demo prints each response");
== the open name, no certificate: 200
    HTTP/1.1 200
  ok
== the protected name, no certificate: 401
    HTTP/1.1 401
  ok
== the protected name, a certificate of the client CA: 200, and headers describe it
    HTTP/1.1 200
  ok
== the protected name, a certificate of another CA: 401
    HTTP/1.1 401
  ok
== the open name, forged headers: 200, and they are gone
    HTTP/1.1 200
  ok
== the protected name, forged headers: replaced
    HTTP/1.1 200
  ok
== a connection to the open name, a request for the protected one: 421
    HTTP/1.1 421
  ok
== the protected name, a resumed TLS session: 200, and headers describe its certificate
    HTTP/1.1 200
  ok
_EOC_
like($printed, qr/^All answers are as expected\.\n\z/m, "the demo prints that all responses are right");


# With a gateway that allows every client and removes no headers

my $copy = tempdir(CLEANUP => 1);
system("cp -r '$root/nginx-conf' '$copy/' && ln -s '$root/lua' '$root/target' '$copy/'") == 0 or die "cp: $?";

for my $file (qw( mtls-server.conf mtls-location.conf )) {
    open my $out, '>', "$copy/nginx-conf/$file" or die "$file: $!";
    print $out "# nothing\n";
    close $out;
}

$printed = `ONCE=1 '$copy/nginx-conf/demo/run' 2>&1`;

is($? >> 8, 1, "the demo fails on wrong responses");
like($printed, qr/^  WRONG: status 401 expected$/m, "the demo prints the expected status");
like($printed, qr/^  WRONG: missing: \^X-Client-Cert-Serial/m, "the demo prints a missing header");
like($printed, qr/^  WRONG: unexpected: forged$/m, "the demo prints an unexpected header");
like($printed, qr/^7 answers are wrong\. The gateway's log:$/m, "the demo prints the number of wrong responses");


# In a directory whose name nginx reads as a pattern

mkdir "$copy/a[b" or die "mkdir: $!";
system("cp -r '$root/nginx-conf' '$copy/a[b/'") == 0 or die "cp: $?";
$printed = `ONCE=1 '$copy/a[b/nginx-conf/demo/run' 2>&1`;

is($? >> 8, 1, "the demo fails in a directory that nginx.conf cannot name");
like($printed, qr/^run: nginx\.conf cannot name a path with .* in it: .*a\[b$/m, "the demo prints the reason");


# Without ONCE it runs until SIGINT.

my $pid = open(my $out, '-|') // die "fork: $!";

if (!$pid) {
    open STDERR, '>&', \*STDOUT;
    # perl starts it without a shell, which would receive the signal instead.
    exec { $run } $run or die "$run: $!\n";
}

my ($dir, @commands);

while (my $line = <$out>) {
    $dir = $1 if $line =~ /^cd (\S+)$/;
    push @commands, $1 if $line =~ /^(curl .*)/;
    last if $line =~ /^Ctrl-C/;
}

ok($dir && -d $dir, "the demo keeps running and prints the path of its files") or die "the demo does not start\n";

my @statuses = map { `cd '$dir' && $_ -s` =~ /^HTTP\S+ (\d+)/ ? $1 : "none" } @commands;
is("@statuses", "200 401 200 401 200 200 421", "the curl commands that the demo prints work");

kill INT => $pid;
close $out;
ok(!-e $dir, "SIGINT ends the demo and removes its files");
is(system("pgrep", "-f", "$dir/") >> 8, 1, "SIGINT leaves no process");

done_testing();
