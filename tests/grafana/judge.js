// Answers on standard output, line by line, what Grafana's own code makes of the dashboards named on standard input.
//
// A request: {"model", "from", "to", "chosen": {variable: value}, "only": [titles]}; the answer has for each variable its options and value, and for
// each panel its fields as they are displayed: names, texts, colours, links.
import { createInterface } from 'node:readline';
import './browser';
import { FieldType, LoadingState, createTheme, formattedValueToString, getFieldDisplayName, getFieldDisplayValues } from '@grafana/data';
import { setUp } from './platform';
import { registerPlugins } from './plugins';
import { makeScene, panelsOf } from './scene';

const [version, url, scrape] = process.argv.slice(2);
const theme = createTheme({ colors: { mode: 'dark' } });
const source = setUp({ url, scrape: Number(scrape), lazyTransformers: Number.parseInt(version, 10) >= 13 });
registerPlugins();

// Rendering activates objects; here nothing is rendered.
function activate(object) {
  const ends = [object.activate()];
  object.forEachChild((child) => { ends.push(...activate(child)); });
  return ends;
}

function settled(panel) {
  return new Promise((resolve) => {
    const look = ({ data }) => [LoadingState.Done, LoadingState.Error].includes(data?.state) && resolve(data);
    panel.state.$data.subscribeToState(look);
    look(panel.state.$data.state);
  });
}

function cell(field, value, row) {
  const shown = field.display(value);
  const links = field.getLinks?.({ valueRowIndex: row }).map(({ href }) => href) ?? [];
  return { value, text: formattedValueToString(shown), colour: shown.color, links };
}

function frame(one, all) {
  return one.fields.map((field) => ({
    name: field.name, heading: getFieldDisplayName(field, one, all), type: field.type,
    cells: field.type === FieldType.time && all.length > 1 ? [] : field.values.map((value, row) => cell(field, value, row)),
  }));
}

function reduced(panel, data, replaceVariables) {
  const { options, fieldConfig } = panel.state;
  if (!options.reduceOptions) return undefined;
  const values = getFieldDisplayValues({ fieldConfig, reduceOptions: options.reduceOptions, replaceVariables, theme, data: data.series, timeZone: 'utc', percentChange: false });
  return values.map(({ display, getLinks, hasLinks }) => ({
    title: display.title, text: formattedValueToString(display), colour: display.color, value: display.numeric,
    links: hasLinks ? getLinks({}).map(({ href }) => href) : [],
  }));
}

async function judged(panel) {
  const raw = await settled(panel);
  await new Promise((resolve) => { setTimeout(resolve); });
  const data = panel.applyFieldConfig(panel.state.$data.state.data ?? raw);
  return {
    title: panel.state.title, type: panel.state.pluginId, description: panel.getDescription(), error: raw.error?.message,
    frames: data.series.map((one) => frame(one, data.series)),
    stats: reduced(panel, data, panel.interpolate),
  };
}

async function answer({ model, from, to, chosen, only }) {
  source.asked.length = 0;
  const wanted = only ? { ...model, panels: model.panels.filter(({ title }) => only.includes(title)) } : model;
  const scene = makeScene(wanted, { from, to, chosen, points: 400 });
  const ends = activate(scene);
  const panels = await Promise.all(panelsOf(scene).map(judged));
  const variables = scene.state.$variables.state.variables.map(({ state: { name, value, text, options } }) => ({ name, value, text, options }));
  const asked = [...source.asked];
  const layers = model.annotations.list.filter(({ expr }) => expr);
  const annotations = (await Promise.all(layers.map((layer) => source.annotate(layer, scene)))).flat();
  ends.reverse().forEach((end) => end());
  return { panels, variables, asked, annotations };
}

async function serve() {
  for await (const line of createInterface({ input: process.stdin })) {
    const result = await answer(JSON.parse(line)).catch(({ stack }) => ({ failed: stack }));
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
  process.stdout.write('', () => process.exit()); // subscriptions keep the process alive
}

serve();
