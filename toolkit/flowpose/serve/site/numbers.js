// What this page counts: frames a second, and how long each pose took from its sending to its picture's showing.

const KEPT = 600; // frames
const WINDOW = 2000; // ms of the frame rate

export class Numbers {
  constructor() {
    this.seen = 0; // poses that the session's newest frame said were replaced
    this.clear();
  }

  clear() {
    this.sent = new Map();
    this.latency = [];
    this.server = [];
    this.times = [];
    this.total = { sent: 0, shown: 0, errors: 0, replaced: 0, bytes: 0 };
    this.last = null;
  }

  put(number, now) {
    this.sent.set(number, now);
    this.total.sent += 1;
  }

  failed(number) {
    this.total.errors += 1;
    this.forget(number);
  }

  // A picture is on the screen from this animation frame on.
  show(head, bytes, now) {
    const begun = this.sent.get(head.number);
    this.forget(head.number);
    if (begun === undefined) return;
    keep(this.latency, now - begun, KEPT);
    keep(this.server, [head.waited, head.drawn, head.encoded], KEPT);
    keep(this.times, now, KEPT);
    this.total.shown += 1;
    this.total.bytes += bytes;
    this.total.replaced += head.replaced < this.seen ? head.replaced : head.replaced - this.seen; // fewer: a new session
    this.seen = head.replaced;
    this.last = { head, bytes };
  }

  forget(number) {
    for (const other of this.sent.keys()) if (other <= number) this.sent.delete(other);
  }

  summary(now) {
    const recent = this.times.filter((time) => now - time < WINDOW);
    const span = recent.length > 1 ? recent[recent.length - 1] - recent[0] : 0;
    const server = this.server.map((parts) => parts[0] + parts[1] + parts[2]);
    return {
      fps: span > 0 ? ((recent.length - 1) * 1000) / span : 0,
      n: this.latency.length,
      p50: percentile(this.latency, 50), p95: percentile(this.latency, 95), p99: percentile(this.latency, 99),
      server: percentile(server, 50),
      parts: [0, 1, 2].map((i) => percentile(this.server.map((each) => each[i]), 50)),
      ...this.total,
      bytes: this.last ? this.last.bytes : 0,
      mean_bytes: this.total.shown ? this.total.bytes / this.total.shown : 0,
    };
  }
}

export function percentile(values, share) {
  if (!values.length) return null;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.ceil((share / 100) * sorted.length) - 1)];
}

function keep(list, value, most) {
  list.push(value);
  if (list.length > most) list.shift();
}

export function spark(canvas, values, colour) {
  const context = canvas.getContext("2d");
  const bars = 160, step = canvas.width / bars;
  const shown = values.slice(-bars);
  const most = Math.max(20, percentile(shown, 99) ?? 0) * 1.15;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = colour;
  shown.forEach((value, i) => {
    const height = Math.min(1, value / most) * canvas.height;
    context.fillRect((bars - shown.length + i) * step, canvas.height - height, step - 1, height);
  });
}
