// The page: who is shown, what moves them, and what it costs.

import { Numbers, spark } from "./numbers.js";
import { Player } from "./player.js";
import { Skeleton } from "./skeleton.js";
import { Wire } from "./wire.js";

const SESSION = 0;
const PHOTO = /^image\/(png|jpeg|webp|bmp)$/;
const $ = (id) => document.getElementById(id);

const numbers = new Numbers();
const player = new Player();
const state = { model: null, own: null, standard: null, person: null, photo: null, files: null, dirty: false, number: 0, ready: false, newest: null };
let wire = null, skeleton = null;

const token = takeToken();
theme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
begin(token);

async function begin(token) {
  const response = await fetch("model", { headers: bearer(token) });
  if (response.status === 401) {
    ask();
    return;
  }
  if (!response.ok) {
    tell(await response.json());
    return;
  }
  if (token) sessionStorage.setItem("token", token);
  state.token = token;
  state.model = await response.json();
  build();
  wire = new Wire(token, { opened, closed() {}, error, frame, state: connection });
  await sampleMotion();
  requestAnimationFrame(tick);
  setInterval(figures, 500);
}

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname);
  return given ?? sessionStorage.getItem("token");
}

function bearer(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function ask() {
  $("ask").hidden = false;
  $("main").hidden = true;
  connection("gone", "needs a token");
  $("ask").onsubmit = (event) => {
    event.preventDefault();
    $("ask").hidden = true;
    $("main").hidden = false;
    begin($("token").value.trim());
  };
  $("token").focus();
}

function build() {
  const { model } = state;
  $("model").textContent = model.name;
  document.title = `flowpose · ${model.name}`;
  const [height, width] = model.size;
  Object.assign($("picture"), { width, height });
  $("frame").style.aspectRatio = `${width} / ${height}`;
  skeleton = new Skeleton($("skeleton"), model, touched);
  $("people").replaceChildren(...model.people.map(personButton), photoButton());
  $("encoding").replaceChildren(...model.encodings.map((name) => new Option(name === "jpeg" ? "JPEG" : "WebP", name)));
  choose(model.people[0]);
  controls();
  figures();
}

function personButton(name) {
  const button = document.createElement("button");
  const picture = Object.assign(new Image(), { src: `people/${name}.webp`, alt: "" });
  Object.assign(button, { type: "button", title: name });
  button.setAttribute("aria-label", `Person: ${name}`);
  button.dataset.person = name;
  button.append(picture);
  button.onclick = () => choose(name);
  return button;
}

function photoButton() {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "add", textContent: "Your photo" });
  button.dataset.person = "photo";
  button.onclick = () => $("pick-photo").click();
  return button;
}

function choose(name) {
  state.person = name;
  state.photo = null;
  open();
}

function open() {
  if (!wire?.live) return;
  if (state.photo) wire.photo(SESSION, state.photo.bytes);
  else wire.say({ type: "open", session: SESSION, sample: state.person });
}

async function usePhoto(file) {
  const { photo_mb: most } = state.model.limits;
  if (file.size > most * 2 ** 20) {
    tell({ title: "too large", where: file.name, got: `${(file.size / 2 ** 20).toFixed(1)} MB`, expected: `at most ${most} MB`, fix: "a smaller picture" });
    return;
  }
  state.asked = { bytes: await file.arrayBuffer(), name: file.name, url: URL.createObjectURL(file) };
  wire.photo(SESSION, state.asked.bytes);
}

function opened(message) {
  if (state.asked) {
    state.photo = state.asked;
    state.asked = null;
    state.person = "photo";
    const picture = Object.assign(new Image(), { src: state.photo.url, alt: "" });
    document.querySelector(".people .add").replaceChildren(picture);
  }
  calm();
  state.own = message.own ? Float32Array.from(message.own.flat()) : null;
  const shown = state.photo ? state.photo.name : state.person;
  const found = state.own ? "" : " Nobody was found in it: the skeleton starts in a standard pose. A person who fills the picture's height is found best.";
  $("about").textContent = `${shown}, ${message.source[1]} × ${message.source[0]} pixels.${found}`;
  for (const button of $("people").children) button.setAttribute("aria-pressed", String(button.dataset.person === state.person));
  state.ready = true;
  if (!player.playing) pose(start());
  if (state.files && $("fit").checked) loadFiles(state.files);
  else if (player.motion) player.load(player.motion, state.own);
}

