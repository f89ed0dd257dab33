/**
 * OHIF extension: "Segment lesions" and "Save lesions" on the MONAI Label server that shows the viewer.
 *
 * Plain modules that the browser reads as they are; OHIF 3.13 takes an extension by its address in app-config.js.
 */

import { matchSlices, seriesGrid } from './frames.js';
import { readLabels, showLabels } from './labelmap.js';
import { readNrrd, writeNrrd } from './nrrd.js';
import { repairSegs } from './seg-repair.js';
import { infer, needsLogIn, saveLabel } from './server.js';

const TITLE = 'Lesions';
const LIBRARIES = '@ohif/extension-cornerstone.utilityModule.common';
const SHOWN_MS = 6000;
const ERROR_SHOWN_MS = 120000; // long enough to copy a command from it; the next press of a button takes it away

/** The series of pictures in the active viewport. */
function activeSeries({ viewportGridService, displaySetService }) {
  const { activeViewportId, viewports } = viewportGridService.getState();
  const shown = viewports.get(activeViewportId)?.displaySetInstanceUIDs ?? [];
  const sets = shown.map(uid => displaySetService.getDisplaySetByUID(uid));
  const displaySet = sets.find(set => set && set.Modality !== 'SEG');
  if (!displaySet) throw new Error('no pictures in the active viewport; double-click a series on the left first');
  if (!displaySet.imageIds?.length) {
    throw new Error('this series holds no frames that can be drawn on (a video, a slide or a document)');
  }
  return { viewportId: activeViewportId, displaySet };
}

function getCommandsModule({ servicesManager, commandsManager, extensionManager }) {
  const services = servicesManager.services;
  const proposals = new Map(); // segmentation id -> mask as the server gave it, to know what was corrected
  let busy = false;
  let lastError = null;

  const libraries = () => extensionManager.getModuleEntry(LIBRARIES).exports.getCornerstoneLibraries();

  /** A notification; OHIF would drop one that it has shown in the last half minute, and ignores autoClose. */
  const show = (type, message, duration) =>
    services.uiNotificationService.show({ title: TITLE, message, type, duration, allowDuplicates: true });

  /** Run one action at a time, and tell how it ends. */
  async function tell(started, action) {
    if (busy) {
      show('warning', 'still waiting for the server', SHOWN_MS);
      return;
    }
    busy = true;
    services.uiNotificationService.hide(lastError);
    const running = show('loading', started, Infinity);
    try {
      show('success', await action(), SHOWN_MS);
    } catch (error) {
      console.error('lesion-label:', error);
      lastError = show('error', error.message, ERROR_SHOWN_MS);
    } finally {
      services.uiNotificationService.hide(running);
      busy = false;
    }
  }

  /** What of this series is shown and was made by the server before. */
  function earlier(viewportId, displaySet) {
    return services.segmentationService
      .getSegmentationRepresentations(viewportId)
      .map(({ segmentationId }) => segmentationId)
      .filter(id => proposals.get(id)?.series === displaySet.SeriesInstanceUID);
  }

  function corrected(cornerstone, segmentationId, displaySet) {
    const { labels, frames } = proposals.get(segmentationId);
    const segmentation = services.segmentationService.getSegmentation(segmentationId);
    const now = readLabels(cornerstone, segmentation, displaySet.imageIds, frames).labels;
    return now.some((value, pixel) => value !== Number(labels[pixel] !== 0));
  }

  async function segment() {
    const { viewportId, displaySet } = activeSeries(services);
    const { cornerstone, cornerstoneTools } = libraries();
    const { segmentationService } = services;
    const before = earlier(viewportId, displaySet);
    if (before.some(id => corrected(cornerstone, id, displaySet)) && !window.confirm('Replace the corrected mask?')) {
      return 'the corrected mask was kept';
    }
    const volume = await readNrrd(await infer(displaySet.SeriesInstanceUID));
    const frames = matchSlices(cornerstone.metaData, displaySet.imageIds, volume);
    before.forEach(id => {
      segmentationService.remove(id);
      proposals.delete(id);
    });
    const viewer = { cornerstone, cornerstoneTools, commandsManager, segmentationService };
    const { segmentationId, pixels } = await showLabels(viewer, viewportId, displaySet, volume, frames);
    proposals.set(segmentationId, { series: displaySet.SeriesInstanceUID, labels: volume.labels, frames });
    if (!pixels) return 'the server found no lesion in this series';
    const share = ((100 * pixels) / volume.labels.length).toFixed(1);
    return `the server's proposal covers ${share} % of the series; correct it, then save it`;
  }

  async function save() {
    const { viewportId, displaySet } = activeSeries(services);
    const { cornerstone } = libraries();
    const active = services.segmentationService.getActiveSegmentation(viewportId);
    if (!active) throw new Error('there is no mask to save: press "Segment lesions", or add a segmentation and draw');
    const grid = seriesGrid(cornerstone.metaData, displaySet.imageIds);
    const { labels, pixels } = readLabels(cornerstone, active, displaySet.imageIds, grid.order);
    const { columns, rows } = cornerstone.cache.getImage(active.representationData.Labelmap.imageIds[0]);
    const file = await writeNrrd({ size: [columns, rows, grid.order.length], labels, ...grid });
    await saveLabel(displaySet.SeriesInstanceUID, file);
    return pixels ? `saved as the final label (${pixels} pixels)` : 'saved: this series has no lesion';
  }

  return {
    definitions: {
      segmentLesions: { commandFn: () => tell('the server is segmenting this series ...', segment) },
      saveLesions: { commandFn: () => tell('saving ...', save) },
    },
    defaultContext: 'DEFAULT',
  };
}

let subscription = null;

export default {
  id: 'lesion-label',
  version: '1.0.0',
  async preRegistration() {
    if (await needsLogIn()) window.location.assign('/login');
  },
  onModeEnter({ servicesManager }) {
    const { displaySetService } = servicesManager.services;
    const repair = () => repairSegs(displaySetService.getActiveDisplaySets());
    subscription = displaySetService.subscribe(displaySetService.EVENTS.DISPLAY_SETS_ADDED, repair);
  },
  onModeExit() {
    subscription?.unsubscribe();
    subscription = null;
  },
  getCommandsModule,
};
