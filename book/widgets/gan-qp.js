// Real and fake mass on the points 0, m and 4; lambda is 1.
const laws = (m, real, fake) => ({ x: [0, m, 4], p: [1 - real, real, 0], q: [fake, 0, 1 - fake] });
const pairs = [[0, 1], [0, 2], [1, 2]];
const conductances = ({ x, p, q }) => pairs.map(([i, j]) => (p[i] * q[j] + q[i] * p[j]) / Math.abs(x[i] - x[j]));
// The best critic of one argument, 0 on the right: the voltages where p - q is fed in (Kirchhoff).
const critic = (law) => {
  const w = conductances(law), [b, c] = [0, 1].map((i) => law.p[i] - law.q[i]);
  const left = w[0] + w[1], middle = w[0] + w[2], det = left * middle - w[0] * w[0];
  return [(b * middle + w[0] * c) / det, (left * c + w[0] * b) / det, 0];
};
const value = (law) => critic(law).reduce((sum, t, i) => sum + (law.p[i] - law.q[i]) * t / 2, 0);
// The same maximum over critics of two arguments.
const pairValue = ({ x, p, q }) => pairs.reduce((sum, [i, j]) => {
  const a = p[i] * q[j], b = p[j] * q[i];
  return a + b ? sum + Math.abs(x[i] - x[j]) * (a - b) * (a - b) / (a + b) / 2 : sum;
}, 0);
// Of each pair: the current, and the difference of the scores in units of lambda d.
const wires = (law) => {
  const T = critic(law), w = conductances(law);
  return pairs.map(([i, j], k) =>
    ({ current: w[k] * (T[i] - T[j]), steep: w[k] ? Math.abs(T[i] - T[j]) / Math.abs(law.x[i] - law.x[j]) : NaN }));
};
live("gan-qp", { laws, critic, value, pairValue, wires }, ({ middle, real, fake }) => {
  const law = laws(middle, real, fake), T = critic(law), [low, high] = [Math.min(...T), Math.max(...T, 0.5)];
  const u = (x) => 60 + 125 * x, v = (t) => 124 - 88 * (t - low) / (high - low), at = law.x.map(u);
  const above = [T[0] > T[1], T[1] > Math.max(T[0] - middle / 4 * T[0], Math.min(T[0], 0)), T[1] < 0];
  let lines = "", rows = "";
  wires(law).forEach(({ current, steep }, k) => {
    const [i, j] = pairs[k].map((n) => at[n]), size = Math.abs(current), broken = steep > 1 + 1e-9;
    if (steep >= 0) {
      lines += `<path d="M${i} 170Q${(i + j) / 2} ${k === 1 ? 210 : 170} ${j} 170" stroke-width="${(1 + 10 * size).toFixed(1)}"`
        + `${broken ? ' style="stroke: var(--bad)"' : ""}></path>`;
    }
    rows += `<tr${broken ? ' class="broken"' : ""}><td>${["left–middle", "left–right", "middle–right"][k]}</td>`
      + `<td>${size < 5e-4 ? "0.000" : `${size.toFixed(3)} ${current > 0 ? "→" : "←"}`}</td>`
      + `<td>${steep >= 0 ? steep.toFixed(3) + (broken ? " > 1" : "") : "never drawn"}</td></tr>`;
  });
  return {
    wires: lines,
    rows,
    graph: path(at.map((x, i) => [x, v(T[i])])),
    points: at.map((x, i) => `<circle cx="${x}" cy="170" r="5" fill="currentColor"></circle>`
      + `<circle cx="${x}" cy="${v(T[i])}" r="6" style="fill: var(--main)"></circle>`
      + `<text x="${x}" y="${v(T[i]) + (above[i] ? -12 : 26)}" text-anchor="middle">${i ? "" : "T = "}${T[i].toFixed(2)}</text>`).join(""),
    value: value(law).toFixed(4),
    pairs: pairValue(law).toFixed(4),
  };
});
