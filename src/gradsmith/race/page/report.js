// Makes the curves answer: what stands in the page is drawn again, by the rules of svg.py, for
// other axes, a part of the run, smoother, or without some entries.
const WIDTH = 420, HEIGHT = 270, LEFT = 52, RIGHT = 14, TOP = 24, BOTTOM = 40;
const AXIS = { steps: "step", seconds: "seconds", passes: "passes through the model" };
const place = value => String(+value.toFixed(1));
const known = value => value !== null && Number.isFinite(value);

function scale(low, high, start, end, logarithmic, margin = 0) {
  if (low === high) {
    const spread = Math.abs(low) / 10 || 1;
    [low, high] = logarithmic ? [low / 1.1, high * 1.1] : [low - spread, high + spread];
  }
  if (logarithmic) {
    const ratio = (high / low) ** margin;
    [low, high] = [low / ratio, high * ratio];
    const whole = Math.log(high / low);
    return Object.assign(at => start + Math.log(at / low) / whole * (end - start), { low, high, logarithmic });
  }
  const more = margin * (high - low);
  [low, high] = [low - more, high + more];
  return Object.assign(at => start + (at - low) / (high - low) * (end - start), { low, high, logarithmic });
}

function ticks({ low, high, logarithmic }) {
  if (logarithmic && high / low >= 5) {
    for (const digits of [[1], [1, 2, 5]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
        for (const digit of digits) {
          const number = Number(`${digit}e${power}`);
          if (low <= number && number <= high) found.push(number);
        }
      if (found.length >= 2) {
        const every = Math.ceil(found.length / 6);
        return found.filter((_, n) => n % every === 0);
      }
    }
  }
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(digit => digit * power >= rough * 0.999) * power;
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n <= Math.floor(high / step + 1e-9); n++)
    found.push(+(n * step).toPrecision(10));
  return found;
}

function tickText(number) {
  const size = Math.abs(number);
  if (number === 0 || (size >= 1e-4 && size < 1e6)) return String(+number.toPrecision(6));
  return (+number.toPrecision(6)).toExponential().replace("e+", "e");
}

function axes(x, y, xName, yName) {
  return ticks(y).map(at =>
    `<path class="grid" d="M${LEFT} ${place(y(at))}H${WIDTH - RIGHT}"/><text class="tick" x="${LEFT - 6}" y="${place(y(at) + 4)}" text-anchor="end">${tickText(at)}</text>`
  ).join("") + ticks(x).map(at =>
    `<path class="grid" d="M${place(x(at))} ${HEIGHT - BOTTOM}v4"/><text class="tick" x="${place(x(at))}" y="${HEIGHT - BOTTOM + 17}" text-anchor="middle">${tickText(at)}</text>`
  ).join("") +
    `<text class="name" x="${WIDTH - RIGHT}" y="${HEIGHT - 6}" text-anchor="end">${xName}</text><text class="name" x="4" y="12">${yName}</text>`;
}

function smoothed(values, share) {
  let mean = null;
  return values.map(value => {
    if (!known(value)) return null;
    mean = mean === null ? value : share * mean + (1 - share) * value;
    return mean;
  });
}

// What a plot shows of a line in a state: points along the chosen axis, smoothed.
function prepared(line, state) {
  const each = name => smoothed(line[name], state.smooth);
  return { entry: line.entry, x: line.x[state.axis], middle: each("middle"), low: each("low"), high: each("high") };
}

function lossWindow(lines, view) {
  const late = [];
  for (const { x, low, high } of lines) {
    const start = view ? view[0] : Math.max(...x) / 5;
    x.forEach((at, n) => {
      if (at >= start && (!view || at <= view[1]))
        for (const value of [low[n], high[n]]) if (known(value)) late.push(value);
    });
  }
  return late.length ? [Math.min(...late), Math.max(...late)] : [0, 1];
}

function drawPlot(svg, shown, state) {
  const lines = shown.lines.map(line => prepared(line, state));
  const visible = lines.filter(line => !state.hidden.has(line.entry));
  const [first, last] = state.view || extent(lines.flatMap(line => line.x));
  let [low, high] = lossWindow(visible, state.view);
  const logarithmic = state.logarithmic && low > 0;
  const x = scale(first, last, LEFT, WIDTH - RIGHT, false);
  const y = scale(low, high, HEIGHT - BOTTOM, TOP, logarithmic, 0.05);
  const fits = value => known(value) && (!logarithmic || value > 0);
  svg.querySelector(".axes").innerHTML = axes(x, y, AXIS[state.axis], `${shown.kind} loss`);
  const target = svg.querySelector(".target");
  if (target) {
    const there = y.low <= shown.target && shown.target <= y.high;
    target.setAttribute("d", `M${LEFT} ${there ? place(y(shown.target)) : -9}H${WIDTH - RIGHT}`);
  }
  for (const line of lines) {
    const group = svg.querySelector(`g.e${line.entry}`);
    group.style.display = state.hidden.has(line.entry) ? "none" : "";
    let pen = "M", path = "", marks = "";
    const above = [], below = [], every = Math.max(1, Math.floor(line.middle.length / 3));
    line.middle.forEach((value, n) => {
      if (!fits(value)) { pen = "M"; return; }
      const at = place(x(line.x[n]));
      path += `${pen}${at} ${place(y(value))}`;
      pen = "L";
      if (n % every === (line.entry + every - 1) % every)
        marks += `M${at} ${place(y(value))}m${MARKERS[line.entry % MARKERS.length].slice(1)}`;
      if (fits(line.low[n])) {
        above.push(`${at} ${place(y(line.high[n]))}`);
        below.unshift(`${at} ${place(y(line.low[n]))}`);
      }
    });
    const flat = line.low.every((value, n) => value === line.high[n]);
    group.querySelector(".line").setAttribute("d", path);
    group.querySelector(".marks").setAttribute("d", marks);
    group.querySelector(".band").setAttribute("d", flat || !above.length ? "" : `M${above.concat(below).join("L")}Z`);
  }
  const at = state.cursor;
  const inside = at !== null && at >= first && at <= last;
  svg.querySelector(".cursor").setAttribute("d", inside ? `M${place(x(at))} ${TOP}V${HEIGHT - BOTTOM}` : "");
  svg.range = [first, last];
}

