// The page of `liif view`: OpenSeadragon with tiles of the IIIF Image API, and two methods on either side of a divider.
"use strict";

const $ = (id) => document.getElementById(id);
const TILE = 256;
const NAMES = { network: "network", bicubic: "bicubic", lanczos: "Lanczos" };
const CELLS = ["raw", "clip", "1/1", "1/2", "1/4", "1/8", "1/16", "1/30"];
const state = { id: null, left: "bicubic", right: "network", split: 0.5, model: "", cell: "raw", restore: 0 };
const times = [];
let about, viewer, size, opening = 0, wanted = null;

// The image -----------------------------------------------------------------------------------------------------------

function query(method) {
  const how = new URLSearchParams({ method });
  if (method === "network") {
    how.set("model", state.model);
    if (state.cell !== "raw") how.set("cell", state.cell);
    if (state.restore) how.set("restore", state.restore);
  }
  return how;
}

/** Tiles of the image at `about.largest` times its size. */
function source(method) {
  const [width, height] = [size.width * about.largest, size.height * about.largest];
  const maxLevel = Math.ceil(Math.log2(Math.max(width, height)));
  const address = `iiif/x${about.largest}/${encodeURIComponent(state.id)}`;
  const how = query(method);
  return {
    width, height, tileSize: TILE, tileOverlap: 0, minLevel: Math.min(8, maxLevel), maxLevel,
    getTileUrl(level, column, row) {
      const step = 2 ** (maxLevel - level);
      const [x, y] = [column * TILE * step, row * TILE * step];
      const [w, h] = [Math.min(TILE * step, width - x), Math.min(TILE * step, height - y)];
      return `${address}/${x},${y},${w},${h}/${Math.ceil(w / step)},${Math.ceil(h / step)}/0/default.png?${how}`;
    },
  };
}

async function open(keep) {
  const turn = ++opening, view = keep ? bounds() : wanted;
  const answer = await fetch(`iiif/3/${encodeURIComponent(state.id)}/info.json`);
  if (!answer.ok) return say(`${state.id}: ${(await answer.json()).error}`);
  const found = await answer.json();
  if (turn !== opening) return;
  size = found;
  say("");
  times.length = 0;
  viewer.addOnceHandler("open", () => {
    wanted = null;
    if (view) look(rectangle(view));
    split();
    remember();
  });
  viewer.open([{ tileSource: source(state.left) }, { tileSource: source(state.right) }]);
  document.title = `${state.id} – liif view`;
  for (const button of $("strip").children) button.toggleAttribute("aria-current", button.dataset.id === state.id);
}

/** Put the divider where it belongs and show each image on its side of it. */
function split() {
  const [left, right] = [viewer.world.getItemAt(0), viewer.world.getItemAt(1)];
  if (!left || !right) return;
  const alone = state.left === state.right;
  const box = viewer.element.getBoundingClientRect(), at = alone ? 0 : state.split * box.width;
  const edge = left.viewerElementToImageCoordinates(new OpenSeadragon.Point(at, 0)).x;
  const { x: width, y: height } = left.getContentSize(), cut = Math.min(Math.max(edge, 0), width);
  show(left, cut > 0 && !alone, new OpenSeadragon.Rect(0, 0, cut, height));
  show(right, cut < width, new OpenSeadragon.Rect(cut, 0, width - cut, height));
  $("divider").hidden = alone;
  $("divider").style.left = `${state.split * 100}%`;
  $("divider").setAttribute("aria-valuenow", Math.round(state.split * 100));
  $("left-label").textContent = alone ? "" : NAMES[state.left];
  $("right-label").textContent = NAMES[state.right];
}

/** Each call makes OpenSeadragon draw again, so nothing is set to what it is. */
function show(item, visible, part) {
  const opacity = visible ? 1 : 0, now = item.getClip();
  if (item.getOpacity() !== opacity) item.setOpacity(opacity);
  if (visible && !(now && now.equals(part))) item.setClip(part);
}

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

// The view ------------------------------------------------------------------------------------------------------------

/** The visible part of the image, in image pixels: [x, y, width, height]. */
function bounds() {
  const item = viewer.world.getItemAt(0);
  if (!item) return null;
  const part = item.viewportToImageRectangle(viewer.viewport.getBounds(false));
  return [part.x, part.y, part.width, part.height].map((each) => each / about.largest);
}

function rectangle(part) {
  const [x, y, w, h] = part.map((each) => each * about.largest);
  return viewer.world.getItemAt(0).imageToViewportRectangle(x, y, w, h);
}

/** Show a rectangle in viewport coordinates, without animation. OpenSeadragon's fitBounds would zoom out by half a percent. */
function look(part) {
  const { viewport } = viewer;
  viewport.zoomTo(1 / Math.max(part.width, part.height * viewport.getAspectRatio()), null, true);
  viewport.panTo(part.getCenter(), true);
  viewport.applyConstraints(true);
}

/** Screen pixels per pixel of the image. */
function scale() {
  const item = viewer.world.getItemAt(0);
  const zoom = item ? item.viewportToImageZoom(viewer.viewport.getZoom(true)) : 0;
  return zoom * about.largest * devicePixelRatio;
}

