// Looks of a run played over its epochs. What the page has is kept outside the element, as for the curves.
const store = (window.vkdAttention ??= { run: '', epochs: [], looks: {}, probes: [], gallery: [], teacher: null, at: -1 });
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
  if (message.run !== store.run) Object.assign(store, { run: message.run, looks: {}, probes: [], gallery: [], teacher: null, at: -1 });
  const followed = store.at < 0 || store.at >= store.epochs.length - 1;
  store.epochs = message.epochs;
  Object.assign(store.looks, message.looks);
  if (message.probes) Object.assign(store, { probes: message.probes, gallery: message.gallery, teacher: message.teacher });
  if (followed) store.at = store.epochs.length - 1;
}

const who = (row) => `identity ${row.identity}` + (row.camera >= 0 ? `, camera ${row.camera}` : '');

function picture(uri, alt) {
  const made = make('img');
  made.src = uri; made.alt = alt; made.draggable = false;
  return made;
}

function seen(look, probe, part) {
  const cell = make('div', `vkd-look vkd-${part}`);
  if (!look) return cell;
  const heat = make('figure');
  heat.append(picture(look.heat, `${part} heatmap of ${who(probe)}`), make('figcaption', '', look.similarity.toFixed(2)));
  heat.title = 'Cosine similarity to the same person seen by another camera; the map shows what speaks for it';
  cell.append(heat);
  const list = make('ol', 'vkd-best');
  for (const hit of look.top) {
    const row = store.gallery[hit.item];
    if (!row) continue;
    const right = row.identity === probe.identity;
    const item = make('li', right ? 'vkd-correct' : 'vkd-incorrect');
    item.append(picture(row.picture, `${right ? 'right' : 'wrong'} match: ${who(row)}`), make('span', '', `${right ? '✓' : '✗'} ${hit.similarity.toFixed(2)}`));
    item.title = `${who(row)}, cosine similarity ${hit.similarity.toFixed(2)}`;
    list.append(item);
  }
  cell.append(list);
  return cell;
}

function rightFirst(look) {
  return look ? look.filter((one, n) => store.gallery[one.top[0]?.item]?.identity === store.probes[n]?.identity).length : 0;
}

function draw() {
  const place = root();
  if (!store.epochs.length || !store.probes.length) {
    place.replaceChildren(make('p', 'vkd-none', 'After each evaluation a few fixed pictures are looked at again. They appear here, and a slider plays them over the epochs.'));
    return;
  }
  const epoch = store.epochs[store.at] ?? store.epochs.at(-1);
  const look = store.looks[epoch];
  if (!place.querySelector('input')) {
    const bar = make('div', 'vkd-player');
    const button = make('button', 'vkd-play'); button.type = 'button';
    const slider = make('input'); slider.type = 'range'; slider.min = 0; slider.step = 1;
    slider.setAttribute('aria-label', 'Epoch');
    bar.append(button, slider, make('output'));
    button.addEventListener('click', () => (playing ? pause() : play()));
    slider.addEventListener('input', () => { store.at = Number(slider.value); pause(); }); // pause draws
    place.replaceChildren(bar, make('div', 'vkd-looks'), make('p', 'vkd-detail', 'Heat: what speaks for the same person seen by another camera (Grad-CAM of the cosine similarity, the number on it), scaled to its own maximum. Beside it the five best of a small fixed gallery; junk is left out.'));
  }
  const [button, slider, output] = place.querySelector('.vkd-player').children;
  slider.max = store.epochs.length - 1;
  slider.value = store.at;
  button.textContent = playing ? '❚❚ Pause' : '▶ Play';
  output.textContent = `epoch ${epoch} · ${rightFirst(look)} of ${store.probes.length} right at rank 1` + (store.teacher ? ` (teacher ${rightFirst(store.teacher)})` : '');
  const rows = [];
  if (store.teacher) {
    const head = make('div', 'vkd-probe vkd-probe-head');
    head.append(make('span', '', 'probe'), make('b', 'vkd-part vkd-student', 'Student'), make('b', 'vkd-part vkd-teacher', 'Teacher'));
    rows.push(head);
  }
  store.probes.forEach((probe, n) => {
    const row = make('div', store.teacher ? 'vkd-probe' : 'vkd-probe vkd-alone');
    const own = make('figure', 'vkd-own');
    own.append(picture(probe.picture, `probe: ${who(probe)}`), make('figcaption', '', `id ${probe.identity}`));
    own.title = who(probe);
    row.append(own, seen(look?.[n], probe, store.teacher ? 'student' : 'teacher'));
    if (store.teacher) row.append(seen(store.teacher[n], probe, 'teacher'));
    rows.push(row);
  });
  place.querySelector('.vkd-looks').classList.toggle('vkd-alone', !store.teacher);
  place.querySelector('.vkd-looks').replaceChildren(...rows);
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
