// Figures of an evaluation. The value is one figure as plain data (see figures.py); the page chooses the colours,
// so light and dark need no second answer from the server, and Plotly.react keeps the reader's zoom.
// A chosen query is told to the other places of the page by the event 'vkd-query'.
const root = element.querySelector('.vkd-figure') ?? element;
let chosen = props.value?.chosen ?? null;

function palette() {
  const style = getComputedStyle(element);
  const of = (name) => style.getPropertyValue(name).trim();
  const networks = ['--vkd-teacher', '--vkd-student', '--vkd-run-2', '--vkd-run-3', '--vkd-run-4', '--vkd-run-5'].map(of);
  return { ink: of('--vkd-ink'), muted: of('--vkd-muted'), line: of('--vkd-line'), card: of('--vkd-card'), right: of('--vkd-right'), wrong: of('--vkd-wrong'), networks };
}
const faint = (colour) => (/^#[0-9a-f]{6}$/i.test(colour) ? `${colour}38` : colour);

const dashes = ['dash', 'solid', 'dot', 'dashdot', 'longdash', 'longdashdot'];
const symbols = ['diamond', 'circle', 'square', 'triangle-up', 'x', 'star'];
function lines(figure, colours) {
  const percent = (shares) => shares.map((share) => 100 * share);
  const traces = figure.lines.flatMap((line) => {
    const colour = colours.networks[line.colour % 6], known = line.low.length > 0;
    const main = {
      x: line.x, y: percent(line.y), name: line.name, legendgroup: line.name, type: 'scatter', mode: figure.few ? 'lines+markers' : 'lines',
      line: { color: colour, width: 2.2, dash: dashes[line.colour % 6] }, marker: { color: colour, size: 7, symbol: symbols[line.colour % 6] },
      customdata: known ? percent(line.low).map((low, n) => [low, 100 * line.high[n]]) : [],
      hovertemplate: known ? '%{y:.2f} % (%{customdata[0]:.1f} … %{customdata[1]:.1f})' : '%{y:.2f} %',
    };
    if (!known || !figure.bands) return [main];
    const band = { x: [...line.x, ...[...line.x].reverse()], y: percent([...line.high, ...[...line.low].reverse()]), legendgroup: line.name, showlegend: false, hoverinfo: 'skip', type: 'scatter', mode: 'lines', line: { width: 0 }, fill: 'toself', fillcolor: faint(colour) };
    return [band, main];
  });
  const first = figure.lines[0]?.x ?? [];
  const x = figure.few ? { type: 'log', tickmode: 'array', tickvals: first, ticktext: first.map(String) } : { dtick: first.length > 12 ? 10 : 1 };
  return { traces, layout: { hovermode: 'x unified', showlegend: traces.length > 0, xaxis: x, yaxis: { ticksuffix: ' %' } } };
}

function scatter(figure, colours) {
  const sides = figure.x.map((first, n) => Math.sign(Math.round(1e4 * (figure.y[n] - first))));
  const [one, two] = figure.colours.map((place) => colours.networks[place % 6]);
  const points = {
    x: figure.x.map((share) => 100 * share), y: figure.y.map((share) => 100 * share), customdata: figure.query, text: figure.text, type: 'scatter', mode: 'markers',
    marker: { size: figure.x.length > 600 ? 5 : 8, opacity: 0.72, color: sides.map((side) => (side > 0 ? two : side < 0 ? one : colours.muted)), line: { width: 0.6, color: colours.card } },
    hovertemplate: '%{text}<extra></extra>',
  };
  const at = chosen === null ? -1 : figure.query.indexOf(chosen);
  const ring = { x: at < 0 ? [] : [points.x[at]], y: at < 0 ? [] : [points.y[at]], type: 'scatter', mode: 'markers', hoverinfo: 'skip', marker: { size: 17, symbol: 'circle-open', color: colours.ink, line: { width: 2.5 } } };
  const axis = { range: [-4, 104], dtick: 20, ticksuffix: ' %' };
  return {
    traces: [points, ring],
    layout: {
      hovermode: 'closest', showlegend: false, xaxis: axis, yaxis: axis,
      shapes: [{ type: 'line', x0: 0, y0: 0, x1: 100, y1: 100, line: { color: colours.muted, width: 1, dash: 'dot' }, layer: 'below' }],
      annotations: [
        { xref: 'paper', yref: 'paper', x: 0, y: 1.01, xanchor: 'left', yanchor: 'bottom', text: figure.above, showarrow: false, font: { color: two, size: 12 } },
        { xref: 'paper', yref: 'paper', x: 1, y: 1.01, xanchor: 'right', yanchor: 'bottom', text: figure.below, showarrow: false, font: { color: one, size: 12 } },
      ],
    },
  };
}

function pairs(figure, colours) {
  const count = figure.rows.length, gap = 0.14;
  const layout = { showlegend: false, hovermode: 'x unified', shapes: [], annotations: [], xaxis: { range: figure.range, anchor: count > 1 ? `y${count}` : 'y' } };
  const traces = [];
  figure.rows.forEach((row, n) => {
    const axis = n ? `y${n + 1}` : 'y';
    const height = (1 - gap * count) / count;
    const top = 1 - n * (height + gap) - gap / 2;
    layout[n ? `yaxis${n + 1}` : 'yaxis'] = { domain: [Math.max(0, top - height), top], showticklabels: false, rangemode: 'tozero', showgrid: false, anchor: 'x' };
    for (const [name, y, colour] of [['strangers', row.false, colours.wrong], ['same identity', row.true, colours.right]])
      traces.push({ x: figure.x, y: y.map((share) => 100 * share), yaxis: axis, name, type: 'scatter', mode: 'lines', line: { shape: 'hvh', width: 1.6, color: colour, dash: name === 'strangers' ? 'dot' : 'solid' }, fill: 'tozeroy', fillcolor: faint(colour), hovertemplate: '%{y:.1f} % of pairs' });
    layout.shapes.push({ type: 'line', xref: 'x', yref: `${axis} domain`, x0: row.threshold, x1: row.threshold, y0: 0, y1: 1, line: { color: colours.ink, width: 2 } });
    layout.annotations.push({ xref: 'paper', x: 0, xanchor: 'left', yref: `${axis} domain`, y: 1, yanchor: 'bottom', text: `<b>${row.name}</b>`, showarrow: false, font: { color: colours.networks[row.colour % 6], size: 13 } });
    layout.annotations.push({ xref: 'x', x: row.threshold, xanchor: row.threshold > figure.range[0] + 0.72 * (figure.range[1] - figure.range[0]) ? 'right' : 'left', yref: `${axis} domain`, y: 1, yanchor: 'bottom', text: ` same from ${row.threshold.toFixed(3)} `, showarrow: false, font: { color: colours.ink, size: 12 } });
  });
  return { traces, layout };
}

function draw() {
  const figure = props.value;
  if (!window.Plotly || !root.isConnected) return;
  root.setAttribute('aria-label', figure?.summary ?? '');
  root.classList.toggle('vkd-nothing', !figure?.kind);
  root.dataset.why = figure?.why ?? '';
  if (!figure?.kind) { Plotly.purge(root); return; }
  if (!root.clientWidth) return;
  const colours = palette();
  const { traces, layout } = { lines, scatter, pairs }[figure.kind](figure, colours);
  const text = { color: colours.muted, size: 12, family: getComputedStyle(element).fontFamily };
  const shared = { gridcolor: colours.line, zerolinecolor: colours.line, linecolor: colours.line, tickfont: text, automargin: true };
  const titled = (title) => ({ title: { text: title, font: text, standoff: 8 } });
  for (const key of Object.keys(layout).filter((name) => name.startsWith('yaxis'))) layout[key] = { ...shared, ...layout[key] };
  Plotly.react(root, traces, {
    uirevision: figure.key, width: root.clientWidth, height: root.clientHeight, margin: { l: 12, r: 14, t: figure.kind === 'pairs' ? 8 : 26, b: 12 },
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: text, hoverlabel: { font: { size: 12 }, namelength: 30 },
    legend: { orientation: 'h', x: 0, xanchor: 'left', y: 1.01, yanchor: 'bottom', bgcolor: 'rgba(0,0,0,0)', font: { ...text, color: colours.ink } },
    ...layout, xaxis: { ...shared, ...titled(figure.across), ...layout.xaxis },
    ...(layout.yaxis && figure.up ? { yaxis: { ...shared, ...titled(figure.up), ...layout.yaxis } } : {}),
  }, { displayModeBar: false, doubleClick: 'reset', responsive: false });
  if (figure.kind === 'scatter' && !root.dataset.clicks) {
    root.dataset.clicks = 'yes';
    root.on('plotly_click', (event) => {
      const query = event.points[0]?.customdata;
      if (query === undefined) return;
      window.dispatchEvent(new CustomEvent('vkd-query', { detail: query }));
      trigger('click', { query });
    });
  }
}

let waiting = 0;
function later() { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(draw); }
function ready() { if (window.Plotly) { draw(); } else { setTimeout(ready, 100); } }

ready();
watch('value', () => { chosen = props.value?.chosen ?? chosen; draw(); });
window.addEventListener('vkd-query', (event) => { chosen = event.detail; if (props.value?.kind === 'scatter') later(); });
new ResizeObserver(later).observe(root);
new MutationObserver(later).observe(document.body, { attributes: true, attributeFilter: ['class'] });
