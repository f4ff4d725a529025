# make install, and nginx with what it installed.

use lib '.';
use t::TestMtls;
use File::Find qw( find );
use File::Temp qw( tempdir );

open my $in, '<', "$t::TestMtls::Root/Cargo.toml" or die $!;
our ($Version) = do { local $/; <$in> =~ /^version = "(.*)"/m };
our $Dest = tempdir(CLEANUP => 1);
chmod 0755, $Dest;

# `make test` may be what runs this.
delete @ENV{qw( MAKEFLAGS MAKELEVEL MFLAGS )};
my $log = `make -C '$t::TestMtls::Root' install DESTDIR='$Dest' PREFIX=/opt/mtls LUA_LIB_DIR=/opt/lua 2>&1`;
my $status = $?;

run_blocks();

Test::More::is($status, 0, "make install") or Test::More::diag($log);

my %mode;
find({ no_chdir => 1, wanted => sub { $mode{ s/^\Q$Dest\E//r } = sprintf "%o", (stat)[2] & 0777 if -f } }, $Dest);

Test::More::is($mode{$_}, "644", $_)
    for "/opt/lua/resty/mtls.lua", "/opt/lua/resty/mtls/cdef.lua", "/opt/mtls/include/resty_mtls.h",
        "/opt/mtls/share/resty-mtls/nginx-conf/mtls-http.conf",
        "/opt/mtls/share/resty-mtls/nginx-conf/policy.example.yaml";
Test::More::is($mode{$_}, "755", $_)
    for "/opt/mtls/bin/resty-mtls", "/opt/mtls/lib/lua/5.1/libresty_mtls.so";
Test::More::is(join(" ", grep { !m{^/opt/(lua|mtls)/} } keys %mode), "", "nothing outside PREFIX and LUA_LIB_DIR");
Test::More::is(`$Dest/opt/mtls/bin/resty-mtls --version`, "resty-mtls $Version\n", "the command runs");

__DATA__

=== TEST 1: nginx finds the module where it was installed
--- http_config eval
"    lua_package_path '$::Dest/opt/lua/?.lua;;';
    lua_package_cpath '$::Dest/opt/mtls/lib/lua/5.1/?.so;;';
"
--- config
    location /t {
        content_by_lua_block {
            local lib = require "resty.mtls.lib"
            local from = debug.getinfo(lib.read, "S").source
            ngx.say(from:match("/opt/.*"), " ", lib._VERSION)
        }
    }
--- response_body eval
"/opt/lua/resty/mtls/lib.lua $::Version\n"
