// The page's state: the picture and its people, the thresholds, the server's presence.

import { Camera } from "./camera.js";
import { css, draw, personColour } from "./drawing.js";
import { listPeople, markPicked, serverTitle, showServer, showTime, timeSteps } from "./panel.js";
import { ImageRefused, ServerAway, currentStatus, infer, pause, watch } from "./server.js";

const at = (id) => document.getElementById(id);
const canvas = at("canvas");
const stage = at("stage");

let model = null; // skeleton and colours, from the server
let picture = null; // {name, image, record}: what is shown
let waiting = null; // {blob, name}: what the server did not answer because it was away
let camera = null;
let latest = 0; // number of the newest question: an older answer that comes late is not shown
let hovered = null; // rank of the person pointed at in the list
let pinned = null; // and of the one clicked there

// Pictures

async function openPicture(blob, name) {
  stopCamera();
  at("busy").hidden = false;
  pinned = hovered = null;
  try {
    await show(blob, name);
    closeAlert();
  } catch (error) {
    complain(error, blob, name);
  } finally {
    at("busy").hidden = true;
  }
}

/** Ask for the people of a picture and show them. */
async function show(blob, name) {
  const question = (latest += 1);
  const started = performance.now();
  const decoding = createImageBitmap(blob).catch(() => null);
  const record = await infer(blob, name);
  const fetchMs = performance.now() - started;
  const image = await decoding;
  if (!image) throw new ImageRefused("This browser cannot show the picture, though the server can read it.");
  if (question !== latest) return;
  picture?.image.close();
  picture = { name, image, record };
  waiting = null;
  const drawStarted = performance.now();
  render();
  const drawMs = performance.now() - drawStarted;
  const places = { total: at("total"), bar: at("bar"), steps: at("steps") };
  const steps = timeSteps(record.timing_ms, fetchMs, drawMs);
  showTime(places, steps, fetchMs + drawMs, camera?.rate());
  at("no-time").hidden = true;
}

function complain(error, blob, name) {
  if (error instanceof ServerAway) {
    waiting = { blob, name };
    serverIs({ up: false, problem: error.message, detail: error.cause });
  } else {
    showAlert(`${name} was not accepted`, error.message, "", error.cause);
  }
}

async function openExample(name) {
  try {
    const response = await fetch(`/examples/${name}`);
    if (!response.ok) throw new TypeError(response.statusText);
    await openPicture(await response.blob(), name);
  } catch {
    serverIs(await currentStatus());
  }
}

// Drawing: everything that depends on thresholds, size or the person pointed at

function peopleShown() {
  const [personScore, jointScore] = [at("person-score"), at("joint-score")].map((e) => +e.value);
  return picture.record.poses
    .map(({ score, keypoints }, index) => ({ rank: index + 1, score, keypoints }))
    .filter(({ score }) => score >= personScore)
    .map((person) => ({
      ...person,
      keypoints: person.keypoints.map((joint) => (joint[2] >= jointScore ? joint : [0, 0, 0])),
    }));
}

function render() {
  for (const id of ["person-score", "joint-score"]) {
    at(`${id}-value`).textContent = (+at(id).value).toFixed(2);
  }
  if (!picture || !model) return;
  const people = peopleShown();
  at("empty").hidden = true;
  canvas.hidden = false;
  stage.classList.add("filled");
  at("save-picture").disabled = at("save-json").disabled = false;
  fitCanvas();
  redraw(people);
  const apart = isApart(people);
  document.querySelector(".sides").hidden = apart;
  const colourOf = (person) => (apart ? css(personColour(person.rank)) : "");
  listPeople(at("people"), people, model.skeleton.joints.length, colourOf, pick);
  markPicked(at("people"), pinned);
  const all = picture.record.poses.length;
  const hiddenPeople = all - people.length;
  at("count").textContent = hiddenPeople ? `${people.length} of ${all}` : `${all}`;
  at("nobody").hidden = people.length > 0;
  at("nobody").textContent = hiddenPeople
    ? "Nobody above the person score; move the slider to see them."
    : "Nobody found in this picture.";
  canvas.setAttribute("aria-label", `${picture.name}: ${people.length} people`);
}

/** Whether each person has a colour of its own; one alone shows left and right. */
function isApart(people) {
  return at("apart").checked && people.length > 1;
}

function redraw(people) {
  draw(canvas, picture.image, people, model, {
    person: hovered ?? pinned,
    labels: at("labels").checked,
    apart: isApart(people),
    pixelRatio: devicePixelRatio,
  });
}

/** The canvas has the screen's own pixels, so that lines are sharp at any size. */
function fitCanvas() {
  const { width, height } = picture.image;
  const narrow = matchMedia("(max-width: 800px)").matches;
  const high = narrow ? innerHeight * 0.7 : stage.clientHeight;
  const scale = Math.min(stage.clientWidth / width, high / height);
  canvas.style.width = `${Math.round(width * scale)}px`;
  canvas.style.height = `${Math.round(height * scale)}px`;
  canvas.width = Math.max(1, Math.round(width * scale * devicePixelRatio));
  canvas.height = Math.max(1, Math.round(height * scale * devicePixelRatio));
}

