/** Masks in and out of OHIF's segmentation of a series: a label map, one image for each frame. */

const COLOUR = [255, 0, 200, 255]; // the magenta that no tissue has
const FILL = 0.3; // the lesion's edge must be seen through its mask
const LESION = 1;

/** Images of a segmentation's label map, in the order of the series' image ids. */
function labelImages(cornerstone, segmentation, imageIds) {
  const data = segmentation.representationData?.Labelmap;
  if (!data?.imageIds?.length) throw new Error('this segmentation has no label map: contours cannot be saved');
  const images = data.imageIds.map(imageId => cornerstone.cache.getImage(imageId));
  const place = new Map(images.map(image => [image?.referencedImageId, image]));
  return imageIds.map(imageId => {
    const image = place.get(imageId);
    if (!image) throw new Error(`this segmentation has no label map for frame ${imageIds.indexOf(imageId) + 1}`);
    return image;
  });
}

/**
 * Show a label volume as a new segmentation of the viewport's series.
 *
 * @param {object} viewer {cornerstone, cornerstoneTools, commandsManager, segmentationService}
 * @param {string} viewportId
 * @param {object} displaySet the series
 * @param {{size: number[], labels: TypedArray}} volume
 * @param {number[]} frames index into displaySet.imageIds of each slice of the volume
 * @returns {Promise<{segmentationId: string, pixels: number}>} and how many pixels are lesion
 */
export async function showLabels(viewer, viewportId, displaySet, volume, frames) {
  const { cornerstone, cornerstoneTools, commandsManager, segmentationService } = viewer;
  const segmentationId = await commandsManager.run('createLabelmapForViewport', {
    viewportId,
    options: { displaySetInstanceUID: displaySet.displaySetInstanceUID, label: 'Lesions', createInitialSegment: true },
  });
  const segmentation = segmentationService.getSegmentation(segmentationId);
  const images = labelImages(cornerstone, segmentation, displaySet.imageIds);
  const count = volume.size[0] * volume.size[1];
  let pixels = 0;
  frames.forEach((frame, slice) => {
    const { voxelManager } = images[frame];
    const labels = voxelManager.getScalarData();
    for (let pixel = 0; pixel < count; pixel += 1) {
      labels[pixel] = volume.labels[slice * count + pixel] ? LESION : 0;
      pixels += labels[pixel];
    }
    voxelManager.setScalarData(labels);
  });
  segmentationService.setSegmentLabel(segmentationId, LESION, 'lesion');
  segmentationService.setStyle({ segmentationId, type: 'Labelmap' }, { fillAlpha: FILL });
  segmentationService.setSegmentColor(viewportId, segmentationId, LESION, COLOUR);
  cornerstoneTools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(segmentationId);
  return { segmentationId, pixels };
}

/**
 * The mask of a segmentation as it is now, corrections included: any segment is lesion.
 *
 * @param {number[]} order index into imageIds of each slice
 * @returns {{labels: Uint8Array, pixels: number}} columns fastest, then rows, then slices
 */
export function readLabels(cornerstone, segmentation, imageIds, order) {
  const images = labelImages(cornerstone, segmentation, imageIds);
  const count = images[0].columns * images[0].rows;
  const labels = new Uint8Array(count * order.length);
  let pixels = 0;
  order.forEach((frame, slice) => {
    const values = images[frame].voxelManager.getScalarData();
    for (let pixel = 0; pixel < count; pixel += 1) {
      if (values[pixel]) {
        labels[slice * count + pixel] = LESION;
        pixels += 1;
      }
    }
  });
  return { labels, pixels };
}
