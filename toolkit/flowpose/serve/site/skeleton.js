// The skeleton over the picture. Rows are x, y, score of every joint, in pixels of the model's frame.

const SVG = "http://www.w3.org/2000/svg";
const ARM = ["shoulder", "elbow", "wrist"], LEG = ["hip", "knee", "ankle"];
const HIT = 20, DOT = 6.5, RING = 11; // radii on the screen, px

// Handle -> does the joint of that name go with it? What hangs on a joint comes along when it is dragged.
function handles() {
  const made = [
    { name: "body", says: "whole body", at: ["left_hip", "right_hip"], carries: () => true },
    { name: "head", says: "head", at: ["nose"], carries: (joint) => /^(nose|face_|(left|right)_(eye|ear)|mouth|mesh_|(left|right)_pupil)/.test(joint) },
  ];
  for (const side of ["left", "right"]) {
    const end = { wrist: "hand_|pinky|index|thumb", ankle: "big_toe|small_toe|heel|foot_index" };
    for (const chain of [ARM, LEG]) {
      chain.forEach((part, i) => {
        const moved = [...chain.slice(i), end[chain[2]]].join("|");
        const known = new RegExp(`^${side}_(${moved})`);
        made.push({ name: `${side}_${part}`, says: `${side} ${part}`, at: [`${side}_${part}`], carries: (joint) => known.test(joint) });
      });
    }
  }
  return made;
}

export class Skeleton {
  constructor(svg, model, changed) {
    this.svg = svg;
    this.changed = changed; // called with the kind of change: drag or keys
    [this.height, this.width] = model.size;
    this.rows = new Float32Array(model.joints.length * 3);
    const number = new Map(model.joints.map((joint, i) => [joint, i]));
    svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.limbs = model.limbs.map(([a, b]) => this.limb(a, b, model.joints)).filter(Boolean);
    this.handles = handles().filter((handle) => handle.at.every((joint) => number.has(joint))).map((handle) => ({
      ...handle, at: handle.at.map((joint) => number.get(joint)),
      moved: model.joints.flatMap((joint, i) => (handle.carries(joint) ? [i] : [])),
    }));
    this.handles.forEach((handle) => this.joint(handle));
    // A finger that holds a joint drags it; anywhere else on the picture it scrolls the page.
    svg.addEventListener("touchstart", (event) => { if (this.held) event.preventDefault(); }, { passive: false });
    svg.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) svg.addEventListener(kind, () => this.release());
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  limb(a, b, joints) {
    const names = [joints[a], joints[b]];
    if (names.some((name) => name.startsWith("mesh_"))) return null;
    const fine = names.some((name) => /^face_|_hand_/.test(name));
    const side = ["left", "right"].find((each) => names.every((name) => name.startsWith(each))) ?? "middle";
    const lines = (fine ? [`limb fine ${side}`] : ["limb halo", `limb ${side}`]).map((kind) => add(this.svg, "line", { class: kind }));
    if (!fine) this.svg.prepend(lines[0]);
    return { a, b, lines };
  }

  joint(handle) {
    const side = handle.name.split("_")[0];
    handle.group = add(this.svg, "g", { class: `joint ${["left", "right"].includes(side) ? side : "middle"}`, tabindex: 0, role: "button", "aria-roledescription": "joint" });
    handle.hit = add(handle.group, "circle", { class: "hit" });
    handle.ring = add(handle.group, "circle", { class: "ring" });
    handle.dot = add(handle.group, "circle", { class: "dot" });
    handle.group.dataset.joint = handle.name;
    handle.group.addEventListener("pointerdown", (event) => this.grab(event));
    handle.group.addEventListener("keydown", (event) => this.key(event, handle));
  }

  set(rows) {
    this.rows.set(rows);
    if (this.held) this.origin = null; // the motion has moved the joint that is held
    this.draw();
  }

  place(handle) {
    const spots = handle.at.filter((i) => this.rows[3 * i + 2] > 0);
    if (spots.length < handle.at.length) return null;
    const mean = (k) => spots.reduce((sum, i) => sum + this.rows[3 * i + k], 0) / spots.length;
    return [mean(0), mean(1)];
  }

  draw() {
    const scale = this.width / (this.svg.clientWidth || this.width);
    const { rows } = this;
    for (const { a, b, lines } of this.limbs) {
      const there = rows[3 * a + 2] > 0 && rows[3 * b + 2] > 0;
      for (const line of lines) {
        line.style.display = there ? "" : "none";
        if (there) attributes(line, { x1: rows[3 * a], y1: rows[3 * a + 1], x2: rows[3 * b], y2: rows[3 * b + 1] });
      }
    }
    for (const handle of this.handles) {
      const spot = this.place(handle);
      handle.group.style.display = spot ? "" : "none";
      if (!spot) continue;
      attributes(handle.group, { transform: `translate(${spot[0]} ${spot[1]})`, "aria-label": `${handle.says}, x ${Math.round(spot[0])}, y ${Math.round(spot[1])}` });
      for (const [part, radius] of [["hit", HIT], ["ring", RING], ["dot", DOT]]) handle[part].setAttribute("r", radius * scale);
    }
  }

  // The nearest joint to the pointer: their circles lie over each other.
  grab(event) {
    if (event.button) return;
    const at = this.at(event);
    const near = this.handles.map((handle) => [handle, this.place(handle)]).filter(([, spot]) => spot)
      .map(([handle, spot]) => [Math.hypot(spot[0] - at[0], spot[1] - at[1]), handle]).sort((a, b) => a[0] - b[0]);
    if (!near.length) return;
    event.preventDefault();
    this.held = near[0][1];
    this.origin = at;
    this.svg.setPointerCapture(event.pointerId);
    this.held.group.classList.add("held");
    this.held.group.focus({ preventScroll: true });
    this.svg.classList.add("dragging");
    this.changed("grab");
  }

  move(event) {
    if (!this.held) return;
    const at = this.at(event);
    const from = this.origin ?? at;
    this.origin = at;
    this.shift(this.held, at[0] - from[0], at[1] - from[1]);
    this.changed("drag");
  }

  release() {
    if (!this.held) return;
    this.held.group.classList.remove("held");
    this.svg.classList.remove("dragging");
    this.held = null;
  }

  key(event, handle) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const step = (event.shiftKey ? 0.06 : 0.012) * this.height;
    this.changed("grab");
    this.shift(handle, way[0] * step, way[1] * step);
    this.changed("keys");
  }

  // The joint stays on the frame; what hangs on it may leave it.
  shift(handle, dx, dy) {
    const spot = this.place(handle);
    if (!spot) return;
    const clamp = (value, most) => Math.min(most - 0.5, Math.max(0.5, value));
    const x = clamp(spot[0] + dx, this.width) - spot[0], y = clamp(spot[1] + dy, this.height) - spot[1];
    for (const i of handle.moved) {
      if (this.rows[3 * i + 2] <= 0) continue;
      this.rows[3 * i] += x;
      this.rows[3 * i + 1] += y;
    }
    this.draw();
  }

  at(event) {
    const box = this.svg.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.width, ((event.clientY - box.top) / box.height) * this.height];
  }
}

function add(parent, kind, given) {
  const made = document.createElementNS(SVG, kind);
  attributes(made, given);
  parent.append(made);
  return made;
}

function attributes(element, given) {
  for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
}
