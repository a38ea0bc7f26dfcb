// Draws the plotly figures of a component. The value is { mark, figures }; each figure is plotly's own JSON, with
// `var(--name)` for the colours of the theme and layout.meta = { summary, why, title, section, latest }.
// Plotly.react with the figure's uirevision keeps the reader's zoom when the next value comes.
const root = element.querySelector('.vkd-figures-root') ?? element;
const FOLDED = 'More metrics';
let selected = null; // the query that is marked in a scatter plot

const style = () => getComputedStyle(element);
function themed(value, css) {
  if (typeof value === 'string') return value.startsWith('var(') ? css.getPropertyValue(value.slice(4, -1)).trim() : value;
  if (Array.isArray(value)) return typeof value[0] === 'number' ? value : value.map((item) => themed(item, css));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, css)]));
}

function make(tag, className, text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function section(name) {
  if (!name) return root;
  let box = [...root.children].find((other) => other.dataset.section === name);
  if (!box) {
    const folded = name === FOLDED;
    box = make(folded ? 'details' : 'section', '');
    box.dataset.section = name;
    box.append(make(folded ? 'summary' : 'h4', '', name), make('div', 'vkd-plots'));
    box.addEventListener('toggle', draw);
    root.append(box);
  }
  return box.lastElementChild;
}

function frame(key, meta) {
  const box = section(meta.section);
  let found = [...box.children].find((other) => other.dataset.series === key);
  if (!found) {
    found = make(meta.title ? 'figure' : 'div', '');
    found.dataset.series = key;
    const plot = make('div', 'vkd-plot');
    plot.setAttribute('role', 'img');
    if (meta.title) {
      const caption = make('figcaption', ''), button = make('button', '', meta.title);
      button.type = 'button';
      button.title = 'Larger or smaller';
      button.addEventListener('click', () => { found.classList.toggle('vkd-large'); draw(); });
      caption.append(button, make('span', ''));
      found.append(caption);
    }
    found.append(plot);
    box.append(found);
    box.append(...[...box.children].sort((a, b) => order(a) - order(b)));
  }
  return found;
}
const order = (child) => (props.value?.figures ?? []).findIndex((figure) => figure.layout.uirevision === child.dataset.series);

function draw() {
  const figures = props.value?.figures ?? [];
  root.dataset.mark = props.value?.mark ?? '';
  root.classList.toggle('vkd-early', !props.value || !window.Plotly);
  root.classList.toggle('vkd-nothing', Boolean(props.value) && figures.length === 0);
  if (!window.Plotly || !root.isConnected) return;
  const keys = new Set(figures.map((figure) => figure.layout.uirevision));
  root.querySelectorAll('[data-series]').forEach((old) => { if (!keys.has(old.dataset.series)) old.remove(); });
  root.querySelectorAll('[data-section]').forEach((box) => { if (!box.lastElementChild.children.length) box.remove(); });
  const css = style();
  for (const figure of figures) drawOne(figure, css);
  root.querySelectorAll('[data-section]').forEach((box) => { if (!box.lastElementChild.children.length) box.remove(); });
}

function drawOne({ data, layout }, css) {
  const box = frame(layout.uirevision, layout.meta), plot = box.lastElementChild, large = box.classList.contains('vkd-large');
  plot.setAttribute('aria-label', layout.meta.summary ?? layout.meta.title ?? '');
  plot.classList.toggle('vkd-unavailable', Boolean(layout.meta.why));
  plot.dataset.why = layout.meta.why ?? '';
  if (layout.meta.title) box.querySelector('figcaption span').textContent = layout.meta.latest ?? '';
  if (layout.meta.why) { Plotly.purge(plot); return; }
  if (!plot.clientWidth) return;
  const shown = themed(layout, css);
  if (layout.meta.title && !large) { delete shown.xaxis.title; shown.margin = { ...shown.margin, b: 20 }; }
  Object.assign(shown, { width: plot.clientWidth, height: plot.clientHeight });
  shown.font = { ...shown.font, family: css.fontFamily };
  const traces = themed(data, css);
  const points = traces[0]?.customdata, ring = traces.find((trace) => trace.meta === 'selected');
  if (ring) {
    const at = points.indexOf(selected ?? ring.customdata[0]);
    Object.assign(ring, { x: at < 0 ? [] : [traces[0].x[at]], y: at < 0 ? [] : [traces[0].y[at]] });
  }
  Plotly.react(plot, traces, shown, { displayModeBar: false, doubleClick: 'reset', responsive: false });
  if (ring && !plot.dataset.clicks) {
    plot.dataset.clicks = 'yes';
    plot.on('plotly_click', (event) => {
      const query = event.points[0]?.customdata;
      if (query === undefined) return;
      window.dispatchEvent(new CustomEvent('vkd-query', { detail: query }));
      trigger('click', { query });
    });
  }
}

let waiting = 0;
function later() { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(draw); }
function ready() { draw(); if (!window.Plotly) setTimeout(ready, 100); }

ready();
watch('value', () => {
  if (props.value?.figures?.[0]?.data.at(-1)?.customdata?.length) selected = null; // the server says which query
  draw();
});
window.addEventListener('vkd-query', (event) => { selected = event.detail; if (root.querySelector('[data-clicks]')) later(); });
new ResizeObserver(later).observe(root);
new MutationObserver(later).observe(document.body, { attributes: true, attributeFilter: ['class'] });
