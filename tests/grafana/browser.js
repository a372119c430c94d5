// The parts of a browser that Grafana's libraries touch while they load.
import { JSDOM } from 'jsdom';

const { window } = new JSDOM('<!doctype html><body></body>', { url: 'http://localhost:3000/' });
window.grafanaBootData = { settings: { buildInfo: {}, featureToggles: {} }, user: {}, navTree: [] };
window.IntersectionObserver = window.ResizeObserver = class { observe() {} unobserve() {} disconnect() {} };
window.matchMedia = () => ({ matches: false, addEventListener() {}, removeEventListener() {}, addListener() {}, removeListener() {} });
// Node has these too, but a document only takes its own.
const OWN = ['Event', 'CustomEvent', 'EventTarget', 'navigator'];
globalThis.window = window;
for (const name of Object.getOwnPropertyNames(window)) {
  if (!(name in globalThis) || OWN.includes(name)) Object.defineProperty(globalThis, name, { configurable: true, get: () => window[name] });
}
