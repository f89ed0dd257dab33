/**
 * DICOM SEG that OHIF 3.13 cannot draw as they are, completed in the browser's memory (the archive's stay as they are).
 *
 * 1. A SEG of pictures without Frame of Reference has no Pixel Measures and no Plane Orientation, as PS3.3 A.51 allows:
 *    its pixels are those of the picture that Derivation Image names. OHIF reads both without asking and its viewport
 *    ends in a TypeError. Cells of 1 mm and the identity are put in; what is drawn is the same.
 * 2. dcmqi names the source of the first frame of a multi-frame picture only, without Referenced Frame Number, and
 *    OHIF cannot place the others. Each frame gets the number of the frame that lies at its position.
 */

import { positionOf } from './frames.js';

const first = sequence => (Array.isArray(sequence) ? sequence[0] : sequence) ?? undefined;
/** A sequence of one item, which OHIF also reads as if it were the item itself. */
const sequence = item => Object.assign([item], item);
const TOLERANCE = 1e-3; // mm

/** Put in what pictures without geometry have not. */
function addIdentity(seg) {
  const shared = first(seg.SharedFunctionalGroupsSequence) ?? {};
  const frames = [].concat(seg.PerFrameFunctionalGroupsSequence ?? []);
  if (!first(shared.PixelMeasuresSequence) && !frames.some(frame => first(frame.PixelMeasuresSequence))) {
    shared.PixelMeasuresSequence = sequence({ PixelSpacing: [1, 1], SliceThickness: 1, SpacingBetweenSlices: 1 });
  }
  if (!first(shared.PlaneOrientationSequence) && !frames.some(frame => first(frame.PlaneOrientationSequence))) {
    shared.PlaneOrientationSequence = sequence({ ImageOrientationPatient: [1, 0, 0, 0, 1, 0] });
  }
  seg.SharedFunctionalGroupsSequence = sequence(shared);
}

/** Name the source frame of every frame of the SEG, by position, where the source is one multi-frame object. */
function addFrameNumbers(seg, source) {
  const positions = Array.from({ length: Number(source.NumberOfFrames) }, (_, index) => positionOf(source, index + 1));
  for (const frame of [].concat(seg.PerFrameFunctionalGroupsSequence ?? [])) {
    const derivation = first(frame.DerivationImageSequence);
    if (first(derivation?.SourceImageSequence)?.ReferencedFrameNumber) continue;
    const position = first(frame.PlanePositionSequence)?.ImagePositionPatient;
    const at = positions.findIndex(place => position && place?.every((v, i) => Math.abs(v - position[i]) < TOLERANCE));
    if (at < 0) continue;
    const image = {
      ReferencedSOPClassUID: source.SOPClassUID,
      ReferencedSOPInstanceUID: source.SOPInstanceUID,
      ReferencedFrameNumber: at + 1,
    };
    frame.DerivationImageSequence = sequence({ ...derivation, SourceImageSequence: sequence(image) });
  }
}

/** Complete every SEG among the display sets; those of pictures that are not loaded yet come again when they are. */
export function repairSegs(displaySets) {
  for (const { Modality, instance, isLoaded } of displaySets) {
    if (Modality !== 'SEG' || !instance || isLoaded) continue;
    addIdentity(instance);
    const uid = first(instance.ReferencedSeriesSequence)?.SeriesInstanceUID;
    const pictures = displaySets.filter(({ SeriesInstanceUID }) => SeriesInstanceUID === uid);
    const sources = pictures.flatMap(set => set.instances ?? []);
    if (sources.length === 1 && Number(sources[0].NumberOfFrames ?? 1) > 1) addFrameNumbers(instance, sources[0]);
  }
}
