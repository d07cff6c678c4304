const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const less = (a, c, b) => [a[0] - c * b[0], a[1] - c * b[1]];
const at = (degrees) => [Math.cos(degrees * Math.PI / 180), Math.sin(degrees * Math.PI / 180)];
// Scores of v by the heads w, and what is left of v from the start on; with Gram-Schmidt each head is first made
// perpendicular to those before it, and one of which nothing remains scores 0.
const cascade = (v, w, orthogonal) => {
  const scores = [], left = [v], used = [];
  for (const head of w) {
    let q = head;
    if (orthogonal) for (const e of used) q = less(q, dot(q, e) / dot(e, e), e);
    const alive = dot(q, q) > 1e-9, rest = left[left.length - 1], score = alive ? dot(rest, q) : 0;
    if (alive) used.push(q);
    scores.push(score);
    left.push(alive ? less(rest, score / dot(q, q), q) : rest);
  }
  return { scores, left };
};
const arrow = ([x, y], width) => {
  const l = Math.hypot(x, y), [a, b] = [9 * x / l, 9 * y / l], [c, d] = [5 * x / l, 5 * y / l];
  const head = l > 6 ? `M${x - a - d} ${y - b + c}L${x} ${y}L${x - a + d} ${y - b - c}` : "";
  return `<path d="M0 0L${x} ${y}${head}" stroke-width="${width}"></path>`;
};
const minus = (text) => text.replace("-", "−");
const shown = (x) => (Math.abs(x) < 5e-4 ? "0.000" : minus(x.toFixed(3)));
live("cascading-rejection", { at, cascade }, ({ v: angle, w1, w2, w3, steps, gs }) => {
  const w = [w1, w2, w3].map(at), v = at(angle), { scores, left } = cascade(v, w.slice(0, steps), gs);
  const place = ([x, y], r = 100) => [r * x, -r * y], last = left[steps];
  const returned = (rest) => Math.abs(dot(rest, w[0])) > 5e-4;
  const row = (...cells) => cells.map((text) => `<td>${text}</td>`).join("");
  let arrows = "", drops = "", rows = "";
  scores.forEach((score, i) => {
    const [from, to] = [left[i], left[i + 1]];
    drops += `<path d="${path([place(from), place(to)])}"></path>`;
    arrows += arrow(place(to), i === steps - 1 ? 3.5 : 1.6);
    rows += `<tr${returned(to) ? ' class="broken"' : ""}>`
      + `${row(i + 1, shown(score), shown(Math.hypot(...to)), shown(dot(to, w[0])))}</tr>`;
  });
  const degrees = Object.entries({ v: angle, w1, w2, w3 }).map(([id, value]) => [`${id}-out`, minus(`${value}°`)]);
  return {
    ...Object.fromEntries(degrees),
    drops,
    arrows: arrows + arrow(place(v), steps ? 2 : 3.5),
    lines: w.map((e, i) => `<path d="${path([place(e, -104), place(e, 104)])}"${i < steps ? "" : ' stroke-opacity=".15"'}></path>`).join(""),
    labels: [...w.map((e, i) => [place(e, 118), `w${"₁₂₃"[i]}`]), [place(v, 112), "v"]].map(([[x, y], text]) =>
      `<text x="${x.toFixed(1)}" y="${(y + 5).toFixed(1)}" text-anchor="middle">${text}</text>`).join(""),
    rows: rows || `<tr>${row("–", "–", "1.000", shown(dot(v, w[0])))}</tr>`,
    says: steps === 0 ? "Nothing is scored yet." : `After ${steps} ${steps === 1 ? "score" : "scores"} a part of length `
      + `${shown(Math.hypot(...last))} is not heard${steps > 1 && returned(last) ? "; w₁ is back in it." : "."}`,
  };
});
