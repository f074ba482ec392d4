// What is wanted: viewpoint, pose and look; with undo. Every change is sent, the newest wins.
export const FRONT = { yaw: 0, pitch: 0, distance: 1, zoom: 1, pan: [0, 0] };
export const PRESETS = { front: {}, left: { yaw: 0.7 }, right: { yaw: -0.7 }, profile: { yaw: 1.45 } };

export class State {
  constructor(link, frames, onChange) {
    Object.assign(this, { link, frames, onChange });
    this.version = 0; this.style = "own";
    this.want = {
      viewpoint: { ...FRONT, pan: [0, 0] }, lens: 0, sliders: new Array(52).fill(0), emotion: { angle: 0, intensity: 0 },
      head: [0, 0, 0], body: [0, 0, 0], gaze: [0, 0], follow: "none", mouse: [0.5, 0.5],
      look: { background: "plate", drawing: "picture", hidden: [], shade: true }, path: [], style: "own",
    };
    this.first = JSON.stringify(this.want);
    this.past = []; this.future = [];
    this.committed = JSON.stringify(this.want);
    this.emotions = [];
  }
  expression() {
    const out = [...this.want.sliders], { angle, intensity } = this.want.emotion, n = this.emotions.length;
    if (intensity > 0 && n) {
      const at = ((angle / (2 * Math.PI)) * n + n) % n, low = Math.floor(at) % n, weight = at - Math.floor(at);
      this.emotions[low].forEach((v, i) => { out[i] += intensity * (1 - weight) * v; });
      this.emotions[(low + 1) % n].forEach((v, i) => { out[i] += intensity * weight * v; });
    }
    return out.map((v) => Math.min(Math.max(v, -1), 1));
  }
  view() {
    const w = this.want, lens = Math.exp(w.lens);
    const place = (v) => ({ ...v, zoom: v.zoom * lens, distance: Math.min(Math.max(v.distance * lens, 0.2), 8) });
    return {
      version: this.version, viewpoint: place(w.viewpoint), look: w.look, path: w.path.length > 1 ? w.path.map((k) => ({ seconds: k.seconds, viewpoint: k.viewpoint })) : [],
      pose: { expression: this.expression(), head: w.head, body: w.body, gaze: w.gaze, follow: w.follow, mouse: w.mouse },
    };
  }
  // Something of `want` was changed.
  change() {
    this.version++;
    this.frames.expect(this.version);
    this.link.send("view", this.view());
    if (this.want.style !== this.style) this.link.send("style", { name: this.style = this.want.style });
    this.onChange();
  }
  // Pose, camera and look as at the beginning; path and style stay.
  reset() {
    this.want = { ...JSON.parse(this.first), path: this.want.path, style: this.want.style };
    this.change();
    this.commit();
  }
  // A change is complete: it can be undone as a whole.
  commit() {
    const now = JSON.stringify(this.want);
    if (now === this.committed) return;
    this.past.push(this.committed);
    this.past = this.past.slice(-100);
    this.future = [];
    this.committed = now;
    this.onChange();
  }
  travel(from, to) {
    this.commit();
    if (!from.length) return;
    to.push(this.committed);
    this.committed = from.pop();
    this.want = JSON.parse(this.committed);
    this.change();
  }
  undo() { this.travel(this.past, this.future); }
  redo() { this.travel(this.future, this.past); }
}
