// Live curves. The value is a message: which runs to draw and the points that this page does not have yet.
// What the page has lives in window.vkdCurves and not in the element, so it survives a tab that is drawn anew;
// `have()` tells the server, with each tick, up to which byte of each run's events the page is served.
const store = (window.vkdCurves ??= { runs: {}, order: [], have: {}, open: {} });
const SHARE = /\/(map|minp|top\d+)/;
const NAMES = { map: 'mAP', minp: 'mINP', map_standard: 'mAP (standard AP)', map_trapezoid: 'mAP (trapezoid AP)' };
const PLAIN = {
  learning_rate: ['Learning rate', ''], images_per_second: ['Speed', ' images/s'], memory_mb: ['Memory', ' MiB'],
};
const root = element.querySelector('.vkd-curves') ?? element;

function title(series) {
  if (PLAIN[series]) return PLAIN[series][0];
  const [first, ...rest] = series.split('/');
  const last = rest.join(' ');
  if (first === 'losses') return last;
  if (SHARE.test(series)) return `${NAMES[last] ?? last.replace(/^top/, 'top-')} · ${first.toUpperCase()}`;
  return series.replaceAll('_', ' ').replaceAll('/', ' · ');
}

function section(series) {
  if (/\/(map|top1)$/.test(series)) return 'Validation';
  if (SHARE.test(series)) return 'More scores';
  return series.startsWith('losses/') ? 'Losses' : 'Schedule and machine';
}

function rank(series) {
  const order = ['i2v/map', 'i2v/top1', 'v2v/map', 'v2v/top1', 'losses/total', 'learning_rate'];
  const at = order.indexOf(series);
  return at < 0 ? order.length : at;
}

function shown(series, value) {
  if (value === null || value === undefined) return '';
  if (SHARE.test(series)) return `${(100 * value).toFixed(1)} %`;
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.01 || size >= 1e5) ? value.toExponential(1) : value.toPrecision(3);
  return (size >= 1000 && size < 1e5 ? value.toFixed(0) : text) + (PLAIN[series]?.[1] ?? '');
}

function merge(message) {
  if (!message || !message.order) return;
  store.order = message.order;
  for (const [name, part] of Object.entries(message.runs)) {
    if (part.from !== 0 && part.from !== store.have[name]) continue; // made for what another tick had: ask again
    if (part.from === 0) store.runs[name] = { series: {}, references: part.references ?? [] };
    const series = store.runs[name].series;
    for (const [epoch, numbers] of part.points)
      for (const [key, value] of Object.entries(numbers)) (series[key] ??= new Map()).set(epoch, value);
    store.have[name] = part.to;
  }
}

function colours() {
  const style = getComputedStyle(element);
  const of = (name) => style.getPropertyValue(name).trim();
  return { ink: of('--vkd-ink'), muted: of('--vkd-muted'), line: of('--vkd-line'), run: [0, 1, 2, 3, 4, 5].map((n) => of(`--vkd-run-${n}`)) };
}

function panel(series) {
  const name = section(series);
  let box = root.querySelector(`[data-section="${name}"]`);
  if (!box) {
    box = document.createElement(name === 'More scores' ? 'details' : 'section');
    box.dataset.section = name;
    box.innerHTML = name === 'More scores' ? '<summary>More scores</summary><div class="vkd-plots"></div>' : `<h4>${name}</h4><div class="vkd-plots"></div>`;
    const places = ['Validation', 'Losses', 'Schedule and machine', 'More scores'];
    const next = [...root.children].find((other) => places.indexOf(other.dataset.section) > places.indexOf(name));
    root.insertBefore(box, next ?? null);
    box.addEventListener('toggle', () => draw());
  }
  let figure = root.querySelector(`figure[data-series="${CSS.escape(series)}"]`);
  if (!figure) {
    figure = document.createElement('figure');
    figure.dataset.series = series;
    figure.innerHTML = '<figcaption><button type="button" title="Larger or smaller"></button><span></span></figcaption><div class="vkd-plot"></div>';
    figure.querySelector('button').textContent = title(series);
    figure.querySelector('button').addEventListener('click', () => { figure.classList.toggle('vkd-large'); draw(); });
    const plots = box.querySelector('.vkd-plots');
    const next = [...plots.children].find((other) => rank(other.dataset.series) > rank(series));
    plots.insertBefore(figure, next ?? null);
  }
  return figure;
}