function readout() {
  const part = bounds();
  if (!part) return;
  const [x, y] = [part[0] + part[2] / 2, part[1] + part[3] / 2];
  const sorted = [...times].sort((a, b) => a - b), middle = sorted[sorted.length >> 1];
  const cost = sorted.length ? ` · ${middle.toFixed(0)} ms per tile` : "";
  $("readout").textContent =
    `×${scale().toPrecision(3)} · (${x.toFixed(1)}, ${y.toFixed(1)}) of ${size.width}×${size.height} · ${state.model}${cost}`;
}

function link() {
  const fields = { id: state.id, left: state.left, right: state.right, split: state.split.toFixed(4), model: state.model };
  const part = bounds();
  if (part) fields.view = part.map((each) => each.toFixed(3)).join(",");
  if (state.cell !== "raw") fields.cell = state.cell;
  if (state.restore) fields.restore = state.restore;
  return `${location.origin}${location.pathname}#${new URLSearchParams(fields)}`;
}

function remember() {
  readout();
  history.replaceState(null, "", link());
}

/** Restore the state from the address. Invalid values are ignored. */
function recall() {
  const given = new URLSearchParams(location.hash.slice(1)), pick = (name, values) => values.includes(given.get(name)) && given.get(name);
  state.id = pick("id", about.images.map((each) => each.id)) || state.id;
  state.left = pick("left", about.methods) || state.left;
  state.right = pick("right", about.methods) || state.right;
  state.model = pick("model", about.models.map((each) => each.name)) || state.model;
  state.cell = pick("cell", CELLS) || state.cell;
  const [split, restore] = [parseFloat(given.get("split")), parseFloat(given.get("restore"))];
  if (split >= 0 && split <= 1) state.split = split;
  if (restore >= 0 && restore <= 1) state.restore = restore;
  const view = (given.get("view") || "").split(",").map(Number);
  wanted = view.length === 4 && view.every(Number.isFinite) && view[2] > 0 && view[3] > 0 ? view : null;
}

// Controls ------------------------------------------------------------------------------------------------------------

function fill(select, values, labels = (value) => value) {
  select.replaceChildren(...values.map((value) => new Option(labels(value), value)));
}

function reflect() {
  for (const name of ["left", "right", "model", "cell", "restore"]) $(name).value = state[name];
  $("strength").textContent = state.restore;
  $("restoring").hidden = !about.models.find((each) => each.name === state.model).restores;
  if ($("restoring").hidden) state.restore = 0;
}

function change(changes) {
  Object.assign(state, changes);
  reflect();
  open(!("id" in changes));
}

function strip() {
  if (about.images.length < 2) return;
  $("strip").replaceChildren(...about.images.map(({ id }) => {
    const button = document.createElement("button"), image = new Image(), name = document.createElement("span");
    Object.assign(image, { src: `iiif/3/${encodeURIComponent(id)}/full/!128,92/0/default.jpg?method=bicubic`, alt: "", loading: "lazy" });
    name.textContent = button.title = button.dataset.id = id;
    button.append(image, name);
    button.addEventListener("click", () => change({ id }));
    return button;
  }));
}

function neighbour(step) {
  const ids = about.images.map((each) => each.id), next = ids.indexOf(state.id) + step;
  if (ids[next]) change({ id: ids[next] });
}

function move(to) {
  state.split = Math.min(1, Math.max(0, to));
  split();
  remember();
}

function dragging() {
  const divider = $("divider");
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = viewer.element.getBoundingClientRect();
    move((event.clientX - box.left) / box.width);
  });
  divider.addEventListener("wheel", (event) => event.preventDefault(), { passive: false });
  divider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
    if (step) { move(state.split + step); event.preventDefault(); event.stopPropagation(); }
  });
}

const ALONE = { 1: "network", 2: "bicubic", 3: "lanczos" };
let before = { left: "bicubic", right: "network" };

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
  if (document.querySelector("dialog[open]")) return;
  const key = event.key.toLowerCase();
  if (ALONE[key]) {
    if (state.left !== state.right) before = { left: state.left, right: state.right };
    change({ left: ALONE[key], right: ALONE[key] });
  } else if (key === "d" && state.left === state.right) change(before);
  else if (key === "[") move(state.split - 0.05);
  else if (key === "]") move(state.split + 0.05);
  else if (key === "n") neighbour(1);
  else if (key === "p") neighbour(-1);
  else if (key === "s") saving();
  else if (key === "l") copyLink();
  else if (key === "?") $("keys").showModal();
  else if (event.target.closest("#viewer")) return; // handled by OpenSeadragon
  else if (key === "+" || key === "=") zoom(2);
  else if (key === "-") zoom(0.5);
  else if (key === "0") viewer.viewport.goHome();
  else return;
  event.preventDefault();
}

function zoom(factor) {
  viewer.viewport.zoomBy(factor);
  viewer.viewport.applyConstraints();
}

async function copyLink() {
  remember();
  await copy(link(), $("link"), "Link");
}

async function copy(text, button, label) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = label; }, 1200);
}

// Saving --------------------------------------------------------------------------------------------------------------

