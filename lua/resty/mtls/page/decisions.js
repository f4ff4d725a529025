// Decisions: the differences of two samples of the counters

// A decision as the name of a class.
const classOf = (decision) => /^\d/.test(decision) ? `s${decision}` : decision;

// Requests that pass by enforce: report are among those that pass, and counted by route and status once more.
function splitPassed(decisions) {
  const reported = decisions.get("would_refuse");
  if (reported) decisions.set("pass", Math.max(0, (decisions.get("pass") || 0) - reported));
  return decisions;
}

const sumOf = (object) => entries(object).reduce((sum, [, value]) => sum + value, 0);

let samples = [];
let previous = null;

function countersOf(status) {
  const flat = new Map();
  for (const [route, decisions] of entries(status.metrics.requests_total)) {
    for (const [decision, value] of entries(decisions)) flat.set(JSON.stringify([route, decision]), value);
  }
  for (const [route, statuses] of entries(status.metrics.would_refuse_total)) {
    flat.set(JSON.stringify([route, "would_refuse"]), sumOf(statuses));
  }
  for (const [verdict, value] of entries(status.metrics.verdicts_total)) flat.set(JSON.stringify([verdict]), value);
  return { at: performance.now() / 1000, flat, worker: status.metrics.metrics_shared === 1 ? -1 : status.worker };
}

function addSample(status) {
  const next = countersOf(status);
  if (previous && previous.worker === next.worker && next.at - previous.at > 0.2) {
    const sample = { from: previous.at, to: next.at, routes: new Map(), reasons: new Map() };
    for (const [key, value] of next.flat) {
      const before = previous.flat.get(key) || 0;
      // Counters begin again when nginx does.
      const difference = value < before ? value : value - before;
      const [name, decision] = JSON.parse(key);
      if (!difference) continue;
      if (decision === undefined) {
        sample.reasons.set(name, difference);
      } else {
        const of = sample.routes.get(name) || new Map();
        sample.routes.set(name, of.set(decision, difference));
      }
    }
    sample.routes.forEach(splitPassed);
    samples = [...samples, sample].slice(-BARS);
  }
  // Without shared counters each answer may be another worker's: compared is with the same one.
  if (!previous || previous.worker === next.worker || next.at - previous.at > 60) previous = next;
}

// Decisions of a sample, of one route or of all ("*").
function decisionsOf(sample, route) {
  const sum = new Map();
  for (const [name, decisions] of sample.routes) {
    if (route !== "*" && route !== `=${name}`) continue;
    for (const [decision, value] of decisions) sum.set(decision, (sum.get(decision) || 0) + value);
  }
  return sum;
}

const routeName = (name) => name === "" ? "(no route)" : visible(name);

function plot() {
  const select = byId("plot-route");
  const known = new Set([...select.options].map((option) => option.value));
  for (const sample of samples) {
    for (const name of sample.routes.keys()) {
      if (known.has(`=${name}`)) continue;
      known.add(`=${name}`);
      select.append(element("option", { value: `=${name}` }, routeName(name)));
    }
  }

  const bars = samples.map((sample) => {
    const seconds = sample.to - sample.from;
    const rates = new Map([...decisionsOf(sample, select.value)].map(([key, value]) => [key, value / seconds]));
    return { rates, sum: [...rates.values()].reduce((a, b) => a + b, 0) };
  });
  const max = Math.max(0, ...bars.map((bar) => bar.sum));
  const svg = byId("plot");
  svg.querySelectorAll("rect").forEach((rect) => rect.remove());
  const width = 720 / BARS;
  bars.forEach((bar, index) => {
    let top = 200;
    for (const decision of DECISIONS) {
      const height = max ? (bar.rates.get(decision) || 0) / max * 190 : 0;
      if (!height) continue;
      top -= height;
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const shape = { x: (BARS - bars.length + index) * width + 1, y: top, width: width - 2, height };
      for (const [key, value] of Object.entries({ ...shape, class: classOf(decision) })) {
        rect.setAttribute(key, value);
      }
      svg.append(rect);
    }
  });

  const total = new Map();
  for (const sample of samples) {
    for (const [decision, value] of decisionsOf(sample, select.value)) {
      total.set(decision, (total.get(decision) || 0) + value);
    }
  }
  const period = samples.length ? samples[samples.length - 1].to - samples[0].from : 0;
  put("legend", ...DECISIONS.map((decision) => element("li", {},
    element("span", { class: `swatch ${classOf(decision)}` }),
    `${MEANING[decision]}: ${count.format(total.get(decision) || 0)}`)));
  byId("plot-max").textContent = samples.length ? `highest bar: ${max.toFixed(1)} requests/s` : "";
  byId("plot-from").textContent = samples.length ? `${span(period)} ago` : "";
  byId("plot-to").textContent = samples.length ? "now" : "";
  byId("plot-title").textContent = samples.length
    ? `Decisions in the last ${span(period)}: ${DECISIONS.filter((decision) => total.get(decision))
      .map((decision) => `${MEANING[decision]} ${total.get(decision)}`).join(", ") || "none"}`
    : "No samples yet";
}

// The tables of what the plot shows, as it was when the page was refreshed; before the first sample, since the start.
function decisionTables(status) {
  const routes = new Map();
  const reasons = new Map();
  const recent = samples.length > 0;
  if (recent) {
    for (const sample of samples) {
      for (const [name, decisions] of sample.routes) {
        const of = routes.get(name) || new Map();
        for (const [decision, value] of decisions) of.set(decision, (of.get(decision) || 0) + value);
        routes.set(name, of);
      }
      for (const [reason, value] of sample.reasons) reasons.set(reason, (reasons.get(reason) || 0) + value);
    }
  } else {
    for (const [name, decisions] of entries(status.metrics.requests_total)) {
      const of = new Map(entries(decisions));
      const reported = sumOf(entries(status.metrics.would_refuse_total).find(([route]) => route === name)?.[1]);
      if (reported) of.set("would_refuse", reported);
      routes.set(name, splitPassed(of));
    }
    for (const [reason, value] of entries(status.metrics.verdicts_total)) if (value) reasons.set(reason, value);
  }
  const period = recent ? `in the last ${span(samples[samples.length - 1].to - samples[0].from)}`
    : "since the counters began";
  const refused = ([, decisions]) =>
    [...decisions].reduce((sum, [key, value]) => key === "pass" ? sum : sum + value, 0);
  const rows = [...routes].sort((a, b) => refused(b) - refused(a) || (a[0] < b[0] ? -1 : 1));
  put("by-route", table(`By route, ${period}`, [
    ["Route", ([name]) => routeName(name), "foreign"],
    ...DECISIONS.map((decision) =>
      [decision, ([, decisions]) => count.format(decisions.get(decision) || 0), "number"]),
  ], rows, `No decisions ${period}.`));
  put("by-reason", table(`By verdict about the certificate, ${period}`, [
    ["Verdict", ([reason]) => visible(reason), "foreign"],
    ["Requests", ([, value]) => count.format(value), "number"],
  ], [...reasons].sort((a, b) => b[1] - a[1]), `No verdicts ${period}.`));
  byId("decisions-note").textContent = "The plot begins when this page is opened. It continues by itself; the tables "
    + "stay as they are until you refresh.";
}
