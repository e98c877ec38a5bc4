// A room's poll on α and β: the page of a telephone (`/`), and that of the instructor (`/room`).
// Formula, sliders and error surface are those of the playground.

import { LEAST, MOST, best, error, make, minus, moments, place, slider, starPoints, surface, two,
         weightedSum } from "./playground.js";

const OFTEN = 1200;        // milliseconds between two questions for news
const SETTLED = 250;       // milliseconds without a move after which a point is sent
const LOST = "The poll does not answer. Is this device still in the room's network? Trying again …";

const number = (x) => minus(two(x));
const round = (x) => Math.round(x * 100) / 100;
const within = (x) => Math.min(MOST, Math.max(LEAST, x));
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Asks the server; what it refuses is an Error with its `status`, and `wait` in seconds.
async function ask(path, send, headers = {}) {
  const options = { headers, signal: AbortSignal.timeout?.(8000) };
  if (send) {
    options.method = "POST";
    options.keepalive = true; // it arrives though the page may be closed
    options.body = JSON.stringify(send);
    headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(path, options).catch(() => {
    throw Object.assign(new Error(LOST), { status: 0 });
  });
  if (answer.status === 204) return null;
  const said = await answer.json();
  if (answer.ok) return said;
  const wait = Number(answer.headers.get("Retry-After") ?? 0);
  throw Object.assign(new Error(said.error), { status: answer.status, wait });
}

// Asks for news again and again: `show` gets what is new, `fail` what was refused.
async function follow(path, headers, show, fail) {
  let seen = null;
  for (;;) {
    try {
      const news = await ask(`${path}?seen=${seen}`, null, headers);
      if (news) {
        seen = news.version;
        show(news);
      } else {
        fail(null);
      }
    } catch (trouble) {
      if (trouble.status !== 0) seen = null;
      if (fail(trouble) === false) return;
    }
    await sleep(document.hidden ? 4 * OFTEN : OFTEN * (0.8 + 0.4 * Math.random()));
  }
}

function button(name, does, kind = "") {
  const node = make("button", { type: "button", class: kind }, name);
  node.addEventListener("click", does);
  return node;
}

// A point in words; a name and its number are not parted at the end of a line.
const named = (a, b) => [`α\u00a0=\u00a0${number(a)}`, `β\u00a0=\u00a0${number(b)}`];

// What is known of a point (a, b) when the answers are shown.
function worth(c, a, b) {
  const e = error(c, a, b);
  return [...named(a, b), `E\u00a0=\u00a0${e.toFixed(3)}`, `R²\u00a0=\u00a0${number(1 - e / c.mm)}`];
}

// The plane without its error surface: what is best is not to be seen on it.
function hide(plane, caption) {
  const canvas = plane.node.querySelector("canvas");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  plane.node.classList.add("mbm-hidden");
  plane.node.querySelector("figcaption").textContent = caption;
}

function reveal(plane, c, withBest) {
  plane.paint(c);
  plane.node.classList.remove("mbm-hidden");
  plane.node.classList.toggle("mbm-solved", withBest);
  plane.node.querySelector("figcaption").textContent = "error over all cards: dark is large";
}

// Lines over the empty plane, so that places can be found on it.
function grid(plane) {
  const lines = make("g", { class: "mbm-grid" }), whole = MOST - LEAST;
  for (const value of [-0.5, 0, 0.5, 1]) {
    const [x, y] = [value - LEAST, MOST - value], kind = value === 0 ? "mbm-zero" : "";
    lines.append(make("line", { x1: x, x2: x, y1: 0, y2: whole, class: kind }),
      make("line", { x1: 0, x2: whole, y1: y, y2: y, class: kind }));
  }
  plane.over.prepend(lines);
}

// --- A telephone

function telephone(home) {
  const title = make("h1", {}, "Which α and β are best?");
  const said = make("p", { class: "mbm-said", role: "status", "aria-live": "polite" });
  const code = make("input", { id: "code", autocomplete: "off", autocapitalize: "characters",
                               spellcheck: "false", maxlength: 24, required: "" });
  const form = make("form", { class: "mbm-join" },
    make("label", { for: "code" }, "The code on the wall"), code,
    make("button", { type: "submit" }, "Join"));
  const plane = surface(), alpha = slider("α picture", [LEAST, MOST, 0.01]);
  const beta = slider("β message", [LEAST, MOST, 0.01]);
  const square = plane.node.querySelector(".mbm-square");
  place(square, { tabindex: 0, role: "group", "aria-label": "Your dot: drag it, or use the arrow keys" });
  place(plane.over.querySelector(".mbm-point"), { r: 0.055 });
  grid(plane);
  const topic = make("p", { class: "mbm-topic" }), cards = make("div", { class: "mbm-cards" });
  const game = make("div", { class: "mbm-game" },
    make("div", {}, plane.node, alpha.row, beta.row), make("div", { class: "mbm-side" },
      make("h2", {}, "Two cards to think by"),
      make("p", {}, "v = α f + β g is to be the mood m: not on these two, but on a hundred cards."),
      cards));
  let state = null, point = [0, 0], placed = false, timer = null, sending = false, following = false;

  function joinFirst(sentence) {
    state = null;
    [form.hidden, topic.hidden, game.hidden] = [false, true, true];
    said.textContent = sentence;
  }

  async function join(typed) {
    try {
      await ask("/join", { code: typed });
      history.replaceState(null, "", location.pathname); // the key is not needed again
      begin();
    } catch (trouble) {
      joinFirst(trouble.message);
      code.focus();
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    join(code.value);
  });

  function begin() {
    if (following) return;
    following = true;
    follow("/state", {}, show, (trouble) => {
      if (trouble?.status === 401) {
        following = false;
        joinFirst("");
        return false; // the form goes on from here
      }
      if (trouble) said.textContent = trouble.message;
      else if (said.textContent === LOST) speak();
    });
  }

  function show(news) {
    const another = news.round !== state?.round;
    state = news;
    [form.hidden, topic.hidden, game.hidden] = [true, false, false];
    if (another) {
      topic.textContent = `Round ${news.round}: ${news.title}`;
      placed = news.answer !== null;
      point = news.answer ?? [0, 0];
      cards.replaceChildren(...news.cards.map(card));
    }
    const open = news.phase === "open";
    if (open) hide(plane, "where is the error least?");
    else reveal(plane, moments(news.readings.f, news.readings.g, news.readings.m), news.phase === "best");
    if (!open && !placed) plane.node.classList.add("mbm-absent");
    for (const { input } of [alpha, beta]) input.disabled = !open;
    draw();
    speak();
  }

  function card({ picture, caption, message, f, g, m }) {
    const v = make("strong", {});
    const node = make("div", { class: "mbm-one" },
      make("img", { src: picture, alt: `Postcard: ${caption}`, width: 64, height: 64 }),
      make("p", {}, message),
      make("p", { class: "mbm-readings" },
        make("span", { class: "mbm-f" }, `picture f = ${number(f)}`),
        make("span", { class: "mbm-g" }, `message g = ${number(g)}`),
        make("span", { class: "mbm-v" }, "your v = ", v),
        make("span", { class: "mbm-m" }, `mood m = ${number(m)}`)));
    node.reweigh = () => { v.textContent = number(weightedSum([f], [g], ...point)[0]); };
    return node;
  }

  function draw() {
    plane.show(...point, []);
    plane.node.classList.toggle("mbm-waiting", !placed);
    [alpha, beta].forEach((control, i) => {
      control.input.value = point[i];
      control.value.textContent = number(point[i]);
      place(control.input, { "aria-valuetext": two(point[i]) });
    });
    place(plane.over, { "aria-label": `The plane. Your dot: α = ${two(point[0])}, β = ${two(point[1])}.` });
    for (const one of cards.children) one.reweigh();
  }

  function speak(sentence) {
    if (sentence) said.textContent = sentence;
    else if (state.phase === "open") {
      said.textContent = placed
        ? `Your answer is taken: ${named(...point).join(", ")}. You can still move it.`
        : "Drag the dot to where you think the best is. Where you leave it is your answer.";
    } else {
      const { f, g, m } = state.readings, c = moments(f, g, m), [a, b] = best(c);
      const yours = placed ? `You: ${worth(c, ...point).join(", ")}.` : "You did not answer this time.";
      said.textContent = state.phase === "best" ? `${yours} Best: ${worth(c, a, b).join(", ")}.` : yours;
    }
  }

  function move(a, b) {
    if (state?.phase !== "open") return;
    point = [round(within(a)), round(within(b))];
    placed = true;
    draw();
    clearTimeout(timer);
    timer = setTimeout(send, SETTLED);
  }

  async function send() {
    timer = null;
    if (sending) return; // it looks again when it is done
    sending = true;
    const [a, b] = point;
    try {
      await ask("/answer", { round: state.round, alpha: a, beta: b });
      speak();
    } catch (trouble) {
      speak(trouble.message);
      if ([0, 429, 503].includes(trouble.status)) timer = setTimeout(send, 1000 * (trouble.wait || 2));
    }
    sending = false;
    if (a !== point[0] || b !== point[1]) {
      clearTimeout(timer);
      timer = setTimeout(send, SETTLED);
    }
  }

  addEventListener("pagehide", () => { if (timer !== null) send(); });

  function under(event) {
    const box = square.getBoundingClientRect(), whole = MOST - LEAST;
    move(LEAST + ((event.clientX - box.left) / box.width) * whole,
         MOST - ((event.clientY - box.top) / box.height) * whole);
  }

  square.addEventListener("pointerdown", (event) => {
    square.setPointerCapture(event.pointerId);
    under(event);
  });
  square.addEventListener("pointermove", (event) => {
    if (square.hasPointerCapture(event.pointerId)) under(event);
  });
  square.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const way = ways[event.key];
    if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const far = event.shiftKey ? 0.1 : 0.02;
    move(point[0] + far * way[0], point[1] + far * way[1]);
  });
  for (const control of [alpha, beta]) {
    control.input.addEventListener("input", () => move(alpha.input.valueAsNumber, beta.input.valueAsNumber));
  }

  [form.hidden, topic.hidden, game.hidden] = [true, true, true];
  home.replaceChildren(title, topic, form, said, game); // a live region is there before it speaks
  const key = decodeURIComponent(location.hash.slice(1));
  if (key) join(key);
  else begin();
}

