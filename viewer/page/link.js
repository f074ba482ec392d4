// The socket to the server: says when it is gone, and comes back by itself.
export class Link {
  constructor(onMessage, onPicture, onState) {
    Object.assign(this, { onMessage, onPicture, onState });
    this.wait = 500;
    this.open();
  }
  open() {
    const at = new URL("socket" + location.search, location.href);
    at.protocol = at.protocol.replace("http", "ws");
    this.socket = new WebSocket(at);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { this.wait = 500; this.onState(true); };
    this.socket.onmessage = ({ data }) => typeof data === "string" ? this.onMessage(JSON.parse(data)) : this.onPicture(data);
    this.socket.onclose = () => {
      this.onState(false);
      setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 1.5, 2000);
    };
  }
  get isOpen() { return this.socket.readyState === WebSocket.OPEN; }
  // A piece of the microphone's sound, 16-bit samples.
  sendSound(rate, samples) {
    if (!this.isOpen || this.socket.bufferedAmount > 2 ** 18) return; // a slow line hears less, not later
    const message = new Uint8Array(8 + samples.byteLength);
    message.set([65, 86, 77, 49]); // "AVM1"
    new DataView(message.buffer).setUint32(4, rate, true);
    message.set(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength), 8);
    this.socket.send(message);
  }
  send(type, values = {}) {
    if (this.isOpen) this.socket.send(JSON.stringify({ type, ...values }));
  }
}
