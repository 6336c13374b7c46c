/* Sets the colour theme before the first paint, so it is loaded blocking, in <head>.
   The choice ("system", "light", "dark") is kept in this browser only; app.js offers the switch. */
(() => {
  "use strict";
  const KEY = "lvs-theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function choice() {
    let kept = null;
    try { kept = localStorage.getItem(KEY); } catch { /* storage may be forbidden: follow the system */ }
    return kept === "light" || kept === "dark" ? kept : "system";
  }

  function apply() {
    const theme = choice();
    root.dataset.themeChoice = theme;
    root.dataset.bsTheme = theme === "system" ? (dark.matches ? "dark" : "light") : theme;
  }

  function choose(theme) {
    try { localStorage.setItem(KEY, theme); } catch { /* then it lasts as long as this page */ }
    apply();
  }

  root.dataset.js = "";              // CSS hides .js-only without it
  dark.addEventListener("change", apply);
  addEventListener("storage", (event) => { if (event.key === KEY) apply(); });
  apply();
  window.lvsTheme = { choice, choose };
})();
