# luarocks builds, installs and removes the module by the rockspec, and nginx finds it in the tree of luarocks.

use lib 't/lib';
use TestMtls;
use File::Find qw( find );
use File::Temp qw( tempdir );

plan(skip_all => "luarocks is not installed") if system("command -v luarocks > /dev/null") != 0;

open my $in, '<', "$TestMtls::Root/Cargo.toml" or die $!;
our ($Version) = do { local $/; <$in> =~ /^version = "(.*)"/m };
our $Tree = tempdir(CLEANUP => 1);
chmod 0755, $Tree;

# `make test` may run this test and export variables of make.
delete @ENV{qw( MAKEFLAGS MAKELEVEL MFLAGS DESTDIR PREFIX LUA_LIB_DIR LUA_CLIB_DIR )};
$ENV{HOME} = tempdir(CLEANUP => 1);

# A cargo that logs its arguments and builds nothing, because the library may be that of Valgrind or of another machine.
# It works in a copy of the tree, since make keeps a link to cargo.
my $copy = "$ENV{HOME}/resty-mtls";
system("'$TestMtls::Root/t/copy-source' '$TestMtls::Root/target/release' '$copy'") == 0 or die "t/copy-source: $?";
my $called = "$ENV{HOME}/called";
$ENV{CARGO} = "$ENV{HOME}/cargo";
open my $out, '>', $ENV{CARGO} or die $!;
print $out "#!/bin/sh\nif [ \"\$1\" = --version ]; then echo 'cargo 99.0.0'; else echo \"\$*\" >> '$called'; fi\n";
close $out;
chmod 0755, $ENV{CARGO};


sub luarocks ($) {
    my ($words) = @_;

    # luarocks finds the file in rockspec/.
    my $printed = `cd '$copy' && luarocks --lua-version 5.1 --tree '$Tree' $words 2>&1`;

    return ($printed, $? >> 8);
}


my ($log, $status) = luarocks("make");
is($status, 0, "luarocks make") or Test::More::diag($log);
is(do { local (@ARGV, $/) = $called; <> }, "build --release --locked\n", "it builds with cargo");
is(`'$Tree/bin/resty-mtls' --version`, "resty-mtls $Version\n", "the command runs");

(my $rock) = luarocks("show --rock-dir resty-mtls");
chomp $rock;
is(-e "$rock/$_" ? 1 : 0, 1, "the rock has $_")
    for "share/resty-mtls/nginx-conf/mtls-http.conf", "share/man/man1/resty-mtls.1", "doc/README.md", "doc/LICENSE",
    "doc/docs/install.md";

my @lua;
find({ no_chdir => 1, wanted => sub { push @lua, s{^\Q$TestMtls::Root\E/lua/}{}r if m{\.lua\z|/mtls/page/.} } }, "$TestMtls::Root/lua");
is(join(" ", grep { !-e "$Tree/share/lua/5.1/$_" } @lua), "", "every Lua module, and the page, is in the tree");

run_blocks();

($log, $status) = luarocks("remove resty-mtls");
is($status, 0, "luarocks remove") or Test::More::diag($log);
is(join(" ", grep { -e } "$Tree/share/lua/5.1/resty/mtls.lua", "$Tree/lib/lua/5.1/libresty_mtls.so", "$Tree/bin/resty-mtls", $rock),
   "", "everything is gone");

__DATA__

=== TEST 1: luarocks make: nginx finds the module in the tree
--- http_config eval
"    lua_package_path '$::Tree/share/lua/5.1/?.lua;;';
    lua_package_cpath '$::Tree/lib/lua/5.1/?.so;;';
"
--- config
    location /t {
        content_by_lua_block {
            local lib = require "resty.mtls.internal.library"
            local from = debug.getinfo(lib.read, "S").source
            ngx.say(from:match("/share/.*"), " ", lib._VERSION)
        }
    }
--- response_body eval
"/share/lua/5.1/resty/mtls/internal/library.lua $::Version\n"
