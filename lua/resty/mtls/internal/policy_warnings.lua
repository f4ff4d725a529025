-- Logs what the library finds while a policy is in force: a CRL, CA certificate or entry of a list that ends, and
-- certificates that are not written to the spool. Each is logged once an hour, by one of the workers.

local engine = require "resty.mtls.internal.engine"
local families = require "resty.mtls.internal.metric_families"
local library = require "resty.mtls.internal.library"


local C = library.C

-- Seconds after which a warning is logged again.
local INTERVAL = 3600


local _M = {}


-- Logs each text that read(handle, now, out) of the library writes.
local function log(dict, handle, kind, read)
    while true do
        local text = library.read("metrics", function(out)
            return read(handle, ngx.time(), out)
        end)
        if not text then
            return
        end

        -- Without room in the dictionary every worker logs it.
        local added, err
        if dict then
            added, err = dict:safe_add(families.INTERNAL .. kind .. families.SEPARATOR .. text, true, INTERVAL)
        end

        if added or err ~= "exists" then
            ngx.log(ngx.WARN, "[mtls] ", text)
        end
    end
end


local function spool_warning(handle, _, out)
    return C.rmtls_engine_certificate_spool_warning(handle, out)
end


-- Timers. dict: the dictionary of metrics, or nil.
function _M.log(dict)
    local found, current = pcall(engine.current)
    if found then
        log(dict, current.handle, "crl", C.rmtls_engine_expired_crl)
        log(dict, current.handle, "ca", C.rmtls_engine_ending_ca)
        log(dict, current.handle, "list", C.rmtls_engine_ending_list)
        log(dict, current.handle, "spool", spool_warning)
    end
end


return _M
