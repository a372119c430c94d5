// What Grafana's application sets up before any dashboard: registries, the list of data sources, how a request is run.
import {
  EventBusSrv, FieldConfigProperty, LoadingState, booleanOverrideProcessor, dataLinksOverrideProcessor, displayNameOverrideProcessor,
  identityOverrideProcessor, numberOverrideProcessor, standardEditorsRegistry, standardFieldConfigEditorRegistry, standardTransformers,
  standardTransformersRegistry, stringOverrideProcessor, thresholdsOverrideProcessor, unitOverrideProcessor, valueMappingsOverrideProcessor,
} from '@grafana/data';
import { setAppEvents, setDataSourceSrv, setRunRequest } from '@grafana/runtime';
import { catchError, from, map, of } from 'rxjs';
import { Prometheus } from './prometheus';

const PROCESSORS = {
  [FieldConfigProperty.DisplayName]: displayNameOverrideProcessor,
  [FieldConfigProperty.Unit]: unitOverrideProcessor,
  [FieldConfigProperty.Min]: numberOverrideProcessor,
  [FieldConfigProperty.Max]: numberOverrideProcessor,
  [FieldConfigProperty.Decimals]: numberOverrideProcessor,
  [FieldConfigProperty.NoValue]: stringOverrideProcessor,
  [FieldConfigProperty.Color]: identityOverrideProcessor,
  [FieldConfigProperty.Thresholds]: thresholdsOverrideProcessor,
  [FieldConfigProperty.Mappings]: valueMappingsOverrideProcessor,
  [FieldConfigProperty.Links]: dataLinksOverrideProcessor,
  fieldMinMax: booleanOverrideProcessor,
  [FieldConfigProperty.Filterable]: booleanOverrideProcessor,
};

export const Nothing = () => null;

// A field option; an editor is wanted and never shown.
export function option(path, process, defaultValue) {
  return { id: path, path, name: path, editor: Nothing, override: Nothing, process, shouldApply: () => true, settings: {}, defaultValue };
}

export function setUp({ url, scrape, lazyTransformers }) {
  standardFieldConfigEditorRegistry.setInit(() => Object.entries(PROCESSORS).map(([path, process]) => option(path, process)));
  standardEditorsRegistry.setInit(() => []);
  const transformers = new Map(Object.values(standardTransformers).map((one) => [one.id, one])); // some stand there under two names
  standardTransformersRegistry.setInit(() => [...transformers.values()].map((one) => (
    { id: one.id, name: one.name, editor: Nothing, transformation: lazyTransformers ? async () => one : one }
  )));
  const meta = { id: 'prometheus', name: 'Prometheus', info: { logos: {} } };
  const settings = { id: 1, uid: 'default-prometheus', name: 'Prometheus', type: 'prometheus', isDefault: true, url, scrape, meta, jsonData: {} };
  const source = new Prometheus(settings);
  setDataSourceSrv({ get: async () => source, getList: () => [settings], getInstanceSettings: () => settings, reload() {} });
  setRunRequest((datasource, request) => from(datasource.query(request)).pipe(
    map(({ data }) => ({ state: LoadingState.Done, series: data, timeRange: request.range, request })),
    catchError((error) => of({ state: LoadingState.Error, series: [], error, timeRange: request.range, request })),
  ));
  setAppEvents(new EventBusSrv());
  return source;
}
