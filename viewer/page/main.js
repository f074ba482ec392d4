// The page: brings the parts together.
import { camera } from "./camera.js";
import { Face } from "./face.js";
import { Frames } from "./frames.js";
import { Link } from "./link.js";
import { Sound } from "./sound.js";
import { State } from "./state.js";
import { Talk } from "./talk.js";

const $ = (id) => document.getElementById(id);
const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
let facts = null, performanceNow = null, recordedAt = 0;

const link = new Link((message) => answers[message.type]?.(message), (data) => frames.take(data), (isThere) => {
  $("gone").hidden = isThere;
  if (isThere) return;
  sound.stop();
  talk.hush();
  recording(false);
  refresh();
});
const sound = new Sound(link, () => refresh());
const frames = new Frames($("picture"), link, sound);
const state = new State(link, frames, () => refresh());
const talk = new Talk(link, sound);
const preset = camera($("picture"), state);
let face = null;
window.viewer = { link, sound, frames, state, talk };

const answers = {
  hello(message) {
    frames.restart();
    if (!facts) { facts = message; open(); }
    facts.client = message.client;
    link.send("view", state.view());
    link.send("clock", { take: sound.take, seconds: 0, playing: false });
    link.send("style", { name: state.style });
    talk.meet(message);
  },
  async performance(message) {
    performanceNow = message;
    try { await sound.load(message.sound, message.seconds); } catch { talk.tell("The sound did not arrive; try again", true); return; }
    $("transport").hidden = false;
    $("seek").max = message.seconds;
    $("compare").hidden = !(message.source && $("comparing").checked);
    talk.tell("");
    if (talk.starts) play();
    talk.starts = false;
    refresh();
  },
  notice: ({ message }) => talk.tell(message),
  error: ({ message }) => talk.tell(message, true),
  full: ({ message }) => talk.tell(message, true),
  busy({ on }) { $("progress").hidden = !on; if (on) $("progress").removeAttribute("value"); document.body.dataset.busy = on; },
  progress({ what, done, total }) {
    Object.assign($("progress"), { hidden: done >= total, max: total, value: done });
    talk.tell(done < total ? `${what}: ${done} of ${total}` : "");
  },
  film({ name, url }) {
    const a = Object.assign(document.createElement("a"), { href: url, download: name, textContent: `Save ${name}` });
    $("films").append(a, " ");
    $("progress").hidden = true;
    a.click();
  },
};

function open() {
  face = new Face(state, facts);
  $("style").append(...facts.styles.map((name) => new Option(name === "own" ? "the person's own" : name, name)));
  $("replay").hidden = $("comparerow").hidden = !facts.source;
  $("facts").textContent = Object.entries(facts.facts).map(([k, v]) => `${k}: ${v}`).join(", ");
  refresh();
  frames.resize(facts.size);
  $("frame").style.aspectRatio = `${facts.size[1]} / ${facts.size[0]}`;
}

async function play() {
  talk.hush();
  await Promise.race([sound.wake(), new Promise((done) => setTimeout(done, 300))]);
  $("bigplay").hidden = sound.play();
  refresh();
}
const toggle = () => { if (sound.playing) sound.stop(); else play(); refresh(); };
const recording = (on) => {
  if (on === !!recordedAt) return;
  recordedAt = on ? performance.now() : 0;
  $("record").setAttribute("aria-pressed", String(on));
  $("record").textContent = on ? "■ Stop" : "● Record";
};

function refresh() {
  $("play").textContent = sound.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", sound.playing ? "Pause" : "Play");
  $("undo").disabled = !state.past.length;
  $("redo").disabled = !state.future.length;
  const w = state.want;
  $("lens").value = w.lens;
  $("lenses").textContent = `${Math.exp(w.lens).toFixed(2)}×`;
  $("drawing").value = w.look.drawing;
  $("shade").checked = w.look.shade;
  document.querySelectorAll("[data-part]").forEach((box) => { box.checked = !w.look.hidden.includes(box.dataset.part); });
  $("style").value = w.style;
  const given = w.look.background, known = [...$("background").options].some((o) => o.value === given && given !== "colour");
  $("background").value = known ? given : "colour";
  $("colour").hidden = known;
  if (!known) $("colour").value = given;
  keyFrames(w.path);
  face?.refresh();
}

// Each key frame can be gone to and taken away.
function keyFrames(path) {
  const key = JSON.stringify(path);
  if ($("keys").dataset.path === key) return;
  $("keys").dataset.path = key;
  const words = path.length ? [] : ["No camera path: key frames make the camera move while it talks."];
  $("keys").replaceChildren(...words, ...path.flatMap((k) => {
    const go = document.createElement("button"), away = document.createElement("button"), at = `${k.seconds.toFixed(1)} s`;
    Object.assign(go, { textContent: at, title: "Show this key frame" });
    Object.assign(away, { textContent: "×", title: "Take it away" });
    away.setAttribute("aria-label", `Take the key frame at ${at} away`);
    go.addEventListener("click", () => { sound.seek(k.seconds); set((w) => { w.viewpoint = { ...k.viewpoint, pan: [...k.viewpoint.pan] }; w.lens = 0; }); });
    away.addEventListener("click", () => set((w) => { w.path = w.path.filter((other) => other.seconds !== k.seconds); }));
    return [go, away];
  }), path.length === 1 ? "Add another to make a path." : path.length ? "While it plays the path moves the camera." : "");
}

