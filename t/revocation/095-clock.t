# Revocation statuses while the clock of nginx is ahead and behind: t/preload/clock.c shifts it for all its processes.

use lib 't/lib';
use TestMtls;
use TestRevocation;

my @cc = split " ", $ENV{CC} // "cc";
system(@cc, qw( -shared -fPIC -O1 -o ), "$Dir/clock.so", "$TestMtls::Root/t/preload/clock.c") == 0
    or bail_out("t/preload/clock.c does not compile");

$ENV{CLOCK_SHIFT} = "$Dir/clock-shift";
open my $shift, '>', $ENV{CLOCK_SHIFT} or bail_out("$ENV{CLOCK_SHIFT}: $!");
print $shift "\0" x 8;
close $shift;
$ENV{TEST_NGINX_LD_PRELOAD} = join " ", grep { defined } $ENV{TEST_NGINX_LD_PRELOAD}, "$Dir/clock.so";

our $Policy = revocation_policy(
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR'],
    [strict => 'revocation_check_mode: STRICT'],
);
our $Http = init_http('fetch_allow = { "127.0.0.0/8" }');

workers(2);
run_blocks();

__DATA__

=== TEST 1: access() asks again while the clock is wrong, never forgets a revocation, and is right once the clock is
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
shift_clock() { python3 -c 'import struct, sys; open(sys.argv[1], "r+b").write(struct.pack("=q", int(sys.argv[2])))' "$CLOCK_SHIFT" "$1"; }
# strict ignore
statuses() { echo "$(request strict good) $(request ignore good) $(request strict revoked) $(request ignore revoked)"; }
are() { [ "$(statuses)" = "$1" ]; }
statuses
for hours in 240 -12; do
    shift_clock $((hours * 3600))
    # An answer is out of force, and there is no other.
    wait_until are "401 200 401 401"
    echo "$hours: $(statuses)"
    shift_clock 0
    wait_until are "200 200 401 401"
    echo "0: $(statuses)"
done
_EOC_
--- client_out
200 200 401 401
240: 401 200 401 401
0: 200 200 401 401
-12: 401 200 401 401
0: 200 200 401 401
--- no_error_log
[crit]
[alert]
--- timeout: 60
