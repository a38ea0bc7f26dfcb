// An image pasted anywhere goes into the field in view, into an empty one where there are two.
document.addEventListener('paste', (event) => {
  const files = [...(event.clipboardData?.files ?? [])].filter((file) => /^(image|video)\//.test(file.type));
  const fields = [...document.querySelectorAll('.vkd-images')].filter((field) => field.offsetParent);
  const field = fields.find((one) => !one.querySelector('.thumbnail-item')) ?? fields[0];
  const input = field?.querySelector('input[type=file]');
  if (!files.length || !input) return;
  const pasted = new DataTransfer();
  files.forEach((file) => pasted.items.add(file));
  input.files = pasted.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
  event.preventDefault();
});