function traces(series, palette) {
  const factor = SHARE.test(series) ? 100 : 1;
  const lines = [], levels = [];
  store.order.forEach((name, place) => {
    const run = store.runs[name];
    const found = run?.series[series];
    const colour = palette.run[place % palette.run.length];
    if (found) {
      const x = [...found.keys()].sort((a, b) => a - b);
      lines.push({
        x, y: x.map((epoch) => found.get(epoch) * factor), name, type: 'scatter',
        mode: x.length < 40 && factor === 100 ? 'lines+markers' : x.length < 2 ? 'markers' : 'lines',
        line: { color: colour, width: 2 }, marker: { color: colour, size: 5 },
        hovertemplate: factor === 100 ? '%{y:.1f} %' : '%{y:.4g}',
      });
    }
    for (const level of (run?.references ?? []).filter((each) => each.series === series && !levels.some((other) => other.text === each.text && other.value === each.value * factor)))
      levels.push({ value: level.value * factor, text: level.text, dash: level.dash, colour: store.order.length > 1 ? colour : palette.muted });
  });
  return { lines, levels };
}

function draw() {
  if (!window.Plotly || !root.isConnected) return;
  const palette = colours();
  const wanted = new Set();
  for (const name of store.order) for (const series of Object.keys(store.runs[name]?.series ?? {})) wanted.add(series);
  root.querySelectorAll('figure').forEach((figure) => { if (!wanted.has(figure.dataset.series)) figure.remove(); });
  root.querySelectorAll('[data-section]').forEach((box) => { if (!box.querySelector('figure') && ![...wanted].some((series) => section(series) === box.dataset.section)) box.remove(); });
  root.classList.remove('vkd-early');
  root.classList.toggle('vkd-nothing', wanted.size === 0);
  for (const series of [...wanted].sort((a, b) => rank(a) - rank(b))) {
    const figure = panel(series);
    const plot = figure.querySelector('.vkd-plot');
    const large = figure.classList.contains('vkd-large');
    if (!plot.clientWidth) continue;
    const { lines, levels } = traces(series, palette);
    const last = Math.max(1, ...lines.map((line) => line.x.at(-1) ?? 0));
    const latest = lines[0]?.y.at(-1);
    figure.querySelector('span').textContent = latest === undefined ? '' : shown(series, SHARE.test(series) ? latest / 100 : latest);
    const text = { color: palette.muted, size: 11, family: getComputedStyle(element).fontFamily };
    const axis = { gridcolor: palette.line, zerolinecolor: palette.line, linecolor: palette.line, tickfont: text, automargin: true };
    const shared = { ...axis, automargin: false };
    // Level lines count for the range of a plot that nobody has zoomed.
    const held = levels.map((level) => ({ x: [lines[0]?.x[0] ?? 0], y: [level.value], mode: 'markers', marker: { opacity: 0 }, hoverinfo: 'skip', showlegend: false, type: 'scatter' }));
    Plotly.react(plot, [...lines, ...held], {
      uirevision: 'keep', height: plot.clientHeight, width: plot.clientWidth, margin: { l: 8, r: 8, t: 6, b: large ? 40 : 20 },
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false, font: text,
      hovermode: 'x unified', hoverlabel: { font: { size: 11 }, namelength: 24 },
      xaxis: { ...shared, rangemode: 'tozero', ...(last < 6 ? { dtick: 1 } : { nticks: 5 }), title: { text: large ? 'epoch' : '', font: text }, hoverformat: 'd' },
      yaxis: { ...axis, nticks: 5, rangemode: PLAIN[series] ? 'tozero' : 'normal', ticksuffix: SHARE.test(series) ? ' %' : '', exponentformat: 'power', tickformat: series === 'learning_rate' ? '.0e' : '' },
      shapes: levels.map((level) => ({ type: 'line', xref: 'paper', x0: 0, x1: 1, y0: level.value, y1: level.value, line: { color: level.colour, width: 1.5, dash: level.dash } })),
      annotations: levels.map((level, n) => ({ xref: 'paper', x: n % 2 ? 0 : 1, xanchor: n % 2 ? 'left' : 'right', y: level.value, yanchor: 'bottom', text: level.text, showarrow: false, font: { ...text, size: 10, color: level.colour } })),
    }, { displayModeBar: false, doubleClick: 'reset', responsive: false });
  }
}

let waiting = 0;
function later() { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(draw); }
function ready() { if (window.Plotly) { draw(); } else { setTimeout(ready, 100); } }

merge(props.value);
ready();
watch('value', () => { merge(props.value); draw(); });
new ResizeObserver(later).observe(root);
new MutationObserver(later).observe(document.body, { attributes: true, attributeFilter: ['class'] });