function start() {
  return state.own ?? state.standard;
}

function pose(rows) {
  if (!rows || !skeleton) return;
  skeleton.set(rows);
  state.dirty = true;
}

function touched(kind) {
  if (kind === "grab") play(false);
  $("hint").style.opacity = 0;
  state.dirty = true;
}

function connection(name, text) {
  $("status").dataset.state = name;
  $("said").textContent = text;
  state.ready = false;
  if (name === "live") {
    look();
    open();
  }
}

function error(message) {
  if (message.number !== null) {
    numbers.failed(message.number);
    wire.ack(message.session, message.number);
  }
  state.asked = null;
  tell(message.problem);
}

// Decoded, it is acknowledged: the next one may be drawn while this one waits for the screen.
async function frame(head, bytes) {
  const size = bytes.byteLength;
  const picture = await createImageBitmap(new Blob([bytes], { type: head.type }));
  wire.ack(head.session, head.number);
  state.newest?.picture.close();
  state.newest = { head, picture, size };
}

function tick(now) {
  const rows = player.step(now);
  if (rows) pose(rows);
  if (player.playing) clock();
  if (state.newest) {
    const { head, picture, size } = state.newest;
    state.newest = null;
    $("picture").getContext("2d").drawImage(picture, 0, 0);
    picture.close();
    numbers.show(head, size, performance.now());
  }
  if (state.dirty && state.ready && wire.live) {
    const sent = performance.now();
    if (wire.pose(SESSION, ++state.number, skeleton.rows)) {
      numbers.put(state.number, sent);
      state.dirty = false;
    }
  }
  requestAnimationFrame(tick);
}

async function sampleMotion() {
  const found = await asked("motions/sample", {});
  if (!found) return;
  state.standard = Float32Array.from(found.poses.find((pose) => pose));
  state.files = null;
  use(found);
  $("motion").textContent = `${found.poses.length} poses, ${player.length.toFixed(1)} s of motion capture. Or drop a pose file: OpenPose, COCO, MediaPipe, .pose, CSV, NumPy.`;
  mark("sample");
  if (state.ready && !state.own) pose(start());
}

async function loadFiles(files) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  if ($("fit").checked && state.own) form.append("own", JSON.stringify(Array.from({ length: state.own.length / 3 }, (_, i) => Array.from(state.own.subarray(3 * i, 3 * i + 3)))));
  const found = await asked("motions", { method: "POST", body: form });
  if (!found) return;
  if (!found.poses.some((pose) => pose)) {
    tell({ title: "nobody is on the frame in any pose", where: files[0].name });
    return;
  }
  state.files = files;
  use(found);
  $("motion").textContent = `${files.length > 1 ? `${files.length} files` : files[0].name}: ${found.poses.length} poses, ${player.length.toFixed(1)} s.`;
  mark("file");
  play(found.poses.length > 1);
  pose(player.at(0));
}

function use(motion) {
  player.load(motion, state.own);
  $("time").max = player.length;
  clock();
}

function mark(name) {
  for (const id of ["sample", "file"]) $(id).setAttribute("aria-pressed", String(id === name));
  $("fitting").hidden = name !== "file";
}

async function asked(path, options) {
  try {
    const response = await fetch(path, { ...options, headers: bearer(state.token) });
    const found = await response.json();
    if (response.ok) {
      calm();
      return found;
    }
    tell(found);
  } catch (fault) {
    tell({ title: "the server does not answer", where: path, got: fault.message });
  }
  return null;
}

function play(on) {
  player.play(on, performance.now());
  $("play").setAttribute("aria-pressed", String(player.playing));
  $("play").querySelector("span").textContent = player.playing ? "Pause" : "Play";
  if (on) $("hint").style.opacity = 0;
}

function clock() {
  $("time").value = player.time;
  $("clock").textContent = `${player.time.toFixed(1)} / ${player.length.toFixed(1)} s`;
}

function look() {
  $("q").textContent = $("quality").value;
  wire.say({ type: "view", encoding: $("encoding").value, quality: Number($("quality").value) });
  state.dirty = true;
}

