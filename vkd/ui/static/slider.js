// Side by side, or one heatmap over the other with an edge that the slider moves.
let view = 'side', cut = 50;
const show = () => {
  const answer = element.querySelector('.vkd-answer'), place = element.querySelector('.vkd-wipes');
  if (!answer || !place) return;
  answer.dataset.view = view;
  answer.querySelectorAll('[data-choose]').forEach((one) =>
    one.setAttribute('aria-pressed', String(one.dataset.choose === view)));
  if (view === 'wipe' && !place.childElementCount) {
    const maps = (part) => [...answer.querySelectorAll(`.vkd-panel.vkd-${part} .vkd-pair img:last-child`)];
    const student = maps('student');
    maps('teacher').forEach((under, n) => {
      const pair = document.createElement('div');
      pair.className = 'vkd-wipe';
      pair.append(under.cloneNode(), student[n].cloneNode());
      place.append(pair);
    });
    place.classList.toggle('vkd-many', place.childElementCount > 2);
  }
  place.style.setProperty('--vkd-cut', `${cut}%`);
  const slider = answer.querySelector('input[type=range]');
  if (slider) slider.value = cut;
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-choose]');
  if (button) { view = button.dataset.choose; show(); }
});
element.addEventListener('input', (event) => {
  if (event.target.type === 'range') { cut = Number(event.target.value); show(); }
});
watch('value', () => requestAnimationFrame(show));
