// Pictures: decoded as they come, shown in time with the sound, or at once when nothing plays.
const HEADER = 40, TIMED = 1, FULL = 2;

export class Frames {
  constructor(canvas, link, sound) {
    Object.assign(this, { canvas, link, sound });
    this.context = canvas.getContext("2d", { alpha: false });
    this.queue = []; this.times = []; this.latencies = []; this.asked = new Map();
    this.shown = { number: 0, version: 0, seconds: 0, unseen: 0, full: false };
    this.lateness = [];
    this.onShown = () => {};
    const tick = () => { sound.step(); this.present(); requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
  }
  // The canvas keeps the size of a full picture: smaller ones are scaled up while something moves.
  resize([height, width]) { Object.assign(this.canvas, { width, height }); this.context.imageSmoothingQuality = "high"; }
  restart() { this.queue.forEach((f) => f.bitmap.close()); this.queue = []; this.shown.number = 0; }
  // A change was made now; `version` is the first picture that shows it.
  expect(version) {
    this.asked.set(version, performance.now());
    if (this.asked.size > 200) this.asked.delete(this.asked.keys().next().value);
  }
  async take(data) {
    const view = new DataView(data), flags = view.getUint32(36, true);
    const frame = {
      number: view.getUint32(4, true), version: view.getUint32(8, true), take: view.getUint32(12, true), seconds: view.getFloat64(16, true),
      width: view.getUint16(24, true), height: view.getUint16(26, true), ms: view.getFloat32(28, true), unseen: view.getFloat32(32, true),
      timed: !!(flags & TIMED), full: !!(flags & FULL),
    };
    this.link.send("shown", { number: frame.number });
    frame.bitmap = await createImageBitmap(new Blob([new Uint8Array(data, HEADER)], { type: "image/jpeg" }));
    const now = this.sound.heard();
    const old = (f) => f.take !== this.sound.take || (f.timed && f.version < frame.version && f.seconds >= frame.seconds) || (!f.timed && f.number < frame.number) || (f.timed && f.seconds < now - 0.5);
    this.queue = this.queue.filter((f) => !(old(f) && (f.bitmap.close(), true)));
    this.queue.push(frame);
    this.queue.sort((a, b) => a.seconds - b.seconds || a.number - b.number);
    if (!this.sound.playing) this.present();
  }
  present() {
    const playing = this.sound.playing, now = this.sound.heard() + 0.008; // half a picture of the screen ahead
    let best = null;
    for (const frame of this.queue) {
      if (frame.take !== this.sound.take && frame.timed) continue;
      if (frame.timed ? playing && frame.seconds <= now : !playing) if (!best || (frame.timed ? frame.seconds >= best.seconds : frame.number > best.number)) best = frame;
    }
    if (!best) return;
    this.queue = this.queue.filter((f) => f === best || f.number > best.number || (f.timed && f.seconds > best.seconds) || (f.bitmap.close(), false));
    this.queue = this.queue.filter((f) => f !== best);
    if (best.number > this.shown.number || best.timed) this.draw(best, now);
    best.bitmap.close();
  }
  draw(frame, now) {
    const { canvas } = this;
    this.context.drawImage(frame.bitmap, 0, 0, canvas.width, canvas.height);
    const at = performance.now();
    this.times.push(at);
    this.times = this.times.filter((t) => t > at - 2000);
    if (frame.timed) { this.lateness.push(now - frame.seconds); this.lateness = this.lateness.slice(-500); }
    for (const [version, asked] of this.asked) if (version <= frame.version) {
      if (version === frame.version || frame.version - version < 20) this.latencies.push(at - asked);
      this.asked.delete(version);
    }
    this.latencies = this.latencies.slice(-200);
    this.shown = { number: frame.number, version: frame.version, seconds: frame.seconds, unseen: frame.unseen, full: frame.full, ms: frame.ms, height: frame.height, timed: frame.timed };
    this.onShown(this.shown);
  }
  rate() {
    const at = performance.now(), t = this.times.filter((x) => x > at - 1000);
    return t.length;
  }
  latency() {
    const few = this.latencies.slice(-10).sort((a, b) => a - b);
    return few.length ? few[few.length >> 1] : null;
  }
}
