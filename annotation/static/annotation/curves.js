/* The curves of a run: a small chart a metric, one cursor over all of them, new rows asked for while the run is active. */
const POLL_EVERY = 2000;
const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"];
const NOT_CURVES = new Set(["step", "time", "epoch", "num_tokens", "num_input_tokens_seen", "total_flos"]);
const FIRST = ["loss", "eval_loss", "accuracy", "eval_accuracy", "rewards/accuracies", "margin", "rewards/margins"];
const MOST = 6;

const holder = document.getElementById("curves");
const rows = [];
const charts = new Map();
let after = 0;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function namesOf() {
  const found = new Set(rows.flatMap((row) => Object.keys(row)));
  const names = [...found].filter((name) => !NOT_CURVES.has(name) && rows.some((row) => typeof row[name] === "number"));
  const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return names.sort((a, b) => rank(a) - rank(b)).slice(0, MOST);
}

const dataOf = (name) => [rows.map((row) => row.step), rows.map((row) => (typeof row[name] === "number" ? row[name] : null))];

const short = (value) => (value == null ? "–" : value === 0 ? "0" : Math.abs(value) >= 0.001 && Math.abs(value) < 1e5 ? Number(value.toPrecision(4)).toString() : value.toExponential(2));

function addChart(name, index) {
  const box = document.createElement("div");
  box.className = "curve";
  const title = document.createElement("p");
  title.className = "curve-title";
  const reading = document.createElement("span");
  reading.className = "num";
  title.append(`${name} `, reading);
  box.append(title);
  holder.append(box);
  const chart = new uPlot(optionsOf(name, index, box, reading), dataOf(name), box);
  charts.set(name, { chart, box, reading });
}

function optionsOf(name, index, box, reading) {
  const axis = { stroke: style("--muted"), grid: { stroke: style("--hairline"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width: box.clientWidth, height: 150, legend: { show: false },
    cursor: { sync: { key: "run" }, points: { size: 7 }, drag: { x: false, y: false } },
    scales: { x: { time: false } },
    axes: [{ ...axis, size: 28 }, { ...axis, size: 56, values: (_chart, ticks) => ticks.map(short) }],
    series: [{}, { stroke: style(COLOURS[index % COLOURS.length]), width: 2, points: { show: rows.length < 30, size: 5 }, spanGaps: true }],
    hooks: { setCursor: [(chart) => { reading.textContent = readingAt(name, chart.cursor.idx); }] },
  };
}

function readingAt(name, idx) {
  const row = idx == null ? rows.at(-1) : rows[idx];
  return row ? `${short(row[name])} · ${holder.dataset.step} ${row.step}` : "";
}

function redraw() {
  holder.classList.toggle("waiting", rows.length === 0);
  if (!rows.length) {
    holder.textContent = holder.dataset.empty;
    return;
  }
  if (!charts.size) holder.replaceChildren();
  namesOf().forEach((name, i) => {
    if (!charts.has(name)) addChart(name, i);
    const { chart, reading } = charts.get(name);
    chart.setData(dataOf(name));
    reading.textContent = readingAt(name, chart.cursor.idx);
  });
}

async function poll() {
  let answer = { active: true, rows: [], next: after };
  try {
    const response = await fetch(`${holder.dataset.url}?after=${after}`);
    if (response.redirected || response.status === 403 || response.status === 404) return;
    if (response.ok) answer = await response.json();
  } catch {
    // the server is away for the moment: ask again
  }
  rows.push(...answer.rows);
  after = answer.next;
  if (answer.rows.length || !charts.size) redraw();
  if (answer.active || answer.rows.length) setTimeout(poll, document.hidden ? POLL_EVERY * 5 : POLL_EVERY);
}

function resize() {
  for (const { chart, box } of charts.values()) chart.setSize({ width: box.clientWidth, height: 150 });
}

if (holder) {
  addEventListener("resize", resize);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    charts.forEach(({ chart }) => chart.destroy());
    charts.clear();
    redraw();
  });
  poll();
}
