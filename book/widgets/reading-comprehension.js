// One text gives "float" the chance q, n others give "int" the chance p each: three votes for each word.
const square = (p, n) => n * p * p / (1 + n * p);
const votes = (q, n, p) => [[q / (n + 1), n * p / (n + 1)], [square(q, 1), square(p, n)], [q, p]];
const winner = ([a, b]) => (Math.abs(a - b) < 1e-9 ? "either" : a > b ? "float" : "int");
live("reading-comprehension", { votes, winner }, ({ q, n, p }) => {
  const all = votes(q, n, p), [mean, vote, most] = all.map(winner), shown = {};
  all.forEach((pair, k) => {
    shown[`way-${k}`] = pair.map((value, j) => {
      const word = ["float", "int"][j];
      return `<div class="bar${winner(pair) === word ? " won" : ""}" style="--v: ${value}"><i></i><span>${word} ${value.toFixed(3)}</span></div>`;
    }).join("");
  });
  const others = mean === vote && most === vote ? ", as mean and maximum do."
    : mean === vote ? `, as the mean does; the maximum writes ${most}.`
    : most === vote ? `, as the maximum does; the mean writes ${mean}.`
    : `; the mean writes ${mean}, the maximum ${most}.`;
  return { ...shown, says: `The article’s vote writes ${vote}${others}` };
});
