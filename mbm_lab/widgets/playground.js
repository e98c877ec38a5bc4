// α and β over one postcard and its two witnesses: in lessons 00 and 04, and as a page of its own.
// A room's poll (`poll.js`) takes the formula and the error surface from here.
// Everything that α and β change is computed here, from each card's f, g and m, which are sent
// once. Only what the readers say of worse pictures and messages comes from Python, later.

export const LEAST = -0.5, MOST = 1.25;         // the range of both sliders, and of the error surface
const CELLS = 140, LEVELS = 12;          // of the error surface
const RATE = 0.2;                        // the learning rate
const TINY = 0.0001;                     // training ends when a step is shorter than this
const PAUSE = 80;                        // milliseconds from one step of training to the next
const FLAT = 1e-12;                      // readings that vary less are all the same
const SIDE = 64, COLUMNS = 10;           // pixels of a postcard; postcards in a row of the sprite
const VIRIDIS = ["#fde725", "#c2df23", "#86d549", "#52c569", "#2ab07f", "#1e9b8a", "#25858e",
                 "#2d708e", "#38588c", "#433e85", "#482173", "#440154"]
  .map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));

// --- The formula

export function weightedSum(f, g, alpha, beta) {
  return f.map((x, i) => alpha * x + beta * g[i]);
}

const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;

// The six means of products of f, g and m, each as differences from their means.
export function moments(f, g, m) {
  const [F, G, M] = [f, g, m].map((values) => {
    const middle = mean(values);
    return values.map((x) => x - middle);
  });
  const of = (x, y) => mean(x.map((value, i) => value * y[i]));
  return { ff: of(F, F), gg: of(G, G), mm: of(M, M), fg: of(F, G), fm: of(F, M), gm: of(G, M) };
}

// The mean squared error of αf + βg and its best intercept.
export function error(c, a, b) {
  return a * a * c.ff + b * b * c.gg + c.mm + 2 * a * b * c.fg - 2 * a * c.fm - 2 * b * c.gm;
}

// One step of gradient descent.
export function step(c, [a, b]) {
  return [a - RATE * 2 * (a * c.ff + b * c.fg - c.fm), b - RATE * 2 * (b * c.gg + a * c.fg - c.gm)];
}

// Least squares; null for a witness that is switched off, whose readings are all the same.
export function best(c) {
  const [onF, onG] = [c.ff > FLAT, c.gg > FLAT];
  if (!onF || !onG) return [onF ? c.fm / c.ff : null, onG ? c.gm / c.gg : null];
  const d = c.ff * c.gg - c.fg * c.fg;
  return [(c.fm * c.gg - c.gm * c.fg) / d, (c.gm * c.ff - c.fm * c.fg) / d];
}

// --- Chance: the same numbers as in witnesses.py, so that both make the same postcard worse

// A number from 0 to 1 for each whole number n: a hash that mixes its 32 bits.
export function uniform(n) {
  let x = n >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
}

// Two of them make one number of the normal distribution (Box and Muller, 1958).
export function normal(n) {
  return Math.sqrt(-2 * Math.log(1 - uniform(2 * n))) * Math.cos(2 * Math.PI * uniform(2 * n + 1));
}

// The noise of a postcard: a number for red, green and blue of each pixel.
function noiseOf(card) {
  const size = SIDE * SIDE * 3;
  return Float32Array.from({ length: size }, (_, place) => normal(card * size + place));
}

// --- Small things

export const two = (x) => x.toFixed(2);
export const minus = (text) => text.replaceAll("-", "−");
const round = (x) => Math.round(x * 100) / 100;
const within = (x) => Math.min(MOST, Math.max(LEAST, x));

