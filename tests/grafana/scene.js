// A dashboard's JSON as a scene. Grafana's application does this with code that isn't published as a library.
import {
  CustomVariable, DataSourceVariable, EmbeddedScene, QueryVariable, SceneControlsSpacer, SceneDataTransformer, SceneGridItem, SceneGridLayout,
  SceneGridRow, SceneQueryRunner, SceneRefreshPicker, SceneTimePicker, SceneTimeRange, SceneVariableSet, TextBoxVariable, VariableValueSelectors, VizPanel,
} from '@grafana/scenes';

const VARIABLES = {
  datasource: (model, common) => new DataSourceVariable({ ...common, pluginId: model.query, regex: model.regex }),
  textbox: (model, common) => new TextBoxVariable(common),
  custom: (model, common) => new CustomVariable({ ...common, query: model.query }),
  query: (model, common) => new QueryVariable({
    ...common, datasource: model.datasource, query: model.query, regex: model.regex, sort: model.sort, refresh: model.refresh,
  }),
};

function variable(model, chosen) {
  const current = chosen === undefined ? model.current : { value: chosen, text: chosen };
  const { name, label, hide, multi: isMulti, includeAll, allValue } = model;
  return VARIABLES[model.type](model, { name, label, hide, isMulti, includeAll, allValue, value: current.value ?? '', text: current.text ?? '' });
}

function panel(model, points) {
  const width = points ? { maxDataPoints: points } : { maxDataPointsFromWidth: true };
  const queries = new SceneQueryRunner({
    queries: model.targets, datasource: model.datasource, minInterval: model.interval, ...(model.maxDataPoints ? { maxDataPoints: model.maxDataPoints } : width),
  });
  return new VizPanel({
    key: `panel-${model.id}`, pluginId: model.type, title: model.title, description: model.description, options: model.options, fieldConfig: model.fieldConfig,
    $data: new SceneDataTransformer({ $data: queries, transformations: model.transformations ?? [] }),
  });
}

function place(model, body) {
  const { x, y, w: width, h: height } = model.gridPos;
  return new SceneGridItem({ x, y, width, height, body });
}

// Panels after an open row stand beside it in the model and are its children in a scene.
function layout(models, points) {
  const children = [];
  let row;
  for (const model of models) {
    if (model.type === 'row') {
      const hidden = model.collapsed ? model.panels : [];
      row = new SceneGridRow({ title: model.title, y: model.gridPos.y, isCollapsed: model.collapsed, children: hidden.map((inner) => place(inner, panel(inner, points))) });
      children.push(row);
    } else if (model.type === 'text') {
      continue;
    } else {
      const item = place(model, panel(model, points));
      row ? row.state.children.push(item) : children.push(item);
    }
  }
  return children;
}

// `points` bounds what a range query asks for; without it the width of a panel does, as in Grafana.
export function makeScene(model, { from, to, chosen = {}, points }) {
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({ from, to, timeZone: 'utc' }),
    $variables: new SceneVariableSet({ variables: model.templating.list.map((one) => variable(one, chosen[one.name])) }),
    controls: [new VariableValueSelectors({}), new SceneControlsSpacer(), new SceneTimePicker({}), new SceneRefreshPicker({ refresh: '' })],
    body: new SceneGridLayout({ children: layout(model.panels, points) }),
  });
}

export function panelsOf(scene) {
  const found = [];
  const visit = (object) => (object instanceof VizPanel ? found.push(object) : object.forEachChild(visit));
  visit(scene);
  return found;
}
