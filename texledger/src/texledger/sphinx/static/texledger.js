// A filter over each ledger table: rows without the typed words are hidden. Without scripts the tables are whole.
document.querySelectorAll("table.ledger").forEach((table, i) => {
  const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
  const label = document.createElement("label");
  label.className = "ledger-filter";
  const input = Object.assign(document.createElement("input"), { type: "search", id: `ledger-filter-${i}` });
  const count = Object.assign(document.createElement("output"), { htmlFor: input.id });
  label.append("Filter ", input, " ", count);
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word) || row.id.includes(word));
      shown += !row.hidden;
    }
    count.value = `${shown} of ${rows.length}`;
  };
  input.addEventListener("input", show);
  addEventListener("hashchange", () => {
    const row = document.getElementById(location.hash.slice(1));
    if (row && row.hidden) {
      input.value = "";
      show();
      row.scrollIntoView();
    }
  });
  show();
  (table.closest(".table-scroll") || table).before(label);
});
