# The page of mtls-status.conf in Chromium and Firefox: what it shows of a policy, of none and of a large one, by mouse
# and keyboard, with names that are HTML. `make test-browser` installs the browsers; the screenshots are in target/page.

use lib 't/lib';
use TestMtls;

sub found ($) {
    my ($command) = @_;

    return system("command -v $command >/dev/null 2>&1") == 0;
}

our $Chromium = found "chromium";
our $Firefox = found "firefox-esr";

plan(skip_all => "make test-browser runs it") if !$ENV{TEST_BROWSER};
plan(skip_all => "neither chromium nor firefox-esr is installed: make test-browser") if !$Chromium && !$Firefox;
plan(skip_all => "no node with WebSocket (22 or later)") if system("node -e 'process.exit(typeof WebSocket === \"function\" ? 0 : 1)'") != 0;

# mtls-http.conf reads the policy of this variable.
$ENV{RESTY_MTLS_POLICY} = html_dir() . "/policy.yaml";
$ENV{TEST_NGINX_STATUS_PORT} = free_port();
$ENV{STATUS_PORT} = $ENV{TEST_NGINX_STATUS_PORT};
$ENV{DRIVER} = "$TestMtls::Root/t/clients/browser.mjs";
$ENV{SHOTS} = "$TestMtls::Root/target/page";

# More routes with a warning than a gateway keeps
our $Reporting = "  - {name: mtls-auth, config: {ca_certificates: [\@ca-a], send_ca_dn: true, revocation_check_mode: SKIP, enforce: report}}\n";
$Reporting = join "", map { "- name: $_\n  snis: [r.test]\n  plugins:\n$Reporting" } "rollout", map { "report-$_" } 10 .. 20;

our $Policy = ">>> policy.yaml\n" . expand_policy(<<'_EOC_' =~ s/^REPORTING\n/$Reporting/mr) . ">>> deny.list\nserial 01 CN=x\n";
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: client-a
- username: "<img src=x onerror=window.hacked=1>"
routes:
- name: payments
  snis: [a.test, "*.b.test"]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], send_ca_dn: true, revocation_check_mode: SKIP}}
  - {name: client-cert-lists, config: {deny: [deny.list]}}
- name: "<script>window.hacked=1</script>"
  snis: [c.test]
REPORTING
plugins:
- {name: client-cert-headers, config: {dialects: [rfc9440]}}
- {name: "ai-<b>proxy</b>"}
_EOC_

our $Empty = ">>> policy.yaml\n_format_version: \"3.0\"\n";

our $Huge = ">>> policy.yaml\n" . qq(_format_version: "3.0"\nroutes:\n)
    . join("", map { sprintf "- {name: route-%05d-%s, snis: [n%05d.test]}\n", $_, "x" x ($_ % 60), $_ } 0 .. 9999)
    . "plugins:\n- {name: tls-handshake-modifier}\n" . join("", map { "- {name: ai-number-$_}\n" } 1 .. 130);

our $Http = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-http.conf;
    server {
        listen 127.0.0.1:$TEST_NGINX_STATUS_PORT;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-status.conf;
    }
_EOC_

