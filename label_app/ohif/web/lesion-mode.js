/** The mode "Lesion segmentation": OHIF's own segmentation mode with the two buttons of lesion-extension.js. */

const BASE = '@ohif/mode-segmentation';

const BUTTONS = [
  {
    id: 'SegmentLesions',
    uiType: 'ohif.toolButton',
    props: {
      type: 'action',
      icon: 'tool-segment-label',
      label: 'Segment lesions',
      tooltip: 'Segment lesions: send this series to the server and show its proposal',
      commands: 'segmentLesions',
      evaluate: 'evaluate.action',
    },
  },
  {
    id: 'SaveLesions',
    uiType: 'ohif.toolButton',
    props: {
      type: 'action',
      icon: 'Export',
      label: 'Save lesions',
      tooltip: 'Save lesions: store the mask, as it is now, as the final label of this series',
      commands: 'saveLesions',
      evaluate: 'evaluate.action',
    },
  },
];

export default {
  id: 'lesion-label-mode',
  async modeFactory({ loadModules }) {
    const [base] = await loadModules([BASE]);
    const mode = await base.modeFactory({});
    return {
      ...mode,
      id: 'lesion-label-mode',
      routeName: 'lesions',
      displayName: 'Lesion segmentation',
      toolbarButtons: [].concat(mode.toolbarButtons, BUTTONS),
      hangingProtocol: 'default', // one picture, not a grid of all series
      nonModeModalities: ['SM', 'ECG', 'DOC', 'SEG', 'SR', 'PR', 'RTSTRUCT'], // "OT" is what secondary captures are
      onModeEnter(context) {
        mode.onModeEnter.call(this, context);
        const { toolbarService } = context.servicesManager.services;
        toolbarService.updateSection(toolbarService.sections.primary, BUTTONS.map(({ id }) => id));
      },
    };
  },
};
