// For each pair of labels a < b, seven places on the way from a to b: two texts, and the shares read as a and as b.
const data = DATA;
const { names, ways } = data;
const place = (from, to, t) => {
  if (from === to) { // it stays at one end of some way
    const way = ways[from ? `0-${from}` : "0-1"], k = from ? 6 : 0;
    return { texts: way.text[k], shares: [way.bars[k][from ? 1 : 0], 0] };
  }
  const back = from > to, way = ways[back ? `${to}-${from}` : `${from}-${to}`], k = back ? 6 - t : t;
  const [a, b] = way.bars[k];
  return { texts: way.text[k], shares: back ? [b, a] : [a, b] };
};
const root = document.getElementById("conditional-layer-norm-way-figure");
[5, 4].forEach((chosen, k) => { root.querySelectorAll("select")[k].value = chosen; });
live("conditional-layer-norm-way", { data, place }, ({ from, to, t }) => {
  const { texts, shares } = place(+from, +to, t), [first, second] = shares;
  return {
    "t-out": (t / 6).toFixed(2),
    first: { width: 6 * first },
    second: { x: 600 - 6 * second, width: 6 * second },
    "first-says": `${names[from]} ${first} %`,
    "second-says": from === to ? "" : `${names[to]} ${second} %`,
    "text-0": texts[0],
    "text-1": texts[1],
  };
});
