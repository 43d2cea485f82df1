"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const inks = ["ink", "soft", "line", "rows", "band", "accent", "glow", "paper"];
  const views = [];

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function rowsOf(columns) {
    const names = Object.keys(columns);
    return (columns[names[0]] || []).map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
  }

  const bubble = document.createElement("div");
  bubble.className = "bubble";
  bubble.hidden = true;
  document.body.append(bubble);

  function tooltip(_, event, item, value) {
    const empty = value === null || value === undefined || value === "";
    if (empty && event.pointerType === "touch") return; // the finger was lifted: keep what its touch showed
    bubble.hidden = empty;
    if (empty) return;
    bubble.replaceChildren();
    for (const [name, text] of Object.entries(value)) {
      if (name === "picture") {
        if (text) bubble.prepend(Object.assign(document.createElement("img"), { src: text, alt: "" }));
        continue;
      }
      if (text === "") continue;
      const key = document.createElement("b");
      key.textContent = name;
      const line = document.createElement("div");
      line.append(key, " ", String(text));
      bubble.append(line);
    }
    const at = event.touches && event.touches[0] ? event.touches[0] : event;
    const room = document.documentElement.clientWidth - bubble.offsetWidth - 8;
    bubble.style.left = window.scrollX + Math.max(8, Math.min(at.clientX + 14, room)) + "px";
    bubble.style.top = window.scrollY + at.clientY + 16 + "px";
  }

  function light(chart, view) {
    const said = document.getElementById("lit");
    const before = said.textContent;
    const near = chart.data.whole.near || [];
    view.addEventListener("click", (_, item) => {
      const pick = item && item.datum && item.datum.weight !== undefined ? item.datum : null;
      view.signal("lit", pick ? pick.row : -1).run();
      const count = pick ? near.filter((row) => row === pick.row).length : 0;
      said.textContent = pick
        ? `Row ${pick.row} stands for ${pick["stands for"]}. Lit: the ${count.toLocaleString("en")} rows of the picture that are ` +
          "nearest to it. Click elsewhere to clear."
        : before;
    });
  }

  function draw(chart) {
    const place = document.getElementById(chart.name);
    for (const set of chart.spec.data) {
      if (chart.data[set.name]) set.values = rowsOf(chart.data[set.name]);
    }
    for (const signal of chart.spec.signals) {
      if (inks.includes(signal.name)) signal.value = color(signal.name);
    }
    place.replaceChildren();
    const options = {
      mode: "vega", renderer: chart.renderer, actions: false, defaultStyle: false, tooltip, hover: true, logLevel: 2,
    };
    return vegaEmbed(place, chart.spec, options).then((drawn) => {
      views.push(drawn.view);
      if (document.getElementById("lit") && chart.name === "map") light(chart, drawn.view);
      drawn.view.addEventListener("touchstart", (event, item) => tooltip(null, event, item, item && item.tooltip));
    });
  }

  function repaint() {
    for (const view of views) {
      for (const ink of inks) view.signal(ink, color(ink));
      view.run();
    }
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  matchMedia("print").addEventListener("change", repaint);
  addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
  document.addEventListener("scroll", () => { bubble.hidden = true; }, { passive: true });
  Promise.all(charts.map(draw)).then(
    () => { document.documentElement.dataset.drawn = String(charts.length); },
    (error) => { document.documentElement.dataset.fault = String(error); throw error; },
  );
})();
