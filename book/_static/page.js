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

// Symbols and code are the same in every language.
for (const kept of document.querySelectorAll("[data-tex], div.highlight")) {
  kept.classList.add("notranslate");
  kept.setAttribute("translate", "no");
}

// A display formula may scroll, so the keyboard reaches it; a reader of screens hears its number.
for (const formula of document.querySelectorAll("div.math > .formula")) {
  const number = formula.parentElement.querySelector(".eqno-link")?.textContent.slice(1, -1);
  formula.tabIndex = 0;
  formula.setAttribute("role", "group");
  formula.setAttribute("aria-label", number ? `Equation ${number}` : "Formula");
}

// What a check says stands under its equation; the mark says it to who points at it.
for (const mark of document.querySelectorAll("a:is(.eq-mark, .checked-mark):not([title])")) {
  const check = document.getElementById(mark.hash.slice(1))?.closest("details.check")?.querySelector("summary");
  if (check) mark.title = check.textContent.trim().replace(/^\S\s+/, "");
}
for (const head of document.querySelectorAll("article section[id] > :is(h1, h2, h3, h4), details.folded > summary > :is(h2, h3, h4)")) {
  if (head.querySelector(".headerlink")) continue;
  const link = Object.assign(document.createElement("a"), { className: "headerlink", textContent: "#", title: "Link to this heading" });
  link.href = `#${head.closest("section").id}`;
  head.append(link);
}

// Lines of code are sent with a tab for every four spaces.
for (const pre of document.querySelectorAll("div.highlight > pre")) {
  if (!pre.textContent.includes("\t")) continue;
  const walk = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) walk.currentNode.data = walk.currentNode.data.replaceAll("\t", "    ");
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
    let heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim()), last = "";
    heads = heads.map((head) => { // one that stands above two columns is told apart by the one before: EM ± seeds, F1 ± seeds
      const once = heads.indexOf(head) === heads.lastIndexOf(head);
      if (once) last = head;
      return once ? head : `${last} ${head}`.trim();
    });
    if (!heads.length || !table.getClientRects().length) continue;
    const card = table.matches(".cards, .claims");
    const tall = heads.length > 2 && [...table.querySelectorAll("tbody td")].some((cell) => cell.offsetHeight > 200); // a word a line
    if (!card && !tall && table.scrollWidth <= table.parentElement.clientWidth + 1) continue;
    table.dataset.dealt = "";
    if (!card) table.classList.add("cards");
    for (const cell of table.querySelectorAll("tbody td")) {
      cell.dataset.label ??= heads[cell.cellIndex] ?? "";
      const words = cell.textContent.trim(); // a long name would be broken in half of the width
      if (!cell.cellIndex && /^[\d.,]+$/.test(words)) cell.classList.add("bare"); // a number is no name
      if (words.length > 24 || /[^\s-]{16}/.test(words)) cell.classList.add("whole-row");
      else if (cell.textContent && !cell.firstElementChild) { // 1 ± 2 goes to the next line whole
        const value = document.createElement("span");
        value.append(...cell.childNodes);
        cell.append(value);
      }
    }
  }
};
deal();
document.addEventListener("toggle", deal, true);
phone.addEventListener("change", deal);

// A line of code that is too long goes on below its beginning, a little to the right: on a phone any may be.
for (const pre of document.querySelectorAll("article div.highlight > pre")) {
  const wide = phone.matches ? 0 : 79;
  if (!pre.textContent.split("\n").some((line) => line.length >= wide)) continue;
  const open = []; // the tags in which a line begins
  const lines = pre.innerHTML.split("\n").map((line) => {
    const before = open.join("");
    const [, begins, code, ends] = /^((?:<div[^>]*>)*)(.*?)((?:<\/div>)*)$/.exec(line); // a box around many lines is none of theirs
    for (const [tag] of code.matchAll(/<[^>]+>/g)) tag[1] === "/" ? open.pop() : open.push(tag);
    return [begins, before + code + open.map((tag) => `</${tag.slice(1).split(/[ >]/)[0]}>`).reverse().join(""), ends];
  });
  pre.innerHTML = lines.map(([begins, line, ends], i) => {
    const words = line.replace(/<[^>]+>/g, "").replace(/&\w+;/g, "&"), indent = words.search(/\S|$/);
    const end = i < lines.length - 1 ? "\n" : "";
    if (!end || words.length < wide) return begins + line + ends + end;
    const long = words.search(/\S(?=\s|$)/) > 40 ? "; word-break: break-all" : ""; // or it would leave its first line empty
    const style = line ? ` style="--indent: ${indent + 4}ch${long}"` : "";
    return `${begins}<span class="code-line"${style}>${line}\n</span>${ends}`;
  }).join("");
}

