// Draws what `events` beside this file tells, an event a second. Each event has the pool's figures
// as they are, counters since its opening; rates and the course of things are made here.
"use strict";

const EVENTS = new URL("events", document.currentScript.src);
const POINTS = 120; // of a sparkline
const TRY_AGAIN = 2000; // milliseconds
const SILENCE = 3500; // milliseconds after which the application is not called live any more
const MOST_FAILURES = 50;

const OUTCOMES = [
  ["completed", "completed"],
  ["failed", "failed"],
  ["timed_out", "timed out"],
  ["cancelled", "cancelled"],
  ["refused", "refused, full"],
];

let last = null; // the event before
let heard = 0; // when it came
let series = {};

const $ = (id) => document.getElementById(id);

// --- listening ----------------------------------------------------------------------------------

function listen() {
  if (last) EVENTS.searchParams.set("after", last.mark);
  const source = new EventSource(EVENTS);
  source.onmessage = (message) => show(JSON.parse(message.data));
  // The application ends each response soon, so that it never waits for one when it stops.
  source.addEventListener("again", () => {
    source.close();
    listen();
  });
  source.onerror = async () => {
    source.close();
    tell("gone", await reason());
    setTimeout(listen, TRY_AGAIN);
  };
}

async function reason() {
  try {
    const { status } = await fetch(EVENTS, { method: "HEAD" });
    if (status === 503) return "refused: it starts, or too many pages are open";
    return status < 400 ? "interrupted" : `refused: status ${status}`;
  } catch {
    return "disconnected";
  }
}

setInterval(() => {
  if (heard && $("status").dataset.state === "live" && Date.now() - heard > SILENCE) {
    tell("waiting", "no answer");
  }
}, 500);

function tell(state, text) {
  const status = $("status");
  if (status.textContent !== text) status.textContent = text; // or it would be read out again
  status.dataset.state = state;
  $("figures").toggleAttribute("data-stale", state !== "live");
}

// --- showing ------------------------------------------------------------------------------------

function show(event) {
  if (last === null || last.source !== event.source) {
    last = null; // another process, whose counters have nothing to do with the one before
    series = { utilisation: [], queue: [], rate: [], delay: [] };
    $("failures").replaceChildren();
  }
  heard = Date.now();
  const passed = last === null ? 0 : event.now - last.now;
  // A pool that was opened anew counts from 0.
  const grown = (now, before) => (passed > 0 ? Math.max(now - before, 0) / passed : null);
  const rateOf = (name) => grown(event.counts[name], last?.counts[name]);

  tell("live", event.status === "ready" ? "live" : `live, ${event.status}`);
  document.title = `${event.name} · loopworkers`;
  $("name").textContent = event.name;
  $("about").textContent = `${event.kind} pool · server process ${event.process}`;
  showTiles(event, rateOf);
  showWorkers(event, grown);
  showCalls(event, rateOf);
  showFailures(event.failures);
  last = event;
}

function showTiles(event, rateOf) {
  const { counts, workers } = event;
  const in_state = (state) => workers.filter((worker) => worker.state === state).length;

  const busy = rateOf("busy");
  const utilisation = busy === null ? null : Math.min(busy / event.max_workers, 1);
  const others = [
    [in_state("starting"), "starting"],
    [in_state("stopping"), "stopping"],
  ];
  tile("utilisation", utilisation, percent, 1, [
    `${in_state("busy")} of ${event.max_workers} workers busy`,
    ...others.filter(([count]) => count).map(([count, state]) => `${count} ${state}`),
  ]);

  const ahead = workers.reduce((sum, worker) => sum + worker.ahead, 0);
  const bound = event.max_pending;
  tile("queue", counts.waiting + ahead, whole, 4, [
    bound === null ? "calls wait, any number may" : `calls wait, at most ${whole(bound)} may`,
  ]);

  const ends = OUTCOMES.map(([name]) => rateOf(name));
  const rate = ends.includes(null) ? null : ends.reduce((sum, one) => sum + one);
  tile("rate", rate, fraction, 4, [`${whole(counts.completed)} completed in all`]);

  const delay = event.loop_delay;
  tile("delay", delay?.max ?? null, seconds, 0.01, delay && [`at worst; p50 ${seconds(delay.p50)}`]);
}

function tile(id, value, format, least, notes) {
  const points = series[id];
  const box = $(id);
  if (value !== null) {
    points.push(value);
    if (points.length > POINTS) points.shift();
    box.querySelector(".value").textContent = format(value);
  }
  if (notes) box.querySelector(".note").textContent = notes.join(", ");
  const most = Math.max(least, ...points);
  const svg = box.querySelector("svg");
  const range = points.length ? `now ${format(points.at(-1))}, at most ${format(Math.max(...points))}` : "";
  svg.setAttribute("aria-label", `${box.dataset.name} in the last two minutes: ${range}`);
  draw(svg, points, most);
}

