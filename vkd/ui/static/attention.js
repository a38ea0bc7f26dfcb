// Plays the Grad-CAM snapshots of a run over its epochs. What the page has is kept outside the element: messages hold
// only what is new, and a tab may be drawn anew. The server sends nothing before this store exists.
const store = (window.vkdAttention ??= { run: '', epochs: [], snapshots: {}, probes: [], gallery: [], teacher: null, at: -1 });
const root = () => element.querySelector('.vkd-attention') ?? element;
let playing = 0;

const make = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

function merge(message) {
  if (!message || !message.run) return;
  if (message.run !== store.run) Object.assign(store, { run: message.run, snapshots: {}, probes: [], gallery: [], teacher: null, at: -1 });
  const followed = store.at < 0 || store.at >= store.epochs.length - 1;
  store.epochs = message.epochs;
  Object.assign(store.snapshots, message.snapshots);
  if (message.probes) Object.assign(store, { probes: message.probes, gallery: message.gallery, teacher: message.teacher });
  if (followed) store.at = store.epochs.length - 1;
}

const label = (row) => `identity ${row.identity}` + (row.camera >= 0 ? `, camera ${row.camera}` : '');

function image(uri, alt) {
  const made = make('img');
  made.src = uri; made.alt = alt; made.draggable = false;
  return made;
}

function cellOf(snapshot, probe, part) {
  const cell = make('div', `vkd-snapshot vkd-${part}`);
  if (!snapshot) return cell;
  const heat = make('figure');
  heat.append(image(snapshot.heat, `${part} heatmap of ${label(probe)}`), make('figcaption', '', snapshot.similarity.toFixed(2)));
  heat.title = 'Grad-CAM of the cosine similarity to the same identity under another camera';
  cell.append(heat);
  const list = make('ol', 'vkd-best');
  for (const hit of snapshot.top) {
    const row = store.gallery[hit.item];
    if (!row) continue;
    const right = row.identity === probe.identity;
    const item = make('li', right ? 'vkd-correct' : 'vkd-incorrect');
    item.append(image(row.image, `${right ? 'correct' : 'incorrect'} match: ${label(row)}`), make('span', '', `${right ? '✓' : '✗'} ${hit.similarity.toFixed(2)}`));
    item.title = `${label(row)}, cosine similarity ${hit.similarity.toFixed(2)}`;
    list.append(item);
  }
  cell.append(list);
  return cell;
}

function correctFirst(snapshot) {
  return snapshot ? snapshot.filter((one, n) => store.gallery[one.top[0]?.item]?.identity === store.probes[n]?.identity).length : 0;
}

function draw() {
  const box = root();
  if (!store.epochs.length || !store.probes.length) {
    box.replaceChildren(make('p', 'vkd-none', 'After each evaluation, Grad-CAM of a few fixed probe queries appears here; a slider plays it over the epochs.'));
    return;
  }
  const epoch = store.epochs[store.at] ?? store.epochs.at(-1);
  const snapshot = store.snapshots[epoch];
  if (!box.querySelector('input')) {
    const bar = make('div', 'vkd-player');
    const button = make('button', 'vkd-play'); button.type = 'button';
    const slider = make('input'); slider.type = 'range'; slider.min = 0; slider.step = 1;
    slider.setAttribute('aria-label', 'Epoch');
    bar.append(button, slider, make('output'));
    button.addEventListener('click', () => (playing ? pause() : play()));
    slider.addEventListener('input', () => { store.at = Number(slider.value); pause(); }); // pause draws
    box.replaceChildren(bar, make('div', 'vkd-snapshots'), make('p', 'vkd-detail', 'Grad-CAM of the cosine similarity (the number on it) to the same identity under another camera; per-map min-max, so magnitudes are not comparable. Beside it the top 5 of a small fixed gallery, without junk.'));
  }
  const [button, slider, output] = box.querySelector('.vkd-player').children;
  slider.max = store.epochs.length - 1;
  slider.value = store.at;
  button.textContent = playing ? '❚❚ Pause' : '▶ Play';
  output.textContent = `epoch ${epoch} · ${correctFirst(snapshot)} of ${store.probes.length} correct at rank 1` + (store.teacher ? ` (teacher ${correctFirst(store.teacher)})` : '');
  const rows = [];
  if (store.teacher) {
    const head = make('div', 'vkd-probe vkd-probe-head');
    head.append(make('span', '', 'query'), make('b', 'vkd-part vkd-student', 'Student'), make('b', 'vkd-part vkd-teacher', 'Teacher'));
    rows.push(head);
  }
  store.probes.forEach((probe, n) => {
    const row = make('div', store.teacher ? 'vkd-probe' : 'vkd-probe vkd-alone');
    const own = make('figure', 'vkd-own');
    own.append(image(probe.image, `probe query: ${label(probe)}`), make('figcaption', '', `id ${probe.identity}`));
    own.title = label(probe);
    row.append(own, cellOf(snapshot?.[n], probe, store.teacher ? 'student' : 'teacher'));
    if (store.teacher) row.append(cellOf(store.teacher[n], probe, 'teacher'));
    rows.push(row);
  });
  box.querySelector('.vkd-snapshots').classList.toggle('vkd-alone', !store.teacher);
  box.querySelector('.vkd-snapshots').replaceChildren(...rows);
}

function play() {
  if (store.at >= store.epochs.length - 1) store.at = -1;
  const step = () => {
    store.at += 1;
    if (store.at >= store.epochs.length - 1) { store.at = store.epochs.length - 1; pause(); }
    draw();
  };
  playing = setInterval(step, 600);
  step();
}
function pause() { clearInterval(playing); playing = 0; draw(); }

merge(props.value);
draw();
watch('value', () => { merge(props.value); if (!playing) draw(); });