/** The visible part of the image in whole pixels: [x, y, width, height]. */
function region() {
  const [x, y, w, h] = bounds(), clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const [left, top] = [clamp(Math.floor(x + 0.01), size.width - 1), clamp(Math.floor(y + 0.01), size.height - 1)];
  const [right, bottom] = [clamp(Math.ceil(x + w - 0.01), size.width), clamp(Math.ceil(y + h - 0.01), size.height)];
  return [left, top, Math.max(1, right - left), Math.max(1, bottom - top)];
}

function saving() {
  const part = region();
  $("region").textContent = part.join(",");
  fill($("shown"), about.methods, (value) => NAMES[value]);
  $("shown").value = state.right;
  $("width").value = Math.max(1, Math.round(part[2] * scale()));
  offer();
  $("saving").showModal();
}

function quoted(text) {
  return /^[\w./,:@%+=-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Update the download and the command line to the settings of the dialog. */
function offer() {
  const part = region(), width = parseInt($("width").value, 10) || 0, height = Math.max(1, Math.round((width * part[3]) / part[2]));
  const method = $("shown").value, fits = width > 0 && Math.max(width, height) <= about.maxWidth && width * height <= about.maxArea;
  const stem = state.id.split("/").pop().replace(/\.[^.]*$/, ""), name = `${stem}_${width}x${height}_${method}.png`;
  const how = query(method);
  how.set("download", name);
  $("height").textContent = height;
  $("limit").textContent = fits ? "" : `at most ${about.maxWidth} pixels per side and ${(about.maxArea / 1e6).toFixed(1)} megapixels`;
  $("download").href = `iiif/3/${encodeURIComponent(state.id)}/${part.join(",")}/^${width},${height}/0/default.png?${how}`;
  $("download").download = name;
  $("download").hidden = !fits;
  const options = state.cell === "raw" ? "" : ` --cell ${state.cell}`;
  $("command").value = method === "network"
    ? `liif upscale ${quoted(state.id)} --region ${part.join(",")} --size ${width}x${height} -m ${quoted(state.model)}` +
      `${options}${state.restore ? ` --restore ${state.restore}` : ""} -o ${quoted(name)}`
    : `liif compare ${quoted(state.id)} --region ${part.join(",")} --size ${width}x${height}`;
}

// Start -----------------------------------------------------------------------------------------------------------

function listen() {
  for (const name of ["left", "right", "model", "cell"]) $(name).addEventListener("change", (event) => change({ [name]: event.target.value }));
  $("restore").addEventListener("input", (event) => { $("strength").textContent = event.target.value; });
  $("restore").addEventListener("change", (event) => change({ restore: parseFloat(event.target.value) }));
  $("in").addEventListener("click", () => zoom(2));
  $("out").addEventListener("click", () => zoom(0.5));
  $("whole").addEventListener("click", () => viewer.viewport.goHome());
  $("link").addEventListener("click", copyLink);
  $("save").addEventListener("click", saving);
  $("help").addEventListener("click", () => $("keys").showModal());
  $("copy").addEventListener("click", () => copy($("command").value, $("copy"), "Copy command"));
  for (const name of ["shown", "width"]) $(name).addEventListener("input", offer);
  document.addEventListener("keydown", press);
  addEventListener("hashchange", () => { recall(); reflect(); open(false); });
  for (const name of ["animation", "viewport-change", "resize"]) viewer.addHandler(name, () => { split(); readout(); });
  viewer.addHandler("animation-finish", remember);
  viewer.addHandler("canvas-key", (event) => {
    if (/^[rfdnps?\[\]l123]$/i.test(event.originalEvent.key)) event.preventDefaultAction = true; // used by this page, or useless here
  });
  viewer.addHandler("tile-load-failed", () => say("A tile could not be loaded; is the server still running?"));
  viewer.addHandler("tile-loaded", () => say(""));
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const timing = entry.serverTiming && entry.serverTiming.find((each) => each.name === "render");
      if (timing && entry.name.includes("method=network")) times.push(timing.duration);
    }
    times.splice(0, times.length - 200);
    readout();
  }).observe({ type: "resource", buffered: true });
}

async function begin() {
  about = await (await fetch("contents.json")).json();
  if (!about.images.length) return say("There are no images here.");
  Object.assign(state, { id: about.images[0].id, model: about.models[0].name });
  fill($("left"), about.methods, (value) => NAMES[value]);
  fill($("right"), about.methods, (value) => NAMES[value]);
  fill($("model"), about.models.map((each) => each.name));
  fill($("cell"), CELLS);
  recall();
  viewer = OpenSeadragon({
    id: "viewer", drawer: "canvas", showNavigationControl: false, maxZoomPixelRatio: 1, minZoomImageRatio: 0.9,
    visibilityRatio: 0.5, animationTime: 0.4, zoomPerClick: 2, imageLoaderLimit: 6, timeout: 60000,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  });
  window.liif = { viewer, state, look, rectangle }; // for debugging and for tests
  listen();
  dragging();
  reflect();
  strip();
  await open(false);
}

document.addEventListener("DOMContentLoaded", () => begin().catch((error) => say(String(error))));
