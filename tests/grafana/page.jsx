// Draws one dashboard, for a screenshot: page.html?dashboard=UID&prometheus=URL&from=…&to=…&theme=dark&version=…&scrape=60&var-NAME=…
// `window.drawn` is true when every panel has its data and the page stands still, and `window.failures` lists what went wrong.
import { LoadingState, ThemeContext, createTheme } from '@grafana/data';
import { LocationServiceProvider, config, locationService } from '@grafana/runtime';
import { GlobalStyles } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { BrowserRouter } from 'react-router-dom';
import { setUp } from './platform';
import { registerPlugins } from './plugins';
import { makeScene, panelsOf } from './scene';
import { VIEWS } from './views';
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import 'grid.css';
import 'uplot/dist/uPlot.min.css';

window.failures = [];
window.addEventListener('error', ({ message }) => window.failures.push(message));

const QUIET_MILLISECONDS = 800;
let changed = performance.now();
new MutationObserver(() => { changed = performance.now(); }).observe(document, { attributes: true, childList: true, subtree: true });

function chosenIn(parameters) {
  const chosen = {};
  for (const [name, value] of parameters) {
    if (name.startsWith('var-')) (chosen[name.slice(4)] ??= []).push(value);
  }
  return Object.fromEntries(Object.entries(chosen).map(([name, values]) => [name, values.length === 1 ? values[0] : values]));
}

// Waits until every panel has its data and the page stands still.
function settle(scene) {
  window.drawn = false;
  const since = performance.now();
  const look = () => {
    const every = panelsOf(scene).map((panel) => panel.state.$data.state.data);
    const done = every.every((data) => [LoadingState.Done, LoadingState.Error].includes(data?.state));
    if (!done || performance.now() - Math.max(changed, since) < QUIET_MILLISECONDS) return setTimeout(look, 100);
    window.failures.push(...every.filter(({ error }) => error).map(({ error }) => error.message));
    window.drawn = true;
    return undefined;
  };
  look();
}

async function draw() {
  const parameters = new URLSearchParams(window.location.search);
  const value = (name) => parameters.get(name);
  const theme = createTheme({ colors: { mode: value('theme') } });
  config.theme2 = theme;
  setUp({ url: value('prometheus'), scrape: Number(value('scrape')), lazyTransformers: Number.parseInt(value('version'), 10) >= 13 });
  registerPlugins(VIEWS);
  const model = await (await fetch(`dashboards/${value('dashboard')}.json`)).json();
  const scene = makeScene(model, { from: value('from'), to: value('to'), chosen: chosenIn(parameters) });
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <LocationServiceProvider service={locationService}>
        <BrowserRouter><scene.Component model={scene} /></BrowserRouter>
      </LocationServiceProvider>
    </ThemeContext.Provider>,
  );
  window.settle = () => settle(scene);
  window.settle();
}

draw().catch(({ stack }) => { window.failures.push(stack); window.drawn = true; });
