package TestRevocation;

# Runs OCSP responders and CRL distribution points (t/servers/responder.py) as long as the test file runs. Client
# certificates that name them are $REV/CASE.crt, and $REV/requests has a line for each request that they received.

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
    # Closing the pipe must not change the exit status of the tests.
    local $?;
    close $responder if $responder;
}


# For the section user_files: a policy with the CAs of the client certificates. Each route is [ name, fields of
# mtls-auth ].
sub revocation_policy {
    my (@routes) = @_;

    return ">>> policy.yaml
" . expand_policy(policy("ca-a ca-a-int", map {
        my ($name, $fields) = @$_;
        route($name, "a.test", mtls_auth("ca-a ca-a-int", "skip_consumer_lookup: true, http_timeout: 2500, $fields"))
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

# certificate_of CASE: curl's options for the certificate of a case
# request ROUTE CASE [curl options]: prints the status
# table CASE...: prints the status of each case on the routes of the three modes
# one_connection CERTIFICATE KEY (ROUTE|SECONDS)...: the statuses of requests on one connection, with pauses between
# them
# fetches: the requests that the responders received, without content types
our $Client = <<'_EOC_';
: > "$REV/requests"
certificate_of() { echo "--cert $REV/$1.crt --key $REV/$1.key"; }
request() {
    local route=$1 case=$2
    shift 2
    get "a.test/to/$route" $(certificate_of "$case") -o body -w '%{http_code}' "$@"
}
table() {
    local case
    for case in "$@"; do echo "$case: $(request skip "$case") $(request ignore "$case") $(request strict "$case")"; done
}
one_connection() {
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
# An OCSP GET has the encoded request as the last part of its path.
fetches() { cut -d' ' -f1,2 "$REV/requests" | cut -d/ -f1-3; }
_EOC_


1;