function extent(values) {
  return values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
}

function nearest(values, at) {
  return values.reduce((best, value, n) => Math.abs(value - at) < Math.abs(values[best] - at) ? n : best, 0);
}

function digits(value) {
  return known(value) ? String(+value.toPrecision(4)) : "–";
}

// The values at the cursor, as a table: a line for each entry, a column for each plot.
function readout(box, data, state) {
  box.textContent = "";
  if (state.cursor === null) return;
  const table = box.appendChild(document.createElement("table"));
  table.createCaption().textContent = `At ${AXIS[state.axis]} ${digits(state.cursor)}`;
  const cell = (row, tag, text) => Object.assign(row.appendChild(document.createElement(tag)), { textContent: text });
  const head = table.createTHead().insertRow();
  for (const text of ["entry", ...data.curves.map(shown => `${shown.kind} loss`)]) cell(head, "th", text).scope = "col";
  data.names.forEach((name, entry) => {
    if (state.hidden.has(entry)) return;
    const row = table.createTBody().insertRow();
    cell(row, "th", name).scope = "row";
    for (const shown of data.curves) {
      const line = shown.lines.find(line => line.entry === entry);
      const drawn = line && prepared(line, state);
      const n = drawn ? nearest(drawn.x, state.cursor) : 0;
      const range = drawn && drawn.low[n] !== drawn.high[n] ? ` (${digits(drawn.low[n])} to ${digits(drawn.high[n])})` : "";
      cell(row, "td", drawn ? digits(drawn.middle[n]) + range : "–");
    }
  });
}

function answer(box) {
  const data = JSON.parse(box.querySelector("script").textContent);
  const svgs = [...box.querySelectorAll(".plot svg")], form = box.querySelector("form");
  const state = { axis: "steps", logarithmic: data.curves[0].logarithmic, smooth: 0, hidden: new Set(), view: null, cursor: null };
  const draw = () => {
    svgs.forEach((svg, n) => drawPlot(svg, data.curves[n], state));
    readout(box.querySelector(".readout"), data, state);
  };
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", ({ target }) => {
    if (target.name === "entry") state.hidden[target.checked ? "delete" : "add"](+target.value);
    if (target.name === "smooth") state.smooth = +target.value;
    if (target.name.endsWith("-x")) Object.assign(state, { axis: target.value, view: null, cursor: null });
    if (target.name.endsWith("-y")) state.logarithmic = target.value === "logarithmic";
    draw();
  });
  form.elements.whole.addEventListener("click", () => { state.view = null; draw(); });
  svgs.forEach(svg => pointer(svg, svg.parentElement, state, draw));
  draw();
}

function pointer(svg, plot, state, draw) {
  let start = null;
  const at = event => {
    const box = svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
    return svg.range[0] + Math.min(1, Math.max(0, share)) * (svg.range[1] - svg.range[0]);
  };
  const show = event => { state.cursor = at(event); draw(); };
  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerleave", () => { start = null; state.cursor = null; draw(); });
  plot.addEventListener("pointerdown", event => { start = at(event); show(event); });
  plot.addEventListener("pointerup", event => {
    const ends = [start, at(event)].sort((one, other) => one - other);
    if (start !== null && ends[1] - ends[0] > (svg.range[1] - svg.range[0]) / 50) state.view = ends;
    start = null;
    draw();
  });
  plot.addEventListener("dblclick", () => { state.view = null; draw(); });
  plot.addEventListener("keydown", event => {
    const [first, last] = svg.range, width = last - first;
    const cursor = state.cursor ?? first;
    const keys = {
      ArrowLeft: () => { state.cursor = Math.max(first, cursor - width / 20); },
      ArrowRight: () => { state.cursor = Math.min(last, cursor + width / 20); },
      "+": () => { state.view = [cursor - (cursor - first) / 2, cursor + (last - cursor) / 2]; },
      "-": () => { state.view = null; },
      Escape: () => { state.view = null; state.cursor = null; },
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
    draw();
  });
}

document.documentElement.classList.add("js");
document.querySelectorAll(".curves[id]").forEach(answer);
