# The table of yields in ARCHITECTURE.md lists exactly the functions of the Lua sources that yield.

use strict;
use warnings;
use Test::More;
use File::Basename qw( basename dirname );

my $Root = dirname(dirname(dirname(__FILE__)));

sub slurp {
    my ($path) = @_;

    open my $in, '<', $path or die "$path: $!";
    local $/;

    return scalar <$in>;
}


# These yield: cosockets, sleep, a body that is read, and a function that the caller passes.
my $primitive = qr/sock:(?:connect|send|receive|receiveany|sslhandshake)\(|ngx[._]sleep\(|ngx\.req\.read_body\(|pcall\(fetch\)|semaphore:wait\(/;

my (%body, %alias, %yields);

for my $path (map { glob "$Root/lua/resty/$_" } qw( mtls.lua mtls/*.lua mtls/internal/*.lua mtls/internal/net/*.lua )) {
    my $file = basename($path, '.lua');
    my $name;

    for my $line (split /^/, slurp($path)) {
        $line =~ s/--.*//;

        if ($line =~ /^local (\w+) = require[( ]"resty\.mtls\.(?:\w+\.)*(\w+)"\)?(?:\.(\w+))?/) {
            $alias{$file}{$1} = [ $2, $3 ];

        } elsif ($line =~ /^local (\w+) = (\w+)\.(\w+)$/ && $alias{$file}{$2}) {
            $alias{$file}{$1} = [ $alias{$file}{$2}[0], $3 ];

        } elsif ($line =~ /^(?:local )?function (?:\w+[.:])?(\w+)\(/) {
            $name = $1;
            $body{$file}{$name} //= '';

        } elsif ($line =~ /^end\b/) {
            undef $name;

        } elsif (defined $name) {
            $body{$file}{$name} .= $line;
        }
    }
}

sub calls {
    my ($file, $code, $other, $function) = @_;

    return 1 if $other eq $file && $code =~ /(?<![\w.:])(?:_M\.)?$function\(|pcall\($function\b/;

    for my $name (keys %{ $alias{$file} }) {
        my ($module, $member) = @{ $alias{$file}{$name} };
        next if $module ne $other;
        return 1 if !defined $member && $code =~ /(?<![\w.])$name\.$function *[({]/;
        return 1 if defined $member && $member eq $function && $code =~ /(?<![\w.])$name\(/;
    }

    return 0;
}

for my $file (keys %body) {
    $body{$file}{$_} =~ $primitive and $yields{"$file.lua $_"} = 1 for keys %{ $body{$file} };
}

for (my $more = 1; $more;) {
    $more = 0;

    for my $file (keys %body) {
        for my $name (grep { !$yields{"$file.lua $_"} } keys %{ $body{$file} }) {
            for my $known (keys %yields) {
                my ($other, $function) = $known =~ /^(\w+)\.lua (\w+)$/;
                next if !calls($file, $body{$file}{$name}, $other, $function);
                $yields{"$file.lua $name"} = $more = 1;
                last;
            }
        }
    }
}

my %listed;

for (slurp("$Root/ARCHITECTURE.md") =~ /^\| `\w+\.lua` \|.*/mg) {
    my ($file, $functions) = /^\| `(\w+\.lua)` \| ([^|]*) \|/;
    $listed{"$file $_"}++ for $functions =~ /`(\w+)`/g;
}

cmp_ok(scalar keys %yields, '>', 40, "functions that yield are found");
is(join("\n", sort keys %listed), join("\n", sort keys %yields), "each is in the table");
is(join("\n", grep { $listed{$_} > 1 } sort keys %listed), "", "none is there twice");

done_testing();
