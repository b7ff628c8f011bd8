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
        paper_bgcolor: color("--page"), plot_bgcolor: color("--page"),
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
    element.dataset.drawn = "yes";
    const small = layout.height < 330 || figure.data[0].type === "parcoords" ? { displayModeBar: false } : {};
    return Plotly.react(element, figure.data, layout, Object.assign({}, config, small));
  }

  const elements = [...document.querySelectorAll("[data-figure]")];
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
