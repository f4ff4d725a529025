# README.md and docs/: every example is run by a test, every link has a target, and every log line and policy field is
# described.
#
# A fenced block has a marker in the line above it, an HTML comment. %Tests has the tests that run the examples; the
# markers shell, output, log and picture are checked here.

use strict;
use warnings;
use Test::More;
use Cwd qw( abs_path );
use File::Basename qw( basename dirname );
use File::Find qw( find );
use File::Temp qw( tempdir );

my $root = abs_path(dirname(__FILE__));
$root = dirname($root) until -e "$root/Cargo.toml";

my $command = "$root/target/release/resty-mtls";

# Marker of an example => the tests that run it
my %Tests = (
    "install: nginx.conf" => [qw( make-install.t deb )],
    "synopsis: nginx.conf" => [qw( examples.t )],
    "synopsis: policy.yaml" => [qw( examples.t deb )],
    "short: nginx.conf" => [qw( examples.t )],
    "short: policy.yaml" => [qw( examples.t )],
    "redirects: nginx.conf" => [qw( examples.t )],
    "rewrite: nginx.conf" => [qw( examples.t )],
    "error-pages: nginx.conf" => [qw( examples.t )],
    "decide: lua" => [qw( decide.t )],
    "pieces: nginx.conf" => [qw( examples.t )],
    "routing: nginx.conf" => [qw( examples.t )],
    "trusted: nginx.conf" => [qw( examples.t )],
    "lists: file" => [qw( examples.t )],
    "policy: lists" => [qw( examples.t )],
    "lists: block" => [qw( blocks.t )],
    "fleet: nginx.conf" => [qw( servers.t )],
    "metrics: nginx.conf" => [qw( examples.t )],
    "scrape: nginx.conf" => [qw( examples.t )],
    "proxies: haproxy.cfg" => [qw( front-proxies.t )],
    "proxies: PROXY protocol" => [qw( front-proxies.t )],
    "policy: every field" => [qw( examples.t )],
    "policy: report" => [qw( examples.t )],
    "policy: rules" => [qw( examples.t )],
    "policy: trust domains" => [qw( examples.t )],
    "policy: header-cert-auth" => [qw( examples.t )],
    "policy: openid-connect" => [qw( examples.t )],
    "policy: openid-connect consumers" => [qw( examples.t )],
    "spool: lua" => [qw( certificate-spool.t )],
    "explain: policy.yaml" => [qw( explain.t )],
    "explain: result" => [qw( explain.t )],
    "policy: openid-connect tls_client_auth" => [qw( examples.t )],
);

sub slurp {
    my ($path) = @_;

    open my $in, '<', $path or die "$path: $!";
    local $/;

    return scalar <$in>;
}

# The values in a log line
my $value = qr{\S+\.so|'[^']*'|"[^"]*"|\S*/\S*|\b\d+\b|\b[0-9a-f]+\.\.\.|routes\[0\]|FAILED:.*?(?=[ ]at[ ]depth)
    |subject:[ ]|:[ ]|,[ ]did[ ]you[ ]mean}x;

my $source;

# The files under a directory, by path relative to the root
sub files_below {
    my ($directory, $pattern) = @_;
    my @found;

    find({
        no_chdir => 1,
        wanted => sub { push @found, s{^\Q$root/\E}{}r if -f && $_ =~ $pattern },
    }, "$root/$directory");

    return sort @found;
}

my @pages = map { s{^\Q$root/\E}{}r } sort glob "$root/*.md $root/docs/*.md";
my %text = map { $_ => slurp("$root/$_") } @pages;


# README.md

