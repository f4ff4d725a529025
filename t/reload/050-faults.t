# Faults under load that take seconds each; `make faults` has the others.

use strict;
use warnings;
use lib 't/lib';
use Test::More;
use Cwd qw( abs_path );
use File::Basename qw( dirname );

my $faults = abs_path(dirname(__FILE__) . "/../faults.py");
my $printed = `'$faults' quick 2>&1`;

is($? >> 8, 0, "no answer by an older policy, and both workers recover") or diag($printed);
note($printed);

# What it is there for
my $alarm = `'$faults' alarm 'an old policy' 2>&1`;

is($? >> 8, 0, "gateways of workers that share nothing are found out") or diag($alarm);
like($alarm, qr/^  found: [1-9]\d* wrong yes$/m, "by their answers");

done_testing();
