// A native range input with its label and its value. Where `base` is set, the input moves the
// exponent.
function render({ model, el }) {
  el.classList.add("mbm-slider");
  el.innerHTML = "<label><span></span><input type='range'></label><span aria-hidden='true'></span>";
  const [name, input] = el.firstChild.children;
  input.dataset.lmSuppressShortcuts = "true"; // arrow keys are the slider's, not JupyterLab's
  const readout = el.lastChild;
  const base = model.get("base");
  const digits = Number(/\.(\d+)f/.exec(model.get("readout_format"))?.[1] ?? 0);

  function show() {
    const value = model.get("value");
    name.textContent = model.get("description");
    for (const key of ["min", "max", "step", "disabled"]) input[key] = model.get(key);
    input.value = base ? Math.log(value) / Math.log(base) : value;
    readout.textContent = value.toFixed(digits);
    input.setAttribute("aria-valuetext", readout.textContent);
  }

  input.addEventListener("input", () => {
    const place = Number(input.value);
    model.set("value", base ? base ** place : place);
    model.save_changes();
  });
  model.on("change", show);
  show();
  return () => model.off("change", show);
}

export default { render };
