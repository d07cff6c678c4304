// Data on one point, fakes on another at distance a: each objective's value, and the slope of its best critic.
const value = {
  js: (a) => (a > 0 ? Math.LN2 : 0),
  w: (a) => a,
  gp: (a, lambda) => a + a * a / (4 * lambda),
};
const slope = { js: () => 0, w: () => 1, gp: (a, lambda) => 1 + a / (2 * lambda) };
live("wasserstein", { value, slope }, ({ a, lambda }) => {
  const x = (d) => 40 + 65 * d, at = 60 + 130 * a, tip = at - 30 * slope.gp(a, lambda), shown = {};
  const scales = { v: [value, (v) => 140 - 124 * v / 8.2], s: [slope, (s) => 140 - 124 * s / 3.4] };
  for (const part in scales) {
    const [all, y] = scales[part];
    for (const law in all) {
      const f = (d) => all[law](d, lambda);
      shown[`${part}-${law}`] = curve(f, 0.04, 4, 99, x, y);
      shown[`${part}-dot-${law}`] = { cx: x(a), cy: y(f(a)) };
    }
    shown[`${part}-label`] = { y: y(all.gp(3.1, lambda)) - 10 };
  }
  return {
    ...shown,
    spike: `M${at} 48V14`,
    fake: { x: a < 0.35 ? at + 40 : at },
    pull: `M${at} 22H${tip}M${tip + 7} 17L${tip} 22L${tip + 7} 27`,
    js: value.js(a).toFixed(4),
    w: value.w(a).toFixed(4),
    gp: value.gp(a, lambda).toFixed(4),
    slope: slope.gp(a, lambda).toFixed(4),
  };
});