// --- The instructor

const STEPS = {
  open: ["dots", "Show all dots"],
  dots: ["best", "Show the best"],
  best: ["open", "Take answers again"],
};

function instructor(home) {
  const token = location.hash.slice(1), headers = () => ({ Authorization: `Bearer ${token}` });
  const plane = surface(), answers = make("g", { class: "mbm-answers" });
  const diamond = make("polygon", { class: "mbm-mean", points: "0,-0.05 0.05,0 0,0.05 -0.05,0" });
  grid(plane);
  const star = plane.over.querySelector(".mbm-star");
  place(star, { points: starPoints(0.075) });
  star.before(answers);
  plane.over.append(diamond);
  const picture = make("img", { alt: "A picture that telephones scan to join", class: "mbm-scan" });
  const address = make("strong", {}), code = make("strong", { class: "mbm-code" });
  const hint = make("p", { class: "mbm-hint" });
  const count = make("strong", { class: "mbm-count" }, "0"), topic = make("p", { class: "mbm-topic" });
  const ofThem = make("span", {}), lines = make("div", { class: "mbm-lines", "aria-hidden": "true" });
  const said = make("p", { class: "mbm-heard", role: "status", "aria-live": "polite" });
  const trouble = make("p", { class: "mbm-trouble", role: "status", "aria-live": "polite" });
  const step = button("Show all dots", () => lead("show", { show: STEPS[state.phase][0] }), "mbm-main");
  const next = make("select", { id: "next" });
  const another = button("New round", () => lead("next", { next: Number(next.value) }));
  let state = null;

  home.replaceChildren(make("div", { class: "mbm-room" },
    make("div", { class: "mbm-side" },
      make("h1", {}, "Which α and β are best?"), topic,
      make("div", { class: "mbm-way-in" }, picture,
        make("div", {}, make("p", {}, "Scan, or open"), make("p", { class: "mbm-address" }, address),
          make("p", {}, "Code"), code, hint)),
      make("p", { class: "mbm-answered" }, count, ofThem),
      lines,
      make("div", { class: "mbm-buttons" }, step),
      make("div", { class: "mbm-buttons" }, make("label", { for: "next" }, "Next:"), next, another),
      trouble, said),
    plane.node));
  hide(plane, "where is the error least?");
  plane.show(-9, -9, []); // the instructor has no dot

  async function lead(what, send) {
    if (!state) return; // a stranger's page, which says so already
    try {
      show(await ask(`/room/${what}`, { round: state.round, ...send }, headers()));
    } catch (refused) {
      trouble.textContent = refused.message;
    }
  }

  function show(news) {
    if (news.version < (state?.version ?? 0)) return; // an answer that comes late
    const another = news.round !== state?.round;
    state = news;
    trouble.textContent = "";
    if (news.join) {
      picture.src = news.join.picture;
      address.textContent = news.join.address;
      code.textContent = news.join.code;
      hint.textContent = news.join.here_only
        ? "Only this computer can join. Start with --host 0.0.0.0 to let telephones in." : "";
    }
    if (!next.options.length) {
      next.append(...news.titles.map((title, i) => make("option", { value: i }, title)));
    }
    if (another) next.value = (news.which + 1) % news.titles.length;
    topic.textContent = `Round ${news.round}: ${news.title}`;
    count.textContent = news.answered;
    ofThem.textContent = ` ${news.answered === 1 ? "answer" : "answers"} from ${news.joined} ` +
      `${news.joined === 1 ? "telephone" : "telephones"}`;
    step.textContent = STEPS[news.phase][1];
    draw(news);
  }

  function draw({ phase, readings, answers: points }) {
    answers.replaceChildren(...points.map(([a, b]) =>
      make("circle", { cx: a - LEAST, cy: MOST - b, r: 0.025 })));
    const solved = phase === "best", all = [];
    let label = "The plane of α and β, empty.";
    diamond.style.display = "none";
    if (phase === "open") hide(plane, "where is the error least?");
    else {
      const { f, g, m } = readings, c = moments(f, g, m);
      reveal(plane, c, solved);
      label = `The error surface with ${points.length} answers.`;
      if (solved) {
        const [a, b] = best(c);
        all.push(["☆", "best", worth(c, a, b)]);
        if (points.length) {
          const [x, y] = [0, 1].map((i) => points.reduce((sum, one) => sum + one[i], 0) / points.length);
          all.push(["◆", "room's mean", worth(c, x, y)]);
          diamond.style.display = "";
          place(diamond, { transform: `translate(${x - LEAST} ${MOST - y})` });
        }
      }
    }
    lines.replaceChildren(...all.flatMap(([mark, name, values]) => [
      make("strong", {}, `${mark} ${name}`), ...values.map((value) => make("span", {}, value))]));
    const spoken = [label, ...all.map(([, name, values]) => `${name}: ${values.join(", ")}.`)].join(" ");
    place(plane.over, { "aria-label": spoken });
    if (phase === "open") said.textContent = "";
    else if (said.textContent !== spoken) said.textContent = spoken;
  }

  follow("/room/state", headers(), show, (refused) => {
    trouble.textContent = refused?.message ?? "";
  });
}

const home = document.getElementById("poll");
home.classList.add("mbm-poll");
if (location.pathname === "/room") instructor(home);
else telephone(home);
