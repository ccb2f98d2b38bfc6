"use strict";
// plotly travels compressed: the file is a third of the size, and no network is needed.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();

async function loadPlotly() {
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function draw(plot) {
  const { data, layout } = JSON.parse(plot.querySelector("script").textContent);
  layout.font.color = ink();
  for (const trace of data.filter((t) => t.texttemplate)) trace.textfont = { ...trace.textfont, color: ink() };
  if (window.innerWidth < 600) {
    layout.margin = { ...layout.margin, l: 46, r: 8 };
    layout.font.size = 11;
  }
  return Plotly.newPlot(plot, data, layout, {
    responsive: true, displaylogo: false, displayModeBar: window.innerWidth < 600 ? false : "hover",
  });
}

loadPlotly().then(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((e) => e.isIntersecting)) {
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "800px" });
  plots.forEach((plot) => seen.observe(plot));
  dark.addEventListener("change", () => {
    for (const plot of plots.filter((p) => p.layout)) {
      Plotly.relayout(plot, { "font.color": ink() });
      plot.data.forEach((t, i) => t.texttemplate && Plotly.restyle(plot, { "textfont.color": ink() }, [i]));
    }
  });
}).catch((error) => {
  for (const plot of document.querySelectorAll(".plot")) {
    plot.textContent = `The picture needs a browser of 2023 or later (${error}).`;
  }
});
