// A motion in time: poses go evenly from one to the next, and the end goes over into the start.

export class Player {
  constructor() {
    this.motion = null;
    this.playing = false;
    this.time = 0;
    this.speed = 1;
    this.before = null;
  }

  // `own`: joints that the motion never shows, as legs in a signing sequence, stay as in the photo.
  load(motion, own) {
    const count = motion.poses.find((pose) => pose).length / 3;
    const rows = motion.poses.map((pose) => (pose ? Float32Array.from(pose) : null));
    const shown = new Uint8Array(count);
    for (const pose of rows) if (pose) for (let i = 0; i < count; i++) if (pose[3 * i + 2] > 0) shown[i] = 1;
    if (own) {
      for (const pose of rows) {
        if (!pose) continue;
        for (let i = 0; i < count; i++) if (!shown[i]) pose.set(own.subarray(3 * i, 3 * i + 3), 3 * i);
      }
    }
    this.rows = rows;
    this.times = motion.times;
    this.motion = motion;
    this.time = 0;
    const n = this.times.length;
    this.length = n > 1 ? (this.times[n - 1] * n) / (n - 1) : 1; // the last pose is shown as long as the others
  }

  play(on, now) {
    this.playing = on && this.motion !== null;
    this.before = now;
  }

  step(now) {
    if (!this.playing) return null;
    const passed = Math.max(0, now - this.before); // an animation frame's time may be before the click's
    this.time = (this.time + (passed / 1000) * this.speed) % this.length;
    this.before = Math.max(now, this.before);
    return this.at(this.time);
  }

  // Rows at a time; null where nobody is in the motion then.
  at(time) {
    const after = this.times.findIndex((each) => each > time);
    const i = Math.max(0, (after === -1 ? this.times.length : after) - 1);
    const a = this.rows[i], b = this.rows[i + 1];
    if (!a || !b) return a ?? b ?? null;
    const share = (time - this.times[i]) / Math.max(1e-6, this.times[i + 1] - this.times[i]);
    return between(a, b, Math.min(1, Math.max(0, share)));
  }
}

// Joints that both poses share go evenly; others are those of the nearer pose.
function between(a, b, share) {
  const near = share < 0.5 ? a : b;
  const made = Float32Array.from(near);
  for (let i = 0; i < made.length; i += 3) {
    if (a[i + 2] > 0 && b[i + 2] > 0) for (let k = i; k < i + 3; k++) made[k] = a[k] + share * (b[k] - a[k]);
  }
  return made;
}
