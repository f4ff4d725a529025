# Four TLS stacks offer their sessions to another server name, or after the policy has changed. A session is resumed
# only where the current policy has the same certificate request, and the current policy and clock decide about its
# client.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: a
  snis: [a.test]
  plugins: &a
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
- name: b
  snis: [b.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-b], skip_consumer_lookup: true}
- name: c
  snis: [c.test]
  plugins: *a
- name: n
  snis: [n.test]
_EOC_

sub changed {
    my ($config) = @_;

    return expand_policy($Policy =~ s/ca_certificates: \[\@ca-a\]/$config/r);
}

my $crl = make_crl("matrix", "ca-a", "client-a");

# Policies that change what a.test and c.test trust.
our $Files = ">>> base.yaml\n" . expand_policy($Policy)
    . ">>> removed.yaml\n" . changed('ca_certificates: [@ca-b]')
    . ">>> added.yaml\n" . changed('ca_certificates: [@ca-a, @ca-b]')
    . ">>> forbidden.yaml\n" . changed('resumption: false, ca_certificates: [@ca-a]')
    . ">>> revoked.yaml\n" . changed("ca_certificates: [\@ca-a], crls: [$crl]");

system("head -c 80 /dev/zero >'$TestMtls::Pki/ticket.key'") == 0 or bail_out("no ticket key");

our $Log = "    log_format seen '\$arg_who \$host \$ssl_session_reused \$status';\n    ssl_ecdh_curve X25519:P-256;\n";
our $Tickets = $Log . "    ssl_session_tickets on;\n";
our $TicketKey = $Log . "    ssl_session_tickets on;\n    ssl_session_ticket_key $TestMtls::Pki/ticket.key;\n";
our $Cache = $Log . "    ssl_session_tickets off;\n    ssl_session_cache shared:sessions:1m;\n";
our $Names = "a.test b.test c.test n.test";

# A request can change the policy, or wait, before it is answered. So no client has to stop between two connections.
our $Config = <<'_EOC_';
    access_log $TEST_NGINX_HTML_DIR/seen.log seen;
    location /t {
        access_by_lua_block { require("resty.mtls").access(ngx.var.host:sub(1, 1)) }
        content_by_lua_block {
            local next = ngx.var.arg_next
            if next then
                assert(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/" .. next .. ".yaml"))
            end
            ngx.sleep(math.max(0, tonumber(ngx.var.arg_until or 0) + 1 - ngx.now()))
            ngx.say("in")
        }
    }
    location /policy {
        access_log off;
        content_by_lua_block {
            assert(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_next .. ".yaml"))
        }
    }
_EOC_

our $Client = "nss_too='" . (system("command -v tstclnt >/dev/null") ? "" : "nss") . "'\n" . <<'_EOC_';
# nss VERSION AS TARGET TARGET: tstclnt connects twice to the same name, as it never offers a session to another name
nss() {
    local host=${3%%/*} path=${3#*/}
    printf 'GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$host" >"request-$1"
    tstclnt -h 127.0.0.1 -p "$PORT" -a "$host" -d "sql:$TMP/nss" -n "$2" -V "tls$1:tls$1" -o -u -L 2 \
        -A "request-$1" </dev/null >nss.out 2>&1 || cat nss.out
}
nss_import() {
    openssl pkcs12 -export -in "$1" -inkey "$2" -name "$3" -passout pass:x -out "$3.p12"
    pk12util -d "sql:$TMP/nss" -i "$3.p12" -W x >nss.out || cat nss.out
}
# twice CLIENT VERSION AS TARGET TARGET: connects to the first target, and offers that session to the second
twice() {
    local client=$1 version=$2 as=$3 crt=$PKI/$3.crt key=$PKI/$3.key
    [ "$as" = client-short ] && crt=$TMP/$as.crt key=$TMP/$as.key
    shift 3
    case $client in
        openssl)
            tls tls=$version sni=${1%%/*} path=/${1#*/} crt=$crt key=$key sess_out=session-$version >/dev/null
            tls tls=$version sni=${2%%/*} path=/${2#*/} crt=$crt key=$key sess_in=session-$version >/dev/null
            ;;
        nss) nss $version $as "$@" ;;
        *) python3 "$TEST_NGINX_ROOT/t/clients/resume_session.py" $client $PORT $version $crt $key "$@" ;;
    esac
}
seen() { sed 's/ r / resumed /; s/ \. / new /' seen.log; }
# change CLIENT VERSION NEXT: the first request puts another policy in force. The second does so too: NSS sends the same
# request twice.
change() {
    local t=t?next=$3
    twice $1 $2 client-a "a.test/$t" "a.test/$t"
    echo "$1 $2 $3: $(seen | sed 's/^- //' | paste -sd ,)"
    : >seen.log
    get a.test/policy?next=base
}
if [ -n "$nss_too" ]; then
    certutil -N -d "sql:$(mkdir -p nss; echo nss)" --empty-password
    nss_import "$PKI/client-a.crt" "$PKI/client-a.key" client-a
fi
_EOC_

our $Changes = $Client . <<'_EOC_';
for client in openssl python gnutls $nss_too; do
    for version in 1.2 1.3; do
        for next in base removed added revoked forbidden; do change $client $version $next; done
    done
done
_EOC_

our $ChangesOut = '';
our $NoNss = system("command -v tstclnt >/dev/null");

for my $client (qw( openssl python gnutls nss )) {
    for my $version ("1.2", "1.3") {
        for my $next (["base", "resumed 200"], ["removed", "new 401"], ["added", "new 200"], ["revoked", "resumed 401"],
                      ["forbidden", "new 200"])
        {
            $ChangesOut .= $client eq "nss" && $NoNss ? "nss-$version-$next->[0] # SKIP no tstclnt (libnss3-tools)\n"
                : "$client $version $next->[0]: a.test new 200,a.test $next->[1]\n";
        }
    }
}

