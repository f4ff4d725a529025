-- All metrics: their names, types, labels and texts of help, in the order of the output. And which of them the events
-- are that the library counts.

local CONST = require "resty.mtls.internal.cdef"


local DAY = 86400
-- Between the parts of a key. No label value has it.
local SEPARATOR = "\0"
-- Begins the keys in the dictionary of metrics that are none of counts and gauges.
local INTERNAL = "\1"


-- labels: in the order of the keys. zero: label values that are present from the start.
local FAMILIES = {
    { name = "client_hellos_total", type = "counter", labels = {}, zero = { {} },
      help = "TLS handshakes that client_hello() ran for, resumptions included." },
    { name = "certificate_requests_total", type = "counter", labels = {}, zero = { {} },
      help = "Full TLS handshakes in which a client certificate was requested." },
    { name = "certificates_presented_total", type = "counter", labels = {}, zero = { {} },
      help = "Full TLS handshakes in which the client sent a certificate, verified or not." },
    { name = "handshake_errors_total", type = "counter", labels = { "phase" },
      zero = { { "client_hello" }, { "certificate" } },
      help = "Failures of client_hello() and certificate(), after which the handshake went on." },
    { name = "connections_total", type = "counter", labels = { "session" }, zero = { { "full" }, { "resumed" } },
      help = "TLS connections on which access() decided about at least one request, by kind of handshake." },
    { name = "requests_total", type = "counter", labels = { "route", "decision" },
      help = "Requests that access() decided about: pass, or the status of the refusal." },
    { name = "would_refuse_total", type = "counter", labels = { "route", "status" },
      help = "Requests that passed although a plugin with 'enforce: report' would refuse them, by its status." },
    { name = "verdicts_total", type = "counter", labels = { "verdict" }, zero = { { "NONE" }, { "SUCCESS" } },
      help = "Verdicts on the client certificates of requests, on routes that verify them; NONE: no certificate." },
    { name = "responses_total", type = "counter", labels = { "route", "class" },
      help = "Responses to requests that access() decided about, counted by log()." },
    { name = "cache_lookups_total", type = "counter", labels = { "cache", "result" },
      zero = { { "decision", "hit" }, { "decision", "miss" }, { "client", "hit" }, { "client", "miss" },
               { "verdict", "hit" }, { "verdict", "miss" }, { "status", "hit" }, { "status", "miss" } },
      help = "Cache look-ups: decisions of a connection, and clients, verdicts and revocation statuses of a worker." },
    { name = "denied_certificates_total", type = "counter", labels = { "by" },
      zero = { { "block" }, { "deny" }, { "allow" } },
      help = "Valid certificates that were denied: blocked, on a deny list, or not on an allow list." },
    { name = "blocks", type = "gauge", labels = {},
      help = "Blocks of certificates in force on this node." },
    { name = "trusted_certificates_total", type = "counter", labels = { "eku" },
      zero = { { "client" }, { "server" }, { "both" }, { "none" }, { "other" } },
      help = "Verified chains, by the purposes of TLS in the extendedKeyUsage of the client certificate." },
    { name = "certificate_spool_total", type = "counter", labels = { "outcome" },
      help = "First-seen certificates for certificate_spool of mtls.init: written, present (there already), full (over "
             .. "a bound), dropped (queue full), failed." },
    { name = "list_entries", type = "gauge", labels = { "file" },
      help = "Entries of each list of client-cert-lists in force in the worker that answers." },
    { name = "list_reload_failing", type = "gauge", labels = { "file" },
      help = "1: the file of the list cannot be read, and an earlier list is in force; 0: it is in force." },
    { name = "headers_left_out_total", type = "counter", labels = { "reason" },
      help = "Upstream headers that could not be set, once for each client, route and worker." },
    { name = "revocation_answers_total", type = "counter", labels = { "source", "answer" },
      help = "Revocation statuses from OCSP responders and CRLs; rejected: the response cannot be used." },
    { name = "revocation_waits_total", type = "counter", labels = { "outcome" },
      help = "Requests that needed a revocation status that was not known: answered, unknown (the sources have none), "
             .. "late (not within status_wait), down (not waited for, the sources are down), shortage." },
    { name = "crl_time_to_next_update_seconds", type = "gauge", labels = { "file", "issuer" },
      help = "Time until nextUpdate of a CRL of the policy; negative after it." },
    { name = "crl_entries", type = "gauge", labels = { "file", "issuer" },
      help = "Entries of a CRL of the policy." },
    { name = "crl_bytes", type = "gauge", labels = { "file", "issuer" },
      help = "Length of a CRL of the policy." },
    { name = "crl_host_time_to_next_update_seconds", type = "gauge", labels = { "host" },
      help = "Time until nextUpdate of the CRLs that were fetched from a host, the first to end; negative after it." },
    { name = "crl_host_entries", type = "gauge", labels = { "host" },
      help = "Entries of the CRLs that were fetched from a host." },
    { name = "crl_host_bytes", type = "gauge", labels = { "host" },
      help = "Length of the CRLs that were fetched from a host." },
    { name = "revocation_source_failing", type = "gauge", labels = { "kind", "host" },
      help = "1: the last answer of a source of revocation statuses on a host failed or was not usable; 0: none did." },
    { name = "revocation_sources_down", type = "gauge", labels = { "kind" }, zero = { { "ocsp" }, { "crl" } },
      help = "Sources of revocation statuses that are known to be down: the last answer, within a minute, failed." },
    { name = "ca_time_to_expiry_seconds", type = "gauge", labels = { "id", "subject" },
      help = "Time until the end of a CA certificate of the policy; negative after it." },
    { name = "fetch_duration_seconds", type = "histogram", labels = { "kind", "outcome" },
      buckets = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30 },
      help = "Duration of fetches over the network, by outcome: ok, status (not 2xx), timeout, error, "
             .. "shortage (of this machine)." },
    { name = "crl_updates_total", type = "counter", labels = { "outcome" },
      zero = { { "updated" }, { "unchanged" }, { "failed" } },
      help = "Fetches of the CRLs that the policy names by URL." },
    { name = "lease_takeovers_total", type = "counter", labels = {}, zero = { {} },
      help = "Fetches whose worker died or was stuck for 3 seconds, so that another took over." },
    { name = "shortages_total", type = "counter", labels = { "resource" },
      zero = { { "connections" }, { "descriptors" }, { "dictionary" }, { "memory" }, { "ports" }, { "random" },
               { "timers" } },
      help = "Resources that this machine lacked for a fetch or a cached value. Requests that depend on a fetch get "
             .. "503; without room in the dictionary or a timer they are served." },
    { name = "certificate_time_to_expiry_seconds", type = "histogram", labels = { "consumer" },
      buckets = { DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 60 * DAY, 90 * DAY, 180 * DAY, 365 * DAY },
      help = "Remaining lifetime of trusted client certificates in use; each worker observes each once an hour." },
    { name = "policy_reloads_total", type = "counter", labels = { "result" }, zero = { { "ok" }, { "failed" } },
      help = "Reloads of the policy, summed over workers; failed: the previous policy stays in force." },
    { name = "policy_epoch", type = "gauge", labels = { "worker" },
      help = "Number of the worker's policy among all that have been in force on this node." },
    { name = "policy_in_force_epoch", type = "gauge", labels = {},
      help = "Number of the policy in force on this node; a worker with a lower one is behind." },
    { name = "policy_in_force_since_seconds", type = "gauge", labels = { "worker" },
      help = "When the worker's policy was put in force, in seconds since 1970." },
    { name = "policy_reload_failing", type = "gauge", labels = { "worker" },
      help = "1: the last reload of the worker failed, and an earlier policy is in force; 0: it succeeded." },
    { name = "policy_info", type = "gauge", labels = { "worker", "digest" },
      help = "The policy in force in the worker." },
    { name = "fleet_connected", type = "gauge", labels = {},
      help = "1: this node follows the Redis server of its fleet; 0: it cannot, and what it has stays in force." },
    { name = "fleet_last_sync_age_seconds", type = "gauge", labels = {},
      help = "Time since this node last compared its blocks with those in Redis; once a minute." },
    { name = "fleet_errors_total", type = "counter", labels = { "reason" },
      help = "Failures of the fleet: connect, timeout, tls, auth, full, reply, shortage, value, limit, error." },
    { name = "metrics_shared", type = "gauge", labels = {},
      help = "1: these are sums over all workers; 0: they are those of one worker." },
}


