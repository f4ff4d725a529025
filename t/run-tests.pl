#!/usr/bin/env perl
# Runs test files as prove does, and then prints the skipped tests and their reasons, and the tests that failed.
#
# Usage: t/run-tests.pl [--tally FILE] [FILE or DIRECTORY...], by default t. Writes to the tally: files, tests, skips and
# failures, in this order, and a line for each test that failed. A file that is skipped as a whole counts as one skip, one
# that dies as one failure at least.
# JOBS says how many files run at the same time, by default one more than there are processors.

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
# Large files take long: they start first, so that none of them runs alone at the end.
@files = ((sort { -s $b <=> -s $a || $a cmp $b } @files), grep { !-d } @ARGV);
@files or die "no test file\n";

# Four at most: a test waits more than it computes, but some measure time.
sub jobs {
    return $ENV{JOBS} if $ENV{JOBS};
    chomp(my $processors = `nproc 2>/dev/null` || 1);

    return $processors < 4 ? $processors + 1 : 4;
}

my (%skips, %reasons, @failures);
my $harness = TAP::Harness->new({ verbosity => 0, jobs => jobs(), ($ENV{HARNESS_TIMER} ? (timer => 1) : ()) });

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
