// What the console does beyond plain pages: it lets the part `#live` be asked for again every few seconds (htmx does it), but
// not while nobody looks, while somebody works in it by keyboard, or while text in it is marked; and it says so when what is
// shown is old. Every page works without this file.
(function () {
  "use strict";

  function busy(live) {
    const active = document.activeElement;
    if (active && active !== live && live.contains(active) && active.matches(":focus-visible")) return true;
    const marked = window.getSelection();
    return Boolean(marked && !marked.isCollapsed && live.contains(marked.anchorNode));
  }

  function old(is) {
    const note = document.getElementById("old");
    if (note) note.hidden = !is;
  }

  document.addEventListener("htmx:beforeRequest", function (event) {
    const live = document.getElementById("live");
    if (!live || event.target !== live) return;
    if (document.hidden || busy(live)) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", function (event) {
    old(!event.detail.successful);
  });
  document.addEventListener("htmx:sendError", function () { old(true); });
  document.addEventListener("htmx:timeout", function () { old(true); });
})();