frames.onShown = (shown) => {
  $("unseen").hidden = shown.unseen < 0.15 || !state.want.look.shade;
  if (!$("compare").hidden && performanceNow?.source) {
    const index = Math.round(shown.seconds * performanceNow.fps), at = `${facts.client}/source/${index}`;
    if ($("source").dataset.at !== at) { $("source").dataset.at = at; $("source").src = at; }
  }
};
setInterval(() => {
  const ms = frames.latency(), s = frames.shown;
  $("status").textContent = `${frames.rate()} fps · ${ms === null ? "–" : ms.toFixed(0) + " ms"} · ${s.height ?? "–"} px`;
  if (document.activeElement !== $("seek") || sound.playing) $("seek").value = Math.max(sound.heard(), 0);
  $("time").textContent = clock(Math.max(sound.heard(), 0));
  if (recordedAt) $("record").textContent = `■ Stop ${clock((performance.now() - recordedAt) / 1000)}`;
}, 200);

const set = (change) => { change(state.want); state.change(); state.commit(); };
const look = (change) => set((w) => change(w.look));
$("play").addEventListener("click", toggle);
$("bigplay").addEventListener("click", play);
$("seek").addEventListener("input", (e) => sound.seek(Number(e.target.value)));
$("loop").addEventListener("click", (e) => { sound.loop = !sound.loop; e.target.setAttribute("aria-pressed", String(sound.loop)); });
$("record").addEventListener("click", () => { recording(!recordedAt); link.send("record", { on: !!recordedAt }); });
$("film").addEventListener("click", () => link.send("film"));
$("undo").addEventListener("click", () => state.undo());
$("redo").addEventListener("click", () => state.redo());
$("resetall").addEventListener("click", () => state.reset());
document.querySelectorAll("[data-preset]").forEach((b) => b.addEventListener("click", () => preset(b.dataset.preset)));
$("lens").addEventListener("input", (e) => { state.want.lens = Number(e.target.value); state.change(); });
$("lens").addEventListener("change", () => state.commit());
$("addkey").addEventListener("click", () => set((w) => {
  const seconds = Math.max(Math.round(sound.heard() * 100) / 100, 0), lens = Math.exp(w.lens), v = w.viewpoint;
  const viewpoint = { ...v, pan: [...v.pan], zoom: v.zoom * lens, distance: Math.min(Math.max(v.distance * lens, 0.2), 8) };
  w.path = [...w.path.filter((k) => Math.abs(k.seconds - seconds) > 0.005), { seconds, viewpoint }].sort((a, b) => a.seconds - b.seconds).slice(0, 64);
}));
$("clearkeys").addEventListener("click", () => set((w) => { w.path = []; }));
$("style").addEventListener("change", (e) => set((w) => { w.style = e.target.value; }));
$("replay").addEventListener("click", () => { sound.wake(); talk.starts = true; talk.last = () => link.send("replay"); talk.last(); });
$("comparing").addEventListener("change", (e) => { $("compare").hidden = !(e.target.checked && performanceNow?.source); });
$("background").addEventListener("change", (e) => {
  if (e.target.value === "picture") $("image").click();
  else look((l) => { l.background = e.target.value === "colour" ? $("colour").value : e.target.value; });
});
$("colour").addEventListener("input", (e) => { state.want.look.background = e.target.value; state.change(); });
$("colour").addEventListener("change", () => state.commit());
$("image").addEventListener("cancel", refresh);
$("image").addEventListener("change", (e) => { const [file] = e.target.files; if (file) talk.upload(file, file.name); e.target.value = ""; });
talk.onPicture = () => { talk.starts = false; $("background").value = "picture"; look((l) => { l.background = "picture"; }); };
$("drawing").addEventListener("change", (e) => look((l) => { l.drawing = e.target.value; }));
$("shade").addEventListener("change", (e) => look((l) => { l.shade = e.target.checked; }));
document.querySelectorAll("[data-part]").forEach((box) => box.addEventListener("change", () => look((l) => { l.hidden = [...document.querySelectorAll("[data-part]")].filter((b) => !b.checked).map((b) => b.dataset.part); })));
addEventListener("keydown", (e) => {
  const types = /^(INPUT|SELECT|TEXTAREA|BUTTON|SUMMARY)$/.test(e.target.tagName) && e.target.type !== "range";
  if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "z" && e.target.type !== "text") { e.preventDefault(); if (e.shiftKey) state.redo(); else state.undo(); }
  if (types || e.ctrlKey || e.metaKey) return;
  if (e.key === " ") { e.preventDefault(); toggle(); }
  if (e.key.toLowerCase() === "b") face?.blink();
});
addEventListener("pointerdown", () => sound.context && sound.wake());
