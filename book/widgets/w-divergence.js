// The slider of the power is one of ln(alpha - 1): fine where alpha is small, in steps of 0.1.
const power = (place) => Math.round(10 + 10 * Math.exp(place)) / 10;
// Two points at distance a: the slope of the best critic, and the value.
const slope = (a, k, alpha) => Math.pow(a / (k * alpha), 1 / (alpha - 1));
const value = (a, k, alpha) => slope(a, k, alpha) * a * (alpha - 1) / alpha;
const gpSlope = (a) => 1 + a / 20;
const bell = (x) => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
// N(0, 1) and N(a, 1), slope charged on the samples: from the tails inwards, D is the gap of the distribution
// functions and s the best slope; the gap of the means of the best critic is the integral of D s.
const bells = (a, k, alpha) => {
  const n = 1200, low = -6, h = (a + 12) / n, xs = Array.from({ length: n + 1 }, (_, i) => low + i * h);
  const p = xs.map(bell), q = xs.map((x) => bell(x - a)), left = [0], right = [];
  for (let i = 1; i <= n; i++) left[i] = left[i - 1] + h * (p[i] - q[i] + p[i - 1] - q[i - 1]) / 2;
  right[n] = 0;
  for (let i = n - 1; i >= 0; i--) right[i] = right[i + 1] - h * (p[i] - q[i] + p[i + 1] - q[i + 1]) / 2;
  const D = xs.map((x, i) => Math.max(x < a / 2 ? left[i] : right[i], 0));
  const s = D.map((d, i) => slope(2 * d / (p[i] + q[i]), k, alpha));
  return { xs, p, q, s, gap: D.reduce((sum, d, i) => sum + h * d * s[i], 0) };
};
live("w-divergence", { power, slope, value, gpSlope, bells }, ({ a, power: place, k }) => {
  const alpha = power(place), { xs, p, q, s, gap } = bells(a, +k, alpha), at = slope(a, k, alpha);
  const x = (d) => 40 + 65 * d, high = (v) => Math.max(140 - 68 * v, 2), u = (v) => 24 + 284 * (v + 3.2) / 10.4;
  const seen = (end) => xs.map((_, i) => i).filter((i) => i % 4 === 0 && xs[i] > -3.2 && xs[i] < end);
  const hill = (f) => path(seen(7.2).map((i) => [u(xs[i]), 140 - 110 * f[i]]));
  return {
    gp: curve(gpSlope, 0, 4, 1, x, high),
    div: curve((d) => slope(d, k, alpha), 0, 4, 160, x, high),
    dot: { cx: x(a), cy: high(at) },
    "bell-p": hill(p),
    "bell-q": hill(q),
    field: path(seen(a + 3.2).filter((i) => xs[i] < 7.2).map((i) => [u(xs[i]), high(s[i])])),
    real: { x: u(0) },
    fake: { x: u(a) },
    "power-out": alpha.toFixed(1),
    slope: at.toFixed(4),
    value: value(a, k, alpha).toFixed(4),
    bells: (gap * (alpha - 1) / alpha).toFixed(4),
    gap: gap.toFixed(4),
    penalty: (gap / alpha).toFixed(4),
  };
});
