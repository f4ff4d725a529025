# resty-mtls import-ingress: nginx starts with the pair of files, and clients are let in and refused as by ingress-nginx.

use lib 't/lib';
use TestMtls;
use File::Temp qw( tempdir );
use MIME::Base64 qw( encode_base64 );

our $Dir = tempdir(CLEANUP => 1);
our ($Port, $Other) = (free_port(), free_port());

sub slurp {
    open my $in, '<', shift or die $!;
    local $/;
    return scalar(<$in>) // '';
}


# An Ingress for a host, with these annotations.
sub ingress {
    my ($host, %annotations) = @_;

    my ($name) = $host =~ /^(?:\*\.)?([a-z-]+)/;
    my $annotations = join "", map { "    nginx.ingress.kubernetes.io/auth-tls-$_: '$annotations{$_}'\n" } sort keys %annotations;

    return <<"_EOC_";
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: $name
  namespace: shop
  annotations:
    nginx.ingress.kubernetes.io/auth-tls-secret: shop/clients-ca
$annotations
spec:
  ingressClassName: nginx
  rules:
  - host: "$host"
    http:
      paths:
      - path: /api
        pathType: Prefix
        backend: {service: {name: web, port: {number: $Port}}}
_EOC_
}


my $ca = encode_base64(slurp("$TestMtls::Pki/ca-a.crt"), "");
my $manifests = <<"_EOC_" . join "", map { ingress(@$_) } (
apiVersion: v1
kind: List
items:
- kind: Secret
  metadata: {name: clients-ca, namespace: shop}
  data: {ca.crt: $ca}
_EOC_
    ["on.test", "pass-certificate-to-upstream" => "true"],
    ["shallow.test", "verify-depth" => 1],
    ["*.wild.test"],
    ["off.test", "verify-client" => "off"],
    ["optional.test", "verify-client" => "optional"],
    ["noca.test", "verify-client" => "optional_no_ca"],
    ["cn.test", "match-cn" => "CN=(client-a|client-x)"],
    ["regex.test", "match-cn" => "CN=client-.*"],
    ["page.test", "error-page" => "http://127.0.0.1:$Port/landing?from=page&x=%20", "match-cn" => "CN=client-a"],
    ["path.test", "error-page" => "/api/error"],
    ["lax.test", "error-page" => "http://127.0.0.1:$Port/lax", "verify-client" => "optional"],
);
open my $out, '>', "$Dir/ingress.yaml" or die $!;
print $out $manifests;
close $out;

my $command = "'$TestMtls::Root/target/release/resty-mtls'";
my $printed = `cd '$Dir' && $command import-ingress ingress.yaml 2>stderr`;
our $Status = $? >> 8;
our $Notes = slurp("$Dir/stderr");
our ($Policy, $Servers) = $printed =~ /\A(.*?\n)---\n(.*)\z/s;
our $Written = `cd '$Dir' && $command import-ingress --out out ingress.yaml 2>/dev/null; cat out/policy.yaml; echo ---; cat out/servers.conf`
    eq $printed ? "the same" : "another";

