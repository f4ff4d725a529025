# prometheus-rules.yaml and grafana-dashboard.json of nginx-conf/: the metrics that they name are those of the module, the
# links of alerts have targets, and each alert fires when it should, by promtool.

use lib 't/lib';
use TestMtls;

our $Promtool = system("command -v promtool >/dev/null 2>&1") == 0;
$Promtool or Test::More::diag("TEST 3 is skipped, promtool is not there: make test-alerts installs it");

$ENV{ROOT} = $TestMtls::Root;

our $Http = "    lua_shared_dict mtls_metrics 1m;\n";

our $Policy = policy("ca-a", route("pay", "a.test", mtls_auth("ca-a")));

our $Config = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
_EOC_

run_blocks();

__DATA__

=== TEST 1: rules and dashboard name metrics and labels of the module alone
--- http_config eval: $::Http
--- policy eval: $::Policy
--- config eval: $::Config
--- client
curl -s "http://127.0.0.1:$HTTP_PORT/mtls/metrics" >metrics
python3 - <<'_PY_'
import os, re
root = os.environ["ROOT"]
kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", open("metrics").read(), re.M))
rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", open(f"{root}/docs/metrics.md").read(), re.M)
labels = {name: set(re.findall(r"`(\w+)`", column)) | {"job", "instance"} for name, column in rows}
for file in "prometheus-rules.yaml", "grafana-dashboard.json":
    text = open(f"{root}/nginx-conf/{file}").read().replace('\\"', '"')
    wrong, used = [], set()
    for name, matchers in re.findall(r"\b(resty_mtls_\w+)(?:\{([^}]*)\})?", text):
        family = re.sub("_(bucket|sum|count)$", "", name) if name not in kinds else name
        if family not in kinds or (family != name) != (kinds[family] == "histogram"):
            wrong.append(name)
            continue
        used.add(family)
        for label in re.findall(r"(\w+)(?:=~|!=|!~|=)", matchers):
            if label not in labels[family] | ({"le"} if family != name else set()):
                wrong.append(f"{name}: {label}")
    print(file, "has" if len(used) > 12 else "lacks", "metrics; wrong:", wrong)
_PY_
--- client_out
prometheus-rules.yaml has metrics; wrong: []
grafana-dashboard.json has metrics; wrong: []
--- no_error_log
[error]
[crit]



=== TEST 2: each alert says what to do in a section that is there, and the dashboard is whole
--- policy eval: $::Policy
--- config
--- client
python3 - <<'_PY_'
import json, os, re
root = os.environ["ROOT"]
rules = open(f"{root}/nginx-conf/prometheus-rules.yaml").read().split("  - alert: ")[1:]
tests = "".join(open(f"{root}/t/metrics/{file}").read() for file in ("alerts.yaml", "alerts-of-days.yaml"))
for rule in rules:
    name = rule.split("\n")[0]
    page, anchor = re.search(r"^      runbook: (docs/[\w-]+\.md)#([\w-]+)$", rule, re.M).groups()
    headings = re.findall(r"^#+ (.*)", open(f"{root}/{page}").read(), re.M)
    anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    missing = [word for word in ("expr", "severity", "summary", "description") if f" {word}:" not in rule.replace("{", " ")]
    if anchor not in anchors or missing or f"- name: {name} fires" not in tests or f"- name: {name} does not fire" not in tests:
        print(name, "is not whole:", anchor in anchors, missing)
print("alerts:", len(rules) > 10)

dashboard = json.load(open(f"{root}/nginx-conf/grafana-dashboard.json"))
panels = dashboard["panels"]
print("ids:", len({panel["id"] for panel in panels}) == len(panels))
taken = set()
for panel in panels:
    grid = panel["gridPos"]
    cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
    if taken & cells or grid["x"] + grid["w"] > 24:
        print("overlaps:", panel["title"])
    taken |= cells
    if panel["type"] != "row" and not all(target["expr"] and target["refId"] for target in panel["targets"]):
        print("no query:", panel["title"])
print("foreign data source:", [panel["title"] for panel in panels if panel["type"] != "row"
                               and panel["datasource"]["uid"] != "${datasource}"])
# Grafana's schema requires showLegend and calcs.
legends = [panel["options"]["legend"] for panel in panels if panel["type"] == "timeseries"]
print("legends:", all(legend["showLegend"] is True and legend["calcs"] == [] for legend in legends))
# Every alert's metric is on the dashboard.
text = json.dumps(panels)
alerted = set(re.findall(r"resty_mtls_\w+", "".join(rules)))
print("not on the dashboard:", sorted(name for name in alerted if name not in text))
_PY_
--- client_out
alerts: True
ids: True
foreign data source: []
legends: True
not on the dashboard: ['resty_mtls_metrics_shared', 'resty_mtls_policy_in_force_epoch']



=== TEST 3: promtool reads the rules, and each alert fires when it should and not otherwise
--- skip_eval: 2: !$::Promtool
--- policy eval: $::Policy
--- config
--- client
promtool check rules "$ROOT/nginx-conf/prometheus-rules.yaml" >out 2>&1 && grep -c SUCCESS out || cat out
promtool test rules "$ROOT/t/metrics/alerts.yaml" "$ROOT/t/metrics/alerts-of-days.yaml" >out 2>&1 && grep -c SUCCESS out || cat out
# The queries of the dashboard, as rules, with a value for each variable
python3 - <<'_PY_'
import json, os
dashboard = json.load(open(os.environ["ROOT"] + "/nginx-conf/grafana-dashboard.json"))
queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
queries += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
for name, value in ("$__rate_interval", "5m"), ("$job", ".*"), ("$instance", ".*"), ("$route", ".*"):
    queries = [query.replace(name, value) for query in queries]
rules = [{"record": f"query:{index}", "expr": query} for index, query in enumerate(queries)]
json.dump({"groups": [{"name": "queries", "rules": rules}]}, open("queries.yaml", "w"))
print(len(queries) > 20, [query for query in queries if "$" in query])
_PY_
promtool check rules queries.yaml >out 2>&1 && grep -c SUCCESS out || cat out
--- client_out
1
2
True []
1
