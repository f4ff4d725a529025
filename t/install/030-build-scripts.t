# The scripts of `make` (t/toolchain.sh, t/step, t/suite and t/run-tests.pl), and t/lib/TestProcess.pm.

use strict;
use warnings;
use lib 't/lib';
use TestProcess;
use Test::More;
use Cwd qw( abs_path );
use File::Basename qw( dirname );
use File::Copy qw( copy );
use File::Path qw( make_path );
use File::Temp qw( tempdir );
use IO::Socket::INET;
use POSIX qw( WNOHANG );

my $root = abs_path(dirname(__FILE__) . "/../..");

sub write_file {
    my ($path, $text) = @_;

    make_path(dirname($path));
    open my $out, '>', $path or die "$path: $!";
    print $out $text;
    close $out or die "$path: $!";
    chmod 0755, $path;

    return $path;
}


# tree SCRIPT...: a directory with copies of these scripts
sub tree {
    my $dir = tempdir(CLEANUP => 1);

    copy("$root/Cargo.toml", "$dir/Cargo.toml") or die "Cargo.toml: $!";
    make_path("$dir/t");
    for my $script (@_) {
        copy("$root/t/$script", "$dir/t/$script") or die "$script: $!";
        chmod 0755, "$dir/t/$script";
    }

    return $dir;
}


sub cargo {
    my ($path, $version) = @_;

    return write_file($path, "#!/bin/sh\necho 'cargo $version (0123456 2026-01-01)'\n");
}


# t/toolchain.sh

my $dir = tree("toolchain.sh");
my ($links, $old, $new, $newer) = ("$dir/target/toolchain", map { "$dir/$_/bin" } qw( old new newer ));
my $tools = "$dir/target/toolchain:/usr/bin:/bin";
cargo("$old/cargo", "1.84.9");
cargo("$new/cargo", "1.85.0");
write_file("$new/rustc", "");
cargo("$newer/cargo-1.100", "1.100.1");

# Another cargo may be installed on this machine in a place that the script searches.
my $elsewhere = glob("/usr/lib/rust-*/bin/cargo") || grep { -x "$_/cargo" } qw( /usr/bin /bin );

delete $ENV{CARGO};
$ENV{HOME} = "$dir/home";

is(system("PATH='$new:$tools' CARGO='$old/cargo' '$dir/t/toolchain.sh'"), 0, "toolchain.sh ignores a CARGO that is too old");
is(readlink("$links/cargo"), "$new/cargo", "toolchain.sh takes the cargo of the PATH");
is(readlink("$links/rustc"), "$new/rustc", "toolchain.sh links the rustc beside it");
is(system("PATH='$tools:$new' CARGO='$newer/cargo-1.100' '$dir/t/toolchain.sh'"), 0, "toolchain.sh takes a CARGO of any name");
is(readlink("$links/cargo"), "$newer/cargo-1.100", "1.100 is newer than 1.85");
ok(!-l "$links/rustc", "toolchain.sh removes the links of the last toolchain");
cargo("$dir/home/.cargo/bin/cargo", "1.90.0");

SKIP: {
    $elsewhere and skip("there is a cargo that cannot be hidden", 5);

    is(system("PATH='$links:$links:$tools' '$dir/t/toolchain.sh'"), 0, "toolchain.sh finds the cargo of rustup");
    is(readlink("$links/cargo"), "$dir/home/.cargo/bin/cargo", "toolchain.sh ignores its own links");
    unlink("$dir/home/.cargo/bin/cargo");
    my $printed = `PATH='$old:$tools' '$dir/t/toolchain.sh' 2>&1`;
    is($? >> 8, 1, "toolchain.sh fails when all are too old");
    is($printed, "cargo >= 1.85 is needed, found: $old/cargo (1.84.9) $old/cargo (1.84.9). As root, `make deps` installs one from"
       . " apt; or take rustup's\n", "toolchain.sh prints the cargos that it found");
    ok(!-e $links, "toolchain.sh leaves no links then");
}


# t/step

