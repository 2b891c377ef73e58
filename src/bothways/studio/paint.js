// A brush over a photo. The canvas has the photo's own pixels, so what is painted is the mask itself.
const at = { x: 0, y: 0, down: false };
const canvas = () => element.querySelector("canvas");
const radius = () => Number(element.querySelector("[data-brush]").value) / 2;

function dab(x, y) {
  const pen = canvas().getContext("2d");
  pen.fillStyle = "#ff3d7f";
  for (let row = Math.ceil(y - radius()); row <= y + radius(); row++)
    for (let column = Math.ceil(x - radius()); column <= x + radius(); column++)
      if ((row - y) ** 2 + (column - x) ** 2 <= radius() ** 2) pen.fillRect(column, row, 1, 1); // whole pixels, no soft edge
}
function stroke(x, y) {
  const steps = Math.max(1, Math.ceil(Math.hypot(x - at.x, y - at.y)));
  for (let step = 1; step <= steps; step++) dab(at.x + ((x - at.x) * step) / steps, at.y + ((y - at.y) * step) / steps);
  [at.x, at.y] = [x, y];
}
function place(event) {
  const box = canvas().getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * canvas().width - 0.5,
          ((event.clientY - box.top) / box.height) * canvas().height - 0.5];
}
function mark() {
  const cross = element.querySelector(".bw-cross");
  cross.style.left = `${((at.x + 0.5) / canvas().width) * 100}%`;
  cross.style.top = `${((at.y + 0.5) / canvas().height) * 100}%`;
}
element.addEventListener("pointerdown", (event) => {
  if (event.target !== canvas()) return;
  event.preventDefault();
  canvas().focus();
  canvas().setPointerCapture(event.pointerId);
  [at.x, at.y] = place(event);
  at.down = true;
  dab(at.x, at.y);
});
element.addEventListener("pointermove", (event) => { if (at.down) stroke(...place(event)); });
for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => { at.down = false; mark(); });
element.addEventListener("keydown", (event) => {
  if (event.target !== canvas()) return;
  const step = event.shiftKey ? 4 : 1;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key === " ") dab(at.x, at.y);
  else if (moves[event.key]) {
    at.x = Math.min(canvas().width - 1, Math.max(0, Math.round(at.x) + moves[event.key][0]));
    at.y = Math.min(canvas().height - 1, Math.max(0, Math.round(at.y) + moves[event.key][1]));
  } else return;
  event.preventDefault();
  mark();
});
element.addEventListener("click", (event) => {
  if (event.target.matches("[data-clear]")) canvas().getContext("2d").clearRect(0, 0, canvas().width, canvas().height);
});
