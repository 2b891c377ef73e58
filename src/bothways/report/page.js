"use strict";

// Charts: the figures stand in the page; their colours come from its style, for light, dark and print.
const TEMPLATE = {/* report/charts.py */};

async function unpack(packed) {
  const text = atob(packed.textContent);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const code = await new Response(stream).text();
  document.head.append(Object.assign(document.createElement("script"), { textContent: code }));
}

async function chart() {
  const packed = document.getElementById("plotly");
  if (packed) await unpack(packed);
  for (const box of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(box.dataset.figure);
    const layout = { template: TEMPLATE, ...figure.layout };
    await Plotly.newPlot(box, figure.data, layout, { displayModeBar: false, responsive: true, scrollZoom: false });
    scalable(box);
    box.on("plotly_afterplot", () => scalable(box));
  }
}
chart();

// So that the style may make a chart smaller, as for print.
function scalable(box) {
  const { width, height } = box._fullLayout;
  box.style.setProperty("--ratio", `${width} / ${height}`);
  for (const drawn of box.querySelectorAll(".main-svg")) drawn.setAttribute("viewBox", `0 0 ${width} ${height}`);
}

// "Copy as CSV": the full values, not the rounded ones that are shown.
const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a page opened from disk may not have the clipboard
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const rows = [...button.closest(".sheet").querySelectorAll("tr")];
    const line = (row) => [...row.cells].map((cell) => quoted(cell.dataset.csv ?? cell.textContent)).join(",");
    await copy(rows.map(line).join("\n") + "\n");
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy as CSV"), 1500);
  });
}

// The viewer: one picture at full size, with its seed and what was measured; arrow keys walk through the run.
const viewer = document.getElementById("viewer");
const pictures = [...document.querySelectorAll(".open")];
const part = (name) => document.getElementById(`viewer-${name}`);
let shown = 0;

function list(place, rows) {
  place.replaceChildren(...rows.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  ]));
}

function show(index) {
  shown = (index + pictures.length) % pictures.length;
  const { dataset, firstElementChild: image } = pictures[shown];
  part("image").src = image.src;
  part("image").alt = image.alt;
  part("image").className = pictures[shown].classList.contains("crisp") ? "crisp" : "";
  part("run").textContent = dataset.run;
  part("title").textContent = dataset.title;
  list(part("calls"), JSON.parse(dataset.calls).map((call) => [
    call.judge, `${call.hit ? "✓ " : ""}${call.name}, ${call.confidence}`,
  ]));
  list(part("facts"), JSON.parse(dataset.facts));
}

pictures.forEach((button, index) => button.addEventListener("click", () => { show(index); viewer.showModal(); }));
part("back").addEventListener("click", () => show(shown - 1));
part("next").addEventListener("click", () => show(shown + 1));
part("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener("close", () => pictures[shown].focus());
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") show(shown - 1);
  if (event.key === "ArrowRight") show(shown + 1);
});
