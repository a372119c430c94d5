// Shells of Grafana's panel plugins, which aren't published: which options a field has, and which published component draws it.
import { PanelPlugin, identityOverrideProcessor } from '@grafana/data';
import { setPluginImportUtils } from '@grafana/runtime';
import { Nothing, option } from './platform';

const CUSTOM = {
  timeseries: ['axisLabel', 'axisPlacement', 'axisSoftMax', 'axisSoftMin', 'barAlignment', 'drawStyle', 'fillOpacity', 'hideFrom', 'lineInterpolation', 'lineStyle',
    'lineWidth', 'pointSize', 'showPoints', 'spanNulls', 'stacking', 'thresholdsStyle'],
  table: ['align', 'cellOptions', 'filterable', 'footer', 'hideFrom', 'inspect', 'minWidth', 'width', 'wrapText', 'wrapHeaderText'],
  stat: [], bargauge: [], gauge: [], text: [],
};

function plugin(id, view) {
  const made = new PanelPlugin(view ?? Nothing);
  made.meta = { id, name: id, info: { logos: {}, version: '' } };
  const options = CUSTOM[id].map((path) => option(path, identityOverrideProcessor));
  return made.useFieldConfig({ useCustomConfig: (builder) => options.forEach((one) => builder.addCustomEditor(one)) });
}

export function registerPlugins(views = {}) {
  const plugins = Object.fromEntries(Object.keys(CUSTOM).map((id) => [id, plugin(id, views[id])]));
  setPluginImportUtils({ getPanelPluginFromCache: (id) => plugins[id], importPanelPlugin: async (id) => plugins[id] });
}
