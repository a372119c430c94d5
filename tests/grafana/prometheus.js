// A data source for scenes that asks a real Prometheus. Grafana's own one is AGPL, so this is ours: what leaves it are
// frames like those of Grafana's backend. See the documentation of the data source for each rule.
import { DataSourceApi, FieldType, createDataFrame } from '@grafana/data';
import { sceneGraph } from '@grafana/scenes';

function sceneOf({ __sceneObject }) {
  return __sceneObject.value.valueOf();
}

export class Prometheus extends DataSourceApi {
  constructor(settings) {
    super(settings);
    this.url = settings.url;
    this.scrape = settings.scrape;
    this.interval = `${this.scrape}s`;
    this.asked = [];
  }

  async query(request) {
    const panel = sceneOf(request.scopedVars).parent.parent.state.title; // query runner, transformer, panel
    const tables = request.targets.filter((target) => target.format === 'table').length;
    const answers = request.targets.map(async (target) => {
      const step = Math.max(Math.ceil(request.intervalMs / 1000), this.scrape);
      const expr = this.interpolated(request.scopedVars, target.expr, step);
      const begun = performance.now();
      const result = await this.evaluate(expr, request.range, target.instant ? 0 : step);
      this.asked.push({ panel, refId: target.refId, expr, series: result.length, seconds: (performance.now() - begun) / 1000 });
      return target.format === 'table' ? [tableFrame(target, result, tables)] : seriesFrames(target, result, step);
    });
    return { data: (await Promise.all(answers)).flat() };
  }

  // A step of 0 asks for the last moment only. Times are aligned to the step, as Grafana's backend does.
  async evaluate(expr, range, step) {
    const [start, end] = [range.from.valueOf() / 1000, range.to.valueOf() / 1000];
    if (!step) return (await this.ask('query', { query: expr, time: end })).result;
    const aligned = (time) => Math.floor(time / step) * step;
    return (await this.ask('query_range', { query: expr, start: aligned(start), end: aligned(end), step })).result;
  }

  async metricFindQuery({ query }, { range, scopedVars }) {
    const expr = this.interpolated(scopedVars, query, this.scrape);
    const labelValues = expr.match(/^label_values\((?:(.+),\s*)?([a-zA-Z_]\w*)\)\s*$/s);
    if (labelValues) {
      const window = { start: range.from.valueOf() / 1000, end: range.to.valueOf() / 1000 };
      const values = await this.ask(`label/${labelValues[2]}/values`, { 'match[]': labelValues[1], ...window });
      return values.map((text) => ({ text }));
    }
    const [, inner] = expr.match(/^query_result\((.+)\)\s*$/s);
    return (await this.evaluate(inner, range, 0)).map((series) => ({ text: asText(series) }));
  }

  interpolated(scopedVars, text, step) {
    const seconds = (value) => ({ text: `${value}s`, value: `${value}s` });
    const rate = Math.max(step + this.scrape, 4 * this.scrape);
    return sceneGraph.interpolate(sceneOf(scopedVars), text, { ...scopedVars, __interval: seconds(step), __rate_interval: seconds(rate) });
  }

  async ask(path, parameters) {
    const body = new URLSearchParams(parameters);
    const get = path.startsWith('label/');
    const answer = await fetch(`${this.url}/api/v1/${path}${get ? `?${body}` : ''}`, get ? {} : { method: 'POST', body });
    const { data, error } = await answer.json();
    if (error) throw new Error(`${error}\n${parameters.query}`);
    return data;
  }

  // An annotation's value is its time; a label that is missing leaves its own name in the text.
  async annotate({ name, expr, titleFormat, textFormat }, scene) {
    const range = sceneGraph.getTimeRange(scene).state.value;
    const step = Math.max(60, Math.ceil((range.to.valueOf() - range.from.valueOf()) / 1000 / 400));
    const result = await this.evaluate(this.interpolated({ __sceneObject: { value: scene } }, expr, step), range, step);
    const filled = (format, labels) => format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => labels[label] || label);
    return result.map(({ metric, values }) => (
      { name, title: filled(titleFormat, metric), text: filled(textFormat, metric), times: values.map(([, value]) => Number(value)) }
    ));
  }

  async testDatasource() {
    return {};
  }
}

// What query_result hands to a variable's pattern; nothing in it is escaped.
function asText({ metric: { __name__ = '', ...labels }, value: [time, value] }) {
  const pairs = Object.entries(labels).map(([name, text]) => `${name}="${text}"`);
  return `${__name__}{${pairs.join(',')}} ${value} ${Math.round(time * 1000)}`;
}

function legend(format, labels) {
  if (format === '__auto') return Object.entries(labels).map(([name, text]) => `${name}="${text}"`).join(', ');
  return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name) => labels[name] ?? '');
}

function seriesFrames(target, result, step) {
  return result.map(({ metric, values, value }) => {
    const points = values ?? [value];
    return createDataFrame({
      refId: target.refId,
      meta: { type: 'timeseries-multi' },
      fields: [
        { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: points.map(([time]) => time * 1000) },
        { name: 'Value', type: FieldType.number, labels: metric, values: points.map(([, text]) => Number(text)),
          config: { displayNameFromDS: legend(target.legendFormat, metric) } },
      ],
    });
  });
}

// One frame with a row for each series; its value is numbered where the panel has several queries.
function tableFrame({ refId }, result, tables) {
  const names = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const labels = names.map((name) => ({
    name, type: FieldType.string, config: { filterable: true }, values: result.map(({ metric }) => metric[name] ?? ''),
  }));
  return createDataFrame({
    refId,
    fields: [
      { name: 'Time', type: FieldType.time, config: {}, values: result.map(({ value: [time] }) => time * 1000) },
      ...labels,
      { name: tables > 1 ? `Value #${refId}` : 'Value', type: FieldType.number, config: {}, values: result.map(({ value: [, text] }) => Number(text)) },
    ],
  });
}
