/** Label volumes as NRRD: one byte a pixel, columns first, then rows, then frames; LPS millimetres. */

const TYPES = {
  uchar: Uint8Array, 'unsigned char': Uint8Array, uint8: Uint8Array, uint8_t: Uint8Array,
  char: Int8Array, 'signed char': Int8Array, int8: Int8Array, int8_t: Int8Array,
  short: Int16Array, int16: Int16Array, int16_t: Int16Array, 'signed short': Int16Array,
  ushort: Uint16Array, 'unsigned short': Uint16Array, uint16: Uint16Array, uint16_t: Uint16Array,
  int: Int32Array, int32: Int32Array, int32_t: Int32Array,
  uint: Uint32Array, 'unsigned int': Uint32Array, uint32: Uint32Array, uint32_t: Uint32Array,
  float: Float32Array, double: Float64Array,
};

const vector = text => text.replace(/[()]/g, '').split(',').map(Number);

async function through(stream, bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

/**
 * Read a label volume.
 *
 * @param {ArrayBuffer} buffer a .nrrd file, raw or gzip
 * @returns {Promise<{size: number[], labels: TypedArray, origin: number[], directions: number[][]}>} size = (W, H, D);
 *   labels in that order, columns fastest; origin and directions in LPS, mm
 */
export async function readNrrd(buffer) {
  const bytes = new Uint8Array(buffer);
  let end = 0;
  while (end + 1 < bytes.length && !(bytes[end] === 10 && (bytes[end + 1] === 10 || bytes[end + 1] === 13))) end += 1;
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, end));
  if (!text.startsWith('NRRD')) {
    throw new Error(`the server's answer is no NRRD file: it begins with "${text.slice(0, 40)}"`);
  }
  const fields = Object.fromEntries(
    text.split(/\r?\n/).slice(1).filter(line => !line.startsWith('#') && /: /.test(line) && !/:=/.test(line))
      .map(line => [line.slice(0, line.indexOf(':')).trim().toLowerCase(), line.slice(line.indexOf(':') + 1).trim()])
  );
  let data = bytes.subarray(end + (bytes[end + 1] === 13 ? 3 : 2));
  if (/^gz/.test(fields.encoding)) data = await through(new DecompressionStream('gzip'), data);
  else if (fields.encoding !== 'raw') throw new Error(`NRRD encoding "${fields.encoding}": expected raw or gzip`);
  const Type = TYPES[fields.type];
  if (!Type) throw new Error(`NRRD type "${fields.type}": expected an integer or float type`);
  if (Type.BYTES_PER_ELEMENT > 1 && fields.endian === 'big') throw new Error('NRRD endian "big": expected little');
  const size = fields.sizes.split(/\s+/).map(Number);
  const vectors = (fields['space directions'] || '').match(/\([^)]*\)|none/g) || [];
  if (size.length > 3 || vectors.includes('none')) {
    throw new Error(`NRRD sizes "${fields.sizes}": expected columns, rows and frames of one label map`);
  }
  while (size.length < 3) size.push(1);
  const count = size[0] * size[1] * size[2];
  if (data.byteLength < count * Type.BYTES_PER_ELEMENT) {
    throw new Error(`NRRD data: ${data.byteLength} bytes, expected ${count * Type.BYTES_PER_ELEMENT}`);
  }
  // Right-anterior-superior differs from LPS in the sign of the first two axes.
  const ras = /^(ras|right-anterior-superior)/i.test(fields.space || '');
  const lps = values => (ras ? [-values[0], -values[1], values[2]] : values);
  const directions = vectors.map(vector).map(lps);
  while (directions.length < 3) directions.push([0, 1, 2].map(axis => Number(axis === directions.length)));
  return {
    size,
    labels: new Type(data.slice(0, count * Type.BYTES_PER_ELEMENT).buffer),
    origin: fields['space origin'] ? lps(vector(fields['space origin'])) : [0, 0, 0],
    directions,
  };
}

/**
 * Write a label volume.
 *
 * @param {{size: number[], labels: Uint8Array, origin: number[], directions: number[][]}} volume as readNrrd gives it
 * @returns {Promise<Blob>} a .nrrd file, gzip
 */
export async function writeNrrd({ size, labels, origin, directions }) {
  const bracket = values => `(${values.join(',')})`;
  const header = [
    'NRRD0004', 'type: uchar', 'dimension: 3', 'space: left-posterior-superior', `sizes: ${size.join(' ')}`,
    `space directions: ${directions.map(bracket).join(' ')}`, 'kinds: domain domain domain', 'encoding: gzip',
    `space origin: ${bracket(origin)}`,
  ].join('\n');
  return new Blob([`${header}\n\n`, await through(new CompressionStream('gzip'), labels)]);
}
