# resty.mtls.internal.net.url

use lib 't/lib';
use TestMtls;

run_blocks();

__DATA__

=== TEST 1: parse() accepts well-formed http and https URLs only
--- config
    location /t {
        content_by_lua_block {
            local url = require "resty.mtls.internal.net.url"
            for _, bad in ipairs {
                "", "x", "/path", "http:/a.test/", "http:a.test", "//a.test/", "ldap://a.test/cn=x", "file:///etc/passwd",
                "gopher://a.test/", "javascript:alert(1)", "http://", "http:///path", "https://:443/", "http://user@a.test/",
                "http://user:pass@a.test/", "http://a.test\\@b.test/", "http://a.test:0/", "http://a.test:65536/",
                "http://a.test:99999999999/", "http://a.test:-1/", "http://a.test:8o/", "http://a b.test/", "http://a.test/a b",
                "http://a.test/\r\nHost: b", "http://a.test/\0", "http://é.test/", "http://a.test/é", "http://a..test/",
                "http://.a.test/", "http://a,b.test/", "http://%61.test/", "http://a.test%00/", "http://127.1/", "http://0x7f000001/",
                "http://2130706433/", "http://0177.0.0.1/", "http://127.0.0.1.5/", "http://1.2.3.0x4/", "http://127.0.0.1../",
                "http://[::1/", "http://[::1]x/", "http://[fe80::1%25eth0]/", "http://[1.2.3.4]/", "http://::1/",
                "http://" .. ("a"):rep(64) .. ".test/", "http://" .. ("a."):rep(127) .. "test/", "http://a.test/" .. ("x"):rep(65536),
            } do
                local target, err = url.parse(bad)
                ngx.say(target, " ", err)
            end
        }
    }
--- response_body
nil URL '' does not begin with http:// or https://
nil URL 'x' does not begin with http:// or https://
nil URL '/path' does not begin with http:// or https://
nil URL 'http:/a.test/' does not begin with http:// or https://
nil URL 'http:a.test' does not begin with http:// or https://
nil URL '//a.test/' does not begin with http:// or https://
nil URL scheme 'ldap' is neither http nor https
nil URL scheme 'file' is neither http nor https
nil URL scheme 'gopher' is neither http nor https
nil URL 'javascript:alert(1)' does not begin with http:// or https://
nil URL has no host
nil URL has no host
nil URL has no host
nil URL has user info, which is refused
nil URL has user info, which is refused
nil URL has user info, which is refused
nil URL port '0' is not from 1 to 65535
nil URL port '65536' is not from 1 to 65535
nil URL port '99999999999' is not from 1 to 65535
nil URL host 'a.test:-1' is no host name
nil URL host 'a.test:8o' is no host name
nil URL has a byte that must be percent-encoded, number 9
nil URL has a byte that must be percent-encoded, number 16
nil URL has a byte that must be percent-encoded, number 15
nil URL has a byte that must be percent-encoded, number 15
nil URL has a byte that must be percent-encoded, number 8
nil URL has a byte that must be percent-encoded, number 15
nil URL host 'a..test' is no host name
nil URL host '.a.test' is no host name
nil URL host 'a,b.test' is no host name
nil URL host '%61.test' is no host name
nil URL host 'a.test%00' is no host name
nil URL host '127.1' is no IPv4 address, expected four numbers such as 192.0.2.1
nil URL host '0x7f000001' is no IPv4 address, expected four numbers such as 192.0.2.1
nil URL host '2130706433' is no IPv4 address, expected four numbers such as 192.0.2.1
nil URL host '0177.0.0.1' is no IPv4 address, expected four numbers such as 192.0.2.1
nil URL host '127.0.0.1.5' is no IPv4 address, expected four numbers such as 192.0.2.1
nil URL host '1.2.3.0x4' is no IPv4 address, expected four numbers such as 192.0.2.1
nil URL host '127.0.0.1.' is no host name
nil URL host '[::1' is no host name
nil URL host '[::1]x' is no host name
nil URL host '[fe80::1%25eth0]' is no IPv6 address
nil URL host '[1.2.3.4]' is no IPv6 address
nil URL host '::1' is no host name
nil URL host 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' is no host name
nil URL host is over 253 bytes
nil URL is over 2048 bytes



=== TEST 2: same_origin() compares scheme, host and port
--- config
    location /t {
        content_by_lua_block {
            local url = require "resty.mtls.internal.net.url"
            ngx.say(url.same_origin("https://IDP.test/a", "https://idp.test.:443/b?c"), " ",
                    url.same_origin("https://idp.test/", "http://idp.test/"), " ",
                    url.same_origin("https://idp.test/", "https://idp.test:8443/"), " ",
                    url.same_origin("https://idp.test/", "https://idp.test.evil.test/"), " ",
                    url.same_origin("x", "x"))
        }
    }
--- response_body
true false false false false
