# resty.mtls.internal.net.cidr

use lib 't/lib';
use TestMtls;

run_blocks();

__DATA__

=== TEST 1: match() compares IPv4 and IPv6 addresses at the edges of prefixes
--- config
    location /t {
        content_by_lua_block {
            local cidr = require "resty.mtls.internal.net.cidr"
            local set = assert(cidr.parse { "10.0.0.0/8", "192.0.2.7", "198.51.100.128/25", "203.0.113.6/31", "2001:db8::/32",
                                            "2001:DB9:0:0:8000::/65", "fe80::1", "::ffff:172.16.0.0/108" })
            for _, ip in ipairs {
                "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0", "192.0.2.7", "192.0.2.6", "192.0.2.8",
                "198.51.100.127", "198.51.100.128", "198.51.100.255", "203.0.113.5", "203.0.113.6", "203.0.113.7", "203.0.113.8",
                "::ffff:10.1.2.3", "::ffff:0a01:0203", "::10.1.2.3", "172.15.255.255", "172.16.0.0", "172.31.255.255",
                "172.32.0.0", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff::", "2001:db9::",
                "2001:db9::8000:0:0:0", "2001:db9:0:0:ffff::", "2001:db9:0:1:8000::", "fe80::1", "FE80:0:0:0:0:0:0:1",
                "fe80::2",
            } do
                ngx.say(ip, " ", set:match(ip))
            end
        }
    }
--- response_body
10.0.0.0 true
10.255.255.255 true
9.255.255.255 false
11.0.0.0 false
192.0.2.7 true
192.0.2.6 false
192.0.2.8 false
198.51.100.127 false
198.51.100.128 true
198.51.100.255 true
203.0.113.5 false
203.0.113.6 true
203.0.113.7 true
203.0.113.8 false
::ffff:10.1.2.3 true
::ffff:0a01:0203 true
::10.1.2.3 false
172.15.255.255 false
172.16.0.0 true
172.31.255.255 true
172.32.0.0 false
2001:db8:: true
2001:db8:ffff:ffff:ffff:ffff:ffff:ffff true
2001:db7:ffff:: false
2001:db9:: false
2001:db9::8000:0:0:0 true
2001:db9:0:0:ffff:: true
2001:db9:0:1:8000:: false
fe80::1 true
FE80:0:0:0:0:0:0:1 true
fe80::2 false



=== TEST 2: match() accepts addresses only
--- config
    location /t {
        content_by_lua_block {
            local set = assert(require("resty.mtls.internal.net.cidr").parse { "0.0.0.0/0", "::/0" })
            for _, ip in ipairs { "127.0.0.1", "::1", "unix:", "", " 127.0.0.1", "127.0.0.1 ", "127.1", "0x7f.0.0.1",
                                  "127.0.0.01", "127.0.0.256", "127.0.0.1/8", "127.0.0.1\0", "::1\0x", "fe80::1%eth0", "[::1]",
                                  ("1"):rep(100000) } do
                ngx.say(#ip < 100 and ip:gsub("%z", "\\0") or #ip, " ", set:match(ip))
            end

            ngx.say(set:match(nil), " ", set:match(2130706433), " ", set:match({}))
            -- Not even everything: the families are apart.
            ngx.say(require("resty.mtls.internal.net.cidr").parse({ "::/0" }):match("127.0.0.1"), " ",
                    require("resty.mtls.internal.net.cidr").parse({}):match("127.0.0.1"))
        }
    }
--- response_body
127.0.0.1 true
::1 true
unix: false
 false
 127.0.0.1 false
127.0.0.1  false
127.1 false
0x7f.0.0.1 false
127.0.0.01 false
127.0.0.256 false
127.0.0.1/8 false
127.0.0.1\0 false
::1\0x false
fe80::1%eth0 false
[::1] false
100000 false
false false false
false false



=== TEST 3: parse() returns what is wrong and what was expected
--- config
    location /t {
        content_by_lua_block {
            local cidr = require "resty.mtls.internal.net.cidr"
            for _, bad in ipairs { "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.0/8/8", "10.0.0/8", "",
                                   "localhost", "10.0.0.1/8", "2001:db8::/129", "2001:db8::1/32", "::ffff:10.0.0.0/64",
                                   "::ffff:10.0.0.1/104", "1::2::3", "10.0.0.0\0/8", "x\27[31m\r\n" .. ("x"):rep(100) } do
                local set, err = cidr.parse { "192.0.2.0/24", bad }
                ngx.say(set, " ", err)
            end

            ngx.say(cidr.parse { "192.0.2.0/24", 10 })
            ngx.say(pcall(cidr.parse, "10.0.0.0/8"))
        }
    }
--- response_body
nil [2] '10.0.0.0/33': expected a prefix length from 0 to 32
nil [2] '10.0.0.0/': expected a prefix length from 0 to 32
nil [2] '10.0.0.0/-1': expected a prefix length from 0 to 32
nil [2] '10.0.0.0/8x': expected a prefix length from 0 to 32
nil [2] '10.0.0.0/8/8': expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8
nil [2] '10.0.0/8': expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8
nil [2] '': expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8
nil [2] 'localhost': expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8
nil [2] '10.0.0.1/8': has bits set beyond its prefix length, expected 10.0.0.0/8
nil [2] '2001:db8::/129': expected a prefix length from 0 to 128
nil [2] '2001:db8::1/32': has bits set beyond its prefix length, expected 2001:db8::/32
nil [2] '::ffff:10.0.0.0/64': expected a prefix length from 96 to 128
nil [2] '::ffff:10.0.0.1/104': has bits set beyond its prefix length, expected 10.0.0.0/8
nil [2] '1::2::3': expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8
nil [2] '10.0.0.0?/8': expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8
nil [2] 'x?[31m??xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx': expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8
nil[2] must be a string, got number
falselist must be a table



=== TEST 4: match() allocates nothing
--- config
    location /t {
        content_by_lua_block {
            local set = assert(require("resty.mtls.internal.net.cidr").parse { "10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32" })
            local v4, v6 = "192.0.2.77", "2001:db8::77"
            local found = 0
            local function look()
                for _ = 1, 100000 do
                    if set:match(v4) and set:match(v6) and not set:match("unix:") then
                        found = found + 1
                    end
                end
            end

            look()
            collectgarbage()
            collectgarbage("stop")
            local before = collectgarbage("count")
            look()
            local grown = collectgarbage("count") - before
            collectgarbage("restart")
            ngx.say(found, " ", grown < 16 and "flat" or grown .. " KB more")
        }
    }
--- response_body
200000 flat



=== TEST 5: family() and text() return the address family and the normal form
--- config
    location /t {
        content_by_lua_block {
            local cidr = require "resty.mtls.internal.net.cidr"
            ngx.say(cidr.family("192.0.2.1"), " ", cidr.family("::1"), " ", cidr.family("::ffff:1.2.3.4"), " ",
                    cidr.family("a.test"))
            ngx.say(cidr.text("\192\0\2\1"), " ", cidr.text(("\0"):rep(15) .. "\1"))
        }
    }
--- response_body
4 6 4 nil
192.0.2.1 ::1
