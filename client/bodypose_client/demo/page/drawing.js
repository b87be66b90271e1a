// The picture: people drawn over a photo, scaled to the screen. The look follows drawing.py.

// People of a group, apart for every common kind of colour blindness as far as eight can be.
const PEOPLE = [
  [64, 196, 255],
  [255, 152, 56],
  [255, 226, 92],
  [240, 128, 205],
  [92, 219, 149],
  [160, 140, 255],
  [255, 105, 97],
  [240, 244, 250],
];
const OUTLINE = "rgb(16 20 28)";
const LONGEST_LOOP = 4; // limbs; a longer loop is no part of a body's outline
const SURE_SCORE = 0.7; // a joint of this score or above is drawn solid
const FAINTEST = 0.5; // opacity of a joint of score 0

/**
 * Draw `people` (each {rank, score, keypoints}) over `image` onto `canvas`, whose size is set.
 * `model` has the skeleton and the colours of its sides; `shown.person` is highlighted if not null,
 * `shown.apart` gives each person a colour of its own.
 */
export function draw(canvas, image, people, model, shown) {
  const context = canvas.getContext("2d");
  const scale = canvas.width / image.width;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  if (shown.person !== null) {
    context.fillStyle = "rgb(0 0 0 / .45)";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  const rest = people.filter((person) => person.rank !== shown.person);
  const picked = people.filter((person) => person.rank === shown.person);
  for (const person of [...rest.reverse(), ...picked]) {
    context.globalAlpha = shown.person === null || person.rank === shown.person ? 1 : 0.25;
    drawPerson(context, person, model, scale, shown.apart);
  }
  if (shown.labels) {
    const placed = [];
    for (const person of [...picked, ...people.filter((each) => !picked.includes(each))]) {
      context.globalAlpha = shown.person === null || person.rank === shown.person ? 1 : 0.25;
      drawLabel(context, person, scale, shown, placed);
    }
  }
  context.globalAlpha = 1;
}

function drawPerson(context, person, { skeleton, colours }, scale, apart) {
  const joints = person.keypoints.map(([x, y, score]) => ({ x: x * scale, y: y * scale, score }));
  const found = joints.filter((joint) => joint.score > 0);
  if (!found.length) return;
  const width = lineWidth(found, context.canvas);
  const opaque = context.globalAlpha;
  const outline = Math.max(0.4, width * 0.28);
  const limbs = limbsToDraw(joints, skeleton).map(([a, b]) => {
    const length = Math.hypot(joints[a].x - joints[b].x, joints[a].y - joints[b].y);
    return { a, b, width: Math.min(width, Math.max(0.9, length * 0.22)) };
  });
  const radius = (joint) => {
    const touching = limbs.filter(({ a, b }) => a === joint || b === joint);
    return 0.95 * Math.max(...(touching.length ? touching.map((limb) => limb.width) : [width]));
  };
  const opacity = (...scores) => {
    return opaque * (FAINTEST + (1 - FAINTEST) * Math.min(Math.min(...scores) / SURE_SCORE, 1));
  };
  const line = ({ a, b }, thick, colour) => {
    context.globalAlpha = opacity(joints[a].score, joints[b].score);
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(joints[a].x, joints[a].y);
    context.lineTo(joints[b].x, joints[b].y);
    context.stroke();
  };
  const dot = (joint, size, colour) => {
    context.globalAlpha = opacity(joints[joint].score);
    context.fillStyle = colour;
    context.beginPath();
    context.arc(joints[joint].x, joints[joint].y, size, 0, 2 * Math.PI);
    context.fill();
  };
  const indices = [...joints.keys()].filter((joint) => joints[joint].score > 0);
  for (const limb of limbs) line(limb, limb.width + 2 * outline, OUTLINE);
  for (const joint of indices) dot(joint, radius(joint) + outline, OUTLINE);
  const colour = (side) => css(apart ? personColour(person.rank) : colours[side]);
  for (const limb of limbs) line(limb, limb.width, colour(limbSide(limb, skeleton.sides)));
  for (const joint of indices) {
    dot(joint, radius(joint), colour(skeleton.sides[joint]));
    const core = radius(joint) * 0.5 * Math.min(joints[joint].score / SURE_SCORE, 1);
    if (radius(joint) >= 2) dot(joint, core, "white");
  }
  context.globalAlpha = opaque;
}

function drawLabel(context, person, scale, { apart, pixelRatio }, placed) {
  const found = person.keypoints.filter(([, , score]) => score > 0);
  if (!found.length) return;
  const size = 12 * pixelRatio;
  const pad = 5 * pixelRatio;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const text = `${person.rank}  ${person.score.toFixed(2)}`;
  const plate = { width: context.measureText(text).width + 2 * pad, height: size + 1.4 * pad };
  const { width, height } = context.canvas;
  const centre = (Math.min(...found.map(([x]) => x)) + Math.max(...found.map(([x]) => x))) / 2;
  const top = Math.min(...found.map(([, y]) => y));
  const tall = (Math.max(...found.map(([, y]) => y)) - top) * scale;
  const above = Math.max(10 * pixelRatio, 0.05 * tall); // the top joints are eyes, not the hair
  plate.x = clamp(centre * scale - plate.width / 2, 2, width - plate.width - 2);
  plate.y = clamp(top * scale - plate.height - above, 2, height - plate.height - 2);
  for (let tries = 0; tries < 6; tries += 1) {
    const under = placed.find((other) => overlap(plate, other));
    if (!under) break;
    plate.y = clamp(under.y + under.height + 2, 2, height - plate.height - 2);
  }
  placed.push(plate);
  context.fillStyle = "rgb(13 16 21 / .82)";
  context.beginPath();
  context.roundRect(plate.x, plate.y, plate.width, plate.height, plate.height / 2);
  context.fill();
  if (apart) {
    context.strokeStyle = css(personColour(person.rank));
    context.lineWidth = 1.5 * pixelRatio;
    context.stroke();
  }
  context.fillStyle = "white";
  context.textBaseline = "middle";
  context.fillText(text, plate.x + pad, plate.y + plate.height / 2 + pixelRatio * 0.5);
}

function lineWidth(found, { width, height }) {
  const xs = found.map((joint) => joint.x);
  const ys = found.map((joint) => joint.y);
  const wide = Math.max(...xs) - Math.min(...xs);
  const person = Math.hypot(wide, Math.max(...ys) - Math.min(...ys));
  const picture = Math.sqrt(width * height);
  return Math.max(0.9, clamp(person * 0.022, picture / 420, picture / 110));
}

/** The limbs that show a body: see limbs_to_draw in drawing.py. */
function limbsToDraw(joints, skeleton) {
  const onAxis = (joint) => skeleton.mirror[joint] === joint;
  const order = ([a, b]) => [
    onAxis(a) || onAxis(b) ? 0 : 1,
    Math.hypot(joints[a].x - joints[b].x, joints[a].y - joints[b].y),
  ];
  const found = skeleton.limbs.filter(([a, b]) => joints[a].score > 0 && joints[b].score > 0);
  const sorted = found
    .map((limb) => [limb, ...order(limb)])
    .sort((p, q) => p[1] - q[1] || p[2] - q[2]);
  const drawn = [];
  for (const [[a, b]] of sorted) {
    if (limbsBetween(a, b, drawn) < LONGEST_LOOP) drawn.push([a, b]);
  }
  return drawn;
}

/** Fewest limbs that lead from one joint to another; 0 when none do. */
function limbsBetween(a, b, limbs) {
  const reached = new Set([a]);
  for (let steps = 1; ; steps += 1) {
    const next = new Set();
    for (const [p, q] of limbs) {
      if (reached.has(p) && !reached.has(q)) next.add(q);
      if (reached.has(q) && !reached.has(p)) next.add(p);
    }
    if (!next.size) return 0;
    if (next.has(b)) return steps;
    for (const joint of next) reached.add(joint);
  }
}

function limbSide({ a, b }, sides) {
  if (sides[a] === sides[b]) return sides[a];
  if (sides[a] === "centre") return sides[b];
  return sides[b] === "centre" ? sides[a] : "centre";
}

/** [red, green, blue] of a person in a group; ranks count from 1. */
export function personColour(rank) {
  return PEOPLE[(rank - 1) % PEOPLE.length];
}

/** [red, green, blue] as CSS has it. */
export function css(colour) {
  return `rgb(${colour.join(" ")})`;
}

function overlap(p, q) {
  return p.x < q.x + q.width && q.x < p.x + p.width && p.y < q.y + q.height && q.y < p.y + p.height;
}

function clamp(value, low, high) {
  return Math.max(low, Math.min(value, high));
}
