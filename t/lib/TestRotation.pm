package TestRotation;

# Runs t/clients/rotation.py, which changes the policy under open connections, and has what it must print.

use strict;
use warnings;
use TestMtls ();
use Exporter qw( import );

our @EXPORT = qw( $RotationPolicy $RotationConfig $RotationExpected );

# t/install-test-tools.sh installs there what the system does not have.
$ENV{PYTHONPATH} = join ":", "$TestMtls::Root/target/python", $ENV{PYTHONPATH} // ();

# TestRotation::rotation PROTOCOL: the command for --- client
sub rotation ($) {
    my ($protocol) = @_;

    return qq(python3 "\$TEST_NGINX_ROOT/t/clients/rotation.py" $protocol "\$PORT" "\$HTTP_PORT" "\$PKI" "\$TMP/policy.yaml"\n);
}

our $RotationPolicy = qq(_format_version: "3.0"\nroutes: []\n);

our $RotationConfig = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access(ngx.var.host:sub(1, 1)) }
        content_by_lua_block { ngx.header["Content-Length"] = 3; ngx.print("in\n") }
    }
    location /reload {
        content_by_lua_block {
            assert(require("resty.mtls").reload())
            ngx.print("reloaded\n")
        }
    }
_EOC_

# For each server name a, b, c, n: the statuses for each Host a, b, c, n. "!" marks responses that end the connection.
# a and c trust CA-A, b trusts CA-B, n requests no certificate. All changes but the last are changes of a.
our $RotationExpected = <<'_EOC_';
nothing, live: 200/421/200/200 421/200/421/200 200/421/200/200 421/421/421/200
nothing, resumed: 200/421/200/200 421/200/421/200 200/421/200/200 421/421/421/200
nothing, offered: 200/401/200/200 401/200/401/200 200/401/200/200 200/401/200/200
CA added, live: 200/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
CA added, resumed: 200/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
CA added, offered: 200/401/200/200 200/200/401/200 200/401/200/200 200/401/200/200
CA removed, live: 401!/421!/200/200 200/200/421/200 421/421/200/200 421/421/421/200
CA removed, resumed: 401!/421!/200/200 200/200/421/200 421/421/200/200 421/421/421/200
CA removed, offered: 401/401/200/200 200/200/401/200 401/401/200/200 401/401/200/200
CA issued again with its key, live: 200/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
CA issued again with its key, resumed: 200/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
CA issued again with its key, offered: 200/401/200/200 401/200/401/200 200/401/200/200 200/401/200/200
plugin changed, live: 200/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
plugin changed, resumed: 200/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
plugin changed, offered: 200/401/200/200 401/200/401/200 200/401/200/200 200/401/200/200
resumption forbidden, live: 200/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
resumption forbidden, resumed: 421!/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
resumption forbidden, offered: 200/401/200/200 401/200/401/200 200/401/200/200 200/401/200/200
other route of the name changed, live: 200/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
other route of the name changed, resumed: 200/421!/200/200 421/200/421/200 421/421/200/200 421/421/421/200
other route of the name changed, offered: 200/401/200/200 401/200/401/200 200/401/200/200 200/401/200/200
name stops requesting, live: 200/421!/200/200 421/200/421/200 421/421/200/200 401/421/421/200
name stops requesting, resumed: 200/421!/200/200 421/200/421/200 421/421/200/200 401/421/421/200
name stops requesting, offered: 401/401/200/200 401/200/401/200 401/401/200/200 401/401/200/200
name starts requesting, live: 200/421/200/200 421/200/421/421 200/421/200/200 421!/421!/421!/421!
name starts requesting, resumed: 200/421/200/200 421/200/421/421 200/421/200/200 421!/421!/421!/421!
name starts requesting, offered: 200/401/200/200 401/200/401/401 200/401/200/200 200/401/200/200
wrong: nothing
_EOC_


1;
