// Orbit, pan and zoom with mouse, fingers and keys.
import { FRONT, PRESETS } from "./state.js";

const limit = (x, low, high) => Math.min(Math.max(x, low), high);

export function camera(canvas, state) {
  const held = new Map();
  let spread = 0;
  const move = (dx, dy, pans) => {
    const v = state.want.viewpoint, box = canvas.getBoundingClientRect();
    if (pans) v.pan = [limit(v.pan[0] + (0.5 * v.distance * dx) / box.width / v.zoom, -1, 1), limit(v.pan[1] + (0.5 * v.distance * dy) / box.height / v.zoom, -1, 1)];
    else Object.assign(v, { yaw: limit(v.yaw + (dx / box.width) * 3, -3.14, 3.14), pitch: limit(v.pitch - (dy / box.height) * 3, -1.4, 1.4) });
    state.change();
  };
  const zoom = (factor) => {
    const v = state.want.viewpoint;
    v.zoom = limit(v.zoom * factor, 0.4, 5);
    state.change();
  };
  canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); held.set(e.pointerId, [e.clientX, e.clientY]); spread = 0; });
  canvas.addEventListener("pointermove", (e) => {
    const box = canvas.getBoundingClientRect();
    if (state.want.follow === "mouse") { state.want.mouse = [limit((e.clientX - box.left) / box.width, -1, 2), limit((e.clientY - box.top) / box.height, -1, 2)]; if (!held.size) state.change(); }
    const was = held.get(e.pointerId);
    if (!was) return;
    held.set(e.pointerId, [e.clientX, e.clientY]);
    const dx = e.clientX - was[0], dy = e.clientY - was[1];
    if (held.size === 2) {
      const [a, b] = [...held.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (spread) zoom(now / spread);
      spread = now;
      move(dx / 2, dy / 2, true);
    } else move(dx, dy, e.shiftKey || e.buttons === 4 || e.buttons === 2);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (e) => { held.delete(e.pointerId); spread = 0; state.commit(); });
  canvas.addEventListener("contextmenu", (e) => e.preventDefault());
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(-e.deltaY / 600)); clearTimeout(camera.later); camera.later = setTimeout(() => state.commit(), 400); }, { passive: false });
  const preset = (name) => { state.want.viewpoint = { ...FRONT, pan: [0, 0], ...PRESETS[name] }; if (name === "front") state.want.lens = 0; state.change(); state.commit(); };
  const keys = {
    ArrowLeft: (pans) => move(-20, 0, pans), ArrowRight: (pans) => move(20, 0, pans), ArrowUp: (pans) => move(0, -20, pans), ArrowDown: (pans) => move(0, 20, pans),
    "+": () => zoom(1.1), "=": () => zoom(1.1), "-": () => zoom(1 / 1.1), 0: () => preset("front"), 1: () => preset("front"), 2: () => preset("left"), 3: () => preset("profile"),
  };
  canvas.addEventListener("keydown", (e) => { if (keys[e.key] && !e.ctrlKey && !e.metaKey) { e.preventDefault(); keys[e.key](e.shiftKey); state.commit(); } });
  return preset;
}
