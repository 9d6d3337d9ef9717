// Keeps the page fresh in place: the reader's scroll position, open lists and focus stay as they are.
(() => {
  const lost = document.getElementById("lost");
  const said = document.getElementById("said");
  let seen = new Date();
  async function refresh() {
    const chosen = getSelection();
    if (document.hidden || (chosen && !chosen.isCollapsed)) return;
    try {
      const answer = await fetch(location.pathname + location.search, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      const text = await answer.text();
      if (!answer.ok) throw new Error(text.slice(0, 300));
      const fresh = new DOMParser().parseFromString(text, "text/html");
      const open = [...document.querySelectorAll("details[open]")].map((list) => list.id);
      const focused = document.activeElement && document.activeElement.closest("details");
      const before = document.getElementById("sentence").textContent;
      document.querySelector("main").replaceWith(fresh.querySelector("main"));
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      if (focused) document.querySelector(`#${CSS.escape(focused.id)} > summary`)?.focus({ preventScroll: true });
      const now = document.getElementById("sentence").textContent;
      if (now !== before) said.textContent = now;
      document.title = fresh.title;
      document.querySelector("link[rel=icon]").href = fresh.querySelector("link[rel=icon]").href;
      seen = new Date();
      lost.hidden = true;
    } catch (problem) {
      const why = problem instanceof TypeError || problem.name === "TimeoutError" ? "no answer" : problem.message;
      lost.textContent = `Not up to date since ${seen.toLocaleTimeString()}: ${why}`;
      lost.hidden = false;
    }
  }
  setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", refresh);
})();
