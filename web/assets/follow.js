// Follows a deployment that runs: appends the lines of its log as they come, and has the server draw the rest anew.
"use strict";
(() => {
  const log = document.getElementById("log");
  const note = document.getElementById("follow");
  const address = log.dataset.address;
  const query = new URLSearchParams(log.dataset.query);
  const begun = performance.now();
  let drawing = Promise.resolve();
  let age = Number(document.getElementById("age").dataset.ms);
  let drawn = begun;

  // Once, and not at once: a server in trouble is not to be asked again and again.
  let reloading = false;
  const reloadLater = () => {
    if (reloading) return;
    reloading = true;
    setTimeout(() => location.reload(), 3000);
  };

  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;

  const append = (line) => {
    const follow = atEnd();
    const item = document.createElement("li");
    item.className = line.kind;
    const time = document.createElement("time");
    time.textContent = line.time;
    const kind = document.createElement("b");
    kind.textContent = line.kind;
    const text = document.createElement("span");
    text.textContent = line.text;
    item.append(time, " ", kind, " ", text);
    log.append(item);
    if (follow) log.scrollTop = log.scrollHeight;
  };

  const draw = async () => {
    const answer = await fetch(address + "/summary?" + query, { cache: "no-store" });
    if (!answer.ok) return reloadLater();
    const focused = document.activeElement?.id;
    document.getElementById("summary").outerHTML = await answer.text();
    const summary = document.getElementById("summary");
    document.title = summary.dataset.title;
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    age = Number(document.getElementById("age").dataset.ms);
    drawn = performance.now();
  };
  const redraw = () => (drawing = drawing.then(draw).catch(() => {}));

  const took = (seconds) => {
    if (seconds < 100) return seconds.toFixed(0) + " s";
    return Math.floor(seconds / 60) + " min " + String(Math.floor(seconds % 60)).padStart(2, "0") + " s";
  };
  const clock = setInterval(() => {
    document.getElementById("age").textContent = took((age + performance.now() - drawn) / 1000);
  }, 1000);

  query.set("after", log.dataset.last);
  const source = new EventSource(address + "/events?" + query);
  query.delete("after");
  source.addEventListener("open", () => { note.textContent = "Following live."; });
  source.addEventListener("line", (event) => {
    const line = JSON.parse(event.data);
    if (line.kind === "step") redraw();
    else append(line);
  });
  source.addEventListener("verdict", () => {
    source.close();
    clearInterval(clock);
    note.textContent = "";
    redraw();
  });
  source.addEventListener("error", () => {
    note.textContent = "The server does not answer; trying again.";
    if (source.readyState === EventSource.CLOSED) reloadLater();
  });
  log.scrollTop = log.scrollHeight;
})();
