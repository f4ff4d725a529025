// Drives a headless Chromium (by CDP) or Firefox (by WebDriver BiDi) for tests of the operator's page.
//
//     const page = await open("chromium", directory, { dark: true });
//     await page.goto(url); await page.evaluate("document.title"); await page.key("Tab"); await page.close();

import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";

const LIMIT = 60000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Starts a browser, and waits for the address of its protocol on standard error.
function start(command, args, environment, pattern) {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...environment } });
  return new Promise((resolve, reject) => {
    let log = "";
    const timer = setTimeout(() => reject(new Error(`${command} did not start:\n${log}`)), LIMIT);
    child.stderr.on("data", (data) => {
      log += data;
      const found = log.match(pattern);
      if (found) {
        clearTimeout(timer);
        resolve({ child, address: found[1] });
      }
    });
    child.on("exit", () => reject(new Error(`${command} ended:\n${log}`)));
  });
}

// Waits until a browser that closes has ended: while it writes into its profile, the directory cannot be removed.
async function end(child) {
  const exit = new Promise((resolve) => child.once("exit", resolve));
  if (child.exitCode === null && child.signalCode === null) await Promise.race([exit, sleep(LIMIT / 6)]);
  child.kill("SIGKILL");
}

// JSON messages with ids over a WebSocket.
async function connect(address, onEvent) {
  const socket = new WebSocket(address);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error(`no connection to ${address}`));
  });
  const waiting = new Map();
  let id = 0;
  socket.onmessage = (message) => {
    const answer = JSON.parse(message.data);
    const wait = waiting.get(answer.id);
    if (!wait) {
      onEvent(answer);
    } else if (answer.error) {
      wait.reject(new Error(JSON.stringify(answer)));
    } else {
      wait.resolve(answer.result);
    }
  };
  const send = (method, params, more = {}) => new Promise((resolve, reject) => {
    id += 1;
    waiting.set(id, { resolve, reject });
    setTimeout(() => reject(new Error(`${method}: no answer`)), LIMIT).unref();
    socket.send(JSON.stringify({ id, method, params, ...more }));
  });
  return { send, close: () => socket.close() };
}

// What both have: evaluate() is that of the protocol, and returns JSON.
class Page {
  constructor() {
    this.messages = [];
  }

  async evaluate(expression) {
    const text = await this.run(`Promise.resolve(${expression}).then((value) => JSON.stringify(value) ?? "null")`);
    return JSON.parse(text);
  }

  // Waits until the expression is true.
  async until(expression) {
    for (const end = Date.now() + LIMIT / 2; Date.now() < end; await sleep(50)) {
      if (await this.evaluate(expression)) return;
    }
    throw new Error(`not true in time: ${expression}`);
  }

  async keys(...names) {
    for (const name of names) await this.key(name);
  }

  // Presses Tab until an element that matches the selector has the focus; returns how many times.
  async tabTo(selector) {
    for (let pressed = 0; pressed < 200; pressed++) {
      if (await this.evaluate(`document.activeElement.matches(${JSON.stringify(selector)})`)) return pressed;
      await this.key("Tab");
    }
    throw new Error(`Tab does not reach ${selector}`);
  }
}

const CODES = { Tab: 9, Enter: 13, Escape: 27, Space: 32, End: 35, ArrowDown: 40 };
const TEXTS = { Enter: "\r", Space: " " };

class Chromium extends Page {
  static async open(directory, { dark, width, height }) {
    const page = new Chromium();
    const { child, address } = await start("chromium", ["--headless=new", "--no-sandbox", "--disable-gpu",
      "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
      "--disable-sync", "--remote-debugging-port=0", `--user-data-dir=${directory}/chromium`, "about:blank"],
    { HOME: directory }, /DevTools listening on (\S+)/);
    page.child = child;
    page.connection = await connect(address, (event) => {
      if (event.method === "Runtime.exceptionThrown") {
        page.messages.push(event.params.exceptionDetails.exception?.description ?? event.params.exceptionDetails.text);
      } else if (event.method === "Log.entryAdded") {
        page.messages.push(event.params.entry.text);
      }
    });
    const { targetId } = await page.connection.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await page.connection.send("Target.attachToTarget", { targetId, flatten: true });
    page.sessionId = sessionId;
    for (const domain of ["Page", "Runtime", "Log"]) await page.send(`${domain}.enable`);
    await page.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
    await page.send("Emulation.setEmulatedMedia", { features: [
      { name: "prefers-color-scheme", value: dark ? "dark" : "light" },
      { name: "prefers-reduced-motion", value: "reduce" }] });
    return page;
  }

  send(method, params = {}) {
    return this.connection.send(method, params, { sessionId: this.sessionId });
  }

