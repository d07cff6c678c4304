// Four pairs of texts, each pair from the same random numbers; one text is shown.
live("conditional-layer-norm", {}, ({ wish, k }) => {
  for (const text of document.querySelectorAll("#conditional-layer-norm-figure blockquote")) {
    text.hidden = text.id !== `conditional-layer-norm-${wish}-${k}`;
  }
  return {};
});
