// Curves and the newest picture of a running training, asked for every two seconds.
const $ = (id) => document.getElementById(id);
let pictures = 0;

function draw(name, points) {
  let box = document.querySelector(`[data-curve="${CSS.escape(name)}"]`);
  if (!box) {
    box = Object.assign(document.createElement("figure"), { className: "curve" });
    box.dataset.curve = name;
    box.append(document.createElement("figcaption"), Object.assign(document.createElement("canvas"), { width: 420, height: 150 }));
    $("curves").append(box);
  }
  const canvas = box.querySelector("canvas"), c = canvas.getContext("2d"), { width, height } = canvas;
  const values = points.map((p) => p[1]).filter(Number.isFinite), low = Math.min(...values), high = Math.max(...values), last = points[points.length - 1][0] || 1;
  box.querySelector("figcaption").textContent = `${name} ${values[values.length - 1].toPrecision(4)}`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${name} from ${values[0].toPrecision(3)} to ${values[values.length - 1].toPrecision(3)}`);
  c.clearRect(0, 0, width, height);
  c.strokeStyle = getComputedStyle(document.body).getPropertyValue("--go");
  c.lineWidth = 1.5;
  c.beginPath();
  points.forEach(([step, value], i) => { const x = (step / last) * (width - 8) + 4, y = height - 6 - ((value - low) / (high - low || 1)) * (height - 12); if (i) c.lineTo(x, y); else c.moveTo(x, y); });
  c.stroke();
}

async function ask() {
  try {
    const state = await (await fetch("state")).json(), [done, total] = state.progress;
    $("gone").hidden = true;
    if (total) { Object.assign($("done"), { value: done, max: total }); $("steps").textContent = `step ${done} of ${total}`; }
    for (const [name, points] of Object.entries(state.curves)) if (points.length) draw(name, points);
    if (state.pictures !== pictures) { pictures = state.pictures; $("newest").hidden = false; $("picture").src = `picture.jpg?${pictures}`; }
  } catch { $("gone").hidden = false; }
  setTimeout(ask, 2000);
}
ask();
