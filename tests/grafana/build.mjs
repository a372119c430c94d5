// Bundles the judge (for node) or the page (for a browser) with one version of Grafana's libraries.
//
//     node build.mjs VERSION judge|page SCRIPT      VERSION: a folder beside this file with its node_modules
//
// The sources lie beside this file and find their imports in the version's node_modules.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [version, what, outfile] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, version, 'node_modules');
const { build } = createRequire(join(here, version, 'package.json'))('esbuild');

// What only editors need, and what is large: the code editor, maps.
const unused = { name: 'unused', setup(plugins) {
  const filter = /^(monaco-editor|@monaco-editor\/react|react-monaco-editor|ol)(\/|$)/;
  plugins.onResolve({ filter }, ({ path }) => ({ path, namespace: 'unused' }));
  plugins.onLoad({ filter: /.*/, namespace: 'unused' }, () => ({ contents: 'module.exports = new Proxy({}, { get: () => class {} })' }));
} };

// Every import of Grafana's packages gets the same, CommonJS, copy: two copies would have two registries, and the ES modules
// of one package look for names that those of another don't export.
const single = { name: 'single', setup(plugins) {
  plugins.onResolve({ filter: /^@grafana\// }, async ({ path, kind, resolveDir, pluginData }) => {
    if (pluginData === single || kind === 'entry-point') return undefined;
    const attempt = (name) => plugins.resolve(name, { kind: 'require-call', resolveDir, pluginData: single });
    const found = await attempt(path);
    return found.errors.length ? attempt(`${path}.js`) : found; // files of @grafana/schema 12 are imported without their ending
  });
} };

const grid = ['react-data-grid', '@grafana/react-data-grid'].map((name) => join(modules, name, 'lib/styles.css')).find(existsSync);

const common = {
  bundle: true, outfile, nodePaths: [modules], plugins: [unused, single], logLevel: 'error', jsx: 'automatic', legalComments: 'none',
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  loader: { '.css': 'empty', '.svg': 'dataurl', '.png': 'dataurl', '.woff2': 'dataurl', '.woff': 'empty', '.ttf': 'empty' },
};
const targets = {
  judge: { entryPoints: [join(here, 'judge.js')], platform: 'node', format: 'cjs', external: ['jsdom'] },
  page: { entryPoints: [join(here, 'page.jsx')], platform: 'browser', format: 'iife', minify: true, alias: { 'grid.css': grid }, loader: { ...common.loader, '.css': 'css' } },
};
await build({ ...common, ...targets[what] });
