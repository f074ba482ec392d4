// Making it talk: a text, a file that is chosen or dropped, or the microphone.
const $ = (id) => document.getElementById(id);

export class Talk {
  constructor(link, sound) {
    Object.assign(this, { link, sound });
    this.client = ""; this.facts = {}; this.last = null; this.starts = false;
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
    if (!navigator.mediaDevices || !window.MediaRecorder) lacks($("microphone"), "the browser gives the microphone to secure pages only");
    if (this.last) this.last(); // the server was away: give it again what it had
  }
  tell(text, bad = false) { $("message").textContent = text; $("message").className = bad ? "bad" : ""; }
  say(text, language) {
    this.sound.wake(); this.starts = true;
    this.last = () => this.link.send("say", { text, language });
    this.tell("");
    this.last();
  }
  async upload(file, name) {
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
  async listen() {
    const button = $("microphone");
    if (this.recorder) { this.recorder.stop(); return; }
    this.sound.wake();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false } }), parts = [];
      this.recorder = new MediaRecorder(stream);
      this.recorder.ondataavailable = (e) => parts.push(e.data);
      this.recorder.onstop = () => {
        stream.getTracks().forEach((t) => t.stop());
        this.recorder = null;
        button.setAttribute("aria-pressed", "false"); button.textContent = "● Microphone";
        this.upload(new Blob(parts), "microphone.weba");
      };
      this.recorder.start();
      button.setAttribute("aria-pressed", "true"); button.textContent = "■ Stop, then it says that";
    } catch { this.tell("The microphone was not given; allow it for this page", true); }
  }
}
