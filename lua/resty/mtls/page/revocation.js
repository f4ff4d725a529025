// Certificates, lists, revocation

function endsOf(status) {
  put("client-ends", table("Client certificates in use, by consumer", [
    ["Consumer", (row) => row.consumer === "" ? "(no consumer)" : visible(row.consumer), "foreign"],
    ["The first to end", (row) => end(row.not_after)],
  ], Object.values(status.certificates || {}), "No trusted certificate was used in the last two hours."));
  const cas = [];
  for (const [id, subjects] of entries(status.metrics.ca_time_to_expiry_seconds)) {
    for (const [subject, left] of entries(subjects)) cas.push({ id, subject, ends: now() + left });
  }
  cas.sort((a, b) => a.ends - b.ends);
  put("ca-ends", table("CA certificates of the policy", [
    ["Subject", (row) => visible(row.subject), "foreign"],
    ["Id", (row) => visible(row.id), "foreign code"],
    ["End", (row) => end(row.ends)],
  ], cas, "The policy has no CA certificates."));
}

function revocationOf(status) {
  const lists = Object.values(status.lists || {});
  lists.sort((a, b) => Boolean(b.error) - Boolean(a.error) || (a.file < b.file ? -1 : 1));
  put("lists", table("Lists of certificates", [
    ["File", (row) => visible(row.file), "foreign code"],
    ["Entries", (row) => count.format(row.entries), "number"],
    ["Modified", (row) => row.modified ? time(row.modified) : "unknown"],
    ["State", (row) => row.error
      ? element("span", {}, word("bad", "an earlier list is in force: "), foreign(row.error)) : word("good", "in force")],
  ], lists, "The policy has no lists."));
  put("crls", table("CRLs of the policy", [
    ["File or URL", (row) => visible(row.file), "foreign code"],
    ["Issuer", (row) => visible(row.issuer), "foreign"],
    ["Made", (row) => time(row.this_update)],
    ["Next update", (row) => end(row.next_update)],
    ["Entries", (row) => count.format(row.entries), "number"],
    ["Bytes", (row) => count.format(row.bytes), "number"],
  ], Object.values(status.crls || {}), "The policy has no CRLs, or none is loaded."));
  put("sources", table("Sources of revocation statuses", [
    ["URL", (row) => visible(row.url), "foreign code"],
    ["Kind", (row) => visible(row.kind)],
    ["State", (row) => row.state === "down"
      ? element("span", {}, word("bad", "down"), ": ", foreign(row.error || "no answer"))
      : word(row.state === "up" ? "good" : "none", visible(row.state))],
    ["Last answer", (row) => time(row.answered_at)],
    ["Last failure", (row) => time(row.failed_at)],
    ["Next update", (row) => row.next_update ? end(row.next_update) : ""],
  ], Object.values(status.revocation_sources || {}), "No source was asked."));
}
