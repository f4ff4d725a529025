-- The monotonic clock of this host (CLOCK_MONOTONIC). All processes read the same time from it, and it goes on evenly
-- when the time of day is set back or forward. The expiry of an entry in a shared dictionary follows the time of day.

local ffi = require "ffi"


local C = ffi.C
local floor = math.floor
local tonumber = tonumber


ffi.cdef [[
struct rmtls_timespec { long sec; long nsec; };
// Under a name of our own: another library may have declared it with another type.
int rmtls_clock_gettime(int clock, struct rmtls_timespec *time) __asm__("clock_gettime");
]]


-- Of Linux, and of the BSDs.
local CLOCK_MONOTONIC = ffi.os == "Linux" and 1 or 4

local time = ffi.new("struct rmtls_timespec")


local _M = {}


-- Milliseconds since a fixed point in the past, for example the start of the host.
function _M.now()
    C.rmtls_clock_gettime(CLOCK_MONOTONIC, time)

    return tonumber(time.sec) * 1000 + floor(tonumber(time.nsec) / 1000000)
end


return _M