// Paper is white: code, figures and all are printed as by day. Nobody can open a section on it.
const root = document.documentElement.dataset;
let shown, unfolded = [];
addEventListener("beforeprint", () => {
  [shown, root.theme] = [root.theme, "light"];
  unfolded = [...document.querySelectorAll("details.folded:not([open]), article details:not([open], .check, .hide, .numbers, .check details, .ledger details)")];
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

// What follows is all that this book needs of the theme's and Bootstrap's 100 kB of scripts, which are left out.
const byId = (id) => document.getElementById(id);
const store = (keep, key, ...value) => {
  try {
    return keep[value.length ? "setItem" : "getItem"](key, ...value);
  } catch {
    return null; // where pages may not remember anything
  }
};
const outside = ({ currentTarget, target, clientX, clientY }) => { // of an open dialog: a click there closes it
  const { left, right, top, bottom } = currentTarget.getBoundingClientRect();
  const away = clientX < left || clientX > right || clientY < top || clientY > bottom;
  if (target === currentTarget && away) currentTarget.close();
};

// The colours of the day, of the night, or as the system says.
const night = matchMedia("(prefers-color-scheme: dark)");
const paint = (mode) => {
  root.mode = mode;
  root.theme = mode === "auto" ? (night.matches ? "dark" : "light") : mode;
  store(localStorage, "mode", mode);
  store(localStorage, "theme", root.theme);
};
paint(["light", "dark"].includes(root.mode) ? root.mode : "auto");
night.addEventListener("change", () => root.mode === "auto" && paint("auto"));
for (const button of document.querySelectorAll(".theme-switch-button")) {
  button.addEventListener("click", () => {
    const modes = night.matches ? ["auto", "light", "dark"] : ["auto", "dark", "light"];
    paint(modes[(modes.indexOf(root.mode) + 1) % 3]);
  });
}

// The search field: a dialog, or the page's own.
const dialog = byId("pst-search-dialog");
const ask = () => {
  const field = document.querySelector("main form.bd-search input");
  if (field) field.select();
  else if (dialog) dialog.open ? dialog.close() : dialog.showModal();
};
const apple = /^(Mac|iPhone|iPad)/.test(navigator.platform);
if (apple) for (const key of document.querySelectorAll(".kbd-shortcut__modifier:first-child")) key.textContent = "⌘";
for (const button of document.querySelectorAll(".search-button__button")) button.addEventListener("click", ask);
dialog?.addEventListener("click", outside);
dialog?.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.preventDefault(); // a field of text would only be emptied
  dialog.close();
});
document.addEventListener("keydown", (event) => {
  const asked = event.key.toLowerCase() === "k" && !event.shiftKey && !event.altKey;
  if (!asked || event.metaKey !== apple || event.ctrlKey === apple) return;
  event.preventDefault();
  ask();
});

// The lists of pages and of sections: beside the text, or over it where there is no room.
for (const side of ["primary", "secondary"]) {
  const [bar, over] = [byId(`pst-${side}-sidebar`), byId(`pst-${side}-sidebar-modal`)];
  const button = document.querySelector(`.${side}-toggle`);
  if (!bar || !over || !button) continue;
  const move = (from, to) => {
    to.append(...from.childNodes);
    [to.className, from.className] = [from.className, ""];
  };
  button.addEventListener("click", () => {
    if (side === "primary" && matchMedia("(min-width: 992px)").matches) bar.classList.toggle("pst-sidebar-hidden");
    else {
      move(bar, over);
      over.showModal();
    }
  });
  over.addEventListener("click", (event) => event.target.closest("a") ? over.close() : outside(event));
  over.addEventListener("close", () => move(over, bar));
}
const list = document.querySelector(".bd-sidebar-primary");
if (list) {
  const before = parseInt(store(sessionStorage, "sidebar-scroll-top"), 10);
  const here = [...list.querySelectorAll(".active")].pop()?.getBoundingClientRect().y - list.getBoundingClientRect().y;
  if (!isNaN(before)) list.scrollTop = before;
  else if (here > innerHeight / 2) list.scrollTop = here - list.clientHeight / 4;
  addEventListener("pagehide", () => store(sessionStorage, "sidebar-scroll-top", list.scrollTop));
}

// The list of sections marks the one that is read.
const entries = [...document.querySelectorAll("#pst-page-toc-nav a[href^='#']")];
let held = 0;
const read = (link) => {
  for (const other of entries) {
    other.classList.toggle("active", other === link);
    other === link ? other.setAttribute("aria-current", "true") : other.removeAttribute("aria-current");
  }
  for (const entry of document.querySelectorAll("#pst-page-toc-nav .toc-entry")) entry.classList.toggle("active", entry.contains(link));
};
const follow = () => {
  const link = entries.find((entry) => entry.hash === location.hash);
  if (!link) return;
  held = Date.now() + 1000; // what passes on the way there is not read
  read(link);
};
const heads = new Map(entries.map((link) => [byId(link.hash.slice(1))?.querySelector(":is(h1, h2, h3, h4)"), link]));
const reading = new IntersectionObserver((seen) => {
  const head = seen.filter((entry) => entry.isIntersecting).pop()?.target;
  if (head && Date.now() > held) read(heads.get(head));
}, { rootMargin: "0px 0px -70% 0px" });
for (const head of heads.keys()) if (head) reading.observe(head);
addEventListener("hashchange", follow);
follow();

// The keyboard reaches what scrolls.
let waiting;
const reach = () => {
  for (const box of document.querySelectorAll("pre, .cell_output > .output, .pst-scrollable-table-container")) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
const reachSoon = () => {
  clearTimeout(waiting);
  waiting = setTimeout(reach, 300);
};
addEventListener("load", reach);
addEventListener("resize", reachSoon);
document.addEventListener("toggle", reachSoon, true);

window.toggleFullScreen = () => document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen();
const beginning = document.querySelector(".sbt-scroll-pixel-helper"); // the header has a shadow below it
if (beginning) new IntersectionObserver(([seen]) => document.body.classList.toggle("scrolled", seen.boundingClientRect.y < 0)).observe(beginning);

// The menus of the header.
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
