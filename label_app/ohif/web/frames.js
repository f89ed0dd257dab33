/** How the frames of a displayed series and the slices of a label volume belong to each other. */

const near = (a, b, tolerance) => a.every((value, axis) => Math.abs(value - b[axis]) <= tolerance);
const add = (a, b, factor) => a.map((value, axis) => value + factor * b[axis]);
const length = a => Math.hypot(...a);

/** Frame number of an image id, from 1. */
const frameNumber = imageId => Number(/\/frames\/(\d+)/.exec(imageId)?.[1] ?? 1);

/**
 * Position of a frame of an instance, (x, y, z) LPS mm, or null.
 *
 * Those of a multi-frame object are in its per-frame functional groups; OHIF 3.13 gives all its frames the object's own
 * position where it has one, so they are read here.
 */
export function positionOf(instance, frame) {
  const multiple = Number(instance?.NumberOfFrames ?? 1) > 1;
  const own = instance?.PerFrameFunctionalGroupsSequence?.[frame - 1]?.PlanePositionSequence?.[0];
  const position = own?.ImagePositionPatient ?? (multiple ? null : instance?.ImagePositionPatient);
  return position ? Array.from(position, Number) : null;
}

/** @returns {{instance: object, frame: number, position: number[]|null}[]} one for each image id */
function framePlaces(metaData, imageIds) {
  return imageIds.map(imageId => {
    const instance = metaData.get('instance', imageId);
    const frame = frameNumber(imageId);
    return { instance, frame, position: positionOf(instance, frame) };
  });
}

/** Indices of the frames as the server stacks them where there are no positions: by instance, then by frame. */
function byNumber(places) {
  const order = places.map((_, index) => index);
  return order.sort(
    (a, b) =>
      Number(places[a].instance?.InstanceNumber ?? 0) - Number(places[b].instance?.InstanceNumber ?? 0) ||
      places[a].frame - places[b].frame || a - b
  );
}

/**
 * Which frame each slice of a volume belongs to: by position if all have one, else by number.
 *
 * @returns {number[]} index into imageIds, for each slice
 */
export function matchSlices(metaData, imageIds, { size, origin, directions }) {
  if (size[2] !== imageIds.length) {
    throw new Error(`the server's mask has ${size[2]} frames, the series shown here ${imageIds.length}`);
  }
  const places = framePlaces(metaData, imageIds);
  for (const { instance } of places) {
    if (instance && (instance.Columns !== size[0] || instance.Rows !== size[1])) {
      const picture = `${instance.Columns} x ${instance.Rows}`;
      throw new Error(`the server's mask is ${size[0]} x ${size[1]}, the picture ${picture}`);
    }
  }
  const tolerance = 0.25 * length(directions[2]);
  const matched = Array.from({ length: size[2] }, (_, slice) => {
    const position = add(origin, directions[2], slice);
    return places.findIndex(place => place.position && near(place.position, position, tolerance));
  });
  if (matched.every(index => index >= 0) && new Set(matched).size === matched.length) return matched;
  if (places.some(place => place.position)) {
    console.warn('lesion-label: the positions of mask and pictures do not agree; frames are matched by their numbers');
  }
  return byNumber(places);
}

/**
 * The grid of a series, as the server reads it: LPS, mm; without positions the identity.
 *
 * @returns {{order: number[], origin: number[], directions: number[][]}} order = index into imageIds of each slice
 */
export function seriesGrid(metaData, imageIds) {
  const places = framePlaces(metaData, imageIds);
  const plane = metaData.get('imagePlaneModule', imageIds[0]) ?? {};
  const shared = places[0].instance?.SharedFunctionalGroupsSequence?.[0];
  const orientation = shared?.PlaneOrientationSequence?.[0] ?? places[0].instance;
  const axes = orientation?.ImageOrientationPatient;
  if (!axes || places.some(place => !place.position)) {
    return { order: byNumber(places), origin: [0, 0, 0], directions: [[1, 0, 0], [0, 1, 0], [0, 0, 1]] };
  }
  const [row, column] = [Array.from(axes.slice(0, 3), Number), Array.from(axes.slice(3, 6), Number)];
  const normal = [0, 1, 2].map(axis => {
    const [b, c] = [(axis + 1) % 3, (axis + 2) % 3];
    return row[b] * column[c] - row[c] * column[b];
  });
  const along = place => place.position.reduce((sum, value, axis) => sum + value * normal[axis], 0);
  const order = places.map((_, index) => index).sort((a, b) => along(places[a]) - along(places[b]));
  const thickness = Number(plane.spacingBetweenSlices || plane.sliceThickness || 1);
  const depth = along(places[order.at(-1)]) - along(places[order[0]]);
  const step = order.length > 1 ? depth / (order.length - 1) : thickness;
  const [across, down] = [Number(plane.columnPixelSpacing ?? 1), Number(plane.rowPixelSpacing ?? 1)];
  return {
    order,
    origin: places[order[0]].position,
    directions: [row.map(v => v * across), column.map(v => v * down), normal.map(v => v * (step || 1))],
  };
}
