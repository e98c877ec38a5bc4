// A line of text in one lasting element, so that screen readers notice when it changes.
function render({ model, el }) {
  el.classList.add("mbm-line");
  el.setAttribute("role", "status");

  function show() {
    el.textContent = model.get("value");
  }

  model.on("change:value", show);
  show();
  return () => model.off("change:value", show);
}

export default { render };
