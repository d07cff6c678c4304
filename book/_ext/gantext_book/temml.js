// Renders formulas line by line: {"tex", "display"} in, {"mathml"} or {"error"} out. Argument: the path of temml.min.js.
const fs = require("fs");
const temml = new Function(fs.readFileSync(process.argv[2], "utf8") + "; return temml;")();
require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { tex, display } = JSON.parse(line);
    let answer;
    try {
      answer = { mathml: temml.renderToString(tex, { displayMode: display, throwOnError: true, strict: true }) };
    } catch (error) {
      answer = { error: error.message };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  });
