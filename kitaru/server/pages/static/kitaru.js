// The pages work without this. It adds live changes, the viewer's time zone, lists in forms, keys.

const policy = window.trustedTypes
  ? trustedTypes.createPolicy("kitaru", { createHTML: (text) => text })
  : { createHTML: (text) => text };

// Times: the server writes UTC.
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const utc = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", timeZone: "UTC" });
const hours = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const localClock = new Intl.DateTimeFormat(undefined, hours);
const utcClock = new Intl.DateTimeFormat(undefined, { ...hours, timeZone: "UTC" });
let inUtc = sessionStorage.getItem("utc") === "1";

function age(moment) {
  const seconds = (Date.now() - moment) / 1000;
  if (seconds >= 2 * 86400) return `${Math.floor(seconds / 86400)} d`;
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)} h`;
  if (seconds >= 60) return `${Math.floor(seconds / 60)} min`;
  return "now";
}

function showTimes() {
  for (const one of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(one.dateTime);
    const shown = inUtc ? `${utc.format(moment)} UTC` : full.format(moment);
    one.title = shown;
    if (!one.dataset.clock) one.textContent = "age" in one.dataset ? age(moment) : shown;
  }
  for (const one of document.querySelectorAll("[data-clock]")) {
    const clock = inUtc ? utcClock : localClock;
    one.textContent = clock.format(new Date(one.dataset.clock));
  }
}

// Live: read the page again, and exchange the parts that are marked with `data-live`.
const state = document.querySelector(".live");
let reading = false;
let again = false;

function showState(name) {
  if (!state) return;
  state.dataset.state = name;
  state.textContent = name === "lost" ? "not live, tries again" : name === "ended" ? "ended" : "live";
}

async function refresh() {
  if (reading) {
    again = true;
    return;
  }
  reading = true;
  try {
    const response = await fetch(location.href, { headers: { accept: "text/html" } });
    if (response.redirected) location.reload();
    if (!response.ok) throw new Error(response.status);
    const page = new DOMParser().parseFromString(policy.createHTML(await response.text()), "text/html");
    for (const old of document.querySelectorAll("[data-live][id]")) {
      const fresh = page.getElementById(old.id);
      // What a person uses right now stays as it is.
      if (!fresh || fresh.outerHTML === old.dataset.shown || old.contains(focused())) continue;
      const opened = [...old.querySelectorAll("details")].map((one) => one.open);
      const places = [...old.querySelectorAll("[tabindex]")].map((one) => one.scrollTop);
      const checked = new Set([...old.querySelectorAll("input[name=exec_id]:checked")].map((one) => one.value));
      const top = old.scrollTop;
      fresh.dataset.shown = fresh.outerHTML;
      old.replaceWith(fresh);
      fresh.scrollTop = top;
      fresh.querySelectorAll("input[name=exec_id]").forEach((one) => (one.checked = checked.has(one.value)));
      fresh.querySelectorAll("details").forEach((one, i) => i in opened && (one.open = opened[i]));
      fresh.querySelectorAll("[tabindex]").forEach((one, i) => i in places && (one.scrollTop = places[i]));
    }
    showTimes();
    showSelected();
    showState("live");
  } catch {
    showState("lost");
  } finally {
    reading = false;
    if (again) {
      again = false;
      setTimeout(refresh, 500);
    }
  }
}

function focused() {
  const one = document.activeElement;
  return one && one.matches("input, textarea, select, button, summary") ? one : null;
}

function follow() {
  if (!state) return;
  const source = state.dataset.events;
  if (source) {
    // Other tabs of this browser share the six connections that it opens to one host.
    let stream = null;
    const open = () => {
      if (stream || document.hidden) return;
      stream = new EventSource(source);
      stream.onopen = () => showState("live");
      stream.onerror = () => showState("lost");
      for (const name of ["execution", "invocation", "reset"]) stream.addEventListener(name, refresh);
      stream.addEventListener("end", async () => {
        stream.close();
        await refresh();
        if (document.querySelector("[data-over]")) return showState("ended");
        // A failed execution may be retried.
        stream = null;
        setTimeout(open, 3000);
      });
    };
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) return open();
      if (stream) stream.close();
      stream = null;
    });
    open();
  } else if ("poll" in state.dataset) {
    showState("live");
    setInterval(() => document.hidden || refresh(), 3000);
  }
}

// Forms: add and remove items of lists without the server, keep drafts, name the answer to send.
let added = 0;

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  const form = button && button.closest("form");
  if (!form || !["add", "remove"].includes(button.name)) return;
  event.preventDefault();
  if (button.name === "remove") {
    const list = button.closest("[data-items]");
    button.closest("[data-item]").remove();
    list.parentElement.querySelector(":scope > button[name=add]").focus();
  } else {
    const list = [...form.querySelectorAll("[data-items]")].find((one) => one.dataset.items === button.value);
    const template = list.parentElement.querySelector(":scope > template");
    const fresh = renamed(template, `j${Date.now().toString(36)}${added++}`);
    list.append(fresh);
    const first = list.lastElementChild.querySelector("input:not([type=hidden]), textarea, select");
    if (first) first.focus();
  }
  form.dispatchEvent(new Event("input", { bubbles: true }));
});

// The names of a new item contain the template's placeholder as one part: v.1.new0.2
function renamed(template, id) {
  const content = template.content.cloneNode(true);
  const placeholder = template.dataset.new;
  const change = (root) => {
    for (const one of root.querySelectorAll("*")) {
      for (const attribute of [...one.attributes]) {
        const parts = attribute.value.split(/([.#?\s-])/);
        if (parts.includes(placeholder)) {
          one.setAttribute(attribute.name, parts.map((p) => (p === placeholder ? id : p)).join(""));
        }
      }
      if (one instanceof HTMLTemplateElement) change(one.content);
    }
  };
  change(content);
  return content;
}

const answer = document.getElementById("answer");

function describeAnswer() {
  const chosen = answer.querySelectorAll("#controls fieldset input[type=radio]:checked");
  const groups = new Set([...answer.querySelectorAll("#controls input[type=radio]")].map((one) => one.name));
  const send = document.getElementById("send");
  // A reader who may not answer.
  if (!send) return;
  const isOne = chosen.length === 1 && groups.size === 1;
  const label = isOne ? chosen[0].parentElement.textContent.split("·")[0].trim() : "";
  send.textContent = label ? `Send “${label.length > 40 ? `${label.slice(0, 39)}…` : label}”` : "Send answer";
}

if (answer) {
  const place = `draft ${answer.dataset.draft} ${answer.elements.asked.value}`;
  const texts = () => [...answer.querySelectorAll("textarea, input[type=text]")].filter((one) => one.name);
  try {
    const draft = JSON.parse(sessionStorage.getItem(place) || "{}");
    for (const one of texts()) {
      if (one.name in draft && one.value === one.defaultValue) one.value = draft[one.name];
    }
  } catch {
    sessionStorage.removeItem(place);
  }
  answer.addEventListener("input", () => {
    describeAnswer();
    const draft = Object.fromEntries(texts().map((one) => [one.name, one.value]));
    sessionStorage.setItem(place, JSON.stringify(draft));
  });
  describeAnswer();
}

document.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  const form = event.target;
  // A second press sends nothing more.
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "1";
  const pressed = document.getElementById("send");
  if (form.id === "answer" && pressed) pressed.textContent = "Sending…";
});
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

// The selected executions of the list.
const bar = document.getElementById("selected");

function showSelected() {
  if (!bar) return;
  const boxes = [...document.querySelectorAll("input[name=exec_id]")];
  const count = boxes.filter((one) => one.checked).length;
  bar.firstElementChild.textContent = count ? `${count} selected` : "Select executions to change them.";
  for (const button of bar.querySelectorAll("button")) button.disabled = !count;
  const all = document.querySelector("[data-all]");
  if (!all) return;
  all.checked = count > 0 && count === boxes.length;
  all.indeterminate = count > 0 && count < boxes.length;
}

document.addEventListener("change", (event) => {
  if ("all" in event.target.dataset) {
    document.querySelectorAll("input[name=exec_id]").forEach((one) => (one.checked = event.target.checked));
  }
  showSelected();
});

// Copy.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.setAttribute("aria-label", "Copied");
  setTimeout(() => button.setAttribute("aria-label", "Copy"), 1500);
});

// Keys: single letters outside of fields.
function move(step) {
  const rows = [...document.querySelectorAll("a[data-row], .queue li a")];
  const links = rows.length ? rows : [...document.querySelectorAll("a.row")];
  if (!links.length) return;
  const at = links.findIndex((one) => one === document.activeElement || one.closest("[aria-current]"));
  const next = links[Math.max(0, Math.min(links.length - 1, at < 0 ? 0 : at + step))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  const isField = event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select");
  if ((event.metaKey || event.ctrlKey) && event.key === "Enter" && answer) return answer.requestSubmit();
  if (isField || event.metaKey || event.ctrlKey || event.altKey) return;
  const search = document.querySelector("input[type=search]");
  const row = document.activeElement.closest("tr");
  const box = row && row.querySelector("input[name=exec_id]");
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "x" && box) box.click();
  else if (event.key === "/" && search) {
    event.preventDefault();
    search.focus();
  } else if (event.key === ".") {
    inUtc = !inUtc;
    sessionStorage.setItem("utc", inUtc ? "1" : "0");
    showTimes();
  }
});

document.documentElement.classList.add("js");
showSelected();
showTimes();
setInterval(showTimes, 30000);
follow();
