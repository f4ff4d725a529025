# CRLs as CAs publish them: large ones, which are parsed on a thread beside the event loop while the request waits,
# shards, and URLs with blanks and braces.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Policy = revocation_policy(
    [skip => 'revocation_check_mode: SKIP'],
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR'],
    [strict => 'revocation_check_mode: STRICT'],
);
our $Http = init_http('fetch_allow = { "127.0.0.0/8" }');

run_blocks();

__DATA__

=== TEST 1: the first request waits until a CRL of 300 KB has been parsed
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table crl-large crl-large-revoked crl-large-forged-revoked
fetches
_EOC_
--- client_out
crl-large: 200 200 200
crl-large-revoked: 200 401 401
crl-large-forged-revoked: 200 200 401
GET /crl-large/crl-large
GET /crl-large-revoked/crl-large
GET /crl-large-forged-revoked/crl-large-forged
--- error_log
FAILED:certificate revoked at depth 0, subject: "CN=crl-large-revoked"
unusable response: CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': bad signature
--- no_error_log
[crit]
[alert]



=== TEST 2: a CRL of a shard counts for the certificates that name the shard, and a URL is escaped where AD CS does not
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table crl-shard crl-shard-revoked crl-other-shard crl-other-shard-revoked crl-users crl-adcs-revoked
fetches
_EOC_
--- client_out
crl-shard: 200 200 200
crl-shard-revoked: 200 401 401
crl-other-shard: 200 200 401
crl-other-shard-revoked: 200 401 401
crl-users: 200 200 200
crl-adcs-revoked: 200 401 401
GET /crl-shard/crl-shard
GET /crl-shard-revoked/crl-shard
GET /crl-other-shard/crl-other-shard
GET /crl-other-shard-revoked/crl-other-shard
GET /crl-users/crl-users
GET /crl-adcs-revoked/crl%20%7B1%7D
--- error_log
CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': is for another distribution point
--- no_error_log
[crit]
[alert]
