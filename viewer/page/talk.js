// Making it talk: a text, a file that is chosen or dropped, or the microphone.
const $ = (id) => document.getElementById(id);

export class Talk {
  constructor(link, sound) {
    Object.assign(this, { link, sound });
    this.client = ""; this.facts = {}; this.last = null; this.starts = false; this.microphone = null;
    $("talk").addEventListener("submit", (e) => { e.preventDefault(); this.say($("text").value, $("language").value); });
    $("file").addEventListener("change", (e) => { const [file] = e.target.files; if (file) this.upload(file, file.name); e.target.value = ""; });
    $("microphone").addEventListener("click", () => this.listen());
    const holdsFiles = (e) => e.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (e) => { if (holdsFiles(e)) { e.preventDefault(); $("drop").hidden = false; } });
    addEventListener("dragleave", (e) => { if (!e.relatedTarget) $("drop").hidden = true; });
    addEventListener("drop", (e) => { if (!holdsFiles(e)) return; e.preventDefault(); $("drop").hidden = true; const [file] = e.dataTransfer.files; if (file) this.upload(file, file.name); });
  }
  meet(facts) {
    this.client = facts.client; this.facts = facts;
    $("file").accept = facts.takes.join(",");
    const lacks = (button, why) => { button.disabled = true; button.title = why; };
    if (!facts.reads) { lacks($("say"), "needs a voice"); $("text").placeholder = 'to read texts aloud: pip install "avatar[demo]"'; $("text").value = ""; $("text").disabled = true; }
    if (!facts.hears) lacks($("microphone"), 'needs pip install "avatar[preprocess]"');
    if (!navigator.mediaDevices || !window.MediaRecorder || !window.AudioWorkletNode) lacks($("microphone"), "the browser gives the microphone to secure pages only");
    if (this.last) this.last(); // the server was away: give it again what it had
  }
  tell(text, bad = false) { $("message").textContent = text; $("message").className = bad ? "bad" : ""; }
  say(text, language) {
    this.hush();
    this.sound.wake(); this.starts = true;
    this.last = () => this.link.send("say", { text, language });
    this.tell("");
    this.last();
  }
  async upload(file, name) {
    this.hush();
    this.sound.wake();
    this.starts = true;
    this.tell(`${name} is on its way…`);
    if (!/\.(png|jpe?g|webp)$/i.test(name)) this.last = () => this.upload(file, name);
    try {
      const answer = await fetch(`${this.client}/upload/${encodeURIComponent(name)}`, { method: "POST", body: file });
      const { error } = await answer.json();
      this.tell(error ?? "", !!error);
      if (!error && /\.(png|jpe?g|webp)$/i.test(name)) this.onPicture();
    } catch { this.tell(`${name} did not arrive; try again`, true); }
  }
  // Lips move along while it is spoken; afterwards the recording is said, in time with its sound.
  async listen() {
    if (this.microphone) { this.hush(); return; }
    const { sound, link } = this, name = "microphone.weba";
    sound.wake();
    sound.stop();
    $("microphone").disabled = true;
    let stream = null;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false } });
      const parts = [];
      const recorder = new MediaRecorder(stream), { context } = sound;
      await context.audioWorklet.addModule("page/microphone.js");
      const source = context.createMediaStreamSource(stream), node = new AudioWorkletNode(context, "microphone");
      source.connect(node).connect(new GainNode(context, { gain: 0 })).connect(context.destination);
      node.port.onmessage = ({ data }) => link.sendSound(context.sampleRate, data);
      recorder.ondataavailable = (e) => parts.push(e.data);
      recorder.onstop = () => { if (parts.length && link.isOpen) this.upload(new Blob(parts), name); };
      const longest = setTimeout(() => this.hush(), 1000 * this.facts.longest.sound - 1000);
      this.microphone = { close: () => {
        clearTimeout(longest);
        node.port.onmessage = null;
        source.disconnect();
        node.disconnect();
        stream.getTracks().forEach((t) => t.stop());
        link.send("microphone", { on: false });
        recorder.stop();
      } };
      link.send("microphone", { on: true });
      recorder.start();
      this.shows(true);
      this.tell("Speak: the lips move along, a quarter of a second behind. Then stop, and it says it in time with your voice.");
    } catch (error) {
      stream?.getTracks().forEach((t) => t.stop());
      this.tell(error.name === "NotFoundError" ? "There is no microphone; connect one" : "The microphone was not given; allow it for this page", true);
    } finally { $("microphone").disabled = false; }
  }
  hush() {
    if (!this.microphone) return;
    const { close } = this.microphone;
    this.microphone = null;
    close();
    this.shows(false);
    this.tell("");
  }
  shows(on) {
    $("microphone").setAttribute("aria-pressed", String(on));
    $("microphone").textContent = on ? "■ Stop, then it says that" : "● Microphone";
  }
}