  async goto(url) {
    await this.send("Page.navigate", { url });
    await this.until(`location.href === ${JSON.stringify(url)} && document.readyState === "complete"`);
  }

  async run(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate",
      { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    return result.value;
  }

  async key(name) {
    const shift = name.startsWith("Shift+");
    const key = shift ? name.slice(6) : name;
    const event = { key: key === "Space" ? " " : key, code: key, windowsVirtualKeyCode: CODES[key],
      modifiers: shift ? 8 : 0, text: TEXTS[key] };
    await this.send("Input.dispatchKeyEvent", { type: TEXTS[key] ? "keyDown" : "rawKeyDown", ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event, text: undefined });
  }

  async type(text) {
    await this.send("Input.insertText", { text });
  }

  async screenshot(file) {
    const { data } = await this.send("Page.captureScreenshot", { captureBeyondViewport: true });
    writeFileSync(file, Buffer.from(data, "base64"));
  }

  // Roles and names as a screen reader gets them: [role, name] of each node that is not ignored.
  async accessible() {
    const { nodes } = await this.send("Accessibility.getFullAXTree");
    return nodes.filter((node) => !node.ignored).map((node) => [node.role?.value, node.name?.value ?? ""]);
  }

  async close() {
    this.child.removeAllListeners("exit");
    await this.connection.send("Browser.close", {}).catch(() => {});
    await end(this.child);
  }
}

const KEYS = { Tab: "\uE004", Enter: "\uE007", Escape: "\uE00C", Space: " ", End: "\uE010", ArrowDown: "\uE015" };
const SHIFT = "\uE008";

class Firefox extends Page {
  static async open(directory, { dark, width, height }) {
    const page = new Firefox();
    const profile = `${directory}/firefox`;
    mkdirSync(profile, { recursive: true });
    const preferences = {
      "layout.css.prefers-color-scheme.content-override": dark ? 0 : 1,
      "ui.prefersReducedMotion": 1,
      "network.captive-portal-service.enabled": false,
      "network.connectivity-service.enabled": false,
      "app.update.auto": false,
      "app.normandy.enabled": false,
      "browser.safebrowsing.update.enabled": false,
      "services.settings.server": "data:,",
      "toolkit.telemetry.enabled": false,
    };
    writeFileSync(`${profile}/user.js`, Object.entries(preferences)
      .map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`).join(""));
    const { child, address } = await start("firefox-esr",
      ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"], { HOME: directory },
      /WebDriver BiDi listening on (\S+)/);
    page.child = child;
    page.connection = await connect(`${address}/session`, (event) => {
      if (event.method === "log.entryAdded" && event.params.level === "error") page.messages.push(event.params.text);
    });
    await page.send("session.new", { capabilities: {} });
    await page.send("session.subscribe", { events: ["log.entryAdded"] });
    // The first tab does not get the focus of a headless window, without which buttons take no keys.
    const { context } = await page.send("browsingContext.create", { type: "tab" });
    page.context = context;
    await page.send("browsingContext.activate", { context });
    await page.send("browsingContext.setViewport", { context: page.context, viewport: { width, height } });
    return page;
  }

  send(method, params) {
    return this.connection.send(method, params);
  }

  async goto(url) {
    await this.send("browsingContext.navigate", { context: this.context, url, wait: "complete" });
  }

  async run(expression) {
    const answer = await this.send("script.evaluate",
      { expression, target: { context: this.context }, awaitPromise: true });
    if (answer.type !== "success") throw new Error(`${expression}: ${answer.exceptionDetails.text}`);
    return answer.result.value;
  }

  act(actions) {
    return this.send("input.performActions",
      { context: this.context, actions: [{ type: "key", id: "keyboard", actions }] });
  }

  async key(name) {
    const shift = name.startsWith("Shift+");
    const value = KEYS[shift ? name.slice(6) : name];
    const press = [{ type: "keyDown", value }, { type: "keyUp", value }];
    await this.act(shift ? [{ type: "keyDown", value: SHIFT }, ...press, { type: "keyUp", value: SHIFT }] : press);
  }

  async type(text) {
    await this.act([...text].flatMap((value) => [{ type: "keyDown", value }, { type: "keyUp", value }]));
  }

  async screenshot(file) {
    const { data } = await this.send("browsingContext.captureScreenshot", { context: this.context, origin: "document" });
    writeFileSync(file, Buffer.from(data, "base64"));
  }

  async close() {
    this.child.removeAllListeners("exit");
    await this.send("browser.close", {}).catch(() => {});
    await end(this.child);
  }
}

// Opens a page in "chromium" or "firefox", with its profile in directory. dark: the colour scheme.
export function open(browser, directory, { dark = false, width = 1100, height = 900 } = {}) {
  return (browser === "chromium" ? Chromium : Firefox).open(directory, { dark, width, height });
}
