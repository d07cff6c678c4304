// Looks through the sections, equations and functions in PAGES (searchtext.js) for all words of a query.
const escapeHTML = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const escapeSigns = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
const isLatin = (sign) => /[\p{Script=Latin}\p{N}]/u.test(sign);

// A word as a pattern: from a word's beginning on, with or without hyphens and accents on the way ("OGAN", "O-GAN"),
// and Latin letters before Chinese ones with or without a space ("W散度").
const pattern = (word) => {
  const joint = (a, b) => (isLatin(a) === isLatin(b) ? "[-‐-–]?" : "[-‐-–\\s]?");
  const piece = (part) => [...part].map((sign, i, signs) => (i ? joint(signs[i - 1], sign) : "") + escapeSigns(sign)).join("");
  const parts = word.split(/[-‐-–]/).filter(Boolean);
  const start = isLatin(parts[0]?.[0] ?? "") ? "(?<![\\p{L}\\p{N}])" : "";
  return start + (parts.map(piece).join("[-‐-–\\s]?") || escapeSigns(word));
};
const stemmed = (word) => {
  if (!/^[a-z]{4,}$/i.test(word)) return pattern(word);
  const stem = new Stemmer().stemWord(word.toLowerCase()).replace(/i$/, "");
  return stem.length > 2 && word.toLowerCase().startsWith(stem) ? pattern(stem) : pattern(word);
};
const bare = (text) => text.replace(/[\s-]/g, "").toLowerCase();

// The words of the query, each with the other ways to say it.
const parse = (query) => {
  const pairs = PAGES.flatMap((page) => page.words);
  const isTerm = pairs.some(([chinese]) => bare(chinese) === bare(query)); // which may have a space ("W 散度")
  const words = isTerm ? [bare(query)] : query.trim().split(/[\s,;]+/).filter(Boolean);
  const telling = words.filter((word) => !stopwords.includes(word.toLowerCase()));
  return (telling.length ? telling : words).map((word) => {
    const english = pairs.filter(([chinese]) => bare(chinese) === bare(word)).map((pair) => pair[1]);
    const ways = [stemmed(word), ...english.map((phrase) => phrase.replace(/ \(.*\)/, "").split(" ").map(stemmed).join("\\S*\\s+"))];
    return new RegExp(ways.join("|"), "giu");
  });
};

const count = (text, word) => (text.match(word) ?? []).length;
const WEIGHT = [1, 0.6, 0.6]; // of chapters, other pages, the package, which comes last

// The sections that hold every word, best first, page by page.
const search = (query) => {
  const words = parse(query);
  const number = query.trim().match(/^\(?(\d+\.\d+)\)?$/)?.[1];
  const found = [];
  for (const page of PAGES) {
    const head = page.entries[0]?.[1] ?? "", hits = [];
    for (const [printed, label, anchor, section, formula] of page.equations)
      if (printed === number || label === query.trim())
        hits.push({ anchor, title: `Equation (${printed})`, text: `${section}: ${formula}`, score: 1000 });
    for (const [anchor, title, text] of words.length ? page.entries : []) {
      const counts = words.map((word) => [count(title, word), count(text, word), count(head, word)]);
      if (!counts.every((c) => c[0] || c[1] || c[2]) || !counts.some((c) => c[0] || c[1])) continue;
      const scores = counts.map(([t, n, h]) => (t ? (anchor ? 8 : 24) : h ? 3 : 0) + 2 * Math.log2(1 + n));
      const whole = bare(title) === bare(query) || bare(title).startsWith(bare(query)) ? 12 : 0;
      hits.push({ anchor, title, text, score: WEIGHT[page.kind] * (whole + scores.reduce((a, b) => a + b)) });
    }
    if (!hits.length) continue;
    hits.sort((a, b) => b.score - a.score);
    const rest = hits.slice(1).reduce((sum, hit) => sum + hit.score, 0);
    found.push({ ...page, title: head, hits, score: hits[0].score + 0.2 * rest });
  }
  return [found.sort((a, b) => (a.kind === 2) - (b.kind === 2) || b.score - a.score), words];
};

// Some words around the first place where a word of the query stands, each such word marked.
const context = (text, words) => {
  const at = Math.min(...words.map((word) => text.search(word)).map((i) => (i < 0 ? Infinity : i)));
  let start = Number.isFinite(at) ? Math.max(0, at - 70) : 0, end = start + 200;
  if (start) start = text.indexOf(" ", start) + 1 || start;
  if (start > at) start = at;
  if (end < text.length) end = Math.max(text.lastIndexOf(" ", end), start + 120);
  const all = new RegExp(words.map((word) => word.source).join("|") || "(?!)", "giu");
  let line = "", last = start;
  for (const match of text.slice(start, end).matchAll(all)) {
    line += escapeHTML(text.slice(last, start + match.index)) + `<mark>${escapeHTML(match[0])}</mark>`;
    last = start + match.index + match[0].length;
  }
  return (start ? "… " : "") + line + escapeHTML(text.slice(last, end)) + (end < text.length ? " …" : "");
};

const SHOWN = 3; // sections of a page; the others can be opened
const show = (query) => {
  const results = document.getElementById("search-results");
  if (!query.trim()) return results.replaceChildren();
  const [found, words] = search(query);
  const item = (page) => (hit) => {
    const address = `${page}.html${hit.anchor && `#${encodeURIComponent(hit.anchor)}`}`;
    return `<li><a href="${address}">${escapeHTML(hit.title)}</a><p class="context">${context(hit.text, words)}</p></li>`;
  };
  const pages = found.map(({ page, title, hits }) => {
    const items = hits.map(item(page));
    const more = items.slice(SHOWN);
    const rest = more.length ? `<details><summary>${more.length} more in ${escapeHTML(title)}</summary><ul>${more.join("")}</ul></details>` : "";
    const name = hits[0].anchor ? `<h2><a href="${page}.html">${escapeHTML(title)}</a></h2>` : "";
    return `<section class="search-page">${name}<ul>${items.slice(0, SHOWN).join("")}</ul>${rest}</section>`;
  });
  const sections = found.reduce((sum, { hits }) => sum + hits.length, 0);
  const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
  const said = sections ? `${plural(sections, "place")} on ${plural(found.length, "page")}` : "Nothing found: fewer words, or other ones?";
  results.innerHTML = `<p class="search-summary" role="status">${said}</p>${pages.join("")}`;
};

const fields = document.querySelectorAll('input[name="q"]');
const asked = new URLSearchParams(location.search).get("q") ?? "";
for (const field of fields) {
  field.value = asked;
  let waiting;
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => show(field.value), 150);
  });
}
show(asked);
