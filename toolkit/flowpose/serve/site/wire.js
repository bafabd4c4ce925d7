// The WebSocket: binary frames in, binary poses out. docs/serving.md has the bytes as a table.

const POSE = 1, ACK = 2, PHOTO = 3, PICTURE = 4;
const ENCODINGS = ["image/jpeg", "image/webp"];
const HEAD = 8, FRAME = 32;
const ENOUGH = 256 * 1024; // bytes that wait in this browser: a newer pose is on its way already

export class Wire {
  // `on` has opened(message), closed(message), error(message), frame(head, bytes), state(name, text).
  constructor(token, on) {
    this.token = token;
    this.on = on;
    this.tries = 0;
    this.ended = false;
    this.connect();
  }

  connect() {
    const protocols = ["flowpose.1"].concat(this.token ? [`bearer.${this.token}`] : []);
    const address = new URL("live", location.href.replace(/#.*$/, ""));
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => this.take(event.data);
    this.socket.onclose = (event) => this.lost(event);
  }

  get live() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  take(data) {
    if (typeof data !== "string") {
      this.on.frame(head(data), data.slice(FRAME));
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "hello") {
      this.tries = 0;
      this.on.state("live", "connected");
    } else {
      this.on[message.type](message);
    }
  }

  lost(event) {
    if (this.ended) return;
    if (event.code === 4000) {
      this.on.state("gone", "paused: nothing happened for a while");
      return;
    }
    const seconds = Math.min(8, 2 ** this.tries++);
    this.on.state("gone", `disconnected, again in ${seconds} s`);
    setTimeout(() => this.connect(), seconds * 1000);
  }

  wake() {
    if (this.socket.readyState === WebSocket.CLOSED) this.connect();
  }

  say(message) {
    if (this.live) this.socket.send(JSON.stringify(message));
  }

  photo(session, bytes) {
    this.send(PHOTO, session, 0, 0, new Uint8Array(bytes));
  }

  pose(session, number, rows) {
    if (!this.live || this.socket.bufferedAmount > ENOUGH) return false;
    this.send(POSE, session, rows.length / 3, number, new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength));
    return true;
  }

  ack(session, number) {
    this.send(ACK, session, 0, number, new Uint8Array(0));
  }

  send(kind, session, joints, number, body) {
    if (!this.live) return;
    const message = new Uint8Array(HEAD + body.length);
    const view = new DataView(message.buffer);
    view.setUint8(0, kind);
    view.setUint8(1, session);
    view.setUint16(2, joints, true);
    view.setUint32(4, number, true);
    message.set(body, HEAD);
    this.socket.send(message);
  }
}

function head(data) {
  const view = new DataView(data);
  if (view.getUint8(0) !== PICTURE) throw new Error(`message of kind ${view.getUint8(0)}`);
  return {
    session: view.getUint8(1), type: ENCODINGS[view.getUint8(2)], number: view.getUint32(4, true),
    made: view.getUint32(8, true), replaced: view.getUint32(12, true),
    width: view.getUint16(16, true), height: view.getUint16(18, true),
    waited: view.getFloat32(20, true), drawn: view.getFloat32(24, true), encoded: view.getFloat32(28, true),
  };
}
