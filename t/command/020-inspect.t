# resty-mtls inspect beside openssl x509, on certificates of t/pki and ../shared/corpora, and on PKCS #12 files.
# src/command/inspect/tests.rs has parse-corpus-dev.json, which has what OpenSSL prints.

use lib 't/lib';
use TestMtls;
use File::Temp qw( tempdir );
use Test::More;

my $dir = tempdir(CLEANUP => 1);
my $command = "$TestMtls::Root/target/release/resty-mtls";
my $corpora = "$TestMtls::Root/../shared/corpora";


sub slurp {
    open my $in, '<', shift or die $!;
    local $/;
    return scalar(<$in>) // '';
}


sub write_file {
    my ($name, $content) = @_;

    open my $out, '>', "$dir/$name" or die $!;
    print $out $content;
    close $out;
}


# Exit status, standard output, standard error
sub execute {
    my ($line) = @_;

    system("cd '$dir' && { $line; } > stdout 2> stderr < /dev/null");
    my $status = $?;

    return [$status & 127 ? "signal " . ($status & 127) : $status >> 8, map { slurp("$dir/$_") } qw( stdout stderr )];
}


# What openssl x509 prints of each certificate: one shell for all, and no shell for each.
sub of_openssl {
    my (@pems) = @_;

    write_file("$_.pem", $pems[$_]) for 0 .. $#pems;
    my $out = execute("for i in \$(seq 0 $#pems); do echo \"== \$i\"; openssl x509 -in \$i.pem -noout -subject -issuer -serial -dates "
                  . "-nameopt RFC2253 -fingerprint -sha256 || echo unreadable; done")->[1];
    my @found;
    for (split /^== \d+\n/m, $out) {
        next if $_ eq "";
        if (/^unreadable$/m) {
            push @found, undef;
            next;
        }
        # A serial number of over 35 octets is on several lines.
        s/^(serial=.*)\\\n/$1/m while /^serial=.*\\$/m;
        push @found, {
            subject => /^subject=(.*)/m, issuer => /^issuer=(.*)/m, serial => /^serial=(.*)/m, "not before" => /^notBefore=(.*)/m,
            "not after" => /^notAfter=(.*)/m, sha256 => lc((/^sha256 Fingerprint=(.*)/mi)[0] =~ tr/://dr),
        };
    }

    return @found;
}


# Jan  2 03:04:05 2026 GMT as RFC 3339, without a fraction of a second
sub rfc3339 {
    my ($text) = @_;

    my ($month, $day, $time, $year) = $text =~ /^(\w{3}) +(\d+) (\d\d:\d\d:\d\d)(?:\.\d+)? (\d+)(?: GMT)?$/ or return "cannot be read";
    my %month = map { (qw( Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec ))[$_] => $_ + 1 } 0 .. 11;

    return sprintf("%04d-%02d-%02dT%sZ", $year, $month{$month}, $day, $time);
}


# What inspect prints of each. One run describes many, and where one is unreadable, the halves are tried.
sub inspect {
    my (@pems) = @_;

    write_file("inspect.pem", join "", @pems);
    my ($status, $out, $err) = @{ execute("'$command' inspect inspect.pem") };
    if ($status) {
        return undef if @pems == 1;

        my @half = splice @pems, 0, @pems / 2;
        return (inspect(@half), inspect(@pems));
    }

    return map { { /^ *([\w -]+): +(.*)/mg } } grep { /^ *subject:/m } split /^certificate \d+ of .*\n/m, $out;
}


sub compare {
    my ($what, $pems, $expected) = @_;

    my ($unreadable, @different) = (0);
    my @found = map { inspect(@$pems[$_ * 100 .. ($_ * 100 + 99 < $#$pems ? $_ * 100 + 99 : $#$pems)]) } 0 .. $#$pems / 100;
    for my $i (0 .. $#$pems) {
        my ($inspect, $openssl) = ($found[$i], $expected->[$i]);
        if (!$openssl || !$inspect) {
            $unreadable++;
            push @different, "one of the two cannot read:\n$pems->[$i]" if !!$openssl ne !!$inspect;
            next;
        }
        my %got = (
            (map { $_ => $inspect->{$_} =~ s/^\(empty\)$//r } qw( subject issuer )), serial => $inspect->{serial},
            sha256 => $inspect->{"SHA-256"}, (map { $_ => $inspect->{$_} =~ s/, .*//r } "not before", "not after"),
        );
        for (sort keys %got) {
            my $value = /^not/ ? rfc3339($openssl->{$_}) : $openssl->{$_};
            push @different, "$_: '$got{$_}', openssl has '$value'\n$pems->[$i]" if $got{$_} ne $value;
        }
    }

    my $count = @$pems;
    is(join("\n", @different), "", "inspect agrees with openssl x509 on the $count certificates of $what, $unreadable unreadable");
}


my @own = map { slurp($_) =~ /(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n)/s } glob "$TestMtls::Pki/client-*.crt";
compare("t/pki", \@own, [of_openssl(@own)]);

for my $file (qw( limbo-client-dev odd-names-dev openssl-verify-dev pkits-dev )) {
    SKIP: {
        skip("there is no ../shared/corpora/$file.json", 1) if !-e "$corpora/$file.json";

        my %seen;
        my @pems = grep { !$seen{$_}++ } map { s/\\n/\n/gr . "\n" }
            slurp("$corpora/$file.json") =~ /-----BEGIN CERTIFICATE-----\\n[A-Za-z0-9+\/=\\]+?-----END CERTIFICATE-----/g;
        compare($file, \@pems, [of_openssl(@pems)]);
    }
}


# PKCS #12

my ($crt, $key) = map { "'$TestMtls::Pki/client-a.$_'" } qw( crt key );
is_deeply(execute("openssl pkcs12 -export -in $crt -inkey $key -out client.p12 -passout pass:secret"), [0, "", ""], "make a PKCS #12 file");
write_file("password", "secret\n");
my $expected = execute("'$command' inspect $crt");
like($expected->[1], qr/^subject: +CN=client-a,O=Example$/m, "inspect describes a certificate");
is_deeply(execute("'$command' inspect --password-file password client.p12"), $expected, "inspect reads a PKCS #12 file");
is_deeply(execute("cat client.p12 | setsid -w '$command' inspect -"), [1, "", <<'_EOT_'], "inspect without a terminal");
standard input: this PKCS #12 file has a password and there is no terminal, expected --password-file FILE
_EOT_

SKIP: {
    skip("there is no script(1), or no terminal for it", 2) if system("script -qec true /dev/null < /dev/null > /dev/null 2>&1") != 0;

    # The terminal echoes what is written to it, unless the command switches that off.
    my $typed = sub {
        my ($password) = @_;

        return execute("{ sleep 0.5; printf '%s\\n' $password; sleep 0.5; } | script -qec \"'$command' inspect client.p12\" /dev/null");
    };
    my ($status, $out) = @{ $typed->("secret") };
    is_deeply([$status, $out =~ s/\r\n/\n/gr], [0, "Password of client.p12: \n$expected->[1]"], "the password is read from the terminal, without echo");
    ($status, $out) = @{ $typed->("wrong") };
    is_deeply([$status, $out =~ s/\r\n/\n/gr], [1, <<'_EOT_'], "a wrong password");
Password of client.p12: 
client.p12: the password of this PKCS #12 file is wrong
_EOT_
}

SKIP: {
    my $legacy = "openssl pkcs12 -legacy -export -in $crt -inkey $key -out old.p12 -passout pass:secret -certpbe PBE-SHA1-RC2-40";
    skip("openssl has no provider 'legacy'", 1) if execute($legacy)->[0] != 0;

    is_deeply(execute("'$command' inspect --password-file password old.p12"), [1, "", <<'_EOT_'], "an algorithm of the provider 'legacy'");
old.p12: encrypted by an algorithm that OpenSSL 3 has in its provider 'legacy' alone, expected the certificates in PEM, as 'openssl pkcs12 -legacy -nokeys -in FILE' prints them
_EOT_
}

done_testing();
