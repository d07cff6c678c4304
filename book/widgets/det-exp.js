// A unit square carried by the flow of x' = A x; a matrix is its four numbers, row by row.
const times = (a, b) =>
  [a[0] * b[0] + a[1] * b[2], a[0] * b[1] + a[1] * b[3], a[2] * b[0] + a[3] * b[2], a[2] * b[1] + a[3] * b[3]];
// exp(tA): Taylor's series for a 64th of the time, then six squarings.
const expm = (a, t) => {
  const x = a.map((v) => v * t / 64);
  let sum = [1, 0, 0, 1], term = sum;
  for (let k = 1; k < 12; k++) {
    term = times(term, x).map((v) => v / k);
    sum = sum.map((v, i) => v + term[i]);
  }
  for (let s = 0; s < 6; s++) sum = times(sum, sum);
  return sum;
};
const carry = (m, points) => points.map(([x, y]) => [m[0] * x + m[1] * y, m[2] * x + m[3] * y]);
// The shoelace formula: the area inside of a polygon, from its corners alone.
const area = (points) => points.reduce((sum, [x, y], i) => {
  const [u, v] = points[(i + 1) % points.length];
  return sum + (x * v - u * y) / 2;
}, 0);
const corners = [[0.1, 0.1], [1.1, 0.1], [1.1, 1.1], [0.1, 1.1]];
const square = corners.flatMap(([x, y], i) => {
  const [u, v] = corners[(i + 1) % 4];
  return Array.from({ length: 12 }, (_, k) => [x + k / 12 * (u - x), y + k / 12 * (v - y)]);
});
const letter = [[0.4, 0.3], [0.4, 0.9], [0.8, 0.9], [0.4, 0.9], [0.4, 0.62], [0.68, 0.62]];
const draw = (points, close) => path(points.map(([x, y]) => [40 * x, -40 * y]), close);
const field = (a) => {
  let arrows = "";
  for (let x = -3; x <= 3; x++) for (let y = -2; y <= 2; y++) {
    const [[u, v]] = carry(a, [[x, y]]), tip = [x + 0.18 * u, y + 0.18 * v];
    const wing = (side) => [tip[0] - 0.06 * u - side * 0.03 * v, tip[1] - 0.06 * v + side * 0.03 * u];
    arrows += draw([[x, y], tip]) + (u || v ? draw([wing(-1), tip, wing(1)]) : "");
  }
  return arrows;
};
live("det-exp", { expm, carry, area, square }, ({ time, wind }) => {
  const a = wind.split(",").map(Number), trace = a[0] + a[3], m = expm(a, time), image = carry(m, square);
  const high = Math.max(1, Math.exp(2 * trace)) * 1.15, y = (v) => 170 - 154 * v / high, x = (t) => 40 + 130 * t;
  let trail = "M0 0";
  for (let s = 0; s < time - 0.05; s += 0.5) trail += draw(carry(expm(a, s), square), true);
  return {
    field: field(a),
    trail,
    shape: draw(image, true),
    mark: draw(carry(m, letter)),
    curve: curve((t) => Math.exp(t * trace), 0, 2, 60, x, y),
    one: `M40 ${y(1)}H308`,
    "one-label": { y: y(1) + 4 },
    dot: { cx: x(time), cy: y(area(image)) },
    area: area(image).toFixed(6),
    growth: Math.exp(time * trace).toFixed(6),
  };
});
