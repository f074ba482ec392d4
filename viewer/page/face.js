// Sliders of the 52 actions, head and eyes, the wheel of emotions, and poses as JSON.
const $ = (id) => document.getElementById(id);
const readable = (name) => name.replace(/([A-Z])/g, " $1").toLowerCase().replace(/^(eye|mouth|brow|cheek|nose|jaw) /, (m) => m).replace(/ (left|right)$/, " · $1");

export class Face {
  constructor(state, facts) {
    Object.assign(this, { state, facts });
    state.emotions = Object.values(facts.emotions).map((parts) => facts.actions.map((name) => parts[name] ?? 0));
    this.names = Object.keys(facts.emotions);
    this.inputs = [];
    this.refreshers = [];
    this.build();
    this.wheel();
    this.poses();
    this.refresh();
  }
  slider(label, [low, high], get, set, warn = () => false) {
    const box = document.createElement("label"), input = document.createElement("input"), output = document.createElement("output");
    box.className = "slider";
    Object.assign(input, { type: "range", min: low, max: high, step: 0.01 });
    input.setAttribute("aria-label", label);
    box.append(label, input, output);
    input.addEventListener("input", () => { set(Number(input.value)); this.state.change(); });
    input.addEventListener("change", () => this.state.commit());
    input.addEventListener("dblclick", () => { set(0); this.state.change(); this.state.commit(); });
    this.refreshers.push(() => { const v = get(); if (Number(input.value) !== v) input.value = v; output.textContent = v.toFixed(2); box.classList.toggle("beyond", warn(v)); });
    return box;
  }
  setAction(i, value) {
    const w = this.state.want;
    w.sliders[i] = value;
    if ($("mirror").checked && !this.oneSided(i)) w.sliders[this.facts.mirror[i]] = value;
  }
  // Looking and moving to a side has a mirror image that goes the other way.
  oneSided(i) { return /^(jaw|mouth)(Left|Right)$/.test(this.facts.actions[i]); }
  build() {
    for (const [group, indices] of Object.entries(this.facts.groups)) {
      const details = document.createElement("details"), summary = document.createElement("summary");
      summary.textContent = group;
      const reset = document.createElement("button");
      reset.textContent = "Reset";
      reset.setAttribute("aria-label", `Reset ${group}`);
      reset.addEventListener("click", () => { indices.forEach((i) => { this.state.want.sliders[i] = 0; }); this.state.change(); this.state.commit(); });
      details.append(summary, ...indices.map((i) => {
        const name = this.facts.actions[i], most = this.facts.ceiling[i];
        const row = this.slider(readable(name), [0, 1], () => this.state.want.sliders[i], (v) => this.setAction(i, v), (v) => v + this.facts.rest[i] > Math.max(most, 0.05) + 0.01);
        row.title = `${name}: the film shows up to ${most.toFixed(2)}`;
        row.querySelector("input").dataset.action = name;
        return row;
      }), reset);
      $("groups").append(details);
    }
    const w = () => this.state.want;
    const rows = [["turn", 0, 0.9], ["nod", 1, 0.6], ["tilt", 2, 0.6]].map(([label, i, most]) => this.slider(`Head ${label}`, [-most, most], () => w().head[i], (v) => { w().head[i] = v; }));
    const eyes = [["sideways", 0], ["up and down", 1]].map(([label, i]) => this.slider(`Eyes ${label}`, [-0.5, 0.5], () => w().gaze[i], (v) => { w().gaze[i] = v; }));
    const body = [["turn", 0], ["lean", 1], ["tilt", 2]].map(([label, i]) => this.slider(`Body ${label}`, [-0.5, 0.5], () => w().body[i], (v) => { w().body[i] = v; }));
    $("head").append(...rows, ...body, ...eyes);
    $("follow").addEventListener("change", (e) => { w().follow = e.target.value; this.state.change(); this.state.commit(); });
    this.refreshers.push(() => { $("follow").value = w().follow; });
    $("pose").append(...Object.keys(this.facts.poses).map((name) => new Option(name, name)));
    $("pose").addEventListener("change", (e) => {
      const parts = this.facts.poses[e.target.value];
      if (!parts) return;
      w().sliders = this.facts.actions.map((name) => parts[name] ?? 0);
      this.state.change(); this.state.commit();
    });
    this.refreshers.push(() => { // which preset the sliders are, if any
      const is = ([, parts]) => this.facts.actions.every((name, i) => Math.abs((parts[name] ?? 0) - w().sliders[i]) < 1e-6);
      $("pose").value = Object.entries(this.facts.poses).find(is)?.[0] ?? "";
    });
    $("blink").addEventListener("click", () => this.blink());
  }
  blink() {
    const lids = this.facts.actions.flatMap((name, i) => (name.startsWith("eyeBlink") ? [i] : []));
    const before = lids.map((i) => this.state.want.sliders[i]), start = performance.now();
    const step = () => {
      const t = (performance.now() - start) / 1000;
      const shut = t < 0.1 ? t / 0.1 : t < 0.16 ? 1 : Math.max(1 - (t - 0.16) / 0.17, 0);
      lids.forEach((i, k) => { this.state.want.sliders[i] = Math.max(before[k], shut); });
      this.state.change();
      if (t < 0.34) setTimeout(step, 30);
    };
    step();
  }
  wheel() {
    const canvas = $("wheel"), c = canvas.getContext("2d"), n = this.names.length, R = 84, M = 90;
    const ink = () => getComputedStyle(document.body).color;
    const draw = () => {
      const { angle, intensity } = this.state.want.emotion;
      c.clearRect(0, 0, 180, 180);
      const round = c.createConicGradient(0, M, M), middle = c.createRadialGradient(M, M, 6, M, M, R);
      for (let k = 0; k <= 12; k++) round.addColorStop(k / 12, `hsla(${(480 - k * 30) % 360},65%,60%,.8)`);
      middle.addColorStop(0, getComputedStyle(canvas.closest("details")).backgroundColor); middle.addColorStop(1, "transparent");
      for (const fill of [round, middle]) { c.fillStyle = fill; c.beginPath(); c.arc(M, M, R, 0, 7); c.fill(); }
      c.fillStyle = ink(); c.font = "11px system-ui"; c.textAlign = "center"; c.textBaseline = "middle";
      this.names.forEach((name, k) => { const a = (k / n) * 2 * Math.PI; c.fillText(name, M + 0.68 * R * Math.cos(a), M + 0.68 * R * Math.sin(a)); });
      c.beginPath(); c.arc(M + R * intensity * Math.cos(angle), M + R * intensity * Math.sin(angle), 7, 0, 7); c.fillStyle = "#fff"; c.fill(); c.lineWidth = 2.5; c.strokeStyle = "#1b62d6"; c.stroke();
    };
    const point = (e) => {
      const box = canvas.getBoundingClientRect(), x = e.clientX - box.left - M, y = e.clientY - box.top - M;
      this.state.want.emotion = { angle: (Math.atan2(y, x) + 2 * Math.PI) % (2 * Math.PI), intensity: Math.min(Math.hypot(x, y) / R, 1) };
      this.state.change();
    };
    canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); point(e); });
    canvas.addEventListener("pointermove", (e) => e.buttons && point(e));
    canvas.addEventListener("pointerup", () => this.state.commit());
    $("emotion").append(...this.names.map((name, k) => new Option(name, k)));
    $("emotion").addEventListener("change", (e) => { const m = this.state.want.emotion; this.state.want.emotion = { angle: (Number(e.target.value) / n) * 2 * Math.PI, intensity: m.intensity || 0.8 }; this.state.change(); this.state.commit(); });
    $("intensity").addEventListener("input", (e) => { this.state.want.emotion.intensity = Number(e.target.value); this.state.change(); });
    $("intensity").addEventListener("change", () => this.state.commit());
    this.refreshers.push(() => { const { angle, intensity } = this.state.want.emotion; $("emotion").value = Math.round((angle / (2 * Math.PI)) * n) % n; $("intensity").value = intensity; draw(); });
  }
  json() {
    const w = this.state.want, names = this.facts.actions;
    const expression = Object.fromEntries(names.flatMap((name, i) => (w.sliders[i] ? [[name, w.sliders[i]]] : [])));
    return JSON.stringify({ expression, emotion: { name: this.names[Math.round((w.emotion.angle / (2 * Math.PI)) * this.names.length) % this.names.length], ...w.emotion }, head: w.head, body: w.body, gaze: w.gaze }, null, 1);
  }
  take(text) {
    const found = JSON.parse(text), w = this.state.want, number = (v, most) => Math.min(Math.max(Number(v) || 0, -most), most);
    if (typeof found !== "object" || !found) throw new Error("no pose");
    w.sliders = this.facts.actions.map((name) => Math.max(number(found.expression?.[name], 1), 0));
    w.head = [0, 1, 2].map((i) => number(found.head?.[i], 0.9));
    w.body = [0, 1, 2].map((i) => number(found.body?.[i], 0.9));
    w.gaze = [0, 1].map((i) => number(found.gaze?.[i], 0.5));
    w.emotion = { angle: number(found.emotion?.angle, 6.29), intensity: Math.max(number(found.emotion?.intensity, 1), 0) };
    this.state.change();
    this.state.commit();
  }
  poses() {
    const tell = (text) => { $("message").className = ""; $("message").textContent = text; };
    $("copy").addEventListener("click", async () => { try { await navigator.clipboard.writeText(this.json()); tell("The pose is on the clipboard, as JSON."); } catch { prompt("The pose as JSON:", this.json()); } });
    $("paste").addEventListener("click", async () => {
      let text = null;
      try { text = await navigator.clipboard.readText(); } catch { text = prompt("Paste a pose (JSON):"); }
      try { if (text) this.take(text); } catch { tell("That is no pose; copy one with Copy pose."); }
    });
    $("flip").addEventListener("click", () => {
      const w = this.state.want, old = [...w.sliders];
      w.sliders = old.map((_, i) => old[this.facts.mirror[i]]);
      w.head = [-w.head[0], w.head[1], -w.head[2]];
      w.body = [-w.body[0], w.body[1], -w.body[2]];
      w.gaze = [-w.gaze[0], w.gaze[1]];
      this.state.change(); this.state.commit();
    });
  }
  refresh() { this.refreshers.forEach((f) => f()); }
}