export function make(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "circle", "line", "text", "g", "polygon", "rect", "polyline"];
  const node = svg.includes(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

let made = 0; // so that labels of several playgrounds in one notebook have ids of their own

export function slider(name, [least, most, unit]) {
  const id = `mbm-range-${++made}`;
  const input = make("input", { type: "range", id, min: least, max: most, step: unit });
  const value = make("span", { "aria-hidden": "true" }); // the slider itself says its value
  const label = make("label", { for: id }, name);
  return { input, value, row: make("div", { class: "mbm-range" }, label, input, value) };
}

function checkbox(name) {
  const input = make("input", { type: "checkbox" });
  return { input, row: make("label", { class: "mbm-switch" }, input, name) };
}

// A number as text, with all its digits for programs.
function exact(number) {
  return make("data", { value: number }, minus(two(number)));
}

// Where a mood stands on the dial: -1 at the left end of a half circle, 1 at the right end.
function onDial(x, radius) {
  const angle = (Math.PI / 2) * (1 - Math.max(-1, Math.min(1, x)));
  return [radius * Math.cos(angle), -radius * Math.sin(angle)];
}

// --- The error surface: a canvas for the errors, and what moves over it

export function surface(caption = "error over all cards: dark is large") {
  const canvas = make("canvas", { width: CELLS, height: CELLS, "aria-hidden": "true" });
  const star = make("polygon", { class: "mbm-star", points: starPoints(0.055) });
  const valley = make("line", { class: "mbm-valley" });
  const path = make("polyline", { class: "mbm-path" });
  const dots = make("g", { class: "mbm-dots" });
  const point = make("circle", { class: "mbm-point", r: 0.035 });
  const over = make("svg", { viewBox: `0 0 ${MOST - LEAST} ${MOST - LEAST}`, role: "img" },
    valley, star, path, dots, point);
  const [x, y] = [(a) => a - LEAST, (b) => MOST - b];

  function ticks(axis) {
    return make("div", { class: `mbm-ticks mbm-${axis}`, "aria-hidden": "true" },
      ...[-0.5, 0, 0.5, 1].map((value) => {
        const node = make("span", {}, String(value).replace("-", "−"));
        node.style.setProperty("--at", (value - LEAST) / (MOST - LEAST));
        return node;
      }));
  }

  const node = make("figure", { class: "mbm-surface" },
    make("figcaption", {}, caption),
    make("div", { class: "mbm-plot" },
      make("span", { class: "mbm-y-name" }, "β"), ticks("y"),
      make("div", { class: "mbm-square" }, canvas, over), ticks("x"),
      make("span", { class: "mbm-x-name" }, "α")));

  function paint(c) {
    const errors = new Float64Array(CELLS * CELLS);
    const at = (i) => LEAST + ((i + 0.5) / CELLS) * (MOST - LEAST);
    let [least, most] = [Infinity, 0];
    for (let row = 0; row < CELLS; row++) {
      for (let column = 0; column < CELLS; column++) {
        const e = (errors[row * CELLS + column] = error(c, at(column), at(CELLS - 1 - row)));
        if (e < least) least = e;
        if (e > most) most = e;
      }
    }
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(CELLS, CELLS);
    for (let i = 0; i < errors.length; i++) {
      const share = (errors[i] - least) / (most - least + 1e-12);
      const [red, green, blue] = VIRIDIS[Math.min(LEVELS - 1, Math.floor(LEVELS * Math.sqrt(share)))];
      image.data[4 * i] = red;
      image.data[4 * i + 1] = green;
      image.data[4 * i + 2] = blue;
      image.data[4 * i + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
    const [a, b] = best(c);
    star.style.display = a === null || b === null ? "none" : "";
    valley.style.display = (a === null) === (b === null) ? "none" : "";
    if (a !== null && b !== null) star.setAttribute("transform", `translate(${x(a)} ${y(b)})`);
    else if (a !== null) place(valley, { x1: x(a), x2: x(a), y1: 0, y2: MOST - LEAST });
    else if (b !== null) place(valley, { x1: 0, x2: MOST - LEAST, y1: y(b), y2: y(b) });
  }

  function show(alpha, beta, walked) {
    place(point, { cx: x(alpha), cy: y(beta) });
    path.setAttribute("points", walked.map(([a, b]) => `${x(a)},${y(b)}`).join(" "));
    while (dots.childNodes.length > walked.length) dots.lastChild.remove();
    walked.forEach(([a, b], i) => {
      if (!dots.childNodes[i]) dots.append(make("circle", { r: 0.012 }));
      place(dots.childNodes[i], { cx: x(a), cy: y(b) });
    });
  }

  return { node, over, paint, show };
}

export function place(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
}

export function starPoints(radius) {
  return Array.from({ length: 10 }, (_, i) => {
    const angle = (Math.PI / 5) * i - Math.PI / 2;
    const r = i % 2 ? radius * 0.42 : radius;
    return `${(r * Math.cos(angle)).toFixed(4)},${(r * Math.sin(angle)).toFixed(4)}`;
  }).join(" ");
}

// --- The dial of moods: one card's f, g, v and m

function dial() {
  const arc = Array.from({ length: 61 }, (_, i) => onDial(i / 30 - 1, 1).join(","));
  const node = make("svg", { viewBox: "-1.3 -1.28 2.6 1.5", role: "img" },
    make("polyline", { class: "mbm-arc", points: arc.join(" ") }));
  for (const x of [-1, -0.5, 0, 0.5, 1]) {
    const [[x1, y1], [x2, y2]] = [onDial(x, 0.95), onDial(x, 1.05)];
    node.append(make("line", { class: "mbm-arc", x1, y1, x2, y2 }));
  }
  node.append(
    make("text", { x: -1, y: 0.16, class: "mbm-end" }, "sad −1"),
    make("text", { x: 1, y: 0.16, class: "mbm-end" }, "happy 1"));
  const marks = {
    f: make("polygon", { class: "mbm-f", points: "0,0.09 -0.085,-0.07 0.085,-0.07" }),
    g: make("rect", { class: "mbm-g", x: -0.065, y: -0.065, width: 0.13, height: 0.13 }),
    m: make("polygon", { class: "mbm-m", points: starPoints(0.12) }),
  };
  const needle = make("line", { class: "mbm-needle", x1: 0, y1: 0 });
  node.append(...Object.values(marks), needle, make("circle", { class: "mbm-hub", r: 0.07 }));

  function show({ f, g, v, m }) {
    const radii = { f: 1.16, g: 1.16, m: 1 };
    for (const [name, value] of Object.entries({ f, g, m })) {
      marks[name].style.display = value === null ? "none" : "";
      if (value !== null) {
        place(marks[name], { transform: `translate(${onDial(value, radii[name]).join(" ")})` });
      }
    }
    const [x2, y2] = onDial(v, 0.85);
    place(needle, { x2, y2 });
  }

  const key = make("p", { class: "mbm-key", "aria-hidden": "true" },
    make("span", { class: "mbm-f" }, "▼ picture f"), make("span", { class: "mbm-g" }, "■ message g"),
    make("span", { class: "mbm-m" }, "★ mood m"), make("span", { class: "mbm-v" }, "╱ v = αf + βg"));
  const figure = make("figure", { class: "mbm-dial" },
    make("figcaption", {}, "this card"), node, key);
  return { node: figure, svg: node, show };
}

// --- The playground

// model: `get`, `set`, `save_changes` and `on`, as Jupyter's widgets have them.
function render({ model, el }) {
  const get = (name) => model.get(name);
  el.classList.add("mbm-home");
  const weights = [LEAST, MOST, 0.01], shares = [0, 0.8, 0.05];
  const alpha = slider("α picture", weights), beta = slider("β message", weights);
  const noise = slider("picture noise", shares), dropout = slider("word dropout", shares);
  const picture = checkbox("use the picture"), message = checkbox("use the message");
  const settings = { alpha_value: alpha, beta_value: beta, noise_value: noise, dropout_value: dropout };
  const switches = { picture_on: picture, message_on: message };
  const errors = surface(), moods = dial();
  const canvas = make("canvas", { width: SIDE, height: SIDE, role: "img" });
  const words = make("p", { class: "mbm-message" });
  const formula = make("p", { class: "mbm-formula" }), r2Line = make("p", { class: "mbm-r2" });
  const status = make("p", { class: "mbm-status", role: "status", "aria-live": "polite" });
  const buttons = make("div", { class: "mbm-buttons", role: "group", "aria-label": "cards and training" });

  function button(name, does, title) {
    const node = make("button", { type: "button", title }, name);
    node.addEventListener("click", does);
    buttons.append(node);
    return node;
  }

  button("Next card", () => showCard(get("index") + 1), "Show the next postcard");
  button("Random card", randomCard, "Show any postcard");
  button("Witnesses disagree", disagreement, "Show a card whose picture and message differ");
  button("Best α and β", toBest, "Move both sliders to the best point");
  button("Valley floor", toValley, "Start in the valley, far from the best point");
  const train = button("Train", trainOrPause, "Gradient descent, one step after another");
  button("One step", oneStep, "One step of gradient descent");
  button("Reset", reset, "As at the start: α = β = 1, clean witnesses, no path");

  el.replaceChildren(make("section", { class: "mbm-playground", "aria-label": "α and β" },
    make("div", { class: "mbm-card" }, canvas, words),
    make("div", { class: "mbm-controls" }, alpha.row, beta.row, noise.row, dropout.row,
      make("div", { class: "mbm-switches" }, picture.row, message.row)),
    buttons,
    make("div", { class: "mbm-numbers" }, formula, r2Line),
    errors.node, moods.node, status));
  for (const control of el.querySelectorAll("input, button")) {
    control.dataset.lmSuppressShortcuts = "true"; // arrows, Enter: the control's, not JupyterLab's
  }

  const sprite = new Image();
  sprite.addEventListener("load", showPostcard);
  let c, timer = null, speaks = null, spoken = -Infinity, mine = false, noisy = {};

  // What the reader sees

  function readings() {
    const nothing = get("m").map(() => 0);
    return [get("picture_on") ? get("f") : nothing, get("message_on") ? get("g") : nothing];
  }

  function measure() {
    c = moments(...readings(), get("m"));
    errors.paint(c);
  }

  // All that is shown of this card and these weights.
  function numbers() {
    const [i, a, b, m] = [get("index"), get("alpha_value"), get("beta_value"), get("m")];
    const [f, g] = readings();
    return {
      i, a, b, m: m[i], count: m.length, r2: 1 - error(c, a, b) / c.mm,
      f: get("picture_on") ? f[i] : null, g: get("message_on") ? g[i] : null,
      v: weightedSum(f, g, a, b)[i],
    };
  }

  function said({ i, a, b, f, g, v, m, r2, count }) {
    const terms = [f !== null && `${two(a)} · f`, g !== null && `${two(b)} · g`].filter(Boolean);
    const [bestA, bestB] = best(c);
    const bests = [bestA !== null && `α = ${two(bestA)}`, bestB !== null && `β = ${two(bestB)}`];
    return `Card ${i + 1}: ` +
      (f !== null ? `picture f = ${two(f)}, ` : "picture off, ") +
      (g !== null ? `message g = ${two(g)}, ` : "message off, ") +
      `v = ${terms.join(" + ") || "0"} = ${two(v)}, mood m = ${two(m)}. ` +
      `Over all ${count} cards: R² = ${two(r2)}. ` +
      `Best: ${bests.filter(Boolean).join(", ") || "nothing to weigh"}.` +
      (get("path").length ? ` Training: step ${get("path").length - 1}.` : "");
  }

  function show() {
    const now = numbers();
    const { a, b, f, g, v, r2, count } = now;
    for (const [name, control] of Object.entries(settings)) {
      const value = get(name);
      if (control.input.valueAsNumber !== value) control.input.value = value;
      control.value.textContent = minus(two(value));
      place(control.input, { "aria-valuetext": two(value) });
    }
    for (const [name, control] of Object.entries(switches)) control.input.checked = get(name);
    moods.show(now);
    errors.show(a, b, get("path"));
    const bracket = (x) => minus(x < 0 ? `(${two(x)})` : two(x));
    const part = (name, weight, x) =>
      make("span", { class: `mbm-${name}` }, `${bracket(weight)} · ${bracket(x)}`);
    const parts = [f !== null && part("f", a, f), g !== null && part("g", b, g)].filter(Boolean);
    formula.replaceChildren("v = ", ...parts.flatMap((one, k) => (k ? [" + ", one] : [one])),
      make("strong", {}, parts.length ? " = " : "", exact(v)));
    r2Line.replaceChildren("R² = ", make("strong", {}, exact(r2)),
      make("small", {}, ` over ${count} cards`));
    clearTimeout(speaks); // a screen reader hears where a move ends, and each second of a long one
    speaks = setTimeout(speak, performance.now() - spoken > 1000 ? 0 : 200, now);
  }

  function speak(now) {
    spoken = performance.now();
    status.textContent = said(now);
    const [bestA, bestB] = best(c).map((x) => (x === null ? "none" : two(x)));
    const surface = `α = ${two(now.a)}, β = ${two(now.b)}; best: α ${bestA}, β ${bestB}.`;
    place(errors.over, { "aria-label": `Error surface. ${surface}` });
    place(moods.svg, { "aria-label": `Dial of moods. v = ${two(now.v)}, mood ${two(now.m)}.` });
  }

  function showPostcard() {
    const [i, smudged] = [get("index"), get("dropout_value")];
    const on = get("picture_on");
    place(canvas, { "aria-label": on ? `Postcard: ${get("captions")[i]}` : "no picture" });
    words.textContent = !get("message_on") ? "(no message)"
      : smudged === 0 ? get("messages")[i]
      : get("words")[i].map(([word, fate]) => (fate < smudged ? "____" : word)).join(" ");
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = "#cccccc";
    pen.fillRect(0, 0, SIDE, SIDE);
    if (!on || !sprite.naturalWidth) return; // not loaded yet: it comes back here
    const [left, top] = [SIDE * (i % COLUMNS), SIDE * Math.floor(i / COLUMNS)];
    pen.drawImage(sprite, left, top, SIDE, SIDE, 0, 0, SIDE, SIDE);
    if (get("noise_value") === 0) return;
    if (noisy.card !== i) noisy = { card: i, noise: noiseOf(i) };
    const image = pen.getImageData(0, 0, SIDE, SIDE), strength = 255 * get("noise_value");
    noisy.noise.forEach((noise, place) => { // the fourth number of a pixel is its opacity
      image.data[place + Math.floor(place / 3)] += strength * noise;
    }); // it rounds, and stays within 0 to 255
    pen.putImageData(image, 0, 0);
  }

  function showAll() {
    measure();
    showPostcard();
    show();
  }

  // What the reader does

  function put(values) {
    mine = true; // so that the answer to a change is not taken for one of Python's
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    mine = false;
  }

  function weigh(a, b, path = []) {
    put({ alpha_value: within(a), beta_value: within(b), path }); // the best may lie outside
    show();
  }

  function showCard(index) {
    put({ index: (index + get("m").length) % get("m").length });
    showPostcard();
    show();
  }

  function randomCard() {
    const others = get("m").length - 1;
    showCard(get("index") + (others ? 1 + Math.floor(Math.random() * others) : 0));
  }

  // The next of the tenth of all cards whose two readings differ most.
  function disagreement() {
    const [f, g] = [get("f"), get("g")];
    const gaps = f.map((x, i) => Math.abs(x - g[i]));
    const wide = [...gaps].sort((x, y) => x - y)[Math.floor(0.9 * gaps.length)];
    const strong = [...gaps.keys()].filter((i) => gaps[i] >= wide);
    showCard(strong.find((i) => i > get("index")) ?? strong[0]);
  }

  function toBest() {
    stop();
    const [a, b] = best(c);
    weigh(a === null ? get("alpha_value") : round(a), b === null ? get("beta_value") : round(b));
  }

  // Far from the best point, but with the best β for that α: from here, steps are short.
  function toValley() {
    stop();
    const a = -0.4;
    weigh(a, c.gg > FLAT ? round((c.gm - a * c.fg) / c.gg) : get("beta_value"));
  }

  function reset() {
    stop();
    put({ noise_value: 0, dropout_value: 0, picture_on: true, message_on: true });
    put({ alpha_value: 1, beta_value: 1, path: [] });
    showAll();
  }

  // One step from where the path ends; it returns how long the step was.
  function oneStep() {
    const path = get("path").length ? get("path") : [[get("alpha_value"), get("beta_value")]];
    const here = path[path.length - 1], next = step(c, here);
    weigh(round(next[0]), round(next[1]), [...path, next]);
    return Math.hypot(next[0] - here[0], next[1] - here[1]);
  }

  function trainOrPause() {
    if (timer !== null) return stop();
    train.textContent = "Pause";
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const walk = () => {
      let far = oneStep();
      while (still && far > TINY) far = oneStep(); // no motion: the whole path at once
      if (far <= TINY) stop();
    };
    timer = setInterval(walk, PAUSE);
    walk();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    train.textContent = "Train";
  }

  function worse() {
    stop();
    put({ noise_value: noise.input.valueAsNumber, dropout_value: dropout.input.valueAsNumber,
          picture_on: picture.input.checked, message_on: message.input.checked, path: [] });
    showAll();
  }

  for (const control of [alpha, beta]) {
    control.input.addEventListener("input", () => {
      stop();
      weigh(alpha.input.valueAsNumber, beta.input.valueAsNumber);
    });
  }
  for (const control of [noise, dropout, picture, message]) {
    control.input.addEventListener("input", worse);
  }

  // What Python does

  const python = {
    "alpha_value beta_value path": () => { stop(); show(); },
    "f g noise_value dropout_value picture_on message_on index": showAll,
  };
  const changes = Object.entries(python).flatMap(([names, does]) =>
    names.split(" ").map((name) => [`change:${name}`, () => { if (!mine) does(); }]));
  for (const [name, does] of changes) model.on(name, does);

  const spriteAddress = URL.createObjectURL(new Blob([get("sprite")], { type: "image/png" }));
  sprite.src = spriteAddress;
  showAll();
  return () => {
    stop();
    clearTimeout(speaks);
    URL.revokeObjectURL(spriteAddress);
    for (const [name, does] of changes) model.off(name, does);
  };
}

export default { render };
