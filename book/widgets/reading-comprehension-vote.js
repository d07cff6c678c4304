// Each case: a question, the texts that were read, which of them vote, where in each the answer's tokens stand, and for
// each token that was written its chance by every text and the vote.
const cases = DATA;
const safe = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const said = ({ steps, answer, gold }, t) => {
  const words = steps.slice(0, t).map(({ token }) => token).join(" ");
  const vote = t ? `, vote for the last token ${steps[t - 1].vote.toFixed(3)}` : "";
  const end = t < steps.length ? "" : answer === gold ? " (right)" : ` (the documentation says: ${safe(gold)})`;
  return `answer: <strong>${safe(words)}</strong>${vote}${end}`;
};
// What the k-th reader does when t tokens are written: it is out, or marks them and gives the last its chance.
const card = ({ texts, alive, spans, steps }, k, t) => {
  const text = texts[k], found = spans[k].slice(0, t);
  if (!alive[k]) return `<div class="reader out"><p>excluded: says [SEP]</p><pre>${safe(text)}</pre></div>`;
  const [a, b] = found.length ? [found[0][0], found[found.length - 1][1]] : [0, 0];
  const marked = b ? `${safe(text.slice(0, a))}<mark>${safe(text.slice(a, b))}</mark>${safe(text.slice(b))}` : safe(text);
  const p = t && steps[t - 1].p[k];
  const gives = t ? `gives “${safe(steps[t - 1].token)}” ${p.toFixed(2)}<span class="bar" style="width: ${(4 * p).toFixed(2)}rem"></span>`
    : "votes";
  return `<div class="reader"><p>${gives}</p><pre>${marked}</pre></div>`;
};
const whole = document.getElementById("reading-comprehension-vote-step");
const finish = () => {
  whole.max = 99;
  whole.value = 99;
};
document.getElementById("reading-comprehension-vote-case").addEventListener("input", finish); // before it is drawn
live("reading-comprehension-vote", { cases, said, card }, ({ case: chosen, step }) => {
  const shown = cases[chosen], n = shown.steps.length, t = Math.min(step, n);
  return {
    step: { max: n },
    "step-out": `${t} of ${n}`,
    said: said(shown, t),
    cards: shown.texts.map((_, k) => card(shown, k, t)).join(""),
  };
});
