// Runs in the sound's own thread: hands on what the microphone hears, 40 ms at a time, as 16-bit samples.
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(Math.round(sampleRate * 0.04));
    this.count = 0;
  }
  process([input]) {
    if (!input.length) return true;
    for (let i = 0; i < input[0].length; i++) {
      const mean = input.reduce((sum, channel) => sum + channel[i], 0) / input.length;
      this.piece[this.count++] = Math.max(-1, Math.min(1, mean)) * 32767;
      if (this.count === this.piece.length) {
        this.port.postMessage(this.piece.slice());
        this.count = 0;
      }
    }
    return true;
  }
}
registerProcessor("microphone", Microphone);
