"use strict";

const grid = document.getElementById("grid");
const entries = [...grid.children].map((item, order) => ({
  item, order, button: item.firstElementChild, name: plain(item.dataset.name), number: item.dataset.number,
  shares: JSON.parse(item.dataset.shares),
}));
const [find, sort, count, none] = ["find", "sort", "count", "none"].map((id) => document.getElementById(id));
const what = count.textContent.replace(/^[\d,.\s]+/, "");
let shown = entries;

// Without accents and capitals: "Größe" is found by "große" and "GROSSE" by "grosse".
function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

function filter() {
  const wanted = plain(find.value.trim());
  const has = (entry) => entry.name.includes(wanted) || (wanted !== "" && entry.number === wanted);
  shown = entries.filter(has);
  const kept = new Set(shown);
  for (const entry of entries) entry.item.hidden = !kept.has(entry);
  none.hidden = shown.length > 0;
  const number = (value) => value.toLocaleString("en");
  count.textContent = (wanted === "" ? "" : `${number(shown.length)} of `) + `${number(entries.length)} ${what}`;
}

// Below the pictures stands what the judge says by whom they were sorted last.
function tell(judge, place) {
  if (judge === undefined) return;
  document.getElementById("by").textContent = judge;
  for (const { button, shares } of entries) {
    const share = shares[place];
    button.querySelector(".share b").textContent = share == null ? "" : `${Math.round(100 * share)} %`;
    const many = button.querySelector(".share i");
    if (many) many.textContent = (share == null ? "" : ", ") + many.dataset.count;
  }
}

function order() {
  const by = sort.value;
  const share = (entry) => entry.shares[Number(by)] ?? -1;
  const kinds = {
    order: (a, b) => a.order - b.order,
    name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) || a.order - b.order,
  };
  entries.sort(kinds[by] ?? ((a, b) => share(b) - share(a) || a.order - b.order));
  tell(sort.selectedOptions[0].dataset.by, Number(by));
  grid.append(...entries.map((entry) => entry.item));
  filter();
}

find.addEventListener("input", filter);
sort.addEventListener("change", order);
document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());

// The viewer: all pictures of the entries that are shown, one after the other.
const viewer = document.getElementById("viewer");
const part = (name) => document.getElementById(`viewer-${name}`);
let open = { entry: null, place: 0 };

const picturesOf = (entry) => (entry.pictures ??= JSON.parse(entry.button.dataset.pictures));

function show(entry, place) {
  open = { entry, place };
  const pictures = picturesOf(entry);
  const picture = pictures[place];
  const [width, height] = picture.size;
  part("name").textContent = entry.item.dataset.name;
  const image = part("picture");
  image.src = picture.src;
  image.alt = entry.item.dataset.name;
  const factor = Math.max(1, Math.floor(256 / Math.max(width, height)));
  image.width = factor * width;
  image.height = factor * height;
  image.className = factor > 1 ? "crisp" : "";
  part("note").textContent = picture.note;
  part("facts").replaceChildren(...picture.facts.flatMap(([name, value]) => {
    const [dt, dd] = ["dt", "dd"].map((kind) => document.createElement(kind));
    dt.textContent = name;
    dd.textContent = value;
    return [dt, dd];
  }));
  part("place").textContent = pictures.length > 1 ? `picture ${place + 1} of ${pictures.length}` : "";
  if (!viewer.open) viewer.showModal();
}

function walk(by) {
  let { entry, place } = open;
  place += by;
  if (place < 0 || place >= picturesOf(entry).length) {
    const next = shown[shown.indexOf(entry) + by];
    if (!next) return;
    entry = next;
    place = by > 0 ? 0 : picturesOf(next).length - 1;
  }
  show(entry, place);
}

grid.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) show(entries.find((entry) => entry.button === button), 0);
});
document.getElementById("close").addEventListener("click", () => viewer.close());
document.getElementById("before").addEventListener("click", () => walk(-1));
document.getElementById("after").addEventListener("click", () => walk(1));
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
viewer.addEventListener("close", () => open.entry.button.focus());
viewer.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) walk(by);
});

// Arrow keys walk through the grid, "/" goes to the search.
const columns = () => {
  const top = shown[0].item.offsetTop;
  const row = shown.findIndex((entry) => entry.item.offsetTop !== top);
  return row < 0 ? shown.length : row;
};
grid.addEventListener("keydown", (event) => {
  const at = shown.findIndex((entry) => entry.button === document.activeElement);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), Home: -at, End: shown.length - 1 - at };
  const next = at < 0 || !(event.key in steps) ? null : shown[at + steps[event.key]];
  if (!next) return;
  event.preventDefault();
  next.button.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || viewer.open || event.target === find || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  find.focus();
});
