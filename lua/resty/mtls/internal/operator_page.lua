-- The operator's page of mtls-status.conf: one HTML document, made of the files of resty/mtls/page, which are installed
-- beside the Lua modules. It has no data: its script fetches status, policy and blocks as JSON.
--
-- The policy of the response (CSP) admits this script and this style by their digests, connections to this server, and
-- no other source.

local ffi = require "ffi"


local concat = table.concat

ffi.cdef [[
unsigned char *SHA256(const unsigned char *data, size_t count, unsigned char *md_buf);
]]

local MODULE = "resty.mtls.internal.operator_page"
local SCRIPTS = { "text.js", "policy.js", "decisions.js", "listing.js", "revocation.js", "blocks.js", "refresh.js" }


local _M = {}

-- Read at the first request of a worker.
local page, content_security_policy


local function read(directory, name)
    local file, err = io.open(directory .. name, "rb")
    if not file then
        error("the page cannot be read: " .. err .. "; install the files of resty/mtls/page beside the Lua modules", 0)
    end

    local text = file:read("*a")
    file:close()

    return text
end


local function digest(text)
    local sum = ffi.new("unsigned char[32]")
    ffi.C.SHA256(text, #text, sum)

    return "'sha256-" .. ngx.encode_base64(ffi.string(sum, 32)) .. "'"
end


local function load_page()
    local path, tried = package.searchpath(MODULE, package.path)
    if not path then
        error("the page is not found: " .. tried, 0)
    end

    local directory = path:gsub("internal/[^/]*$", "page/")
    local scripts = {}
    for i, name in ipairs(SCRIPTS) do
        scripts[i] = read(directory, name)
    end

    local parts = { SCRIPT = concat(scripts, "\n"), STYLE = read(directory, "page.css") }
    page = read(directory, "page.html"):gsub("@(%u+)@", parts)
    content_security_policy = concat({
        "default-src 'none'",
        "script-src " .. digest(parts.SCRIPT),
        "style-src " .. digest(parts.STYLE),
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    }, "; ")
end


-- The document and its headers; nil and an error.
function _M.get()
    if not page then
        local ok, err = pcall(load_page)
        if not ok then
            return nil, err
        end
    end

    return page, {
        ["Content-Type"] = "text/html; charset=utf-8",
        ["Content-Security-Policy"] = content_security_policy,
        ["X-Content-Type-Options"] = "nosniff",
        ["X-Frame-Options"] = "DENY",
        ["Referrer-Policy"] = "no-referrer",
        ["Cross-Origin-Opener-Policy"] = "same-origin",
        ["Cross-Origin-Resource-Policy"] = "same-origin",
        ["Cache-Control"] = "no-store",
    }
end


return _M
