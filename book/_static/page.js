// A formula is copied as its TeX, once: browsers would copy the signs of its MathML one by one.
document.addEventListener("copy", (event) => {
  const selection = document.getSelection();
  if (!selection || selection.isCollapsed || !event.clipboardData) return;
  const range = selection.getRangeAt(0);
  const whole = (node) => (node.nodeType === 1 ? node : node.parentElement)?.closest("[data-tex]");
  const [first, last] = [whole(range.startContainer), whole(range.endContainer)];
  if (first) range.setStartBefore(first);
  if (last) range.setEndAfter(last);
  const piece = range.cloneContents();
  const formulas = piece.querySelectorAll("[data-tex]");
  if (!formulas.length) return;
  for (const formula of formulas) {
    const mark = formula.classList.contains("formula") ? "$$" : "$";
    formula.replaceWith(mark + formula.dataset.tex.trim() + mark);
  }
  for (const number of piece.querySelectorAll(".eqno")) number.remove();
  const holder = document.createElement("div");
  holder.append(piece);
  event.clipboardData.setData("text/html", holder.innerHTML);
  event.clipboardData.setData("text/plain", holder.textContent);
  event.preventDefault();
});

// Symbols are the same in every language.
for (const formula of document.querySelectorAll("[data-tex]")) {
  formula.classList.add("notranslate");
  formula.setAttribute("translate", "no");
}

// Each piece of code has a button that copies it.
const copyText = (text) => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const holder = Object.assign(document.createElement("textarea"), { value: text, readOnly: true });
  document.body.append(holder);
  holder.select();
  const done = document.execCommand("copy"); // where pages have no access to the clipboard
  holder.remove();
  return Promise.resolve(done);
};
for (const pre of document.querySelectorAll("article div.highlight > pre")) {
  if (pre.closest(".cell_output")) continue;
  const button = Object.assign(document.createElement("button"), { className: "copybtn", type: "button" });
  button.setAttribute("aria-label", button.title = "Copy");
  button.addEventListener("click", async () => {
    const done = await copyText(pre.textContent.replace(/\n$/, ""));
    button.dataset.says = button.title = done ? "Copied" : "Not copied";
    button.setAttribute("aria-label", button.title);
    setTimeout(() => {
      delete button.dataset.says;
      button.setAttribute("aria-label", button.title = "Copy");
    }, 2000);
  });
  pre.after(button);
}

// On a phone a table that is wider than the screen becomes cards, one for each row; its heads become labels.
const phone = matchMedia("(max-width: 600px)");
const deal = () => {
  if (!phone.matches) return;
  for (const table of document.querySelectorAll("article table:not([data-dealt])")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    if (!heads.length || !table.getClientRects().length) continue;
    const card = table.matches(".cards, .claims");
    if (!card && table.scrollWidth <= table.parentElement.clientWidth + 1) continue;
    table.dataset.dealt = "";
    if (!card) table.classList.add("cards");
    for (const cell of table.querySelectorAll("tbody td")) {
      cell.dataset.label ??= heads[cell.cellIndex] ?? "";
      if (cell.textContent.trim().length > 24) cell.classList.add("whole-row");
    }
  }
};
deal();
document.addEventListener("toggle", deal, true);

// On a phone a line of code that is too long goes on below its beginning, a little to the right.
if (phone.matches) {
  for (const pre of document.querySelectorAll("article div.highlight > pre")) {
    const open = []; // the tags in which a line begins
    const lines = pre.innerHTML.split("\n").map((line) => {
      const before = open.join("");
      for (const [tag] of line.matchAll(/<[^>]+>/g)) tag[1] === "/" ? open.pop() : open.push(tag);
      return before + line + open.map((tag) => `</${tag.slice(1).split(/[ >]/)[0]}>`).reverse().join("");
    });
    pre.innerHTML = lines.map((line, i) => {
      const style = line ? ` style="--indent: ${line.replace(/<[^>]+>/g, "").search(/\S|$/) + 4}ch"` : "";
      return i < lines.length - 1 ? `<span class="code-line"${style}>${line}\n</span>` : line;
    }).join("");
  }
}

// Paper is white: code, figures and all are printed as by day. Nobody can open a section on it.
const root = document.documentElement.dataset;
let shown, unfolded = [];
addEventListener("beforeprint", () => {
  [shown, root.theme] = [root.theme, "light"];
  unfolded = [...document.querySelectorAll("details.folded:not([open])")];
  for (const fold of unfolded) fold.open = true;
  for (const image of document.querySelectorAll("article img")) image.loading = "eager";
});
addEventListener("afterprint", () => {
  root.theme = shown;
  for (const fold of unfolded) fold.open = false;
});

// A link into a folded section opens it, and all that is folded around its goal.
const reveal = (hash) => {
  let goal = null;
  try {
    goal = hash.length > 1 ? document.getElementById(decodeURIComponent(hash.slice(1))) : null;
  } catch {
    return; // no address of ours
  }
  const own = goal?.closest("section")?.querySelector(":scope > details.folded");
  const folds = own && !own.contains(goal) ? [own] : [];
  for (let box = goal?.parentElement; box; box = box.parentElement) if (box.matches("details")) folds.push(box);
  const closed = folds.filter((fold) => !fold.open);
  for (const fold of closed) fold.open = true;
  return closed.length ? goal : null;
};
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href*='#']");
  if (link && link.pathname === location.pathname && link.host === location.host) reveal(link.hash); // then it is followed
}, true);
addEventListener("hashchange", () => reveal(location.hash)?.scrollIntoView());
reveal(location.hash)?.scrollIntoView();
// What has measured itself while it was folded measures again.
document.addEventListener("toggle", (event) => event.target.matches("details.folded[open]") && dispatchEvent(new Event("resize")), true);

// The two menus of the header, and no tooltips: all that the theme asks of Bootstrap's 81 kB, which are left out.
window.bootstrap = { Tooltip: class { dispose() {} hide() {} show() {} } };
const close = (except) => {
  for (const button of document.querySelectorAll('[data-bs-toggle="dropdown"][aria-expanded="true"]')) {
    if (button === except) continue;
    button.setAttribute("aria-expanded", "false");
    button.parentElement.querySelector(".dropdown-menu")?.classList.remove("show");
  }
};
document.addEventListener("click", (event) => {
  const button = event.target.closest('[data-bs-toggle="dropdown"]');
  close(button);
  if (!button) return;
  const open = button.parentElement.querySelector(".dropdown-menu")?.classList.toggle("show");
  button.setAttribute("aria-expanded", String(Boolean(open)));
});
document.addEventListener("keydown", (event) => event.key === "Escape" && close(null));
