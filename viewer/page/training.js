// Curves and the newest picture of a running training, asked for every two seconds; and the avatar from any side.
import { camera } from "./camera.js";
import { FRONT } from "./state.js";

const $ = (id) => document.getElementById(id);
let pictures = 0, step = 0, wanted = "", shown = "", still = null;

// What `camera` moves; every wish asks for a picture, the newest wins.
const state = {
  want: { viewpoint: { ...FRONT, pan: [0, 0] }, lens: 0, follow: "none", mouse: [0.5, 0.5] },
  change() { want(false); clearTimeout(still); still = setTimeout(() => want(true), 400); },
  commit() {},
};
camera($("draft"), state);

function want(full) {
  const { yaw, pitch, zoom, pan } = state.want.viewpoint;
  const asking = wanted !== shown;
  wanted = new URLSearchParams({ yaw, pitch, zoom, right: pan[0], down: pan[1], full: full ? 1 : 0, step }).toString();
  if (!asking) show();
}
async function show() {
  while (wanted !== shown) {
    const asked = wanted;
    try {
      const answer = await fetch(`draft.jpg?${asked}`);
      if (answer.ok) {
        const bitmap = await createImageBitmap(await answer.blob()), canvas = $("draft"), c = canvas.getContext("2d");
        $("now").hidden = $("how").hidden = false;
        if (asked.includes("full=1")) Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
        c.imageSmoothingQuality = "high";
        c.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
        $("age").textContent = `the avatar after step ${new URLSearchParams(asked).get("step")}`;
      }
    } catch { wanted = shown; return; }
    shown = asked;
    await new Promise((done) => setTimeout(done, 60)); // some ten a second are enough
  }
}

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
    const found = await (await fetch("state")).json(), [done, total] = found.progress;
    $("gone").hidden = true;
    if (total) { Object.assign($("done"), { value: done, max: total }); $("steps").textContent = `step ${done} of ${total}`; }
    for (const [name, points] of Object.entries(found.curves)) if (points.length) draw(name, points);
    if (found.draft !== step) { step = found.draft; want(true); }
    if (found.pictures !== pictures) { pictures = found.pictures; $("newest").hidden = false; $("pair").src = `picture.jpg?${pictures}`; }
  } catch { $("gone").hidden = false; }
  setTimeout(ask, document.hidden ? 10000 : 2000); // a page that nobody sees costs the training nothing
}
ask();
