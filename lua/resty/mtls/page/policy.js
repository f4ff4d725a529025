// The policy

function policyOf(status) {
  const facts = byId("policy-facts");
  facts.replaceChildren();
  const fact = (name, ...value) => facts.append(element("dt", {}, name), element("dd", {}, ...value));
  byId("node").textContent = `of ${location.host}, module ${visible(status.version)}`;
  if (!status.digest) fact("Policy", "none is in force in this worker");
  if (status.digest) {
    fact("Epoch", count.format(status.epoch));
    fact("Since", time(status.since));
    fact("Digest", foreign(status.digest, "code"));
    fact("Content", `${plural(status.counts.routes, "route")}; `
      + `${plural(status.counts.server_names, "server name")} that request a certificate, by `
      + plural(status.counts.certificate_requests, "certificate request"));
  }
  if (status.last_error) {
    const lines = element("span", { class: "lines foreign" }, visibleLines(status.last_error));
    fact("Last reload", word("bad", "failed: "), lines);
  }
  if (status.metrics.metrics_shared !== 1) {
    fact("Numbers", word("warn", "of the worker that answers alone: there is no lua_shared_dict mtls_metrics"));
  }

  const digests = new Map();
  for (const [worker, of] of entries(status.metrics.policy_info)) digests.set(worker, Object.keys(of).join(", "));
  const node = status.node || { workers: [], epoch: status.epoch };
  const workers = Object.values(node.workers || []);
  put("workers", table("Workers", [
    ["Worker", (row) => String(row.worker)],
    ["Process", (row) => String(row.pid)],
    ["Epoch", (row) => count.format(row.epoch), "number"],
    ["State", (row) => row.failed ? word("bad", "last reload failed")
      : row.epoch < node.epoch ? word("bad", "behind the policy in force") : word("good", "in force")],
    ["Since", (row) => time(row.since)],
    ["Digest", (row) => digests.get(String(row.worker)) || "not reported yet", "foreign code"],
  ], workers, "The workers do not share their state."));

  const fleet = status.fleet;
  put("fleet");
  if (fleet) {
    put("fleet", table("Fleet", [
      ["Connection", () => fleet.connected ? word("good", "connected") : word("bad", "not connected")],
      ["Last comparison", () => time(fleet.last_sync)],
      ["Blocks", () => String(fleet.blocks ?? ""), "number"],
      ["Error", () => foreign(fleet.error || "none")],
    ], [fleet]));
  }
}

// Of many warnings of a kind the node keeps the first few, and a line with the number of the others.
const MORE = /^(?:.*: warning: )?(\d+) more [^']*$/;

function warningsOf(status) {
  const list = (heading, all) => {
    const lines = all.filter((line) => !MORE.test(line));
    const more = all.filter((line) => MORE.test(line));
    const total = more.reduce((sum, line) => sum + Number(MORE.exec(line)[1]), lines.length);
    const number = more.length ? `${count.format(lines.length)} of ${count.format(total)}` : count.format(total);
    return element("div", {}, element("h3", {}, `${heading} (${number})`),
      element("div", { class: "scroll low", tabindex: "0", role: "region", "aria-label": heading },
        element("ul", { class: "lines" }, ...lines.map((line) => element("li", { class: "foreign" }, visible(line))))),
      ...more.map((line) => element("p", { class: "warn foreign" }, visible(line.replace(/^.*: warning: /, "")))));
  };
  const warnings = Object.values(status.warnings || {});
  const start = Object.values(status.start_warnings || {});
  const lists = [];
  if (warnings.length) lists.push(list("About the policy", warnings));
  if (start.length) lists.push(list("About nginx.conf, at the start", start));
  put("warning-lists", ...(lists.length ? lists : [none("No warnings.")]));
}
