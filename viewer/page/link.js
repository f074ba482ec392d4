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
  send(type, values = {}) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...values }));
  }
}
