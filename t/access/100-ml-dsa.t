# Client certificates and CAs with ML-DSA keys (FIPS 204), which OpenSSL has from version 3.5 on.

use lib 't/lib';
use TestMtls;

BEGIN {
    my $algorithms = `openssl list -signature-algorithms 2>&1`;
    my ($nginx) = `"$ENV{TEST_NGINX_BINARY}" -V 2>&1` =~ /OpenSSL (\d+\.\d+)/;
    my $why = $algorithms !~ /ML-DSA-44/ ? "the openssl command has no ML-DSA"
              : ($nginx // 0) < 3.5 ? "nginx is built with OpenSSL " . ($nginx // "?") . ", which has no ML-DSA" : "";
    plan(skip_all => "$why; expected OpenSSL 3.5 or later") if $why;

    # Root and intermediate with ML-DSA-65; a leaf of each kind and one of P-256 that the intermediate issued, and one that
    # the root did
    my $status = system("bash", "-ec", <<'_EOC_', "bash", "$TestMtls::Pki/ml-dsa");
exec 9> "$1.lock"
flock 9
[ ! -e "$1/done" ] || exit 0
mkdir -p "$1" && cd "$1"
printf '[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n' > ext
printf '[leaf]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n' >> ext
# issue NAME ALGORITHM ISSUER EXTENSIONS
issue() {
    openssl genpkey -algorithm "${@:2:1}" ${options-} -out "$1.key" 2>/dev/null
    openssl req -new -key "$1.key" -subj "/O=Example/CN=$1" -out csr
    openssl x509 -req -in csr -CA "$3.crt" -CAkey "$3.key" -days 30 -extfile ext -extensions "$4" -out "$1.crt" 2>/dev/null
}
openssl genpkey -algorithm ML-DSA-65 -out root.key 2>/dev/null
openssl req -x509 -key root.key -subj "/O=Example/CN=root" -days 30 -out root.crt \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
issue int ML-DSA-65 root ca
for size in 44 65 87; do
    issue "client-$size" "ML-DSA-$size" int leaf
    cat "client-$size.crt" int.crt > "client-$size.chain"
done
options="-pkeyopt ec_paramgen_curve:P-256" issue client-ec EC int leaf
cat client-ec.crt int.crt > client-ec.chain
issue client-direct ML-DSA-44 root leaf
cp client-direct.crt client-direct.chain
touch done
_EOC_
    bail_out("no ML-DSA certificates") if $status;
}

sub auth ($) { plugin("mtls-auth", "ca_certificates: [\@ca-a], skip_consumer_lookup: true, send_ca_dn: true$_[0]") }

our $Policy = "_format_version: '3.0'\nca_certificates:\n- {id: \@ca-a, file: '$TestMtls::Pki/ml-dsa/root.crt'}\nroutes:\n"
    . route("a", "a.test", auth(""))
    . route("level5", "level5.test", auth(", auth_level: 5"))
    . route("pinned", "pinned.test", plugin("mtls-auth", "pinned_certificates: ['$TestMtls::Pki/ml-dsa/client-87.crt'], "
                                                         . "revocation_check_mode: STRICT, skip_consumer_lookup: true"))
    . route("small", "a.test", auth(""), plugin("client-cert-headers", "dialects: [{name: rfc9440, max_bytes: 8192}, {name: nginx, max_bytes: 8192}]"))
    . route("large", "a.test", auth(""),
            plugin("client-cert-headers", "dialects: [{name: rfc9440, max_bytes: 65536}, {name: nginx, max_bytes: 65536}]"));

our $Config = <<'_EOC_';
    location ~ ^/(a|level5|pinned)$ {
        access_by_lua_block { require("resty.mtls").access(ngx.var[1]) }
        content_by_lua_block { ngx.say(require("resty.mtls").client().subject_dn) }
    }
    location ~ ^/(small|large)$ {
        access_by_lua_block { require("resty.mtls").access(ngx.var[1]) }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_

our $Client = <<'_EOC_';
D=$PKI/ml-dsa
client() { tls tls=1.3 crt="$D/client-$1.chain" key="$D/client-$1.key" "${@:2}"; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() accepts chains with ML-DSA, and applies auth_level and pins to them; a session has no intermediate of that size
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for leaf in 44 65 87 ec direct; do
    echo "$leaf $(client $leaf sni=a.test path=/a sess_out=session | facts certreq status body)" \
         "$(client $leaf sni=a.test path=/a sess_in=session | facts reused status)"
    echo "$leaf level5 $(client $leaf sni=level5.test path=/level5 | facts status)" \
         "pinned $(client $leaf sni=pinned.test path=/pinned | facts status)"
done
grep -o '\[mtls\] 401 .* at depth .' "$ERROR_LOG" | sed 's/\(local issuer.* depth\) .*/\1 N/' | sort | uniq -c | sed 's/^ *//'
_EOC_
--- client_out
44 certreq=1 status=200 body=CN=client-44,O=Example reused=0 status=200
44 level5 status=401 pinned status=401
65 certreq=1 status=200 body=CN=client-65,O=Example reused=0 status=200
65 level5 status=401 pinned status=401
87 certreq=1 status=200 body=CN=client-87,O=Example reused=0 status=200
87 level5 status=401 pinned status=200
ec certreq=1 status=200 body=CN=client-ec,O=Example reused=0 status=200
ec level5 status=401 pinned status=401
direct certreq=1 status=200 body=CN=client-direct,O=Example reused=1 status=200
direct level5 status=401 pinned status=401
1 [mtls] 401 FAILED:CA certificate key too weak at depth 1
4 [mtls] 401 FAILED:EE certificate key too weak at depth 0
4 [mtls] 401 FAILED:unable to get local issuer certificate at depth N
--- no_error_log
[crit]
[alert]



=== TEST 2: headers carry an ML-DSA certificate within max_bytes, or leave it out
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for leaf in 44 87; do
    for route in small large; do
        curl -sk --http1.1 --connect-to "::127.0.0.1:$PORT" --cert "$D/client-$leaf.chain" --key "$D/client-$leaf.key" \
            "https://a.test/$route" | tr -d '\r' > got
        sed -n 's/^Client-Cert: :\(.*\):$/\1/p' got | base64 -d > der
        sent=$(test -s der && { cmp -s der <(openssl x509 -in "$D/client-$leaf.crt" -outform DER) && echo same || echo other; })
        echo "$leaf $route: Client-Cert ${sent:-left out}, ssl-client-cert $(grep -ci '^ssl-client-cert:' got)"
    done
done
_EOC_
--- client_out
44 small: Client-Cert same, ssl-client-cert 1
44 large: Client-Cert same, ssl-client-cert 1
87 small: Client-Cert left out, ssl-client-cert 0
87 large: Client-Cert same, ssl-client-cert 1
--- no_error_log
[crit]
[alert]
