"use strict";
// Runs a network that export.device.browser wrote: normalise, then layer by layer, numbers in the order
// channel, row, column.
const network = (() => {
  const erf = (x) => { // Abramowitz and Stegun, 7.1.26: within 1.5e-7
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return Math.sign(x) * (1 - sum * Math.exp(-x * x));
  };
  const activations = {
    elu: (x, alpha) => (x > 0 ? x : alpha * Math.expm1(x)),
    gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
    gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))),
    leaky_relu: (x, alpha) => (x > 0 ? x : alpha * x),
    relu: (x) => Math.max(0, x),
    silu: (x) => x / (1 + Math.exp(-x)),
    tanh: Math.tanh,
  };

  function each([channels, rows, columns], value) {
    const out = new Float64Array(channels * rows * columns);
    let at = 0;
    for (let c = 0; c < channels; c++)
      for (let y = 0; y < rows; y++)
        for (let x = 0; x < columns; x++) out[at++] = value(c, y, x);
    return out;
  }

  const layers = {
    activation: (layer, numbers) => numbers.map((x) => activations[layer.name](x, layer.alpha)),

    pool: (layer, numbers) => each(layer.output, (c, y, x) => {
      const [, rows, columns] = layer.input, [height, width] = layer.kernel;
      let value = layer.largest ? -Infinity : 0;
      for (let py = 0; py < height; py++)
        for (let px = 0; px < width; px++) {
          const one = numbers[(c * rows + y * layer.stride[0] + py) * columns + x * layer.stride[1] + px];
          value = layer.largest ? Math.max(value, one) : value + one / (height * width);
        }
      return value;
    }),

    convolution: (layer, numbers) => each(layer.output, (c, y, x) => {
      const [, rows, columns] = layer.input, [channels, height, width] = layer.kernel;
      const first = Math.floor(c / (layer.output[0] / layer.groups)) * channels;
      let sum = layer.bias[c];
      for (let i = 0; i < channels; i++)
        for (let ky = 0; ky < height; ky++)
          for (let kx = 0; kx < width; kx++) {
            const row = y * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0];
            const column = x * layer.stride[1] + kx * layer.dilation[1] - layer.padding[1];
            if (row < 0 || row >= rows || column < 0 || column >= columns) continue;
            sum += numbers[((first + i) * rows + row) * columns + column]
              * layer.weight[((c * channels + i) * height + ky) * width + kx];
          }
      return sum;
    }),
  };

  function logits({ shape: [, rows, columns], scale, shift, layers: steps }, inputs) {
    const normalised = Float64Array.from(inputs, (x, at) => {
      const channel = Math.floor(at / (rows * columns));
      return x * scale[channel] + shift[channel];
    });
    return [...steps.reduce((numbers, step) => layers[step.kind](step, numbers), normalised)];
  }

  function probabilities(values) {
    const largest = Math.max(...values), powers = values.map((x) => Math.exp(x - largest));
    const sum = powers.reduce((one, other) => one + other, 0);
    return powers.map((x) => x / sum);
  }

  return { logits, probabilities };
})();
