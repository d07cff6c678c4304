// Pictures of 8 by 8 pixels, a hexadecimal digit each, from white to black.
const walks = DATA;
const grey = (digit) => 255 - 17 * parseInt(digit, 16);
const paint = (frame) => [...frame].map((digit, k) => (digit === "0" ? ""
  : `<rect x="${k % 8}" y="${k >> 3}" width="1.02" height="1.02" fill="rgb(${[grey(digit), grey(digit), grey(digit)]})"></rect>`)).join("");
document.getElementById("o-gan-pair").innerHTML =
  walks.map(({ from, to }, k) => `<option value="${k}">${from} to ${to}</option>`).join("");
live("o-gan", { grey, paint }, ({ pair, way }) => {
  const { ends, ways } = walks[pair], frames = [ends[0], ...ways.map((frames) => frames[Math.round(16 * way)]), ends[1]];
  return Object.fromEntries(frames.map((frame, k) => [k, paint(frame)]));
});
