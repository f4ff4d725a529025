// Refreshing: tables on demand only, so that nothing moves while it is read. The plot has a fixed place.

let shown = null;
let paused = false;
let timer = 0;

// What a reader would want to know that has changed since.
function signature(status) {
  const failed = (object) => entries(object).filter(([, value]) => value === 1).map(([name]) => name).join();
  return {
    "the policy": JSON.stringify([status.digest, status.epoch, status.last_error,
      failed(status.metrics.policy_reload_failing)]),
    "the warnings": JSON.stringify([status.warnings, status.start_warnings]),
    "blocks": JSON.stringify(status.metrics.blocks),
    "lists": failed(status.metrics.list_reload_failing),
    "revocation sources": JSON.stringify(Object.values(status.revocation_sources || {})
      .map((source) => [source.url, source.state])),
    "the fleet": JSON.stringify(status.fleet && status.fleet.connected),
  };
}

function failed(error) {
  byId("failure").textContent = `No answer from this node: ${visible(error.message)}`;
}

function announce(status) {
  const now_ = signature(status);
  const changed = Object.keys(now_).filter((key) => now_[key] !== shown.signature[key]);
  const text = `The tables are as of ${shown.at}. `
    + (changed.length ? `Changed since: ${changed.join(", ")}. Refresh to see it.`
      : "Nothing important has changed since.");
  // A screen reader reads it whenever it is set.
  if (byId("state").textContent !== text) byId("state").textContent = text;
  byId("failure").textContent = "";
}

async function refresh() {
  try {
    const status = await ask("status");
    addSample(status);
    policyOf(status);
    warningsOf(status);
    decisionTables(status);
    endsOf(status);
    revocationOf(status);
    plot();
    await Promise.all([loadNames(), loadRoutes(), loadBlocks()]);
    shown = { at: new Date().toTimeString().slice(0, 8), signature: signature(status) };
    announce(status);
    document.documentElement.dataset.loaded = String(Number(document.documentElement.dataset.loaded || 0) + 1);
  } catch (error) {
    failed(error);
  }
}

async function tick() {
  try {
    const status = await ask("status");
    addSample(status);
    if (!paused) plot();
    if (shown) announce(status);
  } catch (error) {
    failed(error);
  }
  schedule();
}

function schedule() {
  clearTimeout(timer);
  timer = setTimeout(tick, Number(byId("interval").value) * 1000);
}

byId("refresh").addEventListener("click", refresh);
byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  if (!paused) plot();
});
byId("interval").addEventListener("change", schedule);
byId("plot-route").addEventListener("change", plot);
selectorFields();
refresh().then(schedule);