function draw(svg, points, most) {
  if (points.length < 2) {
    svg.replaceChildren();
    return;
  }
  const width = 120;
  const step = width / (POINTS - 1);
  const begin = width - step * (points.length - 1);
  const course = points.map((value, i) => `${begin + i * step},${30 - (27 * value) / most}`).join("L");
  svg.replaceChildren(
    path("area", `M${begin},32L${course}L${width},32Z`),
    path("line", `M${course}`),
  );
}

function path(name, d) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
  made.setAttribute("class", name);
  made.setAttribute("d", d);
  return made;
}

function showWorkers(event, grown) {
  const before = new Map(last?.workers.map((worker) => [worker.id, worker.busy]));
  const rows = event.workers.map((worker) => {
    const busy = Math.min(grown(worker.busy, before.get(worker.id) ?? 0) ?? 0, 1);
    const state = make("span", "state", worker.state);
    state.dataset.state = worker.state;
    const call = make("td", "name", worker.call ?? "");
    call.title = worker.call ?? "";
    return row(
      make("td", "number", worker.id),
      make("td", "", state),
      call,
      make("td", "number", worker.call === null ? "" : seconds(worker.ran)),
      make("td", "number wide", whole(worker.answered)),
      make("td", "", bar(busy)),
    );
  });
  $("workers").replaceChildren(...rows);
  const more = event.more_workers;
  $("workers-note").textContent = more ? `and ${more} more` : rows.length ? "" : "None at present.";
}

function bar(share) {
  const filled = make("span");
  filled.style.width = percent(share);
  return make("div", "bar", make("span", "", filled), make("span", "", percent(share)));
}

function showCalls(event, rateOf) {
  const { counts } = event;
  $("outcomes").replaceChildren(
    ...OUTCOMES.map(([name, label]) => {
      const rate = rateOf(name);
      const style = counts[name] && ["failed", "timed_out", "refused"].includes(name) ? " bad" : "";
      return row(
        heading(label),
        make("td", `number${style}`, whole(counts[name])),
        make("td", "number", rate === null ? "" : fraction(rate)),
      );
    }),
  );
  const times = [
    ["waited", event.waited],
    ["ran", event.ran],
  ];
  $("times").replaceChildren(
    ...times.map(([label, found]) =>
      row(
        heading(label),
        ...["p50", "p99", "max"].map((name) => make("td", "number", found ? seconds(found[name]) : "–")),
      ),
    ),
  );
  const replaced = [
    [counts.died, "died"],
    [counts.killed, "stopped with the call"],
    [counts.retired, "retired"],
    [counts.stuck, "stuck"],
  ].filter(([count]) => count);
  const told = replaced.map(([count, what]) => `${whole(count)} ${what}`).join(", ");
  $("replaced").textContent =
    `${whole(counts.started)} workers started` +
    (told && `; ${told}`) +
    (counts.retried ? `. ${whole(counts.retried)} calls repeated` : "");
}

function showFailures(failures) {
  const list = $("failures");
  for (const failure of failures) {
    const item = make("li", "", details(failure));
    list.prepend(item);
  }
  while (list.children.length > MOST_FAILURES) list.lastChild.remove();
  $("no-failures").hidden = list.children.length > 0;
}

function details(failure) {
  const at = new Date(failure.at * 1000);
  const time = make("time", "", at.toLocaleTimeString());
  time.dateTime = at.toISOString();
  time.title = at.toLocaleString();
  const summary = make(
    "summary",
    "",
    time,
    make("span", "call", failure.call),
    make("span", "error", failure.error),
    make("span", "ran", failure.ran ? `after ${seconds(failure.ran)}` : "not begun"),
  );
  const text = make("pre", "", failure.traceback);
  text.tabIndex = 0; // so that it can be scrolled by keyboard
  return make("details", "", summary, text);
}

// --- pieces -------------------------------------------------------------------------------------

// Strings become text, never markup: names and tracebacks are whatever somebody's program has.
function make(tag, name = "", ...content) {
  const made = document.createElement(tag);
  made.className = name;
  made.append(...content);
  return made;
}

const row = (...cells) => make("tr", "", ...cells);

function heading(text) {
  const cell = make("th", "", text);
  cell.scope = "row";
  return cell;
}

const whole = (number) => number.toLocaleString("en");
const percent = (share) => `${Math.round(100 * share)} %`;
const fraction = (number) => (number < 10 ? number.toFixed(1) : whole(Math.round(number)));

function seconds(value) {
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 0.01) return `${(value * 1e3).toFixed(1)} ms`;
  if (value < 1) return `${Math.round(value * 1e3)} ms`;
  return value < 100 ? `${value.toFixed(1)} s` : `${whole(Math.round(value))} s`;
}

listen();
