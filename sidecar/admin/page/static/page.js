// Keeps the status page fresh, and saves a page load where something is asked or done. Everything it shows is HTML that
// the sidecar made; without this script the same is had by loading the page again.
"use strict";

const EVERY = 1000; // milliseconds
const PATIENCE = 5000;
const POINT = 15000; // from one point of a curve to the next
const live = document.getElementById("live");
const pulse = document.getElementById("pulse");
const dialog = document.getElementById("dialog");
// Without the name and password that the address may have held, with which nothing can be fetched.
const here = new URL(location.pathname, location.origin);
let seen = Date.now();
let asking = false;

async function page(address, options) {
  const target = new URL(address, here);
  target.username = target.password = "";
  const response = await fetch(target, {
    headers: { Accept: "text/html" },
    signal: AbortSignal.timeout(PATIENCE),
    ...options,
  });
  const text = await response.text();
  const parsed = new DOMParser().parseFromString(text, "text/html");
  return { ok: response.ok, status: response.status, url: response.url, parsed };
}

// Makes an element like another one, touching only what differs: what is focused, selected or opened stays so.
function match(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  const olds = [...old.childNodes];
  const known = new Map(olds.filter((node) => node.id).map((node) => [node.id, node]));
  let next = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    let twin = node.id ? known.get(node.id) : next;
    if (!twin || twin.nodeName !== node.nodeName || (twin.id || "") !== (node.id || "")) twin = null;
    if (!twin) {
      old.insertBefore(document.importNode(node, true), next);
      continue;
    }
    if (twin === next) next = next.nextSibling;
    else old.insertBefore(twin, next);
    if (node.nodeType !== Node.ELEMENT_NODE) {
      if (twin.data !== node.data) twin.data = node.data;
    } else match(twin, node);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

async function refresh() {
  if (asking) return;
  asking = true;
  try {
    const { ok, status, parsed } = await page(`live${location.search}`);
    const fresh = parsed.getElementById("live");
    if (!ok || !fresh) throw new Error(status === 401 ? "signed out" : `answered ${status}`);
    match(live, fresh);
    const foot = parsed.getElementById("foot");
    if (foot) match(document.getElementById("foot"), foot);
    document.title = live.dataset.title;
    pulse.textContent = live.dataset.time;
    pulse.className = "alive";
    live.classList.remove("old");
    seen = Date.now();
  } catch (error) {
    const seconds = Math.round((Date.now() - seen) / 1000);
    pulse.textContent = `no answer for ${seconds} s`;
    pulse.className = "lost";
    live.classList.add("old");
    document.title = `no answer · ${document.title.split(" · ").pop()}`;
  } finally {
    asking = false;
  }
}

async function remember() {
  const old = document.getElementById("history");
  try {
    const fresh = (await page("history")).parsed.getElementById("history");
    if (fresh) match(old, fresh);
  } catch {
    // That nobody answers is told above.
  }
}

async function submit(form, address, more = 0) {
  const body = new URLSearchParams(new FormData(form));
  return page(address, { method: "POST", body, signal: AbortSignal.timeout(PATIENCE + more) });
}

function say(sentence) {
  const text = document.createElement("p");
  text.textContent = sentence;
  const close = document.createElement("button");
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(text, close);
  if (!dialog.open) dialog.showModal();
}

function sentence(parsed, status) {
  return parsed.querySelector("main p")?.textContent || `This was answered ${status}.`;
}

async function confirm(address) {
  const { ok, status, url, parsed } = await page(address);
  const form = parsed.getElementById("question");
  if (!ok || !form) return say(sentence(parsed, status));
  const question = document.importNode(form, true);
  const more = Number(parsed.querySelector("main").dataset.patience); // what other instances may take
  question.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const done = await submit(question, new URL(form.getAttribute("action"), url), more);
      if (!done.ok) return say(sentence(done.parsed, done.status));
      dialog.close();
      await refresh();
    } catch {
      say("The sidecar did not answer.");
    }
  });
  question.querySelector("[data-cancel]").addEventListener("click", (event) => {
    event.preventDefault();
    dialog.close();
  });
  dialog.replaceChildren(question);
  dialog.showModal();
  question.querySelector("[data-cancel]").focus();
}

async function explain(form) {
  const place = document.getElementById("explained");
  try {
    const { ok, status, parsed } = await submit(form, form.action);
    const answer = parsed.getElementById("explained");
    if (!ok || !answer) throw new Error(sentence(parsed, status));
    place.replaceChildren(...[...answer.childNodes].map((node) => document.importNode(node, true)));
  } catch (error) {
    place.textContent = error.message || "The sidecar did not answer.";
  }
}

function start() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-confirm], a[data-sort]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if ("sort" in link.dataset) {
      history.replaceState(null, "", link.href);
      refresh();
    } else confirm(link.href).catch(() => say("The sidecar did not answer."));
  });
  document.getElementById("explain-form").addEventListener("submit", (event) => {
    event.preventDefault();
    explain(event.target);
  });
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  pulse.className = "alive";
  setInterval(() => document.hidden || refresh(), EVERY);
  setInterval(() => document.hidden || remember(), POINT);
}

if (live && location.pathname.endsWith("/")) start();
