// Server names and routes, in pages

function pagedList(id, list, title, columns, empty, onLoad) {
  const place = byId(id);
  let from = 0;
  const filter = element("input", { type: "search", maxlength: "255", spellcheck: "false" });
  const form = element("form", { role: "search", "aria-label": title, class: "pager" },
    element("label", {}, "Name contains ", filter), element("button", {}, "Search"));
  const result = element("div");
  const before = element("button", { type: "button" }, "Previous");
  const after = element("button", { type: "button" }, "Next");
  const where = element("span", { role: "status" });
  const load = async () => {
    const query = new URLSearchParams({ list, from, limit: PAGE, filter: filter.value });
    const found = (await ask(`policy?${query}`))[list];
    const items = Object.values(found.items);
    if (!items.length && from > 0) {
      from = 0;
      await load();
      return;
    }
    result.replaceChildren(table(title, columns, items, filter.value ? "No name contains this text." : empty));
    where.textContent = found.matching
      ? `${count.format(from + 1)} to ${count.format(from + items.length)} of ${count.format(found.matching)}`
        + (found.matching === found.total ? "" : ` that match, ${count.format(found.total)} in all`)
      : "";
    before.disabled = from === 0;
    after.disabled = from + items.length >= found.matching;
    form.hidden = found.total <= PAGE;
    pager.hidden = found.matching <= PAGE;
    if (onLoad) onLoad(found);
  };
  const go = (start) => {
    from = Math.max(0, start);
    load().catch(failed);
  };
  before.addEventListener("click", () => go(from - PAGE));
  after.addEventListener("click", () => go(from + PAGE));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(0);
  });
  const pager = element("div", { class: "pager", role: "group", "aria-label": `Pages of: ${title}` },
    before, after, where);
  place.append(form, result, pager);
  return load;
}

const loadNames = pagedList("names-list", "server_names", "Server names", [
  ["Name", (row) => visible(row.name), "foreign code"],
  ["CA names", (row) => row.ca_names_sent
    ? `${count.format(row.ca_names)} sent, ${count.format(row.ca_names_bytes)} bytes`
    : row.ca_names ? word("warn", `not sent: ${count.format(row.ca_names_bytes)} bytes are too many`) : "none sent"],
  ["Resumption", (row) => row.resumption ? "allowed" : "not allowed"],
], "No server name requests a certificate.");

// The plugins with `enforce: report` refuse no request.
function pluginsText(plugins, reportOnly) {
  const reporting = Object.values(reportOnly);
  return Object.values(plugins).map((name) => reporting.includes(name) ? `${name} (report only)` : name).join(", ");
}

const loadRoutes = pagedList("routes-list", "routes", "Routes", [
  ["Route", (row) => visible(row.name), "foreign code"],
  ["Plugins", (row) => pluginsText(row.plugins, row.report_only) || word("none", "none")],
], "The policy has no routes with a name.", (found) => {
  const plugins = pluginsText(found.without_route, found.without_route_report_only);
  byId("without-route").textContent = `Requests without a route: ${plugins || "no plugin"}.`;
});