$dir = tree("step");
my $step = "'$dir/t/step' -l '$dir/target/log'";
is(`$step title sh -c 'echo noise; exit 0' 2>&1`, "", "step prints nothing about a short command");
my $printed = `$step title sh -c 'echo noise; exit 7' 2>&1`;
is($? >> 8, 7, "step passes the exit status on");
like($printed, qr{\Atitle: failed; the end of \Q$dir\E/target/log:\n(?:    .*\n)*    noise\n\z}, "step names the log and prints its end");
is(`'$dir/t/step' title perl -e 'print \$SIG{INT} // "default"' 2>&1`, "default", "step's command does not ignore SIGINT");
is(`'$dir/t/step' title sleep 9 2>&1`, "... title: 8 s\n", "step prints that a command still runs");


# t/suite

# suite STEP...: the exit status and the output of t/suite when these steps fail
sub suite {
    my %status = map { $_ => 1 } @_;
    my $dir = tree("suite", "step", "prepare");

    # The tests of cargo take longer than the module. Standard input is empty.
    write_file("$dir/bin/cargo", "#!/bin/sh\n" . <<"_EOC_");
cat
[ "\$1" != test ] || { sleep 0.5; echo 'tests of cargo'; exit @{[ $status{test} // 0 ]}; }
[ -e target/release/libresty_mtls.so ] || echo "made: the module"
[ 0 = @{[ $status{module} // 0 ]} ] || { echo "error: no module" >&2; exit 101; }
mkdir -p target/release && : > target/release/libresty_mtls.so
_EOC_
    write_file("$dir/t/install-test-tools.sh", "#!/bin/sh\nsleep 0.2\necho made: the tools\n");
    write_file("$dir/t/run-tests.pl", "#!/bin/sh\necho All tests successful.\nexit @{[ $status{harness} // 0 ]}\n");
    write_file("$dir/t/platforms", "#!/bin/sh\n" . <<"_EOC_");
echo "platforms \$*"
[ "\$1" = --prepare ] || exit @{[ $status{platforms} // 0 ]}
_EOC_
    my $printed = `PATH='$dir/bin:$ENV{PATH}' '$dir/t/suite' 'a b' 2>&1 <&-`;

    return ($? >> 8) . "\n" . $printed =~ s/, \d+ s$/, N s/mgr;
}

# On Debian 13 itself suite leaves out its last step.
my $thirteen = -e "/etc/os-release" && `. /etc/os-release && echo "\$ID \$VERSION_ID"` eq "debian 13\n";

my $expected = <<'_EOC_';
1

== cargo test
tests of cargo

== the test tools, the module and Debian 13, made meanwhile
made: the module
made: the tools
platforms --prepare a b 13

== the module

== t/*/*.t
All tests successful.

== all tests in Debian 13
platforms a b 13

make test:
cargo test                       FAILED, N s
the module                       passed, N s
t/*/*.t                          passed, N s
all tests in Debian 13           passed, N s
_EOC_
$expected =~ s/^(?:\n== all tests in.*\nplatforms.*|all tests in.*)\n//mg if $thirteen;
is(suite("test"), $expected, "suite runs what comes after a step that fails");
like(suite("harness"), qr/\A1\n.*^t\/\*\/\*\.t +FAILED, N s$/ms, "suite fails when t/*/*.t do");
like(suite(), qr/\A0\n.*^t\/\*\/\*\.t +passed, N s$/ms, "suite passes when all do");
like(suite("platforms"), qr/\A1\n.*^all tests in Debian 13 +FAILED, N s$/ms, "suite fails when Debian 13 does") if !$thirteen;
like(suite("module"), qr/\A1\n.*^== the module\n(?:made: the module\n)?error: no module\n.*^the module +FAILED, N s\nt.*: not run, there is no module$/ms,
     "suite prints why there is no module, also one that was to be made beside the tests of cargo");

# What suite runs beside the tests of cargo ends with it on Ctrl-C, which every process of its group receives.
$dir = tree("suite", "step", "prepare");
write_file("$dir/bin/cargo", "#!/bin/sh\n[ \$1 != test ] || exec sleep 60\n");
write_file("$dir/t/install-test-tools.sh", "#!/bin/sh\necho \$\$ > target/new\nmv target/new target/pid\nexec sleep 60\n");
write_file("$dir/t/platforms", "#!/bin/sh\n");
my $suite = fork() // die "fork: $!";
if (!$suite) {
    setpgrp;
    $ENV{PATH} = "$dir/bin:$ENV{PATH}";
    open STDOUT, '>', "/dev/null";
    open STDERR, '>&', \*STDOUT;
    exec "$dir/t/suite", "a b" or exit 126;
}
select undef, undef, undef, 0.05 until -e "$dir/target/pid" || waitpid($suite, WNOHANG);
chomp(my $pid = `cat '$dir/target/pid'`);
kill INT => -$suite;
waitpid $suite, 0;
is($? >> 8, 130, "suite ends by Ctrl-C");
# The first process of a userland does not wait for such processes, so they stay as zombies.
my $runs = sub { `cat /proc/$pid/stat 2>/dev/null` =~ /\) [^ZX] / };
my $tries = 100;
select undef, undef, undef, 0.05 while $runs->() && $tries--;
ok(!$runs->(), "what suite runs beside the tests of cargo ends with it");


# t/run-tests.pl

my $runner = do { local (@ARGV, $/) = "$root/t/run-tests.pl"; <> };
is(join(" ", grep { !-e "$root/$_" } $runner =~ /"(t\/[^"]*\.t)"/g), "", "run-tests.pl names files that exist");
$dir = tree("run-tests.pl");
write_file("$dir/t/a/small.t", "print qq(1..1\\nok 1\\n);");
write_file("$dir/t/a/large.t", "#" x 2000 . "\nprint qq(1..1\\nok 1\\n);");
write_file("$dir/$_", <<'_EOC_') for qw( t/net/030-shared-cache.t t/revocation/010-ocsp.t );
print "1..1\n", mkdir("busy") ? "ok 1\n" : "not ok 1\n";
select undef, undef, undef, 0.3;
rmdir "busy";
_EOC_
like(`cd '$dir' && JOBS=1 t/run-tests.pl`, qr{\At/(?:net/030-shared-cache|revocation/010-ocsp)\.t .*\nt/(?:net/030-shared-cache|revocation/010-ocsp)\.t .*\nt/a/large\.t .*\nt/a/small\.t }, "run-tests.pl starts the slow files first");
like(`cd '$dir' && JOBS=3 t/run-tests.pl`, qr/^All tests successful/m, "run-tests.pl runs one file that waits at a time");


# t/lib/TestProcess.pm

my @ports = map { free_port() } 1 .. 50;
my %held = map { $_ => 1 } @ports;
is(scalar(keys %held), 50, "free_port() never gives a port twice");

my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ports[0], Listen => 5, ReuseAddr => 1);
ok($server, "a server can listen on such a port");

my @others = map { IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 0, Listen => 1) } 1 .. 200;
my @clients = map { IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $_->sockport) } @others;
is(scalar(grep { $held{ $_->sockport } } @others, @clients), 0, "the kernel gives the port to no other process");

$dir = tempdir(CLEANUP => 1);
write_file("$dir/a.t", "use lib '$root/t/lib'; use Test::More; use TestProcess; ok(1); Test::More::BAIL_OUT('no peer');\n");
write_file("$dir/b.t", "use Test::More tests => 1; ok(1);\n");
$printed = `prove '$dir/a.t' '$dir/b.t' 2>&1`;
like($printed, qr/^# no peer$/m, "BAIL_OUT() prints the reason");
like($printed, qr/^\Q$dir\E\/b\.t \.+ ok$/m, "BAIL_OUT() ends no other file");
like($printed, qr/^Result: FAIL$/m, "BAIL_OUT() is a failure");

write_file("$dir/c.t", "use lib '$root/t/lib'; use TestProcess; use Test::More tests => 1;"
    . " is(`sh -c 'trap \"echo caught\" INT; kill -INT \\\$\\\$'`, qq(caught\\n));\n");
$printed = `(trap '' INT QUIT CHLD; perl '$dir/c.t') 2>&1`;
is($printed, "1..1\nok 1\n", "signals do not depend on the caller");

done_testing();
