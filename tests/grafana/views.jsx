// How a panel is drawn: Grafana's published components with the panel's options, put together as its plugins do.
import { cacheFieldDisplayNames, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BarGauge, BigValue, TimeSeries, VizRepeater, useTheme2 } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

function Message({ text }) {
  return <div style={{ display: 'grid', placeItems: 'center', height: '100%' }}>{text}</div>;
}

function Repeated({ data, options, fieldConfig, width, height, replaceVariables, renderCounter, sparkline, draw, ...rest }) {
  const theme = useTheme2();
  const getValues = () => getFieldDisplayValues({ fieldConfig, reduceOptions: options.reduceOptions, replaceVariables, theme, data: data.series, sparkline, timeZone: 'utc' });
  return (
    <VizRepeater
      getValues={getValues} source={data} width={width} height={height} renderCounter={renderCounter} orientation={options.orientation}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={(props) => draw({ ...props, theme, count: props.count ?? getValues().length })} {...rest}
    />
  );
}

function Stat(props) {
  const { options } = props;
  const draw = ({ value, width, height, alignmentFactors, theme, count }) => (
    <BigValue
      value={value.display} count={count} width={width} height={height} theme={theme} alignmentFactors={alignmentFactors} text={options.text}
      sparkline={value.sparkline} colorMode={options.colorMode} graphMode={options.graphMode} justifyMode={options.justifyMode}
      textMode={options.textMode === 'auto' && count === 1 ? 'value' : options.textMode} wideLayout={options.wideLayout}
    />
  );
  return <Repeated {...props} draw={draw} sparkline={options.graphMode !== 'none'} autoGrid />;
}

function Bars(props) {
  const { options } = props;
  const draw = ({ value, width, height, alignmentFactors, theme, orientation, count }) => (
    <BarGauge
      value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)} width={width} height={height} theme={theme}
      orientation={orientation} alignmentFactors={alignmentFactors} itemSpacing={8} lcdCellWidth={12} displayMode={options.displayMode} text={options.text}
      valueDisplayMode={options.valueMode} namePlacement={options.namePlacement} showUnfilled={options.showUnfilled} isOverflow={count > 20}
    />
  );
  const { minVizWidth, minVizHeight, maxVizHeight } = options;
  return <Repeated {...props} draw={draw} itemSpacing={8} minVizWidth={minVizWidth} minVizHeight={minVizHeight} maxVizHeight={maxVizHeight} />;
}

function Lines({ data, options, fieldConfig, width, height, timeRange }) {
  if (!data.series.length) return <Message text={fieldConfig.defaults.noValue} />;
  return <TimeSeries frames={data.series} legend={options.legend} options={options} timeRange={timeRange} timeZone="utc" width={width} height={height} />;
}

function Table({ data, options, fieldConfig, width, height, timeRange }) {
  const [frame] = data.series;
  if (!frame?.length) return <Message text={fieldConfig.defaults.noValue} />;
  cacheFieldDisplayNames(data.series);
  return (
    <TableNG
      data={frame} width={width} height={height} timeRange={timeRange} fieldConfig={fieldConfig} noHeader={!options.showHeader} cellHeight={options.cellHeight}
      initialSortBy={options.sortBy} sortBy={options.sortBy} enablePagination={options.enablePagination} footerOptions={options.footer} getActions={() => []} structureRev={1}
    />
  );
}

export const VIEWS = { stat: Stat, bargauge: Bars, timeseries: Lines, table: Table };
