// Samples of each game at some steps of its training, drawn by the chapter as paths of dots.
const { films, steps } = DATA;
const { figure, part, draw } = live("gan-comparison", { films, steps }, ({ step }) => ({
  "step-out": steps[step],
  ...Object.fromEntries(films.map((film, game) => [game, film[step]])),
}));
const slider = part("step"), play = part("play");
let timer = 0;
const stop = () => {
  timer = clearInterval(timer) || 0;
  play.textContent = "Play";
};
const show = (step) => {
  slider.value = step;
  draw();
  if (+slider.value === steps.length - 1) stop();
};
play.addEventListener("click", () => {
  if (timer) return stop();
  play.textContent = "Stop";
  timer = setInterval(() => show(+slider.value + 1), 450);
  show(+slider.value === steps.length - 1 ? 0 : +slider.value);
});
slider.addEventListener("input", stop);
