// Blocks

const SELECTORS = ["sha256", "spki_sha256", "serial", "issuer_dn"];

function selectorOf(block) {
  return Object.fromEntries(SELECTORS.filter((name) => block[name] !== undefined).map((name) => [name, block[name]]));
}

const selectorText = (block) => entries(selectorOf(block)).map(([name, value]) => `${name} ${visible(value)}`).join(", ");

let toUnblock = null;

async function loadBlocks() {
  const blocks = Object.values((await ask("blocks")).blocks);
  put("block-list", table("Blocks in force on this node", [
    ["Certificates", (row) => selectorText(row), "foreign code"],
    ["Reason", (row) => visible(row.reason || ""), "foreign"],
    ["Added", (row) => time(row.added)],
    ["Until", (row) => row.until ? time(row.until) : "it is unblocked"],
    ["Action", (row) => {
      const button = element("button", { type: "button", "aria-label": `Unblock ${selectorText(row)}` }, "Unblock");
      button.addEventListener("click", () => {
        toUnblock = row;
        byId("unblock-what").textContent = selectorText(row);
        byId("unblock-dialog").showModal();
        byId("unblock-no").focus();
      });
      return button;
    }],
  ], blocks, "No certificate is blocked."));
  // What is shown here has not changed since.
  if (shown) shown.signature.blocks = JSON.stringify(blocks.length);
}

function send(method, body) {
  return ask("blocks", { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

byId("unblock-no").addEventListener("click", () => byId("unblock-dialog").close());
byId("unblock-yes").addEventListener("click", async () => {
  byId("unblock-dialog").close();
  const text = await send("DELETE", selectorOf(toUnblock)).then(() => `Unblocked: ${selectorText(toUnblock)}`,
    (error) => `Not unblocked: ${visible(error.message)}`);
  await loadBlocks().catch(failed);
  byId("block-result").textContent = text;
  // The button that had the focus is gone.
  byId("blocks-heading").focus();
});

function selectorFields() {
  const bySerial = byId("block-kind").value === "serial";
  byId("block-issuer-label").hidden = !bySerial;
  byId("block-issuer").required = bySerial;
  byId("block-value-label").textContent = bySerial ? "Serial number, hexadecimal" : "64 hexadecimal digits";
}

byId("block-kind").addEventListener("change", selectorFields);
byId("block-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const kind = byId("block-kind").value;
  const body = { [kind]: byId("block-value").value.trim() };
  if (kind === "serial") body.issuer_dn = byId("block-issuer").value.trim();
  if (byId("block-seconds").value) body.seconds = Number(byId("block-seconds").value);
  if (byId("block-reason").value) body.reason = byId("block-reason").value;
  const result = byId("block-result");
  try {
    await send("POST", body);
    byId("block-value").value = "";
    byId("block-reason").value = "";
  } catch (error) {
    result.textContent = `Not blocked: ${visible(error.message)}`;
    return;
  }
  await loadBlocks().catch(failed);
  result.textContent = `Blocked: ${selectorText(body)}`;
});
