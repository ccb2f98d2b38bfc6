// The champion at work: samples with its answers, and a canvas to draw on.
const champion = (() => {
  const element = document.getElementById("champion-data");
  if (!element) return null;
  const { network: weights, classes, samples, picture } = JSON.parse(element.textContent);
  const [channels, height, width] = weights.shape;
  const logits = (inputs) => network.logits(weights, inputs);
  const answer = (inputs) => {
    const chances = network.probabilities(logits(inputs));
    const best = chances.indexOf(Math.max(...chances));
    return { best, chances, text: `${classes[best]} (${(100 * chances[best]).toFixed(0)} %)` };
  };

  function paint(canvas, inputs) {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    const shade = (at, channel) =>
      255 * (inputs[(channels === 3 ? channel : 0) * width * height + at] - picture.low) / (picture.high - picture.low);
    for (let at = 0; at < width * height; at++)
      image.data.set([shade(at, 0), shade(at, 1), shade(at, 2), 255], 4 * at);
    context.putImageData(image, 0, 0);
  }

  const list = document.getElementById("samples");
  for (const { inputs, label } of samples) {
    const item = document.createElement("div");
    const { best, text } = answer(inputs);
    item.className = best === label ? "sample right" : "sample wrong";
    if (picture) {
      const canvas = document.createElement("canvas");
      paint(canvas, inputs);
      item.append(canvas);
    }
    const said = document.createElement("b");
    said.textContent = text;
    const truth = document.createElement("small");
    truth.textContent = `is ${classes[label]}`;
    item.append(said, truth);
    list.append(item);
  }
  if (!picture) return { logits, answer, samples };

  // ---- drawing: strokes are kept as points, and drawn again as large as what the network has seen ----
  const pad = document.getElementById("pad"), seen = document.getElementById("seen");
  const bars = document.getElementById("chances");
  let strokes = [], drawing = false;

  function stroke(context, points, thickness) {
    context.lineWidth = thickness;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = "#fff";
    for (const line of points) {
      context.beginPath();
      line.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (line.length === 1) context.lineTo(line[0][0] + 0.01, line[0][1]);
      context.stroke();
    }
  }

  function clear(canvas) {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    return context;
  }

  // How much ink each pixel has, of strokes so thick: the mean of 16 x 16 finer pixels. The drawing's box is
  // centred, and its longer side is as long as in training.
  function inked(thickness) {
    const fine = 16, canvas = document.createElement("canvas");
    canvas.width = fine * width;
    canvas.height = fine * height;
    const context = clear(canvas), points = strokes.flat();
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const room = Math.max(1, picture.fill * Math.min(canvas.width, canvas.height) - fine * thickness);
    const by = room / Math.max(right - left, bottom - top, 20);
    const moved = strokes.map((line) => line.map(([x, y]) => [
      canvas.width / 2 + (x - (left + right) / 2) * by, canvas.height / 2 + (y - (top + bottom) / 2) * by,
    ]));
    stroke(context, moved, fine * thickness);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const shares = new Array(width * height).fill(0);
    for (let y = 0; y < canvas.height; y++)
      for (let x = 0; x < canvas.width; x++)
        shares[Math.floor(y / fine) * width + Math.floor(x / fine)] += data[4 * (y * canvas.width + x)] / (255 * fine * fine);
    return shares;
  }

  // Strokes are as thick as gives the ink of a training image.
  function pixels() {
    let [thin, thick] = [0.3, 0.3 * Math.min(width, height)], shares;
    for (let turn = 0; turn < 7; turn++) {
      const thickness = (thin + thick) / 2;
      shares = inked(thickness);
      const mean = shares.reduce((one, other) => one + other, 0) / shares.length;
      if (mean < picture.inked) thin = thickness;
      else thick = thickness;
    }
    return Array.from({ length: channels }, () => shares).flat()
      .map((share) => picture.paper + share * (picture.ink - picture.paper));
  }

  function show() {
    stroke(clear(pad), strokes, 0.075 * pad.width);
    const drawn = strokes.length > 0;
    const inputs = drawn ? pixels() : new Array(channels * width * height).fill(picture.paper);
    paint(seen, inputs);
    const given = answer(inputs);
    document.getElementById("answer").textContent = drawn ? given.text : "–";
    bars.replaceChildren(...classes.map((name, at) => {
      const row = document.createElement("div"), bar = document.createElement("i");
      row.textContent = name;
      bar.style.width = `${drawn ? 100 * given.chances[at] : 0}%`;
      row.append(bar);
      return row;
    }));
  }

  const point = (event) => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) * pad.width / box.width, (event.clientY - box.top) * pad.height / box.height];
  };
  pad.addEventListener("pointerdown", (event) => {
    drawing = true;
    pad.setPointerCapture(event.pointerId);
    strokes.push([point(event)]);
    show();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    strokes.at(-1).push(point(event));
    show();
  });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => (drawing = false));
  document.getElementById("clear").addEventListener("click", () => {
    strokes = [];
    show();
  });
  show();
  return { logits, answer, samples };
})();