-- The counter of each event of the library, and its label values.
local EVENTS = {
    [CONST.EVENT_CLIENT_HELLO] = { "client_hellos_total" },
    [CONST.EVENT_CERTIFICATE_REQUEST] = { "certificate_requests_total" },
    [CONST.EVENT_CERTIFICATE_PRESENTED] = { "certificates_presented_total" },
    [CONST.EVENT_FULL_CONNECTION] = { "connections_total", "full" },
    [CONST.EVENT_RESUMED_CONNECTION] = { "connections_total", "resumed" },
    [CONST.EVENT_DECISION_HIT] = { "cache_lookups_total", "decision", "hit" },
    [CONST.EVENT_DECISION_MISS] = { "cache_lookups_total", "decision", "miss" },
    [CONST.EVENT_CLIENT_HIT] = { "cache_lookups_total", "client", "hit" },
    [CONST.EVENT_CLIENT_MISS] = { "cache_lookups_total", "client", "miss" },
    [CONST.EVENT_VERDICT_HIT] = { "cache_lookups_total", "verdict", "hit" },
    [CONST.EVENT_VERDICT_MISS] = { "cache_lookups_total", "verdict", "miss" },
    [CONST.EVENT_STATUS_HIT] = { "cache_lookups_total", "status", "hit" },
    [CONST.EVENT_STATUS_MISS] = { "cache_lookups_total", "status", "miss" },
    [CONST.EVENT_DENIED_BY_BLOCK] = { "denied_certificates_total", "block" },
    [CONST.EVENT_DENIED_BY_LIST] = { "denied_certificates_total", "deny" },
    [CONST.EVENT_DENIED_UNLISTED] = { "denied_certificates_total", "allow" },
    [CONST.EVENT_TRUSTED_FOR_CLIENTS] = { "trusted_certificates_total", "client" },
    [CONST.EVENT_TRUSTED_FOR_SERVERS] = { "trusted_certificates_total", "server" },
    [CONST.EVENT_TRUSTED_FOR_BOTH] = { "trusted_certificates_total", "both" },
    [CONST.EVENT_TRUSTED_FOR_OTHER] = { "trusted_certificates_total", "other" },
    [CONST.EVENT_TRUSTED_FOR_ANY] = { "trusted_certificates_total", "none" },
    [CONST.EVENT_SPOOL_WRITTEN] = { "certificate_spool_total", "written" },
    [CONST.EVENT_SPOOL_PRESENT] = { "certificate_spool_total", "present" },
    [CONST.EVENT_SPOOL_FULL] = { "certificate_spool_total", "full" },
    [CONST.EVENT_SPOOL_DROPPED] = { "certificate_spool_total", "dropped" },
    [CONST.EVENT_SPOOL_FAILED] = { "certificate_spool_total", "failed" },
}


local by_name = {}
for _, family in ipairs(FAMILIES) do
    by_name[family.name] = family
end


local _M = {
    list = FAMILIES,
    by_name = by_name,
    events = EVENTS,
    SEPARATOR = SEPARATOR,
    INTERNAL = INTERNAL,
}


-- The key of a count or gauge: the name of its family, and the values of its labels in their order.
function _M.key(name, ...)
    local parts = { name, ... }
    for i, part in ipairs(parts) do
        parts[i] = tostring(part):gsub("%c", "?")
    end

    return table.concat(parts, SEPARATOR)
end


return _M