# The servers' port is that of the test, whose default server is another one.
our $Http = ($Servers // "") =~ s/listen 443 ssl default_server/listen 127.0.0.1:$Other ssl default_server/r
    =~ s/listen 443 ssl/listen 127.0.0.1:\$TEST_NGINX_TLS_PORT ssl/gr . <<"_EOC_";
    server {
        listen 127.0.0.1:$Port;
        location / {
            content_by_lua_block { ngx.print(ngx.req.raw_header()) }
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: the pair loads, clients are let in as by ingress-nginx, and what differs is reported with its line
--- policy eval: $::Policy
--- http_config eval: $::Http
--- config
    location /t { return 204; }
--- client eval
<<'_EOC_' . "echo '$::Status $::Written'; cat '$::Dir/stderr'\n";
headers() { tr -d '\r' | sed -n 's/^\(ssl-client-verify\|ssl-client-subject-dn\): \(.*\)/\2/Ip; s/^\(ssl-client-cert\): .*/\1/Ip' | paste -sd ' '; }
status() { get "$@" -o /dev/null -w '%{http_code}\n'; }
show() {
    local cert=
    [ "$2" = nobody ] || cert=$(as "$2")
    echo "$1 $2: $(status "$1/api/x" $cert) $(get "$1/api/x" $cert -H 'ssl-client-verify: SUCCESS' | headers)"
}
for host in on.test x.wild.test optional.test noca.test cn.test; do
    for client in nobody client-a client-b; do show $host $client; done
done
show cn.test client-carol
echo "off.test: $(status off.test/api)"
echo "shallow.test: $(status shallow.test/api $(as client-deep))"
echo "other paths: $(status on.test/apis $(as client-a)) $(status on.test/apis)"
echo "regex.test: $(status regex.test/api)"
echo "page.test without the option: $(status page.test/api)"
_EOC_
--- client_out
on.test nobody: 401 
on.test client-a: 200 ssl-client-cert SUCCESS CN=client-a,O=Example
on.test client-b: 401 
x.wild.test nobody: 401 
x.wild.test client-a: 200 SUCCESS CN=client-a,O=Example
x.wild.test client-b: 401 
optional.test nobody: 200 NONE
optional.test client-a: 200 SUCCESS CN=client-a,O=Example
optional.test client-b: 400 
noca.test nobody: 200 NONE
noca.test client-a: 200 SUCCESS CN=client-a,O=Example
noca.test client-b: 200 FAILED:unable to get local issuer certificate CN=client-b,O=Example
cn.test nobody: 401 
cn.test client-a: 200 SUCCESS CN=client-a,O=Example
cn.test client-b: 401 
cn.test client-carol: 403 
off.test: 200
shallow.test: 401
other paths: 404 404
regex.test: 503
page.test without the option: 401
4 the same
ingress.yaml:71: clients are not authenticated, as with ingress-nginx: 'off'
ingress.yaml:90: clients without a certificate are let in, as with ingress-nginx: 'optional'; the upstream must check ssl-client-verify
ingress.yaml:109: clients are let in whatever their certificate, as with ingress-nginx: 'optional_no_ca'; the upstream must check ssl-client-verify
ingress.yaml:128: the common name must now be equal to one of these, where ingress-nginx searches them anywhere in the subject
ingress.yaml:147: 'CN=client-.*' is not carried over, expected 'CN=NAME' or 'CN=(NAME|NAME)': write a rule of client-cert-acl
ingress.yaml:152: the host 'regex.test' is left out
ingress.yaml:167: the common name must now be equal to one of these, where ingress-nginx searches them anywhere in the subject
ingress.yaml:166: the error page needs the option refusals = "nginx" of mtls.init, see the head of servers.conf; without it, refused clients get 401
ingress.yaml:186: the error page needs the option refusals = "nginx" of mtls.init, see the head of servers.conf; without it, refused clients get 401
ingress.yaml:206: clients without a certificate are let in, as with ingress-nginx: 'optional'; the upstream must check ssl-client-verify
ingress.yaml:205: the error page needs the option refusals = "nginx" of mtls.init, see the head of servers.conf; without it, refused clients get 401
--- no_error_log
[crit]
[alert]



=== TEST 2: refused clients are redirected to the error page, or get the path that it is
--- user_files eval: ">>> policy.yaml\n$::Policy"
--- http_config eval: $::Http . TestMtls::init_http('refusals = "nginx"')
--- config
    location /t { return 204; }
--- client
answer() { get "$@" -w ' %{http_code} %{redirect_url}\n' | tr -d '\r' | sed -n 's/^\([A-Z]* [^ ]*\) HTTP.*/\1/p; s/^\(ssl-client.*\)/\1/Ip; $p' |
    sed "s/127\.0\.0\.1:[0-9]*/HOST/; s/^ *//; s/ *$//" | grep -v '^<\|^$' | paste -sd ' '; }
for host in page.test path.test lax.test; do
    for client in nobody client-a client-b client-carol; do
        cert=
        [ $client = nobody ] || cert=$(as $client)
        echo "$host $client: $(answer $host/api/x $cert -H 'ssl-client-verify: SUCCESS')"
    done
done
curl -s "$(get page.test/api -o /dev/null -w '%{redirect_url}')" | head -1 | tr -d '\r'
echo "POST: $(answer path.test/api/x -d a=b)"
echo "the location of the page: $(answer path.test/.mtls-error-page $(as client-a)) $(answer path.test/.mtls-error-page)"
--- client_out
page.test nobody: 302 http://HOST/landing?from=page&x=%20
page.test client-a: GET /api/x ssl-client-verify: SUCCESS ssl-client-subject-dn: CN=client-a,O=Example ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ 200
page.test client-b: 302 http://HOST/landing?from=page&x=%20
page.test client-carol: 403
path.test nobody: GET /api/error 200
path.test client-a: GET /api/x ssl-client-verify: SUCCESS ssl-client-subject-dn: CN=client-a,O=Example ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ 200
path.test client-b: GET /api/error 200
path.test client-carol: GET /api/x ssl-client-verify: SUCCESS ssl-client-subject-dn: CN=carol,O=Example ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ 200
lax.test nobody: GET /api/x ssl-client-verify: NONE 200
lax.test client-a: GET /api/x ssl-client-verify: SUCCESS ssl-client-subject-dn: CN=client-a,O=Example ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ 200
lax.test client-b: 302 http://HOST/lax
lax.test client-carol: GET /api/x ssl-client-verify: SUCCESS ssl-client-subject-dn: CN=carol,O=Example ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ 200
GET /landing?from=page&x=%20 HTTP/1.1
POST: GET /api/error 200
the location of the page: 404 404
--- no_error_log
[crit]
[alert]