our $Cross = $Client . <<'_EOC_';
for client in openssl python gnutls; do
    for version in 1.2 1.3; do
        for pair in a,a a,b a,c a,n n,a n,n b,a; do
            twice $client $version client-a ${pair%,*}.test/t ${pair#*,}.test/t
            echo "$client $version $pair $(seen | tail -n 1 | sed 's/^- //')"
        done
    done
done
_EOC_

our $CrossOut = '';
for my $client (qw( openssl python gnutls )) {
    for my $version ("1.2", "1.3") {
        $CrossOut .= "$client $version $_\n"
            for "a,a a.test resumed 200", "a,b b.test new 401", "a,c c.test resumed 200", "a,n n.test new 200",
                "n,a a.test new 200", "n,n n.test resumed 200", "b,a a.test new 200";
    }
}

our $Expiry = $Client . <<'_EOC_';
sessions=$(wc -w <<< "openssl python gnutls $nss_too openssl python gnutls $nss_too")
# With a longer life, if the certificate has ended before each client had a session: a loaded machine starts them late.
for seconds in 4 15 60; do
    : >seen.log
    end=$("$TEST_NGINX_ROOT/t/pki/make" short-lived "$TMP" $seconds)
    if [ -n "$nss_too" ]; then
        certutil -D -d "sql:$TMP/nss" -n client-short 2>/dev/null
        nss_import client-short.crt client-short.key client-short
    fi
    for client in openssl python gnutls $nss_too; do
        for version in 1.2 1.3; do
            t="a.test/t?who=$client-$version&until=$end"
            twice $client $version client-short "$t" "$t" &
        done
    done
    wait
    [ "$(grep -c ' \. 200$' seen.log)" -lt "$sessions" ] || break
done
seen | LC_ALL=C sort | sed 's/-/ /'
_EOC_

our $ExpiryOut = '';
for my $client (qw( gnutls nss openssl python )) {
    for my $version ("1.2", "1.3") {
        $ExpiryOut .= $client eq "nss" && $NoNss ? "nss-$version # SKIP no tstclnt (libnss3-tools)\n"
            : "$client $version a.test new 200\n$client $version a.test resumed 401\n";
    }
}

# With this key tickets outlive the workers, so only the session binding can refuse them.
our $Reload = $Client . <<'_EOC_';
master=$(cat "$PID_FILE")
# follow POLICY: reloads nginx with this policy, and waits for the new worker
follow() {
    local old new
    old=$(pgrep -P "$master")
    cp "$1.yaml" policy.yaml
    kill -HUP "$master"
    for _ in $(seq 200); do
        sleep 0.02
        new=$(pgrep -P "$master") && [ "${new/$old/}" = "$new" ] && return
    done
    echo "no new worker"
}
for next in base removed added revoked forbidden; do
    for version in 1.2 1.3; do
        tls tls=$version sni=a.test path=/t as=client-a sess_out=session-$version >/dev/null
    done
    follow $next
    for version in 1.2 1.3; do
        echo "$version $next $(tls tls=$version sni=a.test path=/t as=client-a sess_in=session-$version |
            facts reused certreq status)"
    done
    follow base
done
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() with tickets: a changed policy decides on a session that was made before
--- user_files eval: $::Files
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval: $::Changes
--- client_cases eval: $::ChangesOut
--- no_error_log
[crit]
[alert]



=== TEST 2: access() with a session cache: a changed policy decides on a session that was made before
--- user_files eval: $::Files
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- vhosts eval: $::Names
--- config eval: $::Config
--- client eval: $::Changes
--- client_cases eval: $::ChangesOut
--- no_error_log
[crit]
[alert]



=== TEST 3: access() with tickets: a certificate that has expired is refused on its session
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval: $::Expiry
--- client_cases eval: $::ExpiryOut
--- no_error_log
[crit]
[alert]



=== TEST 4: access() with a session cache: a certificate that has expired is refused on its session
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- vhosts eval: $::Names
--- config eval: $::Config
--- client eval: $::Expiry
--- client_cases eval: $::ExpiryOut
--- no_error_log
[crit]
[alert]



=== TEST 5: access() with tickets: a session is offered to another server name
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval: $::Cross
--- client_cases eval: $::CrossOut
--- no_error_log
[crit]
[alert]



=== TEST 6: access() with a session cache: a session is offered to another server name
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- vhosts eval: $::Names
--- config eval: $::Config
--- client eval: $::Cross
--- client_cases eval: $::CrossOut
--- no_error_log
[crit]
[alert]



=== TEST 7: access() with a lasting ticket key: sessions outlive a reload of nginx only where the certificate request is the same
--- user_files eval: $::Files
--- policy eval: $::Policy
--- http_config eval: $::TicketKey
--- vhosts eval: $::Names
--- config eval: $::Config
--- client eval: $::Reload
--- client_out
1.2 base reused=1 certreq=0 status=200
1.3 base reused=1 certreq=0 status=200
1.2 removed reused=0 certreq=1 status=401
1.3 removed reused=0 certreq=1 status=401
1.2 added reused=0 certreq=1 status=200
1.3 added reused=0 certreq=1 status=200
1.2 revoked reused=1 certreq=0 status=401
1.3 revoked reused=1 certreq=0 status=401
1.2 forbidden reused=0 certreq=1 status=200
1.3 forbidden reused=0 certreq=1 status=200
--- no_error_log
[crit]
[alert]
