# Memory errors on purpose, through the library's own exports in a real nginx. t/sanitize.py runs this file first and
# expects a report of each. The suite does not contain it: `prove -r t` does not find it.

use lib 't/lib';
use TestMtls;

our $Http = <<'_EOC_';
    init_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "void *malloc(size_t); void free(void *);"
        local lib = require "resty.mtls.internal.library"

        -- The size of this buffer is wrong: the library writes 45 bytes to 8.
        function overflow()
            local memory = ffi.C.malloc(8)
            lib.C.rmtls_verdict_text(20, ffi.new("rmtls_buf", memory, 128, 0))
            ffi.C.free(memory)
        end

        local function certificate()
            local file = assert(io.open("$TEST_NGINX_PKI/client-a.crt"))
            local pem = file:read("*a")
            file:close()
            local out = ffi.new("rmtls_certificate *[1]")
            assert(lib.C.rmtls_certificate_from_pem(pem, #pem, out, lib.buffer(256)) == 0)
            return out[0]
        end

        -- This handle is used after it was freed.
        function freed()
            local handle = certificate()
            lib.C.rmtls_certificate_free(handle)
            local times = ffi.new("int64_t[2]")
            lib.C.rmtls_certificate_validity(handle, times, times + 1)
        end

        -- This handle is never freed.
        function leak()
            certificate()
        end
    }
_EOC_

run_blocks();

__DATA__

=== overflow
--- http_config eval: $::Http
--- config
    location /t { content_by_lua_block { overflow() ngx.say("done") } }
--- client
get a.test/t
true
--- no_error_log
[emerg]



=== freed
--- http_config eval: $::Http
--- config
    location /t { content_by_lua_block { freed() ngx.say("done") } }
--- client
get a.test/t
true
--- no_error_log
[emerg]



=== leak
--- http_config eval: $::Http
--- config
    location /t { content_by_lua_block { leak() collectgarbage() ngx.say("done") } }
--- client
get a.test/t
true
--- no_error_log
[emerg]
