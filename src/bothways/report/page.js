"use strict";

// Charts: the figures stand in the page; their colours come from its style, for light, dark and print.
for (const box of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(box.dataset.figure);
  Plotly.newPlot(box, figure.data, figure.layout, { displayModeBar: false, responsive: true, scrollZoom: false });
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