function pick(rank, isClick) {
  if (isClick) pinned = pinned === rank ? null : rank;
  else hovered = rank;
  markPicked(at("people"), pinned);
  redraw(peopleShown());
}

// Webcam

async function startCamera() {
  at("webcam").disabled = true;
  try {
    camera = await Camera.open();
  } catch (error) {
    showAlert("No webcam", webcamProblem(error), "", `${error.name}: ${error.message}`);
    return;
  } finally {
    at("webcam").disabled = false;
  }
  closeAlert();
  waiting = null;
  pinned = hovered = null;
  at("webcam").setAttribute("aria-pressed", "true");
  at("webcam").textContent = "Stop webcam";
  at("live").hidden = false;
  const times = [];
  camera.rate = () => {
    const seconds = (times.at(-1) - times[0]) / 1000;
    return times.length > 1 ? `${((times.length - 1) / seconds).toFixed(1)} / s` : "";
  };
  const running = camera;
  while (camera === running && !running.ended) {
    try {
      await show(await running.frame(), "webcam");
      times.push(performance.now());
      if (times.length > 20) times.shift();
    } catch (error) {
      if (camera !== running) break;
      complain(error, null, "webcam");
      await pause(1000);
    }
    await new Promise(requestAnimationFrame);
  }
  if (camera === running) stopCamera();
}

function webcamProblem({ name }) {
  if (name === "NotAllowedError") return "The browser was not allowed to use it.";
  if (name === "NotFoundError") return "This machine has none.";
  if (name === "NotReadableError") return "Another program uses it.";
  return "The browser cannot use it.";
}

function stopCamera() {
  camera?.close();
  camera = null;
  at("webcam").setAttribute("aria-pressed", "false");
  at("webcam").textContent = "Webcam";
  at("live").hidden = true;
}

// The server's presence

function serverIs(status) {
  document.body.dataset.server = status.up ? "up" : "away";
  at("server-state").textContent = status.up ? "connected" : "server away";
  if (status.url) at("server-url").textContent = status.url;
  if (status.up) {
    if (!model) {
      at("person-score").value = status.min_score;
      at("joint-score").value = status.min_joint;
    }
    const isNew = JSON.stringify(model) !== JSON.stringify(status);
    model = status;
    showServer(at("server-facts"), status);
    at("server-model").textContent = serverTitle(status);
    at("no-server").hidden = true;
    for (const [side, colour] of Object.entries(model.colours)) {
      document.querySelector(`.sides .${side}`)?.style.setProperty("background", css(colour));
    }
    if (stage.dataset.alert === "away") closeAlert();
    const next = waiting;
    waiting = null;
    if (next?.blob) openPicture(next.blob, next.name);
    else if (isNew) render();
  } else {
    const then = waiting?.blob
      ? "Your picture is sent as soon as it is back."
      : "This page goes on by itself when it is back.";
    showAlert("The pose server is away", `${status.problem} ${then}`, "away", status.detail);
  }
}

// Alerts: always text, never HTML

function showAlert(title, text, kind, detail = "") {
  at("alert-title").textContent = title;
  at("alert-text").textContent = text;
  at("alert-detail").textContent = detail;
  at("alert-more").hidden = !detail;
  at("alert").classList.toggle("waiting", kind === "away");
  at("alert-close").hidden = kind === "away";
  at("alert").hidden = false;
  stage.dataset.alert = kind;
}

function closeAlert() {
  at("alert").hidden = true;
  stage.dataset.alert = "";
}

// What a person does

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function savePicture() {
  const whole = document.createElement("canvas");
  [whole.width, whole.height] = [picture.image.width, picture.image.height];
  const people = peopleShown();
  const shown = {
    person: null,
    labels: at("labels").checked,
    apart: isApart(people),
    pixelRatio: whole.width / 1000,
  };
  draw(whole, picture.image, people, model, shown);
  whole.toBlob((blob) => save(blob, `${stem()}-poses.png`), "image/png");
}

function saveJson() {
  const text = JSON.stringify(picture.record, null, 2);
  save(new Blob([text], { type: "application/json" }), `${stem()}-poses.json`);
}

function stem() {
  return picture.name.replace(/\.[^.]*$/, "") || "picture";
}

function openFirst(files) {
  if (files?.length) openPicture(files[0], files[0].name || "pasted picture");
}

at("file").addEventListener("change", (event) => {
  openFirst([...event.target.files]);
  event.target.value = ""; // the same file may be chosen again
});
document.addEventListener("paste", (event) => openFirst(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) stage.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  openFirst(event.dataTransfer.files);
});
for (const id of ["person-score", "joint-score", "labels", "apart"]) {
  at(id).addEventListener("input", render);
}
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => openExample(button.dataset.example));
}
at("webcam").addEventListener("click", () => (camera ? stopCamera() : startCamera()));
at("save-picture").addEventListener("click", savePicture);
at("save-json").addEventListener("click", saveJson);
at("alert-close").addEventListener("click", closeAlert);
new ResizeObserver(() => render()).observe(stage);

render();
watch(serverIs);