our $Config = <<'_EOC_';
    include $TEST_NGINX_ROOT/nginx-conf/mtls-server.conf;
    location /payments {
        set $mtls_route payments;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /rollout {
        set $mtls_route rollout;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_

our $Plain = <<'_EOC_';
    location /none { return 200 "in\n"; }
_EOC_

our $Client = <<'_EOC_';
mkdir -p "$SHOTS"
# hostile: makes a certificate of CA a whose name is HTML
hostile() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=<img src=x onerror=window.hacked=1>' \
        -keyout hostile.key -out hostile.csr
    openssl x509 -req -in hostile.csr -CA "$PKI/ca-a.crt" -CAkey "$PKI/ca-a.key" -set_serial 7 -days 3 -out hostile.crt
} 2>/dev/null
# check BROWSER SCRIPT: runs a script with `page`, `print` and `shot` in the browser
check() {
    cat >check.mjs <<_JS_
import { open } from "$DRIVER";
import { execFileSync } from "node:child_process";
const [browser, url, shots] = process.argv.slice(2);
const print = (...values) => console.log(values.map((value) => typeof value === "string" ? value : JSON.stringify(value)).join(" "));
const run = (...command) => execFileSync(command[0], command.slice(1), { encoding: "utf8" });
const text = (id) => page.evaluate(\`document.getElementById("\${id}").textContent\`);
const cells = (id) => page.evaluate(\`[...document.querySelectorAll("#\${id} tbody tr")].map((row) =>
  [...row.cells].map((cell) => cell.textContent))\`);
const loaded = (times) => page.until(\`Number(document.documentElement.dataset.loaded) >= \${times}\`);
let page;
try {
  page = await open(browser, process.cwd(), { dark: globalThis.process.env.DARK === "1", width: Number(process.env.WIDTH || 1100) });
  await page.goto(url);
  await loaded(1);
$(cat)
  print("errors", page.messages.filter((message) => !/status of 400/.test(message)));
} finally {
  if (page) await page.close();
}
process.exit();
_JS_
    timeout 120 node check.mjs "$1" "http://127.0.0.1:$STATUS_PORT/mtls/" "$SHOTS"
}
_EOC_

our $Full = <<'_EOC_';
hostile
payments() { get a.test/payments "$@" -o /dev/null; }
payments $(as client-a)
payments --cert hostile.crt --key hostile.key
payments
rollout() { get r.test/rollout "$@" -o /dev/null; }
rollout $(as client-a)
for _ in 1 2 3; do rollout; done
curl -s "http://127.0.0.1:$STATUS_PORT/mtls/blocks" -H 'Content-Type: application/json' \
    -d '{"serial": "0a", "issuer_dn": "CN=</script><script>window.hacked=1</script>", "reason": "<b onmouseover=window.hacked=1>lost</b>"}'
check BROWSER <<'_JS_'
  print("title", await page.evaluate("document.title"));
  print("workers", (await cells("workers")).map((row) => [row[0], row[3], row[5].length]));
  const warnings = await page.evaluate("[...document.querySelectorAll('#warning-lists > div:first-child li')].map((item) => item.textContent.replace(/^.*: warning: /, ''))");
  print("warnings", warnings.length, warnings.filter((text) => /requests that mtls-auth would refuse pass/.test(text)).length, warnings.at(-1));
  print("more warnings", await page.evaluate("[...document.querySelectorAll('#warning-lists h3, #warning-lists > div > p')].map((item) => item.textContent)"));
  print("names", await cells("names-list"));
  print("routes", (await cells("routes-list")).slice(0, 3));
  print(await text("without-route"));
  print("lists", (await cells("lists")).map((row) => [row[0].replace(/.*\//, ""), row[1], /ago/.test(row[2]), row[3]]));
  print("ends", (await cells("client-ends")).map((row) => [row[0], row[1].replace(/[0-9-]+ [0-9:]+ UTC.*/, "TIME")]));
  print("blocks", (await cells("block-list")).map((row) => [row[0], row[1], row[3]]));
  print("decisions before the first sample", await cells("by-route"));
  await page.screenshot(`${shots}/${browser}-full.png`);

  // Tables stay as they are; the plot goes on, and the line above says what has changed.
  await page.evaluate("document.getElementById('interval').value = '1', document.getElementById('interval').dispatchEvent(new Event('change'))");
  await page.evaluate("void (window.old = document.querySelector('#workers table'))");
  run("curl", "-sk", "--connect-to", `::127.0.0.1:${process.env.PORT}`, "https://a.test/payments", "-o", "/dev/null");
  for (const _ of [1, 2]) run("curl", "-sk", "--connect-to", `::127.0.0.1:${process.env.PORT}`, "https://r.test/rollout", "-o", "/dev/null");
  run("curl", "-s", `${url}blocks`, "-H", "Content-Type: application/json", "-d", JSON.stringify({ sha256: "00".repeat(32) }));
  await page.until("document.querySelectorAll('#plot rect').length > 0");
  await page.until("/Changed since: blocks/.test(document.getElementById('state').textContent)");
  print("plot", await page.evaluate("[...document.querySelectorAll('#plot rect')].map((rect) => rect.getAttribute('class'))"),
    (await text("plot-title")).replace(/last \d+ \w+/, "last T"));
  print("table kept", await page.evaluate("document.querySelector('#workers table') === window.old"), (await cells("block-list")).length);
  await page.evaluate("document.getElementById('refresh').click()");
  await loaded(2);
  print("after refresh", (await cells("block-list")).length, await cells("by-route"), (await text("state")).includes("Changed"));

  // By keyboard alone: to the form, block, unblock
  await page.evaluate("document.activeElement.blur(), window.scrollTo(0, 0)");
  await page.tabTo("#block-kind");
  await page.key("Tab");
  await page.type("ab".repeat(32));
  await page.keys("Tab", "Tab");
  await page.type("key lost");
  await page.key("Enter");
  await page.until("/^(Not b|B)locked/.test(document.getElementById('block-result').textContent)");
  print(await text("block-result"), (await cells("block-list")).length);
  await page.type("again");
  await page.evaluate("document.getElementById('block-value').value = 'xy'");
  await page.key("Enter");
  await page.until("/^Not blocked/.test(document.getElementById('block-result').textContent)");
  print(await text("block-result"));
  await page.evaluate(`document.querySelector("[aria-label^='Unblock sha256 abab']").focus()`);
  await page.key("Enter");
  await page.until("document.getElementById('unblock-dialog').open");
  print("dialog", await page.evaluate("document.getElementById('unblock-dialog').open"), await page.evaluate("document.activeElement.id"), await text("unblock-what"));
  await page.screenshot(`${shots}/${browser}-dialog.png`);
  await page.key("Escape");
  await page.until("!document.getElementById('unblock-dialog').open");
  print("closed", await page.evaluate("document.getElementById('unblock-dialog').open"), await page.evaluate("document.activeElement.textContent"), (await cells("block-list")).length);
  await page.key("Enter");
  await page.until("document.getElementById('unblock-dialog').open");
  await page.keys("Tab", "Enter");
  await page.until("/nblocked:/.test(document.getElementById('block-result').textContent)");
  await page.until("document.activeElement.id === 'blocks-heading'");
  print(await text("block-result"), (await cells("block-list")).length, await page.evaluate("document.activeElement.id"));

  print("hacked", await page.evaluate("window.hacked ?? null"), await page.evaluate("document.querySelectorAll('main img, main b, main script, td script').length"));
  print("unnamed", await page.evaluate(`[...document.querySelectorAll("button, input, select, [role=region]")].filter((item) =>
    !item.getAttribute("aria-label") && !item.textContent.trim() && !(item.labels && item.labels.length)).map((item) => item.outerHTML)`));
  print("headers of tables", await page.evaluate(`[...document.querySelectorAll("table")].every((table) => table.caption
    && [...table.tHead.rows[0].cells].every((cell) => cell.scope === "col") && [...table.tBodies[0].rows].every((row) => row.cells[0].scope === "row"))`));
  print("animations", await page.evaluate("document.getAnimations().length"),
    await page.evaluate("[...document.querySelectorAll('*')].filter((item) => !/^0s(, 0s)*$/.test(getComputedStyle(item).transitionDuration) || getComputedStyle(item).animationName !== 'none').length"));
  print("wider than the window", await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"));
  if (page.accessible) {
    const roles = ["button", "combobox", "textbox", "searchbox", "region", "navigation", "image", "status", "alert", "form"];
    const names = (await page.accessible()).filter(([role]) => roles.includes(role));
    print("controls without an accessible name", names.filter(([role, name]) => !name && !["status", "alert"].includes(role)));
    print("image", names.find(([role]) => role === "image")?.[1].replace(/last \d+ \w+/, "last T"));
  }
_JS_
_EOC_

our $FullOut = <<'_EOC_';
{"blocked":true}
title Client certificates
workers [["0","in force",64]]
warnings 11 10 plugins[1].name: the plugin 'ai-<b>proxy</b>' has no effect in resty-mtls
more warnings ["About the policy (11 of 13)","2 more plugins that do not refuse; resty-mtls check lists up to 1,000","About nginx.conf, at the start (1)"]
names [["*.b.test","1 sent, 59 bytes","allowed"],["a.test","1 sent, 59 bytes","allowed"],["r.test","1 sent, 59 bytes","allowed"]]
routes [["payments","mtls-auth, client-cert-headers, client-cert-lists"],["<script>window.hacked=1</script>","client-cert-headers"],["rollout","mtls-auth (report only), client-cert-headers"]]
Requests without a route: client-cert-headers.
lists [["deny.list","1",true,"in force"]]
ends [["<img src=x onerror=window.hacked=1>","soon: TIME"],["client-a","TIME"]]
blocks [["serial 0a, issuer_dn CN=</script><script>window.hacked=1</script>","<b onmouseover=window.hacked=1>lost</b>","it is unblocked"]]
decisions before the first sample [["rollout","1","3","0","0","0","0","0"],["payments","2","0","1","0","0","0","0"]]
plot ["would_refuse","s401"] Decisions in the last T: let in by enforce: report 2, 401, no or no trusted certificate 1
table kept true 1
after refresh 2 [["rollout","0","2","0","0","0","0","0"],["payments","0","0","1","0","0","0","0"]] false
Blocked: sha256 abababababababababababababababababababababababababababababababab 3
Not blocked: 'xy' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without colons
dialog true unblock-no sha256 abababababababababababababababababababababababababababababababab
closed false Unblock 3
Unblocked: sha256 abababababababababababababababababababababababababababababababab 2 blocks-heading
hacked null 0
unnamed []
headers of tables true
animations 0 0
wider than the window false
errors []
_EOC_

our $Names = <<'_EOC_';
controls without an accessible name []
image Decisions in the last T: let in by enforce: report 2, 401, no or no trusted certificate 1
_EOC_

our $EmptyScript = <<'_EOC_';
export DARK=1 WIDTH=390
check BROWSER <<'_JS_'
  print(await page.evaluate("[...document.querySelectorAll('main .none')].map((item) => item.textContent)"));
  print("forms", await page.evaluate("[...document.querySelectorAll('form:not([hidden])')].map((item) => item.id)"));
  print("dark", await page.evaluate("getComputedStyle(document.body).backgroundColor"));
  print("wider than the window", await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"));
  await page.screenshot(`${shots}/${browser}-empty.png`);
  // A node that does not answer
  await page.evaluate("document.getElementById('interval').value = '1', document.getElementById('interval').dispatchEvent(new Event('change'))");
  run("sh", "-c", "kill $(cat \"$PID_FILE\"); while kill -0 $(cat \"$PID_FILE\" 2>/dev/null) 2>/dev/null; do sleep 0.1; done");
  await page.until("document.getElementById('failure').textContent !== ''");
  print((await text("failure")).replace(/:.*/, ""));
  page.messages = [];
_JS_
_EOC_

our $EmptyOut = <<'_EOC_';
["No warnings.","No decisions since the counters began.","No verdicts since the counters began.","No server name requests a certificate.","The policy has no routes with a name.","No trusted certificate was used in the last two hours.","The policy has no CA certificates.","The policy has no lists.","The policy has no CRLs, or none is loaded.","No source was asked.","No certificate is blocked."]
forms ["block-form"]
dark rgb(20, 23, 26)
wider than the window false
No answer from this node
errors []
_EOC_

our $HugeScript = <<'_EOC_';
check BROWSER <<'_JS_'
  const range = (id) => page.evaluate(`document.querySelector("#${id} .pager [role=status]").textContent`);
  const click = (id, name) => page.evaluate(`[...document.querySelectorAll("#${id} button")].find((item) => item.textContent.startsWith("${name}")).click()`);
  print((await cells("routes-list")).length, await range("routes-list"), (await cells("names-list")).length, await range("names-list"));
  await click("routes-list", "Next");
  await page.until("/^51/.test(document.querySelector('#routes-list .pager [role=status]').textContent)");
  print((await cells("routes-list"))[0][0].slice(0, 11), await range("routes-list"));
  await page.evaluate("document.querySelector('#names-list input').focus()");
  await page.type("n0123");
  await page.key("Enter");
  await page.until("/match/.test(document.querySelector('#names-list .pager [role=status]').textContent)");
  print((await cells("names-list")).length, await range("names-list"));
  print(await page.evaluate("document.querySelectorAll('#warning-lists li').length"), await page.evaluate("document.querySelector('#warning-lists > div > p').textContent"));
  print("rows", await page.evaluate("document.querySelectorAll('tr').length < 300"));
  print("wider than the window", await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"));
  await page.screenshot(`${shots}/${browser}-huge.png`);
_JS_
_EOC_

our $HugeOut = <<'_EOC_';
50 1 to 50 of 10,000 50 1 to 50 of 10,001
route-00050 51 to 100 of 10,000
10 1 to 10 of 10 that match, 10,001 in all
100 30 more warnings: resty-mtls check lists them
rows true
wider than the window false
errors []
_EOC_

no_long_string();
run_blocks();

__DATA__

=== TEST 1: the page of a policy, with names that are HTML, in Chromium
--- skip_eval: 4: !$::Chromium
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval: $::Client . $::Full =~ s/BROWSER/chromium/r
--- client_out eval: $::FullOut =~ s/(?=errors)/$::Names/r
--- no_error_log
[crit]
[alert]
--- timeout: 150



=== TEST 2: the page of an empty policy, dark and narrow, and of a node that stops, in Chromium
--- skip_eval: 4: !$::Chromium
--- user_files eval: $::Empty
--- http_config eval: $::Http
--- config eval: $::Plain
--- client eval: $::Client . $::EmptyScript =~ s/BROWSER/chromium/r
--- client_out eval: $::EmptyOut
--- no_error_log
[crit]
[alert]
--- timeout: 150



=== TEST 3: the page of a policy of 10,000 routes, in Chromium
--- skip_eval: 4: !$::Chromium
--- user_files eval: $::Huge
--- http_config eval: $::Http
--- config eval: $::Plain
--- client eval: $::Client . $::HugeScript =~ s/BROWSER/chromium/r
--- client_out eval: $::HugeOut
--- no_error_log
[crit]
[alert]
--- timeout: 150



=== TEST 4: the page of a policy, with names that are HTML, in Firefox
--- skip_eval: 4: !$::Firefox
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval: $::Client . $::Full =~ s/BROWSER/firefox/r
--- client_out eval: $::FullOut
--- no_error_log
[crit]
[alert]
--- timeout: 150



=== TEST 5: the page of an empty policy, dark and narrow, and of a node that stops, in Firefox
--- skip_eval: 4: !$::Firefox
--- user_files eval: $::Empty
--- http_config eval: $::Http
--- config eval: $::Plain
--- client eval: $::Client . $::EmptyScript =~ s/BROWSER/firefox/r
--- client_out eval: $::EmptyOut
--- no_error_log
[crit]
[alert]
--- timeout: 150



=== TEST 6: the page of a policy of 10,000 routes, in Firefox
--- skip_eval: 4: !$::Firefox
--- user_files eval: $::Huge
--- http_config eval: $::Http
--- config eval: $::Plain
--- client eval: $::Client . $::HugeScript =~ s/BROWSER/firefox/r
--- client_out eval: $::HugeOut
--- no_error_log
[crit]
[alert]
--- timeout: 150
