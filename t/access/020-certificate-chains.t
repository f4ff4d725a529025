# Chains of published test suites, sent in real handshakes. The verdict must be that of stock nginx (ssl_verify_client
# optional_no_ca). The reason may differ: nginx continues after an error and reports the last, the module the first.
# resty-mtls simulate must give the status and the very reason of the module.

use lib 't/lib';
use TestMtls;
use JSON::PP qw( decode_json );

our $Corpora = "$TestMtls::Root/../shared/corpora";
our (%Policy, %Files, %Expected);

my @suites = grep { -r "$Corpora/$_.json" } qw( limbo-client-dev pkits-dev openssl-verify-dev );

plan(skip_all => "no chain corpora in ../shared/corpora") if !@suites;


# The policy accepts as a CA: basic constraint CA:TRUE, and keyCertSign if there is a key usage.
sub is_ca {
    my ($pem) = @_;

    my $file = html_dir() =~ s/html$/ca.pem/r;
    mkdir server_root();
    open my $out, '>', $file or die "$file: $!";
    print $out $pem;
    close $out;
    my $text = `openssl x509 -in $file -noout -ext basicConstraints,keyUsage 2>/dev/null`;
    unlink $file;

    return $text =~ /CA:TRUE/ && ($text !~ /Key Usage/ || $text =~ /Certificate Sign/);
}


sub reason_to_skip {
    my ($case, $native) = @_;

    return "stock nginx gave no answer: " . join " ", map { ref $_ ? @$_ : $_ } values %$native
        if !defined $native->{verify};
    return "needs CRLs"
        if @{ $case->{crls} } && $native->{verify} =~ /CRL|revoked/;
    return "has a certificate in OpenSSL's own TRUSTED form"
        if grep { /BEGIN (?!CERTIFICATE)/ } @{ $case->{trusted} };
    return "the policy takes CAs only, and a trusted certificate is none"
        if grep { !is_ca($_) } @{ $case->{trusted} };

    return;
}


sub load_suite {
    my ($suite) = @_;

    open my $in, '<', "$Corpora/$suite.json" or die "$suite: $!";
    local $/;
    my $cases = decode_json(<$in>)->{cases};

    my (%cas, @files, $routes, $expected, $list);
    my $n = 0;

    for my $case (@$cases) {
        my $native = $case->{oracle}{nginx_native} // {};

        if (defined(my $reason = reason_to_skip($case, $native))) {
            $reason =~ s/\s+/ /g;
            $expected .= "$case->{id} # SKIP $reason\n";
            next;
        }

        $n++;
        $cas{$_} = TestMtls::ca_id($_) for @{ $case->{trusted} };
        $routes .= "- name: c$n\n  snis: [c$n.test]\n  plugins:\n  - name: mtls-auth\n    config:\n"
                   . "      skip_consumer_lookup: true\n      ca_certificates: ["
                   . join(", ", map { $cas{$_} } @{ $case->{trusted} }) . "]\n"
                   . (defined $case->{depth} ? "      verify_depth: $case->{depth}\n" : "");
        push @files, ["c$n.crt", join "", $case->{leaf}, @{ $case->{untrusted} }], ["c$n.key", $case->{key}];

        my @reasons = map { s/^\d+@\d+ //r } @{ $case->{oracle}{openssl_verify_now}{errors} };
        push @reasons, $native->{verify} =~ s/^FAILED://r if $native->{verify} =~ /^FAILED:/;
        # openssl verify ran at a lower security level.
        push @reasons, "too weak";
        $list .= join("|", "c$n", $case->{id}, @reasons) . "\n";
        $expected .= "$case->{id} " . ($native->{verify} =~ /^(\w+)/)[0] . "\n";
    }

    $expected .= "simulate agrees\n";
    $Policy{$suite} = "_format_version: '3.0'\nca_certificates:\n"
                      . join("", map { "- id: $cas{$_}\n  cert: " . TestMtls::block_scalar("    ", $_) } sort keys %cas)
                      . "routes:\n$routes";
    $Files{$suite} = join "", map { ">>> $_->[0]\n$_->[1]" } @files, ["cases", $list];
    $Expected{$suite} = $expected;
}

load_suite($_) for @suites;

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access((ngx.var.host:gsub("%.test$", ""))) }
        content_by_lua_block { ngx.say("ok") }
    }
_EOC_

# Prints one line for each case: its id, and the verdict if OpenSSL gives the reason in the log too.
our $Client = <<'_EOC_';
while IFS='|' read -r name id reasons; do
    seen=$(wc -c < "$ERROR_LOG")
    answer=$(tls tls=1.3 sni=$name.test crt=$name.crt key=$name.key path=/t | facts status body)
    log=$(tail -c +$((seen + 1)) "$ERROR_LOG" | grep -F '[mtls]')
    status=${answer#status=} verdict=SUCCESS
    [ "${status%% *}" = 200 ] || verdict=$(grep -oE 'FAILED:.* at depth' <<< "$log")
    [[ $answer == *'TLS certificate was sent'* ]] && verdict=NONE
    printf '\055 {name: %s, route: %s, cert: %s.crt, expect: {status: %s, verdict: "%s"}}\n' \
        "$name" "$name" "$name" "${status%% *}" "${verdict% at depth}" >>cases.yaml
    case $answer in
        "status=200 body=ok") echo "$id SUCCESS" ;;
        'status=401 body={"message":"No required TLS certificate was sent"}') echo "$id NONE" ;;
        'status=401 body={"message":"TLS certificate failed verification"}')
            if grep -qF "${reasons//|/$'\n'}" <<< "$log"; then
                echo "$id FAILED"
            else
                echo "$id FAILED with another reason: $log"
            fi
            ;;
        *) echo "$id unexpected: $answer" ;;
    esac
done < cases
(echo "cases:"; cat cases.yaml) >all.yaml
"$TEST_NGINX_ROOT/target/release/resty-mtls" simulate policy.yaml all.yaml >tap 2>&1
echo "simulate $([ $? = 0 ] && echo agrees || grep -vE '^ok' tap)"
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() agrees with nginx on x509-limbo
--- user_files eval: $::Files{"limbo-client-dev"}
--- policy eval: $::Policy{"limbo-client-dev"}
--- config eval: $::Config
--- client eval: $::Client
--- client_cases eval: $::Expected{"limbo-client-dev"}
--- no_error_log
[crit]
[alert]



=== TEST 2: access() agrees with nginx on NIST PKITS
--- user_files eval: $::Files{"pkits-dev"}
--- policy eval: $::Policy{"pkits-dev"}
--- config eval: $::Config
--- client eval: $::Client
--- client_cases eval: $::Expected{"pkits-dev"}
--- no_error_log
[crit]
[alert]



=== TEST 3: access() agrees with nginx on the cases of OpenSSL's own verify test
--- user_files eval: $::Files{"openssl-verify-dev"}
--- policy eval: $::Policy{"openssl-verify-dev"}
--- config eval: $::Config
--- client eval: $::Client
--- client_cases eval: $::Expected{"openssl-verify-dev"}
--- no_error_log
[crit]
[alert]