cmp_ok(($text{"README.md"} =~ tr/\n//), '<=', 200, "README.md has at most 200 lines");

for my $page (grep { m{^docs/} } @pages) {
    like($text{"README.md"}, qr/\]\(\Q$page\E\)/, "README.md links to $page");
    like($text{$page}, qr/\A# [^\n]+\n\nThis page is for [^\n]/, "$page begins with a sentence of what it is for");
}


# Examples

my @blocks;

for my $page (@pages) {
    my ($fence, $content, $before) = (0, '', '');
    my $marker;

    for my $line (split /\n/, $text{$page}) {
        if ($line =~ /^ *```/) {
            if ($fence) {
                push @blocks, { page => $page, marker => $marker, content => $content };
            } else {
                ($marker) = $before =~ /^ *<!-- (.*) -->$/;
                ok(defined $marker, "$page: the block has a marker: $line") or diag("after: $before");
                $content = '';
            }
            $fence = !$fence;
        } elsif ($fence) {
            $content .= "$line\n";
        } elsif ($line =~ /^(?: {4}|\t)\S/ && $before eq '') {
            fail("$page: an indented block has no marker: $line");
        }
        $before = $line;
    }
    ok(!$fence, "$page: the last block is closed");
}

my (%seen, %run);
my @tests = files_below("t", qr/\.t\z|\/deb\z/);

for my $block (@blocks) {
    my $marker = $block->{marker} // next;
    my ($kind) = $marker =~ /^(\w+)/;
    my $where = "$block->{page}: $marker";

    is($seen{$marker}++, 0, "$where: the marker is unique") if $kind ne "log" && $kind ne "shell";

    if ($kind eq "shell") {
        check_shell($where, $block->{content});

    } elsif ($kind eq "output") {
        check_output($where, $marker =~ s/^output: //r, $block->{content});

    } elsif ($kind eq "log") {
        check_log($where, $block->{content});

    } elsif ($kind ne "picture") {
        my $tests = $Tests{$marker};
        ok($tests, "$where: a test runs it") or next;
        $run{$marker} = 1;
        my ($name) = $marker =~ /: (.*)/;

        for my $test (@$tests) {
            my ($file) = grep { m{/(?:\d+-)?\Q$test\E\z} } @tests;
            ok($file && slurp("$root/$file") =~ /\Q$name\E/, "$where: $test runs it");
        }
    }
}

is(join(", ", grep { !$run{$_} } sort keys %Tests), "", "every example that a test runs is there");


# Commands: make has the targets, resty-mtls the subcommands, and the other programs are known.
sub check_shell {
    my ($where, $content) = @_;
    my %known = map { $_ => 1 } qw( apt cargo cd curl git kill luarocks nginx prove ssh systemctl );
    my $makefile = slurp("$root/Makefile");

    for my $line (map { s/ +#.*//r } grep { !/^#/ } split /\n/, $content =~ s/\\\n//gr) {
        for my $words (split / *(?:&&|;) */, $line) {
            my ($program, @rest) = grep { !/^[A-Z_]+=/ } split ' ', $words;
            next if !defined $program;

            if ($program eq "make") {
                ok($makefile =~ /^(?:[\w-]+ )*\Q$_\E(?: [\w-]+)*:/m, "$where: make has the target $_") for @rest;

            } elsif ($program eq "resty-mtls") {
                my $usage = qr/^  \Q$rest[0]\E(?![\w-])/m;
                like(`'$command' --help`, $usage, "$where: resty-mtls $rest[0]");

            } else {
                ok($known{$program} || -x "$root/$program", "$where: $program is a program");
            }
        }
    }
}


# Every target of `make help` is in a page.
for my $target (`make -s -C '$root' help` =~ /^([\w-]+) /mg) {
    ok((grep { /\bmake (?:[\w-]+ )*\Q$target\E(?![\w-])/ } values %text), "a page describes make $target");
}


# Output: of a command of ours, exactly; of the demo, its title and the names of headers.
sub check_output {
    my ($where, $what, $content) = @_;

    if ($what =~ /^resty-mtls (.*)/) {
        is(`'$command' $1`, $content, "$where: as it is printed");
        return;
    }

    my $demo = slurp("$root/nginx-conf/demo/run");
    ok(index($demo, $_) >= 0, "$where: the demo prints '$_'")
        for $content =~ /^== (.*)/mg, $content =~ /^ +(X-[\w-]+):/mg;
}


# Log lines: what is not a value stands in the source.
sub check_log {
    my ($where, $content) = @_;

    for my $line (split /\n/, $content) {
        my $checked = 0;
        my $fixed = $line =~ s/^(?:\[mtls\]|resty\.mtls:|[\w.]+:\d+:\d+:) //r;

        for my $part (split $value, $fixed) {
            $part =~ s/^[\W_]+|[\W_]+$//g;
            next if length $part < 8;
            ok(index(source(), $part) >= 0, "$where: the source has '$part'");
            $checked++;
        }

        cmp_ok($checked, '>', 0, "$where: the line has words to look for");
    }
}


# All of src and lua, with the texts that are broken over lines joined.
sub source {
    $source //= join "\n", map { slurp("$root/$_") } files_below("src", qr/\.rs\z/), files_below("lua", qr/\.lua\z/);
    $source =~ s/\\\n\s*//g;

    return $source;
}


# Links

sub anchors {
    my ($text) = @_;
    my %anchor;

    for my $heading ($text =~ /^#+ (.*)/mg) {
        my $anchor = lc $heading;
        $anchor =~ s/[^\w -]//g;
        $anchor =~ s/ /-/g;
        $anchor{$anchor} = 1;
    }

    return \%anchor;
}

for my $page (@pages) {
    my $prose = $text{$page} =~ s/^ *```.*?^ *```$//msgr =~ s/`[^`\n]*`//gr;
    my @broken;

    for my $target ($prose =~ /\]\(([^)\s]+)\)/g) {
        next if $target =~ /^https:/;

        my ($file, $anchor) = $target =~ /^([^#]*)(?:#(.*))?$/;
        my $path = $file eq '' ? $page : dirname($page) eq '.' ? $file : dirname($page) . "/$file";
        $path =~ s{[^/]+/\.\./}{};

        if (!-e "$root/$path") {
            push @broken, $target;
        } elsif (defined $anchor) {
            push @broken, $target if !anchors(slurp("$root/$path"))->{$anchor};
        }
    }

    is(join(", ", @broken), "", "$page: every link has a target");
}


# Files that the pages name are there; NAME and NOUN stand for new ones.

for my $page (grep { $_ ne "CHANGELOG.md" } @pages) {
    my $prose = $text{$page} =~ s/^ *```.*?^ *```$//msgr;
    my @missing = grep { !/\bNAME\b|\bNOUN\b/ && !grep { -e } glob "$root/$_" }
        $prose =~ m{`((?:src|lua|t|nginx-conf|include|benches|fuzz|packaging|debian|rockspec)/[\w./*-]*)`}g;

    is(join(", ", @missing), "", "$page: every file that it names is there");
}


# docs/logging.md has every line that the Lua modules log.

for my $file (files_below("lua", qr/\.lua\z/)) {
    for (slurp("$root/$file") =~ /^ *(?:ngx_log|ngx\.log)\(([^\n]*)/mg) {
        like($_, qr/^[^"]*"\[mtls\] /, "$file marks its line: $_");

        my ($text) = /"\[mtls\] ([^"]*?):? ?"/;
        ok(index($text{"docs/logging.md"}, $text) >= 0, "docs/logging.md lists the line '$text'")
            if length($text // '');
    }
}


# docs/compared-with-kong.md has a row for every field of a plugin, and says what happens to it.

my $uuid = "6a1f0c5e-3f0b-4c0a-9a58-0d4a1e2b7c11";
my $dir = tempdir(CLEANUP => 1);

# Section of the page => the configuration of its plugin with the field, as a line of YAML
my %plugin = map { $_ => "$_: %s" }
    qw( mtls-auth header-cert-auth tls-handshake-modifier tls-metadata-headers acl openid-connect );
$plugin{proof_of_possession_mtls_from_header} = "openid-connect: {proof_of_possession_mtls_from_header: %s}";

# What check prints for a configuration of a plugin
sub check {
    my ($section, $config) = @_;
    my ($name, $rest) = sprintf($plugin{$section}, $config) =~ /^([\w-]+): (.*)/s;

    open my $out, '>', "$dir/policy.yaml" or die $!;
    print $out "_format_version: '3.0'\nroutes: [{name: r, plugins: [{name: $name, config: $rest}]}]\n";
    close $out;

    return scalar `'$command' check '$dir/policy.yaml' 2>&1`;
}

for my $section (sort keys %plugin) {
    my ($part) = $text{"docs/compared-with-kong.md"} =~ /^##+ \Q$section\E\n(.*?)(?=^##|\z)/ms;
    my %here;

    for my $row (($part // '') =~ /^\| (.*`.*)/mg) {
        my ($fields, $here) = split / \| /, $row;
        $here{$_} = $here for $fields =~ /`(\w+)`/g;
    }

    # An unknown field is answered with the names of those that have an effect.
    my ($known) = check($section, "{zzzzzzzzzzzzzzzzzzzz: 1}") =~ /expected one of ([\w, ]+)/;
    my @known = split /, /, $known // '';
    @known = check($section, "{zzzzzzzzzzzzzzzzzzzz: 1}") =~ /expected '?(\w+)/ if !@known;

    ok(scalar @known, "$section: check names the fields");
    is(join(", ", grep { !$here{$_} } @known), "", "docs/compared-with-kong.md has a row for every field of $section");

    my %effect = map { $_ => 1 } @known;

    for my $field (sort keys %here) {
        next if $effect{$field};
        my $printed = check($section, "{$field: x}");
        my $expected = $here{$field} eq "refused" ? qr/\.$field: is not supported by this version/
            : qr/\.$field: has no effect in resty-mtls/;
        like($printed, $expected, "$section: $field is '$here{$field}'") if $here{$field} eq "refused";
        unlike($printed, qr/unknown field/, "$section: $field is known");
    }
}

# The fields that are accepted without an effect, or refused, are in the source alone.
my ($fields) = source() =~ /: "openid-connect",\n( *\w+: &\[.*?)\n\};/s;
my ($part) = $text{"docs/compared-with-kong.md"} =~ /^## openid-connect\n(.*?)(?=^##|\z)/ms;
my %row = map { $_ => 1 } map { /`(\w+)`/g } $part =~ /^\| (.*`.*)/mg;
my @fields = ($fields // '') =~ /"(\w+)"/g;

cmp_ok(scalar @fields, '>', 200, "the fields of openid-connect are found");
is(join(", ", grep { !$row{$_} } @fields), "", "docs/compared-with-kong.md has a row for each of them");

done_testing();
