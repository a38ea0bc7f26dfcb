// Opens the explanation, unless its match is not waited for any more (another query, another click).
const open = () => {
  const dialog = element.querySelector('dialog');
  const waiting = document.querySelector('.vkd-card[aria-busy]');
  if (dialog && waiting?.dataset.item !== dialog.dataset.item) return;
  waiting?.removeAttribute('aria-busy');
  if (dialog && !dialog.open) dialog.showModal();
};
element.addEventListener('click', (event) => {
  const dialog = element.querySelector('dialog');
  if (event.target === dialog || event.target.closest('.vkd-close')) dialog.close();
});
watch('value', () => requestAnimationFrame(open));
