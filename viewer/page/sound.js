// The sound, whose clock is the only one: pictures are shown when what belongs to them is heard.
const RUNUP = 0.3; // seconds for the first pictures to arrive before the sound begins

export class Sound {
  constructor(link, onEnd) {
    Object.assign(this, { link, onEnd });
    this.take = 0; this.playing = false; this.position = 0; this.length = 0; this.loop = false; this.buffer = null;
    setInterval(() => this.playing && this.tell(), 250);
  }
  // Browsers let a page make sound only after it was touched.
  wake() {
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    this.output ??= new GainNode(this.context);
    this.output.connect(this.context.destination);
    return this.context.state === "running" ? Promise.resolve() : this.context.resume();
  }
  async load(url, length) {
    this.stop();
    this.position = 0; this.length = length; this.buffer = null;
    if (!url) return;
    const bytes = await (await fetch(url)).arrayBuffer();
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    this.output ??= new GainNode(this.context);
    this.output.connect(this.context.destination);
    this.buffer = await this.context.decodeAudioData(bytes);
  }
  // Seconds of the context's clock that leave the loudspeaker now.
  heardByContext() {
    const stamp = this.context.getOutputTimestamp?.();
    if (stamp?.performanceTime > 0) {
      const now = stamp.contextTime + (performance.now() - stamp.performanceTime) / 1000;
      if (Math.abs(now - this.context.currentTime) < 1) return now;
    }
    return this.context.currentTime - (this.context.outputLatency || this.context.baseLatency || 0);
  }
  heard() {
    if (!this.playing) return this.position;
    return Math.min(this.heardByContext() - this.origin, this.length);
  }
  tell() { this.link.send("clock", { take: this.take, seconds: this.heard(), playing: this.playing }); }
  play() {
    if (!this.length || !this.context || this.context.state !== "running") return false;
    if (this.position >= this.length - 0.02) this.position = 0;
    this.silence();
    this.take++;
    const start = this.context.currentTime + RUNUP;
    this.origin = start - this.position;
    this.playing = true;
    if (this.buffer && this.position < this.buffer.duration) {
      this.node = new AudioBufferSourceNode(this.context, { buffer: this.buffer });
      this.node.connect(this.output);
      this.node.start(start, this.position);
    }
    this.tell();
    return true;
  }
  silence() {
    if (this.node) { this.node.stop(); this.node.disconnect(); this.node = null; }
  }
  stop() {
    if (!this.playing) return;
    this.position = Math.max(this.heard(), 0);
    this.playing = false;
    this.silence();
    this.take++;
    this.tell();
    this.onEnd();
  }
  seek(seconds) {
    const goesOn = this.playing;
    this.silence();
    this.playing = false;
    this.position = Math.min(Math.max(seconds, 0), this.length);
    this.take++;
    if (goesOn) this.play(); else this.tell();
  }
  // Called for every picture of the screen.
  step() {
    if (!this.playing || this.heard() < this.length) return;
    this.silence();
    this.playing = false;
    this.position = this.loop ? 0 : this.length;
    if (this.loop) this.play();
    else { this.take++; this.tell(); this.onEnd(); }
  }
}
