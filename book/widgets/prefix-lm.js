const words = ["Paris", "is", "in", "France", "[SEP]", "where", "[SEP]", "in", "France", "[SEP]"], n = words.length;
const times = [4, 9, 2, 6, 1, 10, 7, 3, 8, 5]; // when the permuted model reads each token
// Whether row i may look at column j, both counted from 0, behind a prefix of s tokens.
const sees = (mask, s, i, j) => {
  if (mask === "bi") return true;
  if (mask === "permuted") return times[j] <= times[i];
  return j <= i || (mask === "prefix" && j < s);
};
const numbers = [...words.keys()];
const seen = (mask, s, i) => numbers.filter((j) => sees(mask, s, i, j));
const pairs = (mask, s) => numbers.reduce((sum, i) => sum + seen(mask, s, i).length, 0);
const list = (who) => {
  if (who.length === 1) return "only itself";
  if (who.length === n) return "all of them";
  return who.every((j, k) => j === k) ? `the first ${who.length}` : who.map((j) => j + 1).join(", ");
};
const { figure, part, draw } = live("prefix-lm", { words, sees, pairs }, ({ mask, prefix, row }) => {
  const left = 92, top = 78, size = 31, mine = seen(mask, prefix, row - 1), slider = document.getElementById("prefix-lm-prefix");
  slider.disabled = mask !== "prefix";
  const grid = numbers.map((i) => {
    const here = i === row - 1, y = top + size * i, kind = mask === "prefix" && i >= prefix ? "target" : "";
    const line = numbers.map((j) => {
      const on = sees(mask, prefix, i, j), x = left + size * j;
      return `<rect data-row="${i}" x="${x}" y="${y}" width="${size}" height="${size}" class="${on ? "on" : "cell"}${here ? " here" : ""}"></rect>`
        + (here && on ? `<circle cx="${x + size / 2}" cy="${y + size / 2}" r="4"></circle>` : "");
    }).join("");
    return `<text x="${left - 8}" y="${y + 21}" text-anchor="end" class="${kind}"${here ? ' font-weight="700"' : ""}>${words[i]}</text>`
      + `<text transform="translate(${left + size * i + 20} ${top - 8}) rotate(-60)" class="${kind}">${words[i]}</text>${line}`;
  }).join("");
  const order = [...numbers].sort((a, b) => times[a] - times[b]).map((j) => j + 1);
  return {
    grid,
    "prefix-out": slider.disabled ? "–" : prefix,
    says: `Row ${row}, “${words[row - 1]}”, sees ${mine.length} of ${n} tokens: ${list(mine)}. The mask admits ${pairs(mask, prefix)} of `
      + `${n * n} pairs${mask === "permuted" ? `; the tokens are read in the order ${order.join(", ")}` : ""}.`,
  };
});
for (const event of ["pointerover", "pointerdown"]) {
  part("grid").addEventListener(event, ({ target }) => {
    if (!target.dataset.row || +target.dataset.row + 1 === +part("row").value) return;
    part("row").value = +target.dataset.row + 1;
    draw();
  });
}
