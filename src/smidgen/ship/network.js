// An image classifier in plain integers: no dependency, no request, the same scores everywhere.
@@about

const network = @@network;

const unpack = (text, kind) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new kind(bytes.buffer);
};

for (const stage of network.stages) {
  for (const [key, kind] of [["weights", Int8Array], ["depthwiseWeights", Int8Array]])
    stage[key] = unpack(stage[key], kind);
}

/** Names of the classes, in the order of the scores. */
export const classNames = network.classNames;
/** [channels, height, width] of an image; its bytes are in the order rows, columns, channels. */
export const inputShape = network.inputShape;
/** What one unit of a score is as a logit. */
export const scoreScale = network.scoreScale;

const IMAGE = -1;

/** What one stage gathers and adds up at position (y, x) for all its output channels. */
function accumulate(stage, maps, y, x, sums, gathered) {
  const { width, height, channels, image } = maps[0];
  const [rows, columns] = stage.kernel;
  const pad = image ? network.padByte : 0;
  const top = y * stage.stride[0] - stage.before[0];
  const left = x * stage.stride[1] - stage.before[1];
  const cells = maps[0].cells;
  const inside = (row, column) => row >= 0 && row < height && column >= 0 && column < width;
  const outputs = sums.length;
  if (stage.gather === "sum") {
    for (let o = 0; o < outputs; o++) {
      sums[o] = 0;
      for (let i = 0; i < maps.length; i++)
        sums[o] += maps[i].cells[(y * width + x) * channels + o] * stage.weights[o * maps.length + i];
    }
    return;
  }
  if (stage.gather === "each") {
    let w = 0;
    for (let o = 0; o < outputs; o++) {
      sums[o] = 0;
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < columns; j++, w++)
          sums[o] += stage.weights[w] *
            (inside(top + i, left + j) ? cells[((top + i) * width + left + j) * channels + o] : pad);
    }
    return;
  }
  let taps = 0;
  if (stage.gather === "separable") {
    let w = 0;
    for (let c = 0; c < channels; c++) {
      let sum = stage.depthwiseBias[c];
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < columns; j++, w++)
          sum += stage.depthwiseWeights[w] *
            (inside(top + i, left + j) ? cells[((top + i) * width + left + j) * channels + c] : pad);
      gathered[taps++] = sum >> stage.depthwiseShift;
    }
  } else {
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) {
        const isInside = inside(top + i, left + j);
        const first = ((top + i) * width + left + j) * channels;
        for (let c = 0; c < channels; c++) gathered[taps++] = isInside ? cells[first + c] : pad;
      }
  }
  for (let o = 0, w = 0; o < outputs; o++) {
    let sum = 0;
    for (let k = 0; k < taps; k++) sum += gathered[k] * stage.weights[w++];
    sums[o] = sum;
  }
}

function runStage(stage, maps, target, isLast) {
  const outputs = stage.bias.length;
  const sums = new Int32Array(outputs);
  const pooled = new Int32Array(outputs);
  const gathered = new Int32Array(stage.kernel[0] * stage.kernel[1] * maps[0].channels);
  const pool = stage.pool ?? { kind: "sum", kernel: [1, 1], stride: [1, 1], before: [0, 0] };
  const half = (1 << stage.poolShift) >> 1;
  const isLargest = pool.kind === "max";
  for (let row = 0; row < stage.size[0]; row++)
    for (let column = 0; column < stage.size[1]; column++) {
      pooled.fill(isLargest ? -0x7fffffff : 0);
      for (let i = 0; i < pool.kernel[0]; i++)
        for (let j = 0; j < pool.kernel[1]; j++) {
          const y = row * pool.stride[0] - pool.before[0] + i;
          const x = column * pool.stride[1] - pool.before[1] + j;
          if (y < 0 || y >= stage.positions[0] || x < 0 || x >= stage.positions[1]) continue;
          accumulate(stage, maps, y, x, sums, gathered);
          for (let o = 0; o < outputs; o++) {
            const a = (sums[o] >> stage.shiftA) + stage.bias[o];
            let t = (a * (a < 0 ? stage.negative[o] : stage.positive[o])) >> stage.shift[o];
            if (stage.offset.length) t += stage.offset[o];
            if (!isLargest) pooled[o] += t;
            else if (t > pooled[o]) pooled[o] = t;
          }
        }
      if (isLast) {
        target.set(pooled);
        continue;
      }
      const first = (row * target.width + column) * target.channels + stage.firstChannel;
      for (let o = 0; o < outputs; o++)
        target.cells[first + o] = Math.max(-127, Math.min(127, (pooled[o] + half) >> stage.poolShift));
    }
}

/**
 * Classify one image.
 * @param {Uint8Array} image bytes in the order rows, columns, channels
 * @returns {{classIndex: number, className: string, scores: Int32Array}}
 */
export function classify(image) {
  const [channels, height, width] = inputShape;
  if (!(image instanceof Uint8Array || image instanceof Uint8ClampedArray) ||
      image.length !== channels * height * width)
    throw new TypeError(`An image must be a Uint8Array of ${channels * height * width} bytes.`);
  const values = network.shapes.map(([depth, rows, columns]) => (
    { cells: new Int8Array(depth * rows * columns), channels: depth, height: rows, width: columns }
  ));
  const source = { cells: image, channels, height, width, image: true };
  const scores = new Int32Array(classNames.length);
  network.stages.forEach((stage, number) => {
    const maps = stage.inputs.map((index) => (index === IMAGE ? source : values[index]));
    const isLast = number === network.stages.length - 1;
    runStage(stage, maps, isLast ? scores : values[stage.output], isLast);
  });
  let best = 0;
  for (let i = 1; i < scores.length; i++) if (scores[i] > scores[best]) best = i;
  return { classIndex: best, className: classNames[best], scores };
}

/** Classify images that lie one after another in one array. */
export function classifyBatch(images) {
  const size = inputShape[0] * inputShape[1] * inputShape[2];
  const found = [];
  for (let at = 0; at + size <= images.length; at += size)
    found.push(classify(images.subarray(at, at + size)));
  return found;
}

/** Turn scores into probabilities. */
export function probabilities(scores) {
  const logits = Array.from(scores, (score) => score * scoreScale);
  const most = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** Three images with all their scores; true if this machine gives the same. */
export function selfTest() {
  return network.examples.every(({ image, scores }) => {
    const found = classify(unpack(image, Uint8Array)).scores;
    return scores.every((score, index) => score === found[index]);
  });
}