function figures() {
  const { model } = state, now = numbers.summary(performance.now());
  const ms = (value) => (value === null ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)} <small>ms</small>`);
  const rows = [
    ["frames/s", now.fps ? now.fps.toFixed(now.fps < 10 ? 1 : 0) : "–"],
    ["server", ms(now.server)],
    ["dropped poses", `${now.replaced} <small>of ${now.sent}</small>`],
    ["latency p50", ms(now.p50)], ["p95", ms(now.p95)], ["p99", ms(now.p99)],
    ["precision", model.precision, "text"], ["target", model.target ?? "unknown", "text"], ["backend", model.backend, "text"],
    ["size", `${model.size[1]} × ${model.size[0]}`, "text"],
    ["frame", now.bytes ? `${(now.bytes / 1024).toFixed(1)} <small>KB</small>` : "–", "text"],
    ["threads", String(model.threads), "text"],
  ];
  $("numbers").replaceChildren(...rows.map(([name, value, kind]) => {
    const box = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    box.className = kind ?? "";
    dt.textContent = name;
    const [plain, unit] = value.split("<small>");
    dd.append(plain);
    if (unit) dd.append(Object.assign(document.createElement("small"), { textContent: unit.replace("</small>", "") }));
    box.append(dt, dd);
    return box;
  }));
  $("chip").hidden = !now.n;
  $("chip").textContent = `${now.fps ? `${now.fps.toFixed(0)} frames/s · ` : ""}p95 ${Math.round(now.p95)} ms`;
  spark($("spark"), numbers.latency, getComputedStyle(document.documentElement).getPropertyValue("--accent"));
}

function tell(problem) {
  $("p-title").textContent = problem.where ? `${problem.where}: ${problem.title}` : problem.title;
  const parts = ["got", "expected", "fix"].filter((name) => problem[name]);
  $("p-parts").replaceChildren(...parts.flatMap((name) => [
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: problem[name] }),
  ]));
  $("problem").hidden = false;
}

function calm() {
  $("problem").hidden = true;
}

function theme(name) {
  document.documentElement.dataset.theme = name;
}

function controls() {
  $("play").onclick = () => { wire.wake(); play(!player.playing); };
  $("time").oninput = () => { player.time = Number($("time").value); play(false); clock(); pose(player.at(player.time)); };
  $("speed").onchange = () => { player.speed = Number($("speed").value); };
  $("reset").onclick = () => { play(false); pose(start()); };
  $("bones").onchange = () => { $("skeleton").style.visibility = $("bones").checked ? "" : "hidden"; };
  $("sample").onclick = async () => { await sampleMotion(); play(true); };
  $("file").onclick = () => $("pick-poses").click();
  $("fit").onchange = () => { if (state.files) loadFiles(state.files); };
  $("encoding").onchange = look;
  $("quality").oninput = look;
  $("pick-photo").onchange = () => take([...$("pick-photo").files], $("pick-photo"));
  $("pick-poses").onchange = () => take([...$("pick-poses").files], $("pick-poses"));
  $("p-close").onclick = calm;
  $("skeleton").addEventListener("pointerdown", () => wire.wake());
  dropping();
}

$("theme").onclick = () => {
  const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", name);
  theme(name);
};

function take(files, input) {
  if (input) input.value = "";
  wire.wake();
  const photo = files.find((file) => PHOTO.test(file.type));
  if (photo) usePhoto(photo);
  else if (files.length && files.every((file) => file.type.startsWith("image/") || file.type.startsWith("video/"))) usePhoto(files[0]); // the server says what is wrong with it
  else if (files.length) loadFiles(files);
}

function dropping() {
  let depth = 0;
  const over = (on) => { $("drop").hidden = !on; };
  addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; over(true); });
  addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) over(false); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); depth = 0; over(false); take([...event.dataTransfer.files]); });
  addEventListener("visibilitychange", () => { if (document.hidden) play(false); });
}

// For tests and measurements in a browser. Idle: the newest pose's picture is on the screen.
window.flowpose = {
  numbers: () => numbers.summary(performance.now()),
  clear: () => numbers.clear(),
  rows: () => Array.from(skeleton.rows),
  idle: () => state.ready && !state.dirty && !state.newest && numbers.last?.head.number === state.number,
  show: (time) => { player.time = time; clock(); pose(player.at(time)); },
  play: (on) => play(on),
  cut: () => wire.socket.close(),
};
