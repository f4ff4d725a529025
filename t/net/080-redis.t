# resty.mtls.internal.net.redis: whatever a server sends, run() returns replies or an error, in time.

use lib 't/lib';
use TestMtls;
use TestFleet;

BEGIN {
    plan(skip_all => "lua-resty-redis is not there: t/install-test-tools.sh")
        if $TestFleet::Missing && $TestFleet::Missing =~ /lua-resty-redis/;
}

our $Http = <<"_EOC_";
    lua_package_path "$TestMtls::Root/lua/?.lua;$TestFleet::Path;;";
    lua_package_cpath "$TestMtls::Root/target/release/?.so;;";
    lua_socket_log_errors off;
    init_by_lua_block {
        assert(require("resty.mtls.internal.net.redis").load())
        package.loaded["t.redis"] = { replies = {} }
    }
_EOC_

# A server that sends what the test has put into replies, in pieces, and closes the connection.
$Http .= <<'_EOC_';
    server {
        listen 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        lua_check_client_abort off;
        location / {
            content_by_lua_block {
                local sock = assert(ngx.req.socket(true))
                for _, piece in ipairs(require("t.redis").pieces) do
                    if type(piece) == "number" then
                        ngx.sleep(piece)
                    elseif not sock:send(piece) then
                        return
                    end
                end
            }
        }
    }
_EOC_

our $Run = <<'_EOC_';
            local redis = require "resty.mtls.internal.net.redis"
            -- The command makes a request line, so that nginx answers it with the pieces.
            local function run(...)
                require("t.redis").pieces = { ... }
                local conn = assert(redis.connect { host = "127.0.0.1", port = $TEST_NGINX_REDIS_PORT })
                conn.socket.send = function(self)
                    return self.sock:send("GET / HTTP/1.0\r\n\r\n")
                end
                local started = ngx.now()
                local replies, err, reason = conn:run({ { "get", "x" } }, 300, 10000)
                ngx.update_time()
                local late = ngx.now() - started > 0.5 and " late" or ""
                conn:close()
                local value = replies and replies[1]
                ngx.say(value == ngx.null and "null" or type(value) == "table" and "table of " .. #value or value, " ", err,
                        " ", reason, late)
            end
_EOC_

run_blocks();

__DATA__

=== TEST 1: run() reads replies of every kind, in one piece or many
--- http_config eval: $::Http
--- config eval
"location /t { content_by_lua_block { $::Run" . <<'_EOC_';
            run("+OK\r\n")
            run(":42\r\n")
            run("$5\r\nhello\r\n")
            run("$5\r\nhe", 0.01, "llo", 0.01, "\r", 0.01, "\n")
            run("$-1\r\n")
            run("*-1\r\n")
            run("*2\r\n$1\r\na\r\n*1\r\n:1\r\n")
            run("-WRONGPASS no\r\n")
            run("-OOM command not allowed\r\n")
            run("-ERR \1\2\127 text\r\n")
} }
_EOC_
--- response_body eval
"OK nil nil
42 nil nil
hello nil nil
hello nil nil
null nil nil
null nil nil
table of 2 nil nil
nil GET: WRONGPASS no auth
nil GET: OOM command not allowed full
nil GET: ERR ??? text reply
"



=== TEST 2: run() returns an error for a reply that is malformed, too long, slow or cut
--- http_config eval: $::Http
--- config eval
"location /t { content_by_lua_block { $::Run" . <<'_EOC_';
            run("HTTP/1.0 400 Bad Request\r\n\r\n")
            run("\r\n")
            run("$x\r\n")
            run("$\r\n")
            run("$-2\r\n")
            run("$1e3\r\n")
            run("$99999999999999999999\r\n")
            run("$10001\r\n")
            run("*1000000000\r\n")
            run("*99999999999999999999999\r\n")
            run("*nan\r\n")
            run("*0x10\r\n")
            run(":1.5\r\n")
            run("*1\r\n" .. ("*1\r\n"):rep(2000) .. ":1\r\n")
            run("+" .. ("x"):rep(5000) .. "\r\n")
            run("$9000\r\n" .. ("x"):rep(20000))
            run("$5\r\nhel")
            run("*3\r\n:1\r\n")
            run("+O")
            run(1)
            run("$5\r\n", 0.1, "h", 0.1, "e", 0.1, "l", 0.1, "l", 0.1, "o")
            run()
} }
_EOC_
--- response_body_like eval
qr/^nil the reply has a line 'HTTP\/1.0 400 Bad Request' reply
nil the reply has a line '' reply
nil the reply has a line '\$x' reply
nil the reply has a line '\$' reply
nil the reply has a line '\$-2' reply
nil the reply has a line '\$1e3' reply
nil the reply has a line '\$99999999999999999999' reply
nil the reply has a line '\$10001' reply
nil the reply has a line '\*1000000000' reply
nil the reply has a line '\*99999999999999999999999' reply
nil the reply has a line '\*nan' reply
nil the reply has a line '\*0x10' reply
nil the reply has a line ':1.5' reply
(?:table of 1 nil nil|nil the reply cannot be read: .* reply)
nil a line of the reply is over 4096 bytes reply
nil the reply has more bytes than expected reply
nil closed connect
nil closed connect
nil closed connect
nil timeout timeout
nil timeout timeout
nil closed connect
$/
