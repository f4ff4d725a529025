package TestRevocation;

# OCSP responders and CRL distribution points (t/servers/responder.py), which run as long as the test file does. Their
# certificates are $REV/CASE.crt; $REV/requests has a line for each request they got.

use strict;
use warnings;
use TestMtls;
use Exporter qw( import );
use File::Temp qw( tempdir );

our @EXPORT = qw( revocation_policy $Dir $Config $Client );

our $Dir = tempdir(CLEANUP => 1);

$ENV{REV} = $Dir;

open my $responder, '|-', "$TestMtls::Root/t/servers/responder.py", free_port(), free_port(), free_port(), $TestMtls::Pki, $Dir
    or bail_out("t/servers/responder.py: $!");

my $up;
for (1 .. 400) {
    last if $up = -e "$Dir/ready";
    select undef, undef, undef, 0.05;
}

$up or bail_out("t/servers/responder.py does not get ready");

END {
    # Not the status of the tests
    local $?;
    close $responder if $responder;
}


# For the section user_files: a policy with the CAs of the client certificates. Each route is [ name, fields of mtls-auth ].
sub revocation_policy {
    my (@routes) = @_;

    return ">>> policy.yaml
" . expand_policy(policy("ca-a ca-a-int", map {
        my ($name, $fields) = @$_;
        route($name, "a.test", mtls_auth("ca-a ca-a-int", "skip_consumer_lookup: true, http_timeout: 800, $fields"))
    } @routes));
}


our $Config = <<'_EOC_';
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        content_by_lua_block { ngx.say("in") }
    }
    location /worker/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(9)) }
        content_by_lua_block { ngx.say(ngx.worker.pid()) }
    }
_EOC_

# rev CASE: curl's options for the certificate of a case
# ask ROUTE CASE [curl options]: the status
# table CASE...: how the routes of the three modes answer each case
# live CERTIFICATE KEY (ROUTE|SECONDS)...: the statuses of requests on one connection, with pauses between them
# asked: the requests that came, without content types
our $Client = <<'_EOC_';
: > "$REV/requests"
rev() { echo "--cert $REV/$1.crt --key $REV/$1.key"; }
ask() {
    local route=$1 case=$2
    shift 2
    get "a.test/to/$route" $(rev "$case") -o body -w '%{http_code}' "$@"
}
table() {
    local case
    for case in "$@"; do echo "$case: $(ask skip "$case") $(ask ignore "$case") $(ask strict "$case")"; done
}
live() {
    python3 - "$PORT" "$@" <<'END'
import http.client, socket, ssl, sys, time
port, certificate, key, *steps = sys.argv[1:]
context = ssl._create_unverified_context()
context.load_cert_chain(certificate, key)
class Connection(http.client.HTTPSConnection):
    def connect(self):
        assert not hasattr(self, "used"), "the connection was closed"
        self.used = True
        self.sock = context.wrap_socket(socket.create_connection((self.host, self.port)), server_hostname="a.test")
connection = Connection("127.0.0.1", int(port), context=context)
for step in steps:
    if step.replace(".", "").isdigit():
        time.sleep(float(step))
        continue
    connection.request("GET", "/to/" + step, headers={"Host": "a.test"})
    answer = connection.getresponse()
    print(step, answer.status, answer.read().decode().strip())
END
}
# Without the request in the path of a GET.
asked() { cut -d' ' -f1,2 "$REV/requests" | cut -d/ -f1-3; }
_EOC_


1;
