# The shared library for the dynamic linker, a C program and the Lua loader.

use lib 't/lib';
use TestMtls;
use File::Temp qw( tempdir );

our $Build;

BEGIN {
    $Build = tempdir(CLEANUP => 1);
    $ENV{TEST_NGINX_ABI_BUILD} = $Build;
}

my $root = $TestMtls::Root;
my $pki = $TestMtls::Pki;
my $library = "$root/target/release/libresty_mtls.so";
my @cc = (split(" ", $ENV{CC} // "cc"), qw( -O1 -g -Wall -Wextra -Wpedantic -Wredundant-decls -Werror ), "-I$root/include");


# Standard output and error of a command, without a shell.
sub output {
    my $pid = open(my $pipe, '-|') // die "fork: $!";

    if (!$pid) {
        open STDERR, '>&', \*STDOUT;
        exec @_ or die "$_[0]: $!\n";
    }

    local $/;
    my $output = <$pipe>;
    close $pipe;

    return $output // '';
}


sub build {
    my ($what, $source, @flags) = @_;

    Test::More::is(output(@cc, "$root/t/c-abi/$source", "-o", "$Build/$what", @flags), "", "$what builds without a warning");
}


# library.lua refuses a library of another release, and a file that is no library. It reads the version first, so this
# library needs no other function.
mkdir "$Build/$_" for qw( other broken );
open my $source, '>', "$Build/other.c" or die "$Build/other.c: $!";
print $source "int rmtls_abi_version(void);\nint rmtls_abi_version(void) { return 999; }\n";
close $source;
output(@cc, qw( -shared -fPIC ), "$Build/other.c", "-o", "$Build/other/libresty_mtls.so");
open my $broken, '>', "$Build/broken/libresty_mtls.so" or die "$Build/broken/libresty_mtls.so: $!";
print $broken "no library\n";
close $broken;

run_blocks();


# Symbols

my $header = do {
    local $/;
    open my $in, '<', "$root/include/resty_mtls.h" or die "include/resty_mtls.h: $!";
    <$in>;
};
my @declared = sort $header =~ /^\w+ \**(rmtls_\w+)\(/mg;
my @exported = sort map { /^\S+ T (\S+)/ ? $1 : $_ } split /\n/, output(qw( nm -D --defined-only ), $library);

Test::More::cmp_ok(scalar @declared, '>', 30, "the header declares functions");
Test::More::is(join("\n", @exported), join("\n", @declared), "the library exports what the header declares, and nothing else");
Test::More::like(output(qw( readelf -d ), $library), qr/^.*\(FLAGS_1\).*\bNODELETE\b/m, "the library is never unmapped");


# A C program

build("abi", "abi.c", "-L$root/target/release", "-lresty_mtls", "-Wl,-rpath,$root/target/release");

my $serial = output("openssl", "x509", "-in", "$pki/client-int.crt", "-noout", "-serial");
my $sha1 = output("openssl", "x509", "-in", "$pki/client-int.crt", "-noout", "-fingerprint", "-sha1");
$serial =~ s/^serial=(\w+)\n/$1/;
$sha1 =~ s/^.*=(.*)\n/lc $1/e;
$sha1 =~ s/://g;
my ($leaf, $chain) = map {
    my $pem = TestMtls::pki_file($_);
    $pem =~ s/([^\w.~-])/sprintf "%%%02X", ord $1/eg;
    $pem;
} "client-int.crt", "client-int.chain";

Test::More::is(output("$Build/abi", "$pki/ca-a.crt", "$pki/client-int.chain", "$pki/client-b.crt"), <<"_EOC_", "a C program uses map, trust store and header lines");
map before build: -2
map refuses server name 'api.example.com' is added twice
map refuses server name '*.*.example.com': '*' stands for one whole label at the left end, expected for example '*.example.com'
map api.example.com: 1
map WWW.example.COM.: 2
map a.b.example.com: not found
map open.example.org: 5
map (none): not found
verify client: 0 SUCCESS
verify other: 20 FAILED:unable to get local issuer certificate
verify client in 100 years: 10 FAILED:certificate has expired
X-Client-Cert: $leaf
X-Client-Cert-Serial: $serial
X-Client-Cert-Issuer-DN: CN=Test CA-A Intermediate,O=Example Lab
X-Client-Cert-Subject-DN: CN=client-int,O=Example
X-Client-Cert-Fingerprint: $sha1
X-Client-Cert-Chain: $chain
3 bytes for a SHA-1: 2, 40 needed
40 bytes for a SHA-1: 40 written
NULL: -1 -1 -1
_EOC_


# Host programs with the OpenSSL of this library, and with a second one

build("host", "static-host.c", qw( -lssl -lcrypto -ldl ));
Test::More::is(output("$Build/host", $library), "0 \n", "a host linked to libssl.so passes the check");

# The libraries that libcrypto.a needs differ between releases of Debian.
my @static = (qw( -l:libssl.a -l:libcrypto.a ),
              grep { !/^-l(?:ssl|crypto)$/ } split " ", output(qw( pkg-config --static --libs libssl libcrypto )));

SKIP: {
    # The source has just compiled, so only an archive can be missing.
    output(@cc, "$root/t/c-abi/static-host.c", "-o", "$Build/static-host", @static);
    $? == 0 or Test::More::skip("no static OpenSSL to link to", 3);

    Test::More::like(output("$Build/static-host", $library),
                     qr{\A-5\ this\ nginx\ has\ SSL_set_session_id_context\ linked\ in\ statically,
                        \ but\ libresty_mtls\.so\ is\ bound\ to\ \S+/libssl\.so\.3;
                        \ use\ an\ nginx\ linked\ dynamically\ to\ OpenSSL\ 3\n\z}x,
                     "a host linked to libssl.a is refused in one line");

    build("exporting-host", "static-host.c", "-rdynamic", @static);
    Test::More::like(output("$Build/exporting-host", $library),
                     qr{\A-5\ this\ nginx\ has\ SSL_set_session_id_context\ linked\ in\ statically\ and\ exports\ it,
                        \ so\ libresty_mtls\.so\ would\ use\ nginx's\ copy\ of\ it\ and\ libssl\.so\.3
                        \ for\ what\ nginx\ does\ not\ export;\ use\ an\ nginx\ linked\ dynamically\ to\ OpenSSL\ 3\n\z}x,
                     "a host linked to libssl.a that exports its symbols is refused in one line");
}

__DATA__

=== TEST 1: library.lua refuses a library with another ABI version
--- config
    location /t {
        content_by_lua_block {
            package.cpath = "$TEST_NGINX_ABI_BUILD/other/?.so"
            ngx.say(select(2, pcall(require, "resty.mtls.internal.library")))
        }
    }
--- response_body
resty.mtls: libresty_mtls.so has ABI version 999, expected 6; install Lua modules and library of the same release



=== TEST 2: library.lua reports where it searched for the library
--- config
    location /t {
        content_by_lua_block {
            package.cpath = "$TEST_NGINX_ABI_BUILD/none/?.so;$TEST_NGINX_ABI_BUILD/nil/loadall.so"
            local err = select(2, pcall(require, "resty.mtls.internal.library"))
            ngx.say((err:gsub(("$TEST_NGINX_ABI_BUILD"):gsub("%p", "%%%0"), "DIR")))
        }
    }
--- response_body eval
"resty.mtls: cannot load libresty_mtls.so; set lua_package_cpath to its directory, tried:
\tDIR/none/libresty_mtls.so: no such file
\tDIR/nil/libresty_mtls.so: no such file
"



=== TEST 3: library.lua reports why a library cannot be loaded
--- config
    location /t {
        content_by_lua_block {
            package.cpath = "$TEST_NGINX_ABI_BUILD/broken/?.so"
            local err = select(2, pcall(require, "resty.mtls.internal.library"))
            ngx.say((err:gsub(("$TEST_NGINX_ABI_BUILD"):gsub("%p", "%%%0"), "DIR")))
        }
    }
--- response_body_like eval
qr{\Aresty\.mtls: cannot load libresty_mtls\.so; set lua_package_cpath to its directory, tried:
\tDIR/broken/libresty_mtls\.so: DIR/broken/libresty_mtls\.so: (?:file too short|invalid ELF header)
\z}
