// The panel beside the picture: the list of people, where the time went, who serves.

/**
 * Fill the list; `colourOf(person)` is a CSS colour or "", `pick(rank or null, pinned)` hears which
 * person is pointed at.
 */
export function listPeople(list, people, numJoints, colourOf, pick) {
  const focused = document.activeElement?.closest("#people button")?.dataset.rank;
  list.replaceChildren(...people.map((person) => personRow(person, numJoints, colourOf(person), pick)));
  if (focused) list.querySelector(`[data-rank="${focused}"]`)?.focus();
}

function personRow(person, numJoints, colour, pick) {
  const found = person.keypoints.filter(([, , score]) => score > 0).length;
  const meter = make("span", "meter");
  meter.append(make("i"));
  meter.firstChild.style.width = `${100 * person.score}%`;
  meter.firstChild.style.background = colour;
  const button = make("button");
  button.type = "button";
  button.dataset.rank = person.rank;
  button.setAttribute("aria-pressed", "false");
  button.append(
    make("span", "rank", person.rank),
    meter,
    make("span", "score", person.score.toFixed(2)),
    make("span", "joints", `${found}/${numJoints}`),
  );
  button.title = `Person ${person.rank}: score ${person.score.toFixed(3)}, ${found} joints`;
  button.addEventListener("pointerenter", () => pick(person.rank, false));
  button.addEventListener("pointerleave", () => pick(null, false));
  button.addEventListener("click", () => pick(person.rank, true));
  const row = make("li");
  row.append(button);
  return row;
}

export function markPicked(list, rank) {
  for (const button of list.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.rank) === rank));
  }
}

/** Steps of one picture in the order they happen: [name, milliseconds, colour class]. */
export function timeSteps(timing, fetchMs, drawMs) {
  const { request, queue, ...models } = timing;
  const names = Object.keys(models).sort((a, b) => order(a) - order(b));
  const inModels = names.reduce((sum, name) => sum + models[name], queue ?? 0);
  const steps = names.map((name, index) => [stepName(name), models[name], `c${index % 4 + 1}`]);
  if (queue !== undefined) steps.unshift(["waiting in queues", queue, "c4"]);
  if (steps.length) steps.push(["to the server and back", Math.max(0, request - inModels), "c5"]);
  else steps.push(["pose server", request, "c1"]);
  steps.push(["this page and its server", Math.max(0, fetchMs - request), "c6"]);
  steps.push(["drawing", drawMs, "c7"]);
  return steps;
}

export function showTime({ total, bar, steps }, rows, totalMs, note) {
  total.textContent = note ? `${note} · ${millis(totalMs)}` : millis(totalMs);
  bar.replaceChildren(
    ...rows.map(([name, ms, colour]) => {
      const part = make("i", colour);
      part.style.flexGrow = ms / totalMs;
      part.title = `${name}: ${millis(ms)}`;
      return part;
    }),
  );
  steps.replaceChildren(
    ...rows.flatMap(([name, ms, colour]) => [
      make("i", colour),
      make("dt", "", name),
      make("dd", "", millis(ms)),
    ]),
  );
}

/** The server's and the model's version in a few words. */
export function serverTitle({ server, model }) {
  const name = `${model.name} version ${model.version}`;
  return server.version ? `Triton ${server.version}, ${name}` : name;
}

/** Who serves which model, from the page's status. */
export function showServer(list, { server, model, skeleton }) {
  const facts = {
    server: server.version ? `Triton ${server.version}` : "does not say",
    model: `${model.name}, version ${model.version}`,
    network: model.sha256.slice(0, 12) || "does not say",
    skeleton: `${skeleton.joints.length} joints`,
  };
  list.replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]),
  );
}

function order(model) {
  const known = ["preprocess", "network", "grouping"].findIndex((step) => model.endsWith(step));
  return known < 0 ? 9 : known;
}

function stepName(model) {
  return model.replace(/^.*_(preprocess|network|grouping)$/, "$1");
}

function millis(ms) {
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}
