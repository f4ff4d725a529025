# The faults under load that take only seconds; `make faults` injects the others.

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

# The check itself must detect gateways that fail.
my $self_test = `'$faults' self-test 'an old policy' 2>&1`;

is($? >> 8, 0, "faults.py detects workers that do not share the policy in force") or diag($self_test);
like($self_test, qr/^  found: [1-9]\d* wrong yes$/m, "faults.py detects them by their wrong responses");

done_testing();
