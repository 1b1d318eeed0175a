// Swaps in new figures when the ledger has grown. Without it the page works, and its link "Refresh" does the same.
"use strict";
(() => {
  const status = document.getElementById("live");
  const pause = document.getElementById("live-pause");
  const page = document.documentElement;
  if (!status || !pause || !window.EventSource) return;

  const RETRY_MS = 15000;
  const pristine = new Map(); // what a region looked like before its reader opened anything
  const regions = () => document.querySelectorAll("[data-live][id]");
  regions().forEach((one) => pristine.set(one.id, one.innerHTML));

  let stream = null;
  let retry = 0;
  let isPaused = false;
  let isBusy = false;
  let isStale = false;
  let asOf = status.textContent;

  const say = (text) => { if (status.textContent !== text) status.textContent = text; };

  // How to find the focused element again: by its id, its details, or its place among links with one address.
  const finder = (region) => {
    const active = document.activeElement;
    if (!active || !region.contains(active)) return null;
    if (active.id) return () => document.getElementById(active.id);
    if (active.matches("summary") && active.parentElement.id) {
      const id = active.parentElement.id;
      return () => document.querySelector(`#${CSS.escape(id)} > summary`);
    }
    const href = active.getAttribute("href");
    const same = (one) => [...one.querySelectorAll("a")].filter((link) => link.getAttribute("href") === href);
    const place = same(region).indexOf(active);
    return () => same(region)[place] || region.querySelector("a, summary, [tabindex]");
  };

  const isSelected = (region) => {
    const selection = window.getSelection();
    return selection && !selection.isCollapsed && region.contains(selection.anchorNode);
  };

  const swap = (region, fresh) => {
    if (pristine.get(region.id) === fresh.innerHTML) return;
    if (isSelected(region)) { isStale = true; return; } // the reader is copying from it
    const focused = finder(region);
    const open = [...region.querySelectorAll("details[open][id]")].map((one) => one.id);
    const scrolled = [...region.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft]);
    pristine.set(region.id, fresh.innerHTML);
    region.replaceChildren(...fresh.childNodes);
    open.forEach((id) => { const one = document.getElementById(id); if (one) one.open = true; });
    scrolled.forEach(([id, left]) => { const one = document.getElementById(id); if (one) one.scrollLeft = left; });
    const again = focused && focused();
    if (again) again.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (isBusy) { isStale = true; return; }
    isBusy = true;
    isStale = false;
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual", cache: "no-store" });
      if (response.type === "opaqueredirect") { location.reload(); return; } // the login has ended
      if (!response.ok) { say("the figures could not be read; trying again"); isStale = true; return; }
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const ids = (one) => [...one.querySelectorAll("[data-live][id]")].map((region) => region.id).join();
      if (ids(fresh) !== ids(document)) { location.reload(); return; } // such as the first request of all
      regions().forEach((one) => swap(one, fresh.getElementById(one.id)));
      page.dataset.version = isStale ? "" : fresh.documentElement.dataset.version;
      const label = document.querySelector(".standing .label");
      label.textContent = fresh.querySelector(".standing .label").textContent;
      asOf = fresh.getElementById("live").textContent;
      say(`live, ${asOf}`);
    } catch {
      say("the server does not answer; trying again");
      isStale = true;
    } finally {
      isBusy = false;
    }
  };

  const disconnect = () => {
    clearTimeout(retry);
    if (stream) stream.close();
    stream = null;
  };

  const connect = () => {
    disconnect();
    if (isPaused || document.hidden) return;
    stream = new EventSource("/dashboard/events");
    stream.addEventListener("version", (event) => {
      if (event.data !== page.dataset.version || isStale) refresh();
      else say(`live, ${asOf}`);
    });
    stream.addEventListener("error", () => {
      say("not live; trying again");
      if (stream && stream.readyState === EventSource.CLOSED) retry = setTimeout(connect, RETRY_MS);
    });
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Resume" : "Pause";
    if (isPaused) { disconnect(); say(`paused, ${asOf}`); } else connect();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  connect();
})();
