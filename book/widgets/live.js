// What the figures of all chapters share. A figure's own script follows, inside of the same function.
const path = (points, close) =>
  `M${points.map((p) => p.map((x) => +x.toFixed(2)).join(" ")).join("L")}${close ? "Z" : ""}`;
// The curve of f over n + 1 places from low to high, in the units of the drawing.
const curve = (f, low, high, n, x, y) =>
  path(Array.from({ length: n + 1 }, (_, k) => low + (high - low) * k / n).map((at) => [x(at), y(f(at))]));
// Controls are read by their ids, parts are written by theirs: a text, the line of a path, the inside of a group, or
// an object of attributes. The functions are kept with the figure, for its test.
const live = (name, functions, picture) => {
  const figure = document.getElementById(`${name}-figure`);
  const part = (id) => document.getElementById(`${name}-${id}`);
  const read = (control) => {
    if (control.matches("fieldset")) return control.querySelector(":checked").value;
    if (control.matches("[type=checkbox]")) return control.checked;
    return control.matches("[type=range]") ? +control.value : control.value;
  };
  const write = (element, what) => {
    if (typeof what === "object") for (const key in what) element.setAttribute(key, what[key]);
    else if (element.matches("path")) element.setAttribute("d", what);
    else if (element.matches("g, tbody, .html")) element.innerHTML = what;
    else element.textContent = what;
  };
  const draw = () => {
    const values = {};
    for (const control of figure.querySelectorAll("input[id], select, fieldset")) {
      values[control.id.slice(name.length + 1)] = read(control);
      const shown = document.getElementById(`${control.id}-out`);
      if (shown) shown.textContent = (+control.value).toFixed(control.dataset.digits || 0);
    }
    const shown = picture(values);
    for (const id in shown) write(part(id), shown[id]);
  };
  figure.addEventListener("input", draw);
  figure.live = { ...functions, picture, draw };
  draw();
  return { figure, part, draw };
};
