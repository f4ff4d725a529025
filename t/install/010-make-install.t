# make install, install-debug and uninstall, and nginx with the installed files.

use lib 't/lib';
use TestMtls;
use File::Find qw( find );
use File::Path qw( make_path );
use File::Temp qw( tempdir );


open my $in, '<', "$TestMtls::Root/Cargo.toml" or die $!;
our ($Version) = do { local $/; <$in> =~ /^version = "(.*)"/m };
# The path contains a blank, as DESTDIR may.
our $Dest = tempdir(CLEANUP => 1) . "/a root";
mkdir $Dest;

# `make test` may run this test and export variables of make.
delete @ENV{qw( MAKEFLAGS MAKELEVEL MFLAGS )};
# make exports these, also through t/in-netns.
delete @ENV{qw( DESTDIR PREFIX LUA_LIB_DIR LUA_CLIB_DIR )};


# make(TARGET, VARIABLE...): returns its output and exit status. cargo is a command that fails.
sub make ($@) {
    my ($target, @variables) = @_;

    my $words = join " ", map { "'$_'" } $target, "CARGO=false", @variables;
    my $printed = `make --no-print-directory -C '$TestMtls::Root' $words 2>&1`;

    return ($printed, $? >> 8);
}


# Maps the path of each file under a directory to its mode.
sub files ($) {
    my ($dir) = @_;
    my %mode;

    find({ no_chdir => 1, wanted => sub { $mode{ s/^\Q$dir\E//r } = sprintf "%o", (lstat)[2] & 0777 if !-d } }, $dir) if -d $dir;

    return \%mode;
}


sub slurp ($) {
    my ($file) = @_;

    open my $in, '<:raw', $file or die "$file: $!";
    local $/;

    return scalar <$in>;
}

# Warnings about newer sources depend on the machine.
sub without_age ($) { return $_[0] =~ s/^install: warning: \S+ is newer than .*\n//mr }


# Into other directories

my @to = ("DESTDIR=$Dest", "PREFIX=/opt/mtls", "LUA_LIB_DIR=/opt/lua");
my ($log, $status) = make("install", @to);

is($status, 0, "make install") or Test::More::diag($log);
is(without_age($log), "", "make install prints nothing and calls no cargo");

my $mode = files($Dest);

is($mode->{$_}, "644", $_)
    for "/opt/lua/resty/mtls.lua", "/opt/lua/resty/mtls/internal/cdef.lua", "/opt/mtls/include/resty_mtls.h",
        "/opt/mtls/share/resty-mtls/nginx-conf/mtls-http.conf",
        "/opt/mtls/share/resty-mtls/nginx-conf/policy.example.yaml",
        "/opt/mtls/share/resty-mtls/nginx-conf/grafana-dashboard.json",
        "/opt/mtls/share/doc/resty-mtls/LICENSE", "/opt/mtls/share/doc/resty-mtls/README.md",
        "/opt/mtls/share/doc/resty-mtls/CHANGELOG.md", "/opt/mtls/share/doc/resty-mtls/docs/install.md",
        "/opt/mtls/share/man/man1/resty-mtls.1",
        "/opt/mtls/share/bash-completion/completions/resty-mtls", "/opt/mtls/share/zsh/site-functions/_resty-mtls",
        "/opt/mtls/share/fish/vendor_completions.d/resty-mtls.fish";
is($mode->{$_}, "755", $_)
    for "/opt/mtls/bin/resty-mtls", "/opt/mtls/lib/lua/5.1/libresty_mtls.so";
is(join(" ", grep { !m{^/opt/(lua|mtls)/} } keys %$mode), "", "nothing outside PREFIX and LUA_LIB_DIR");
is(`'$Dest/opt/mtls/bin/resty-mtls' --version`, "resty-mtls $Version\n", "the command runs");

my @sources;
find({ no_chdir => 1, wanted => sub { push @sources, s{^\Q$TestMtls::Root\E/lua/}{}r if m{\.lua\z|/mtls/page/.} } }, "$TestMtls::Root/lua");
is(join(" ", sort map { m{^/opt/lua/(.*)} } keys %$mode), join(" ", sort @sources), "every Lua module, the page, and nothing else with them");

# The list of installed files is exact.
my $list = "/opt/mtls/share/resty-mtls/installed";
is(join("\n", sort(slurp("$Dest$list") =~ /^f (.*)/mg), ""), join("\n", sort(grep { $_ ne $list } keys %$mode), ""),
   "the list has every file");


# The content of the binaries

my @binaries = ("/opt/mtls/lib/lua/5.1/libresty_mtls.so", "/opt/mtls/bin/resty-mtls");

# Paths of the build machine: the directories of crates and of build output, and the home directory.
my $paths = qr{[\w.-]*/registry/src/[\w.-]*|/target/release/|\Q$ENV{HOME}\E/\.};

for my $file (@binaries) {
    my $sections = join " ", `readelf --wide --sections '$Dest$file'` =~ /\] (\.(?:symtab|debug_(?:info|line|str)|gnu_debuglink))\s/g;
    is($sections, ".gnu_debuglink", "$file is stripped");
    is(join(" ", slurp("$Dest$file") =~ /($paths)/g), "", "$file names no path of this machine");
}


# An installation over another replaces each file by a rename.

my %before = map { $_ => (stat "$Dest$_")[1] } @binaries;
open my $mapped, '<:raw', "$Dest$binaries[0]" or die $!;
my $content = slurp("$Dest$binaries[0]");

# A module that this release no longer has, one of another project, and files that a wrong list could name.
for my $file ("resty/mtls/old.lua", "resty/other.lua") {
    open my $out, '>', "$Dest/opt/lua/$file" or die $!;
    close $out;
}
open my $out, '>>', "$Dest$list" or die $!;
print $out "f /opt/lua/resty/mtls/old.lua\n";
close $out;

($log, $status) = make("install-debug", @to);
is($status, 0, "make install-debug") or Test::More::diag($log);
isnt((stat "$Dest$_")[1], $before{$_}, "$_ is a new file") for @binaries;
is(do { local $/; <$mapped> } eq $content, 1, "the old library is unchanged for processes that have it open");
$mode = files($Dest);
is(join(" ", grep { /\.new|old\.lua/ } keys %$mode), "", "no temporary file is left, nor a module of an earlier release");
is($mode->{"/opt/lua/resty/other.lua"}, "644", "files of other projects stay");

for my $file (@binaries) {
    my ($dir, $name) = $file =~ m{(.*)/(.*)};

    is($mode->{"$dir/.debug/$name.debug"}, "644", "the debug file of $name");
    # readelf compares the checksum of the file that the section names.
    like(`cd '$Dest$dir/.debug' && cp ../$name . && readelf --debug-dump=links $name 2>&1; rm $name`,
         qr/Found separate debug info file: (?:\S*\/)?\Q$name\E\.debug/, "belongs to the installed one");
    is(join(" ", slurp("$Dest$dir/.debug/$name.debug") =~ /($paths)/g), "", "and names no path of this machine");
}

make("install", @to);
is(join(" ", grep { /\.debug/ } keys %{ files($Dest) }), "", "debug files of another build do not stay");


# Installed in two places, then removed

make("install", @to[0, 1], "LUA_LIB_DIR=/opt/site/lualib", "LUA_CLIB_DIR=/opt/site/lualib");
$mode = files($Dest);
is($mode->{$_}, $_ =~ /so$/ ? "755" : "644", "$_ beside the first ones")
    for "/opt/site/lualib/libresty_mtls.so", "/opt/site/lualib/resty/mtls.lua", "/opt/lua/resty/mtls.lua";

($log, $status) = make("uninstall", @to[0, 1]);
is($status, 0, "make uninstall");
is($log, "install: $Dest/opt/lua/resty is not empty and stays\ninstall: $Dest/opt/lua is not empty and stays\n"
       . "install: $Dest/opt is not empty and stays\n", "uninstall names the directories that it leaves");
is(join(" ", keys %{ files($Dest) }), "/opt/lua/resty/other.lua", "uninstall removes all installed files in both places");
is(join(" ", map { s/^\Q$Dest\E//r } glob("'$Dest'/opt/*")), "/opt/lua", "uninstall removes the empty directories");

($log, $status) = make("uninstall", @to[0, 1]);
is($log =~ s/^make: .*\n//mr, "install: nothing to remove: there is no $Dest$list, which 'make install' writes;"
       . " give the same DESTDIR and PREFIX as then\n", "a second uninstall prints why it does nothing");
is($status, 2, "and fails");


# The list of an interrupted installation has the files that were written.

make_path("$Dest/opt/mtls/share/man/man1/resty-mtls.1/in the way");
($log, $status) = make("install", @to);
like($log, qr{^install: \Q$Dest\E/opt/mtls/share/man/man1/resty-mtls\.1 cannot be written$}m, "install names the file that it cannot write");
is($status, 2, "and the installation fails");
make("uninstall", @to[0, 1]);
is(join(" ", keys %{ files($Dest) }), "/opt/lua/resty/other.lua", "uninstall removes the files of an interrupted installation");
system("rm", "-rf", "$Dest/opt");


# Nothing is built yet.

my $copy = tempdir(CLEANUP => 1) . "/resty-mtls";
system("'$TestMtls::Root/t/copy-source' '$TestMtls::Root/target/release' '$copy' && rm -r '$copy/target'") == 0 or die "copy: $?";
# A cargo that logs its arguments and builds nothing
open $out, '>', "$copy/cargo" or die $!;
print $out "#!/bin/sh\n[ \"\$1\" = --version ] && echo 'cargo 99.0.0' || echo \"called: \$*\"\n";
close $out;
chmod 0755, "$copy/cargo";
$log = `make -C '$copy' install CARGO='$copy/cargo' DESTDIR='$Dest' 2>&1`;
like($log, qr/^called: build --release --locked$/m, "install builds first if nothing is built");
like($log, qr/^install: target\/release\/libresty_mtls\.so is missing: run 'make build'$/m, "install names the missing library");
is(-e "$Dest/usr" ? "something" : "nothing", "nothing", "install writes nothing then");


# As docs/install.md has it

($log, $status) = make("install", "DESTDIR=$Dest");
is($status, 0, "make install in the default places") or Test::More::diag($log);

my $usr = "$Dest/usr/local";
my $help = `'$usr/bin/resty-mtls' --help`;
my @commands = ($help =~ /^Commands:\n(.*?)^$/ms)[0] =~ /^  ([a-z-]+)/mg;
my @options = map { /^  (-\w), (--[a-z-]+)/ ? ($1, $2) : () } split /\n/, $help;
my %options = map { $_ => [`'$usr/bin/resty-mtls' $_ --help` =~ /^ +(?:-\w, )?(--[a-z-]+)/mg] } @commands;

is(scalar(@commands) > 1 && scalar(@options) > 1, 1, "--help has commands and options");


# The man page

my $man = slurp("$usr/share/man/man1/resty-mtls.1");
like($man, qr/^\.It Cm $_\b/m, "the man page describes $_") for @commands;
my %all_options = map { $_ => 1 } grep(/^--/, @options), map { @$_ } values %options;
like($man, qr/^\..*\bFl -\Q${\ substr $_, 2 }\E\b/m, "the man page describes $_") for sort keys %all_options;

SKIP: {
    my $mandoc = `mandoc -T lint '$usr/share/man/man1/resty-mtls.1' 2>&1`;
    Test::More::skip("mandoc is not installed", 1) if $? == -1 || $? >> 8 == 127;
    # Which other manual pages are installed depends on the machine.
    is(join("", grep { !/mandoc\.db|referenced manual not found/ } split /^/m, $mandoc), "", "mandoc finds no fault in the man page");
}


# Completion: the words offered for a line, with the shells' own interpreters

my %complete = (
    bash => [ "$usr/share/bash-completion/completions/resty-mtls", <<'_EOC_' ],
. "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
complete -p resty-mtls > /dev/null && _resty_mtls && printf '%s\n' "${COMPREPLY[@]}"
_EOC_
    # compadd works in the line editor only. This function prints its words instead.
    zsh => [ "$usr/share/zsh/site-functions/_resty-mtls", <<'_EOC_' ],
file=$1; shift
words=("$@") CURRENT=$# PREFIX=${@[-1]}
compadd() { [[ $1 == -a ]] && print -l -- ${(M)${(P)2}:#$PREFIX*} }
_files() { print -l -- $PREFIX*(N) }
source $file
_EOC_
    fish => [ "$usr/share/fish/vendor_completions.d/resty-mtls.fish", <<'_EOC_' ],
source $argv[1]
complete -C "$argv[2..-1]" | string replace -r '\t.*' ''
_EOC_
);

for my $shell (sort keys %complete) {
    my ($file, $text) = @{ $complete{$shell} };

    SKIP: {
        Test::More::skip("$shell is not installed", 4 + @commands) if system("command -v $shell > /dev/null") != 0;

        local $ENV{PATH} = "$usr/bin:$ENV{PATH}";
        local $ENV{HOME} = tempdir(CLEANUP => 1);
        open my $out, '>', "$ENV{HOME}/script" or die $!;
        print $out $text;
        close $out;
        my $script = "$ENV{HOME}/script";
        my $offered = sub {
            my $words = join " ", map { "'$_'" } $script, $file, "resty-mtls", @_;
            return join " ", sort split /\n/, `cd '$TestMtls::Root' && $shell $words 2>&1`;
        };

        is($offered->(""), join(" ", sort @commands, @options), "$shell offers commands and options");
        is($offered->("dialects", "az"), "azure", "$shell offers dialects");
        is($offered->("help", "ch"), "check", "$shell offers commands for help");
        is($offered->("check", "CHANGE"), "CHANGELOG.md", "$shell offers files");
        is($offered->($_, "--"), join(" ", sort @{ $options{$_} }), "$shell offers the options of $_") for @commands;
    }
}


# nginx

our $Policy = ">>> policy.yaml\n" . expand_policy(policy("ca-a", route("payments", "payments.example.com", mtls_auth("ca-a"))));

$ENV{RESTY_MTLS_POLICY} = html_dir() . "/policy.yaml";
# nginx.conf cannot name a path with a blank, so this is a link without one.
our $Root = tempdir(CLEANUP => 1) . "/root";
symlink $Dest, $Root or die $!;
chmod 0755, $Dest =~ s{/[^/]*$}{}r, $Root =~ s{/[^/]*$}{}r;
$ENV{DEST} = $Dest;
delete @ENV{qw( MAKEFLAGS MAKELEVEL MFLAGS )};

our $Search = "    lua_package_path '$Root/usr/local/share/lua/5.1/?.lua;;';
    lua_package_cpath '$Root/usr/local/lib/lua/5.1/?.so;;';
";

our ($Document) = slurp("$TestMtls::Root/docs/install.md") =~ /^<!-- install: nginx\.conf -->\n```nginx\n.*?^http \{\n(.*?)^\}\n```$/ms
    or die "docs/install.md has no nginx.conf";
for ($Document) {
    s{/usr/local/}{$Root/usr/local/}g;
    s{/etc/nginx/tls/gateway}{\$TEST_NGINX_PKI/server}g;
    s{/var/log/nginx/}{\$TEST_NGINX_HTML_DIR/}g;
    s{listen +443 ssl}{listen 127.0.0.1:\$TEST_NGINX_TLS_PORT ssl}g;
    s{http://127\.0\.0\.1:8080}{\$TEST_NGINX_UPSTREAM}g;
    s{listen 127\.0\.0\.1:9145}{listen 127.0.0.2:\$TEST_NGINX_SERVER_PORT}g;
}

# After that of TestMtls: what both set, that nginx.conf sets.
push @Test::Nginx::Util::BlockPreprocessors, sub {
    my $block = shift;
    my ($ours, $document) = split /^(?=# DOCUMENT\n)/m, $block->http_config;

    return if !defined $document;

    $ours =~ s/^ *ssl_(?:certificate|certificate_key|protocols) .*\n//mg;
    $block->set_value("http_config", $ours . $document);
};

run_blocks();

__DATA__

=== TEST 1: make install: nginx finds the module
--- http_config eval: $::Search
--- config
    location /t {
        content_by_lua_block {
            local lib = require "resty.mtls.internal.library"
            local from = debug.getinfo(lib.read, "S").source
            ngx.say(from:match("/usr/local/.*"), " ", lib._VERSION)
        }
    }
--- response_body eval
"/usr/local/share/lua/5.1/resty/mtls/internal/library.lua $::Version\n"



=== TEST 2: make install: the whole nginx.conf of docs/install.md works
--- user_files eval: $::Policy
--- http_config eval: "$::Search# DOCUMENT\n$::Document"
--- config
    location /t { return 200 ok; }
--- client
code payments.example.com/
get payments.example.com/ $(as client-a) -H 'X-Client-Cert-Dn: CN=forged' | grep -oE '^X-Client-Cert-Dn: .*[a-z]'
code payments.example.com/ $(as client-b)
grep '"server_name":"payments' mtls-audit.log | grep -oE '"(status|route|decision)":[^,]*' | paste -sd ' '
curl -s "http://127.0.0.2:$HTTP_PORT/mtls/metrics" | grep '^resty_mtls_requests_total'
curl -s "http://127.0.0.2:$HTTP_PORT/mtls/status" -o /dev/null -w '%{http_code}\n'
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
X-Client-Cert-Dn: CN=client-a,O=Example
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
"status":401 "route":"payments" "decision":"no_certificate" "status":200 "route":"payments" "decision":"pass" "status":401 "route":"payments" "decision":"refused"
resty_mtls_requests_total{route="payments",decision="401"} 2
resty_mtls_requests_total{route="payments",decision="pass"} 1
200
--- error_log
[mtls] 401
--- no_error_log
[crit]
[alert]



=== TEST 3: make install during an upgrade: the running nginx keeps the old library, and a reload works
--- user_files eval: $::Policy
--- http_config eval: "$::Search# DOCUMENT\n$::Document"
--- config
    location /t { return 200 ok; }
--- client
library() { grep -hoE 'libresty_mtls\.so( \(deleted\))?$' "/proc/$1/maps" | sort -u; }
hup() { kill -HUP "$(cat "$PID_FILE")"; }
changed() { local now; now=$(workers); [ -n "$now" ] && [ -z "$(comm -12 <(tr ' ' '\n' <<< "$1") <(tr ' ' '\n' <<< "$now"))" ]; }
logged() { grep -q "$@" "$ERROR_LOG"; }
master=$(cat "$PID_FILE")

get payments.example.com/ $(as client-a) -o /dev/null -w '%{http_code}\n'
library "$master"
make -s -C "$TEST_NGINX_ROOT" install CARGO=false DESTDIR="$DEST" 2>&1 | grep -v 'is newer than'
library "$master"
get payments.example.com/ $(as client-a) -o /dev/null -w '%{http_code}\n'

echo reload
first=$(workers)
hup
wait_until changed "$first"
library "$master"
library "$(workers | cut -d ' ' -f 1)"
get payments.example.com/ $(as client-a) -o /dev/null -w '%{http_code}\n'

echo another ABI
cdef=$DEST/usr/local/share/lua/5.1/resty/mtls/internal/cdef.lua
sed 's/\(ABI_VERSION = \)[0-9]*/\1999/' "$cdef" > "$cdef.new" && mv "$cdef.new" "$cdef"
second=$(workers)
hup
wait_until logged 'has ABI version .*, expected 999; install Lua modules and library of the same release'
[ "$(workers)" = "$second" ] && echo the same workers
get payments.example.com/ $(as client-a) -o /dev/null -w '%{http_code}\n'
--- client_out
200
libresty_mtls.so
libresty_mtls.so (deleted)
200
reload
libresty_mtls.so (deleted)
libresty_mtls.so (deleted)
200
another ABI
the same workers
200
--- error_log
has ABI version
--- no_error_log
[crit]
[alert]
