"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const style = () => getComputedStyle(document.documentElement);
  const touch = window.matchMedia("(pointer: coarse), (max-width: 560px)").matches;
  const config = { responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

  // The colours of the page, so that light and dark are said once, in the style sheet.
  function template() {
    const css = style();
    const color = (name) => css.getPropertyValue(name).trim();
    const axis = {
      gridcolor: color("--grid"), linecolor: color("--line"), zerolinecolor: color("--line"),
      tickcolor: color("--line"), ticks: "outside", ticklen: 4,
    };
    const label = { color: color("--soft"), size: 12 };
    return {
      layout: {
        font: { color: color("--text"), size: 13, family: getComputedStyle(document.body).fontFamily },
        // The shadow of what scrolls sideways lies behind the figure.
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        xaxis: axis, yaxis: axis,
        hoverlabel: { bgcolor: color("--raised"), bordercolor: color("--line"), font: { color: color("--text") } },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--soft"), activecolor: color("--text") },
      },
      data: { parcoords: [{ labelfont: label, tickfont: label, rangefont: { color: "rgba(0,0,0,0)", size: 1 } }], heatmap: [{ textfont: { color: color("--text") } }] },
    };
  }

  function draw(element) {
    const figure = figures[element.dataset.figure];
    // A finger that drags scrolls the page; zooming stays to the mouse.
    const layout = Object.assign({}, figure.layout, { template: template(), dragmode: touch ? false : figure.layout.dragmode });
    const chosen = element.dataset.trial ? curveOf(figure, Number(element.dataset.trial)) : null;
    if (element.dataset.all || chosen) layout.yaxis = Object.assign({}, layout.yaxis, { autorange: true, range: undefined });
    const data = chosen ? [...figure.data.map((trace) => Object.assign({}, trace, { opacity: 0.2 })), chosen] : figure.data;
    element.dataset.drawn = "yes";
    // Where there is little room the buttons would lie over the legend.
    const small = layout.height < 330 || element.clientWidth < 600 || figure.data[0].type === "parcoords" ? { displayModeBar: false } : {};
    return Plotly.react(element, data, layout, Object.assign({}, config, small));
  }

  // The curve of one trial, to be drawn over the others; null if none is drawn.
  function curveOf(figure, trial) {
    const x = [], y = [];
    for (const trace of figure.data) {
      (trace.customdata || []).forEach((number, i) => {
        if (number === trial && trace.x[i] !== null) { x.push(trace.x[i]); y.push(trace.y[i]); }
      });
    }
    const ink = style().getPropertyValue("--text").trim();
    return x.length === 0 ? null : {
      type: "scatter", mode: "lines+markers", name: `trial ${trial}`, x, y, customdata: x.map(() => trial),
      line: { color: ink, width: 3 }, marker: { color: ink, size: 6 }, hovertemplate: figure.data[0].hovertemplate,
    };
  }

  function offerTrials(element) {
    const place = document.createElement("label");
    const input = document.createElement("input");
    const answer = document.createElement("output");
    input.type = "number";
    input.min = "0";
    place.className = "trial";
    place.append("Curve of trial ", input, " ", answer);
    input.addEventListener("change", () => {
      element.dataset.trial = input.value;
      const found = input.value === "" || curveOf(figures[element.dataset.figure], Number(input.value));
      answer.textContent = found ? "" : "It has no curve here: it finished no epoch, or it is not among the trials that are drawn.";
      draw(element);
    });
    element.closest("figure").querySelector("figcaption").append(place);
  }

  // A finger has no double click: what an axis leaves out, and what was selected, has a button.
  function button(text, press) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", () => press(made));
    return made;
  }

  function offerAllValues(elements) {
    const groups = new Map();
    for (const element of elements) {
      const axis = figures[element.dataset.figure].layout.yaxis;
      if (!axis || axis.autorange !== false) continue;
      const place = element.closest(".slices, .pair") || element.closest("figure");
      groups.set(place, [...(groups.get(place) || []), element]);
    }
    for (const [place, members] of groups) {
      const made = button("Show all values", () => {
        const all = made.getAttribute("aria-pressed") !== "true";
        made.setAttribute("aria-pressed", String(all));
        for (const element of members) {
          element.dataset.all = all ? "yes" : "";
          if (element.dataset.drawn) draw(element);
        }
      });
      made.setAttribute("aria-pressed", "false");
      if (place.tagName === "FIGURE") place.querySelector("figcaption").append(made);
      else place.before(made);
    }
  }

  function offerToClear(element) {
    const clear = {};
    figures[element.dataset.figure].data[0].dimensions.forEach((_, i) => { clear[`dimensions[${i}].constraintrange`] = null; });
    const made = button("Clear the selection", () => Plotly.restyle(element, clear));
    element.closest("figure").querySelector("figcaption").append(made);
  }

  // Every figure and number cites its query: a button shows the SQL, ready to be copied.
  function offerQueries() {
    const queries = JSON.parse(document.getElementById("queries").textContent);
    for (const place of document.querySelectorAll("[data-query]")) {
      const sql = queries[place.dataset.query];
      if (!sql) continue;
      const text = document.createElement("pre");
      text.className = "command sql";
      text.textContent = sql;
      text.hidden = true;
      const made = button("SQL", () => {
        text.hidden = !text.hidden;
        made.setAttribute("aria-expanded", String(!text.hidden));
      });
      made.className = "cite";
      made.title = "Show the query that gives this: DuckDB in the folder of this page, or winnow query";
      made.setAttribute("aria-expanded", "false");
      (place.querySelector(":scope > .caption, :scope > .lead, :scope > span") || place).append(made);
      place.after(text);
    }
  }

  // On a phone many small figures are far to scroll past.
  if (window.matchMedia("(max-width: 560px)").matches) {
    for (const each of document.querySelectorAll("details.fold")) each.open = false;
  }
  const elements = [...document.querySelectorAll("[data-figure]")];
  offerQueries();
  offerAllValues(elements);
  elements.filter((element) => figures[element.dataset.figure].data[0].type === "parcoords").forEach(offerToClear);
  elements.filter((element) => element.dataset.figure === "learning-curves").forEach(offerTrials);
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "800px" });
  elements.forEach((element) => near.observe(element));

  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    elements.filter((element) => element.dataset.drawn).forEach(draw);
  });
  window.addEventListener("beforeprint", () => elements.filter((element) => !element.dataset.drawn).forEach(draw));
})();
