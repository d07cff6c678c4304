// Vectors of some words and documents, four bits a number: the cosine with the sum of the given words ranks both.
const box = DATA;
const words = box.words.split(" "), titles = box.titles.split("\n");
const unit = (row) => {
  const size = Math.hypot(...row) || 1;
  return row.map((x) => x / size);
};
const rows = (text) => {
  const numbers = [...atob(text)].flatMap((sign) => [sign.charCodeAt(0) >> 4, sign.charCodeAt(0) & 15]);
  return Array.from({ length: numbers.length / box.p }, (_, k) =>
    unit(numbers.slice(k * box.p, (k + 1) * box.p).map((x) => x - 7.5)));
};
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const u = rows(box.u), d = rows(box.d);
const nearest = (table, q, skip) => table.map((row, k) => [dot(row, q), k]).filter(([, k]) => !skip.includes(k))
  .sort((a, b) => b[0] - a[0]).slice(0, 5);
const search = (ids) => {
  const q = unit(ids.map((k) => u[k]).reduce((sum, row) => sum.map((x, i) => x + row[i])));
  return { near: nearest(u, q, ids), found: nearest(d, q, []) };
};
const safe = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");
const list = (hits, text) => hits.map(([cosine, k]) =>
  `<li title="${safe(text(k))}">${cosine.toFixed(2)}  ${safe(text(k))}</li>`).join("");
const { part, draw } = live("jose", { box, rows, search }, ({ query }) => {
  const given = query.toLowerCase().match(/[a-z]{2,}/g) || [];
  const [known, unknown] = [true, false].map((is) => given.filter((word) => words.includes(word) === is));
  const { near, found } = known.length ? search(known.map((word) => words.indexOf(word))) : { near: [], found: [] };
  return {
    note: !given.length ? "Type a word of two letters or more."
      : unknown.length ? `Not among the ${words.length} words of this box: ${unknown.join(", ")}.` : "",
    near: list(near, (k) => words[k]),
    found: list(found, (k) => box.topics[box.of[k]] + titles[k]),
  };
});
for (const text of box.examples) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  button.addEventListener("click", () => {
    part("query").value = text;
    draw();
  });
  part("examples").append(button);
}
