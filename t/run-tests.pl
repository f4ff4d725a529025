#!/usr/bin/env perl
# Runs test files as prove does, and then prints the slowest files, the skipped tests and their reasons, and the
# tests that failed.
#
# Usage: t/run-tests.pl [--tally FILE] [FILE or DIRECTORY...], by default t. Writes to the tally: files, tests, skips and
# failures, in this order, and a line for each test that failed. A file that is skipped as a whole counts as one skip, one
# that dies as one failure at least.
# JOBS says how many files run at the same time, by default one more than there are processors, and four at most.

use strict;
use warnings;
use File::Find qw( find );
use Getopt::Long qw( GetOptions );
use TAP::Harness;

# The name of a file is printed when it starts.
$| = 1;

GetOptions("tally=s" => \my $tally) or exit 2;

my @files;
find({ no_chdir => 1, wanted => sub { push @files, $_ if /\.t\z/ } }, grep { -d } @ARGV ? @ARGV : "t");
# What takes long starts first, so that none of it runs alone at the end. These compute or wait more than their size
# suggests; the output ends with the seconds of the slowest. The others take a second for each 1000 bytes or so.
my %seconds = (
    "t/access/020-certificate-chains.t" => 30,
    "t/access/060-caches.t" => 25,
    "t/command/020-inspect.t" => 25,
    "t/handshake/100-rotation.t" => 30,
    "t/handshake/110-pooled-clients.t" => 15,
    "t/headers/030-dialect-origins.t" => 25,
    "t/reload/010-lifecycle.t" => 60,
    "t/reload/030-watch.t" => 30,
    "t/reload/040-policy-in-force.t" => 50,
    "t/reload/050-faults.t" => 50,
    "t/revocation/060-pkits.t" => 15,
    "t/revocation/090-random-faults.t" => 15,
    "t/revocation/095-clock.t" => 13,
);
# These wait most of the time, and need no processor meanwhile: they run one after the other beside all others.
my %waiting = (
    "t/access/040-expiry.t" => 13,
    "t/command/060-progress.t" => 35,
    "t/install/030-build-scripts.t" => 15,
    "t/net/030-shared-cache.t" => 40,
    "t/revocation/010-ocsp.t" => 40,
    "t/revocation/030-policy-change.t" => 40,
    "t/revocation/050-local-shortage.t" => 40,
    "t/revocation/080-status-service.t" => 60,
    "t/revocation/085-crl-urls.t" => 20,
);

sub seconds {
    my ($file) = @_;

    return $seconds{$file} // $waiting{$file} // (-s $file) / 1000;
}

@files = ((sort { seconds($b) <=> seconds($a) || $a cmp $b } @files), grep { !-d } @ARGV);
@files or die "no test file\n";

# Four at most, one of them waiting: a test waits more than it computes, but some measure time.
sub jobs {
    return $ENV{JOBS} if $ENV{JOBS};
    chomp(my $processors = `nproc 2>/dev/null` || 1);

    return $processors < 4 ? $processors + 1 : 4;
}

my (%skips, %reasons, @failures);
my $harness = TAP::Harness->new({
    verbosity => 0,
    jobs => jobs(),
    # In the order of @files
    rules => { par => [{ seq => [grep { $waiting{$_} } @files] }, { par => "**" }] },
    ($ENV{HARNESS_TIMER} ? (timer => 1) : ()),
});

sub skip {
    my ($file, $reason) = @_;

    # Test::Nginx puts the file name in front of the reason.
    $reason =~ s/^\Q$file\E //;
    $skips{$file}++;
    $reasons{"$file: $reason"}++;
}

$harness->callback(made_parser => sub {
    my ($parser, $job) = @_;
    my $file = $job->[0];

    $parser->callback(test => sub {
        my ($test) = @_;

        skip($file, $test->explanation) if $test->has_skip;
        push @failures, "$file: test " . $test->number . " " . $test->description if !$test->is_ok;
    });
    # "1..0 # SKIP reason", and a file without any check
    $parser->callback(plan => sub { skip($file, $_[0]->explanation || "no check at all") if $_[0]->tests_planned == 0 });
});

my $sum = $harness->runtests(@files);
my $skipped = 0;
$skipped += $_ for values %skips;

my %took = map { my ($parser) = $sum->parsers($_); ($_ => $parser->end_time - $parser->start_time) } $sum->descriptions;
for my $file (grep { defined } (sort { $took{$b} <=> $took{$a} || $a cmp $b } keys %took)[0 .. 9]) {
    printf "slow: %s: %.0f s\n", $file, $took{$file} if $took{$file} >= 5;
}

for my $reason (sort keys %reasons) {
    print "skipped: $reason", $reasons{$reason} > 1 ? " ($reasons{$reason} times)" : "", "\n";
}

# A file also fails by a wrong plan or exit status.
my $failed = $sum->failed;
for my $file ($sum->descriptions) {
    my ($parser) = $sum->parsers($file);
    if (!$parser->failed && ($parser->exit || $parser->parse_errors)) {
        $failed++;
        push @failures, "$file: exit status " . $parser->exit . join("", map { ", $_" } $parser->parse_errors);
    }
}

print map { "failed: $_\n" } @failures;

if (defined $tally) {
    open my $out, '>', $tally or die "$tally: $!\n";
    print $out join(" ", scalar($sum->descriptions), $sum->total, $skipped, $failed), "\n", map { "$_\n" } @failures;
    close $out or die "$tally: $!\n";
}

exit($sum->all_passed && !$failed ? 0 : 1);
