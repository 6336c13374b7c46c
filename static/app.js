/* What the pages do in the browser beyond HTML: theme switch, polling manners, ages, copy, confirm, keys.
   No build step, no inline handlers: everything hangs on data- attributes (templates/ui/README.md lists them).
   Every page works without this file, except that nothing updates by itself. */
(() => {
  "use strict";
  const body = document.body;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const icon = (el, name) => {
    const use = el.querySelector("use");
    if (use) use.setAttribute("href", use.getAttribute("href").replace(/#.*/, "#" + name));
  };
  const store = {                      // localStorage may be forbidden; then choices last for the page
    get(key) { try { return localStorage.getItem(key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(key, value); } catch { /* see above */ } },
  };

  /* One polite live region for the whole page: status changes and "Copied". */
  function announce(text) {
    const region = document.getElementById("announce");
    if (region) { region.textContent = ""; setTimeout(() => { region.textContent = text; }, 50); }
  }

  /* ── Time ──────────────────────────────────────────────────────────────────────────────────────
     The operator's clock may be wrong, ages must not be: measure the offset against the server once. */
  const serverNow = parseFloat(body.dataset.serverNow);
  const navigation = performance.getEntriesByType("navigation")[0];
  const loadedAt = (performance.timeOrigin + (navigation?.responseStart || 0)) / 1000;
  const offset = Number.isFinite(serverNow) ? serverNow - loadedAt : 0;
  const now = () => Date.now() / 1000 + offset;

  function duration(seconds) {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h`;
    return `${Math.floor(s / 86400)} d`;
  }

  /* [data-age-at] gets .stale when older than data-stale-after seconds; a [data-age-text] that belongs
     to it says the age in words. Chosen poll intervals make the limit longer: slow is not stale. */
  function tickAges() {
    const extra = pollInterval();
    for (const el of all("[data-age-at]")) {
      const age = now() - parseFloat(el.dataset.ageAt);
      if (!Number.isFinite(age)) continue;
      const limit = parseFloat(el.dataset.staleAfter) + extra;
      const stale = age > limit;
      el.classList.toggle("stale", stale);
      const text = el.querySelector("[data-age-text]");
      if (!text || text.closest("[data-age-at]") !== el) continue;
      const failed = el.closest("[data-poll]")?.classList.contains("is-stale");
      const said = failed ? `no answer, ${duration(age)} old`
        : paused && el.closest("[data-poll]") ? `paused, ${duration(age)} old`
        : stale ? `stale, ${duration(age)} old`
        : age < 1 ? "updated just now" : `updated ${duration(age)} ago`;
      if (text.textContent !== said) text.textContent = said;
    }
  }

  function tickTimes() {
    for (const el of all("time[data-relative]")) {
      const at = new Date(el.dateTime);
      if (isNaN(at)) continue;
      const age = now() - at.getTime() / 1000;
      const said = Math.abs(age) > 7 * 86400 ? at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })
        : age < -1 ? `in ${duration(-age)}` : age < 1 ? "just now" : `${duration(age)} ago`;
      if (el.textContent !== said) el.textContent = said;
      if (el.dataset.relative) continue;             // the title is written once
      el.dataset.relative = "said";
      el.title = `${at.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "long" })}\n${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
    }
  }

  /* ── Polling ───────────────────────────────────────────────────────────────────────────────────
     <section id=… data-poll hx-get=… hx-trigger="every 2s, poll" hx-swap="outerHTML">
     A poll is a request of a [data-poll] element that no event triggered. */
  let paused = false;
  const asked = new Map();             // id -> when it last asked
  const pollInterval = () => parseInt(store.get("lvs-poll-interval"), 10) || 0;
  const isPoll = (event) => event.detail.elt?.hasAttribute("data-poll") && !event.detail.requestConfig?.triggeringEvent;
  const pollNow = () => { if (window.htmx) all("[data-poll][hx-get]").forEach((el) => htmx.trigger(el, "poll")); };

  function setPaused(value) {
    paused = value;
    showPollState();
    tickAges();
    if (!paused) pollNow();
  }

  function showPollState() {
    body.classList.toggle("polling-paused", paused);
    for (const button of all("[data-poll-toggle]")) {
      button.setAttribute("aria-pressed", String(paused));
      const label = button.querySelector("[data-label]");
      if (label) label.textContent = paused ? "Resume" : "Pause";
      icon(button, paused ? "player-play" : "player-pause");
    }
    for (const select of all("select[data-poll-interval]")) select.value = String(pollInterval() || select.options[0].value);
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!isPoll(event)) return;
    const id = event.detail.elt.id;
    const early = Date.now() - (asked.get(id) || 0) < pollInterval() * 1000 - 400;
    if (document.hidden || paused || early) { event.preventDefault(); return; }
    asked.set(id, Date.now());
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) { tickAges(); pollNow(); } });

  for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    document.addEventListener(name, (event) => {
      const part = event.detail.elt?.closest("[data-poll]");
      if (part) { part.classList.add("is-stale"); tickAges(); }
      else announce("The panel did not answer. Try again.");
    });
  }
  document.addEventListener("htmx:afterRequest", (event) => {
    if (!event.detail.successful) return;
    event.detail.elt?.closest("[data-poll]")?.classList.remove("is-stale");   // 204 as well: it answered
  });

  /* ── Swaps ─────────────────────────────────────────────────────────────────────────────────────
     A swap must not take away focus, inner scroll positions, open menus or a text selection. */
  const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
  const held = new Map();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr } = event.detail;
    if (!event.detail.shouldSwap || !target?.id) return;
    const selection = getSelection();
    const selecting = selection && !selection.isCollapsed && target.contains(selection.anchorNode);
    if (selecting && xhr.status !== 286 && event.detail.elt?.hasAttribute("data-poll")) {
      event.detail.shouldSwap = false;                // someone copies an address: the next poll will do
      return;
    }
    const active = target.contains(document.activeElement) ? document.activeElement : null;
    held.set(target.id, {
      scrolls: all(".table-scroll, [data-keep-scroll]", target).map((el) => [el.scrollLeft, el.scrollTop]),
      open: all("details[open][id]", target).map((el) => el.id),
      focus: active && { id: active.id, key: keyOf(active), index: all(FOCUSABLE, target).indexOf(active) },
      said: new Map(all("[data-announce][id]", target).map((el) => [el.id, el.textContent.trim()])),
    });
  });
  const keyOf = (el) => el.dataset.key || el.getAttribute("href") || (el.name ? el.name + "=" + el.value : "");

  document.addEventListener("htmx:afterSwap", (event) => {
    const was = held.get(event.detail.target?.id);
    const part = document.getElementById(event.detail.target?.id);
    held.delete(event.detail.target?.id);
    if (was && part) {
      all(".table-scroll, [data-keep-scroll]", part).forEach((el, i) => {
        if (was.scrolls[i]) [el.scrollLeft, el.scrollTop] = was.scrolls[i];
      });
      for (const id of was.open) document.getElementById(id)?.setAttribute("open", "");
      if (was.focus && !part.contains(document.activeElement)) {
        const all_ = all(FOCUSABLE, part);
        const again = (was.focus.id && document.getElementById(was.focus.id))
          || (was.focus.key && all_.find((el) => keyOf(el) === was.focus.key)) || all_[was.focus.index];
        again?.focus({ preventScroll: true });
      }
      for (const el of all("[data-announce][id]", part)) {
        const text = el.textContent.trim();
        if (was.said.has(el.id) && was.said.get(el.id) !== text) announce(text);
      }
    }
    prepare();
  });

  /* ── Confirm by typing ─────────────────────────────────────────────────────────────────────────
     <input data-confirm-name="web"> holds back its form's submit buttons. The server checks as well. */
  function checkConfirm(input) {
    const right = input.value.trim() === input.dataset.confirmName;
    const form = input.form;
    if (form) all("button[type=submit], button:not([type])", form).forEach((b) => { if (!b.formNoValidate) b.disabled = !right; });
  }
  document.addEventListener("input", (event) => { if (event.target.matches("[data-confirm-name]")) checkConfirm(event.target); });

  /* ── Copy ──────────────────────────────────────────────────────────────────────────────────── */
  async function copy(button) {
    const from = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
    const text = from ? from.textContent.trim() : button.dataset.copy;
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {                            // plain http: no clipboard API
      const area = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
      body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const label = button.querySelector("[data-label]");
    icon(button, done ? "check" : "x");
    button.classList.toggle("copied", done);
    if (label) label.textContent = done ? "Copied" : "Not copied";
    announce(done ? "Copied" : "The browser did not allow copying.");
    setTimeout(() => {
      icon(button, "copy");
      button.classList.remove("copied");
      if (label) label.textContent = "Copy";
    }, 1500);
  }

  /* ── Clicks ────────────────────────────────────────────────────────────────────────────────── */
  const setNav = (open) => {
    body.classList.toggle("nav-open", open);
    all("[data-nav-toggle]").forEach((el) => el.setAttribute("aria-expanded", String(open)));
    if (open) document.querySelector(".side a")?.focus();
  };
  const closeMenus = (except) => all("details.menu[open]").forEach((m) => { if (m !== except) m.open = false; });

  document.addEventListener("click", (event) => {
    const hit = (selector) => event.target.closest(selector);
    closeMenus(hit("details.menu"));
    let el;
    if ((el = hit("[data-copy], [data-copy-from]"))) copy(el);
    else if ((el = hit("[data-theme-choice][type=button]"))) { window.lvsTheme?.choose(el.dataset.themeChoice); showTheme(); closeMenus(); }
    else if (hit("[data-poll-toggle]")) setPaused(!paused);
    else if (hit("[data-poll-now]")) pollNow();
    else if (hit("[data-nav-toggle]")) { event.preventDefault(); setNav(!body.classList.contains("nav-open")); }
    else if ((el = hit("[data-dismiss]"))) el.closest(".notice, .banner")?.remove();
    else if (hit("[data-help]")) { event.preventDefault(); openHelp(); }
    else if (body.classList.contains("nav-open") && !hit(".side")) setNav(false);
  });
  /* A double click must not apply twice. Coming back with the Back button makes the form new again. */
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", () => all("form[data-sent]").forEach((form) => delete form.dataset.sent));
  document.addEventListener("change", (event) => {
    const el = event.target;
    if (el.matches("[data-poll-interval]")) { store.set("lvs-poll-interval", el.value); showPollState(); tickAges(); }
    else if (el.matches("[data-keys-on]")) store.set("lvs-keys", el.checked ? "on" : "off");
    else if (el.matches("[data-choice-of-parts]")) showChosenParts();
    else if (el.matches("[data-submit-on-change]")) el.form?.requestSubmit();
    else if (el.matches("[data-check-all]")) {
      all(`input[type=checkbox][name="${el.dataset.checkAll}"]`, el.form || document).forEach((box) => { if (!box.disabled) box.checked = el.checked; });
    }
  });

  function showTheme() {
    const choice = document.documentElement.dataset.themeChoice || "system";
    for (const el of all("[data-theme-choice][type=button]")) el.setAttribute("aria-pressed", String(el.dataset.themeChoice === choice));
    for (const el of all("[data-theme-icon]")) icon(el, { light: "sun", dark: "moon" }[choice] || "device-desktop");
  }

  /* ── Keys ──────────────────────────────────────────────────────────────────────────────────────
     "/" filter, "?" help, "g" then a letter of the navigation, Escape closes. Off while typing. */
  const openHelp = () => { const d = document.getElementById("shortcuts"); if (d && !d.open) d.showModal(); };
  let afterG = 0;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const menu = document.querySelector("details.menu[open]");
      if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
      if (body.classList.contains("nav-open")) { setNav(false); document.querySelector("[data-nav-toggle]")?.focus(); }
      return;
    }
    const typing = event.target.closest?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || store.get("lvs-keys") === "off" || document.querySelector("dialog[open]")) return;
    if (event.key === "/") {
      const filter = document.querySelector("[data-filter-input], main input[type=search]");
      if (filter) { event.preventDefault(); filter.focus(); filter.select?.(); }
    } else if (event.key === "?") { event.preventDefault(); openHelp(); }
    else if (event.key === "g") afterG = Date.now();
    else if (Date.now() - afterG < 1500) {
      afterG = 0;
      const link = all("a[data-goto]").find((el) => el.dataset.goto === event.key.toLowerCase());
      if (link) { event.preventDefault(); link.click(); }
    }
  });

  /* ── Parts of a form that belong to some choices alone: the others are hidden, and keep what was typed ── */
  function showChosenParts() {
    const choice = document.querySelector("[data-choice-of-parts]");
    if (!choice) return;
    for (const el of all("[data-for-choices]")) {
      const isChosen = el.dataset.forChoices.split(" ").includes(choice.value);
      el.hidden = !isChosen && !el.querySelector(".has-error");
      if (isChosen && el.matches("details")) el.open = true;
    }
  }

  /* After load and after each swap. */
  function prepare() {
    showChosenParts();
    all("[data-confirm-name]").forEach(checkConfirm);
    all("[data-keys-on]").forEach((el) => { el.checked = store.get("lvs-keys") !== "off"; });
    showPollState();
    tickAges();
    tickTimes();
  }
  showTheme();
  prepare();
  setInterval(tickAges, 1000);
  setInterval(tickTimes, 10000);
})();
