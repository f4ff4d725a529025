# Imports go down: a room of src imports only rooms that stand below it in the table of ARCHITECTURE.md. Only ffi and
# openssl_ext have unsafe code, and only the network modules of Lua open sockets.

use strict;
use warnings;
use Test::More;
use Cwd qw( abs_path );
use File::Basename qw( dirname );
use File::Find qw( find );

my $root = abs_path(dirname(__FILE__) . "/../..");

sub slurp {
    my ($path) = @_;

    open my $in, '<', $path or die "$path: $!";
    local $/;

    return scalar <$in>;
}

sub files_below {
    my ($directory, $pattern) = @_;
    my @found;

    find({
        no_chdir => 1,
        wanted => sub { push @found, s{^\Q$root/\E}{}r if -f && $_ =~ $pattern },
    }, "$root/$directory");

    return sort @found;
}


# Rust

my ($table) = slurp("$root/ARCHITECTURE.md") =~ /^## Rooms\n(.*?)^## /ms;
my ($rank, %rank) = 0;

for my $row ($table =~ /^\| (`src.*?) \|/mg) {
    $rank++;
    $rank{$_} = $rank for $row =~ m{`src/(\w+)(?:\.rs|/)`}g;
}

# Of a file: its code without comments and without the module of tests at its foot
sub code {
    my ($file) = @_;

    return slurp("$root/$file") =~ s/^#\[cfg\(test\)\]\nmod tests \{.*//msr =~ s{^ *//.*}{}mgr;
}

my (%imports, @rust);

for my $file (files_below("src", qr/\.rs\z/)) {
    my ($room) = $file =~ m{^src/(\w+)};
    # The command and the tests may import everything.
    next if $room =~ /^(?:bin|command|testing|lib)\z/ || $file =~ m{tests(?:/|\.rs\z)|test_\w+\.rs\z};

    push @rust, $file;
    my $code = code($file);
    $imports{$room}{$_}{$file} = 1 for $code =~ /\bcrate::([a-z]\w*)/g;
    $imports{$room}{$_}{$file} = 1 for map { /\b([a-z]\w*)(?=::|,|\s*\z)/g } $code =~ /\buse crate::\{(.*?)\};/sg;
}

is(join(", ", grep { !$rank{$_} } sort keys %imports), "", "the table has every room of src");

for my $room (sort grep { $rank{$_} } keys %imports) {
    my @up = map { my $to = $_; map { "$to ($_)" } sort keys %{ $imports{$room}{$to} } }
        grep { $_ ne $room && $rank{$_} && $rank{$_} <= $rank{$room} } sort keys %{ $imports{$room} };

    is(join(", ", @up), "", "$room imports rooms below it alone");
}

is(join(", ", grep { !m{^src/(?:ffi|openssl_ext)/} && code($_) =~ /\bunsafe\b/ } @rust), "",
   "only ffi and openssl_ext have unsafe code");


# Lua

my %requires;

for my $file (files_below("lua", qr/\.lua\z/)) {
    my $module = $file =~ s{^lua/}{}r =~ s{\.lua\z}{}r =~ tr{/}{.}r;
    my $text = slurp("$root/$file") =~ s/--.*//gr;

    $requires{$module} = [ $text =~ /require[( ]*"(resty\.mtls[\w.]*)"/g ];

    # shortage.lua sends nothing: it connects a UDP socket to see whether one can be had.
    ok($text !~ /\bngx\.socket\b/, "$file opens no socket")
        if $file !~ m{/internal/net/} && $file !~ m{/internal/shortage\.lua\z};

    is(join(", ", grep { !/^resty\.mtls\.internal\.(?:net\.\w+|options|shortage|metrics|library|monotonic_clock)\z/ }
           @{ $requires{$module} }), "", "$file imports only the network and the ground") if $file =~ m{/internal/net/};
}

# The modules that lead from one back to it
sub circle {
    my ($module, @path) = @_;

    for my $i (grep { $path[$_] eq $module } 0 .. $#path) {
        return join " -> ", @path[$i .. $#path], $module;
    }
    for my $next (@{ $requires{$module} // [] }) {
        my $found = circle($next, @path, $module);
        return $found if $found;
    }

    return '';
}

is(circle($_), "", "$_ is in no circle of imports") for sort keys %requires;
ok(!(grep { $_ eq "resty.mtls" } map { @$_ } values %requires), "no module imports the public API");


# The packages

my ($packages) = slurp("$root/ARCHITECTURE.md") =~ /^## The packages\n(.*?)(?=^## |\z)/ms;
my (%used, %unused);

for my $row ($packages =~ /^\| ([a-z].*)/mg) {
    my ($names, $purpose) = $row =~ /(.*?)(?: \(tests\))? \| (.*)/;
    ($purpose =~ /^not used/ ? $unused{$_} : $used{$_})++ for split /, /, $names;
}
delete $used{crate};

my ($dependencies) = slurp("$root/Cargo.toml") =~ /^(\[dependencies\].*?)^\[\[/ms;
is(join(" ", sort keys %used), join(" ", sort $dependencies =~ /^([\w-]+) = /mg), "the table has every crate of Cargo.toml");
ok(scalar keys %unused, "it says which are not used");

done_testing();
