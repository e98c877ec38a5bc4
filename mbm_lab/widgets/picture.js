// A PNG file from Python, with its alt text.
function render({ model, el }) {
  el.classList.add("mbm-picture");
  const image = el.appendChild(document.createElement("img"));

  function show() {
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
    image.alt = model.get("alt");
  }

  model.on("change", show);
  show();
  return () => {
    model.off("change", show);
    URL.revokeObjectURL(image.src);
  };
}

export default { render };
