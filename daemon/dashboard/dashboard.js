// SPDX-License-Identifier: Apache-2.0
// The dashboard. Everything that comes from events reaches the page as text (textContent) and never as markup.
//
//   /api/history once, then /api/stream (status, shop, alert) ─► model ─► one paint a frame
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const HISTORY = 300, ALERTS_SHOWN = 200;
  let token = null;                       // in memory only
  const history = {}, alerts = [];        // alerts: not shown yet, oldest first
  let status = null, shop = null, held = false, dirty = false, shown = 0;

  // ---- small tools ---------------------------------------------------------------------------------------------------
  function el(tag, attributes, ...children) {
    const e = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes || {})) if (v != null) e.setAttribute(k, v);
    for (const c of children) if (c != null) e.append(c);
    return e;
  }
  function svg(tag, attributes, ...children) {
    const e = document.createElementNS(SVG, tag);
    for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
    e.append(...children);
    return e;
  }
  const isNumber = (x) => typeof x === "number" && isFinite(x);
  function short(x) {
    if (!isNumber(x)) return "–";
    const a = Math.abs(x);
    if (a >= 1e9) return (x / 1e9).toFixed(2) + " G";
    if (a >= 1e6) return (x / 1e6).toFixed(2) + " M";
    if (a >= 100 || Number.isInteger(x)) return Math.round(x).toLocaleString("en");
    return a >= 10 ? x.toFixed(1) : x.toFixed(2);
  }
  const percent = (x, digits = 1) => isNumber(x) ? (100 * x).toFixed(digits) + " %" : "–";
  const words = (type) => type.replaceAll("_", " ");
  function span(seconds) {
    if (!isNumber(seconds)) return "–";
    const s = Math.abs(seconds);
    if (s < 90) return Math.round(s) + " s";
    if (s < 5400) return Math.round(s / 60) + " min";
    if (s < 172800) return (s / 3600).toFixed(s < 36000 ? 1 : 0) + " h";
    return Math.round(s / 86400) + " d";
  }
  const clock = (ms) => new Date(ms).toISOString().slice(11, 19);
  const day = (ms) => new Date(ms).toISOString().slice(0, 10);
  function show(id, text, raw) {
    const e = $(id);
    if (e.textContent !== text) e.textContent = text;
    if (raw !== undefined) e.dataset.value = raw === null ? "" : String(raw);
  }

  // A line from 0 to the largest value of all series; a gap where a value is missing.
  function spark(series, width, height) {
    const top = Math.max(1e-9, ...series.flat().filter(isNumber)) * 1.12;
    const box = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    series.forEach((values, k) => {
      if (values.length < 2) return;
      const step = width / (values.length - 1);
      let line = "", first = null, last = null;
      values.forEach((v, i) => {
        if (!isNumber(v)) return;
        const x = i * step;
        line += (line && isNumber(values[i - 1]) ? "L" : "M") + x.toFixed(1) + " " + (height - height * v / top).toFixed(1);
        if (first === null) first = x;
        last = x;
      });
      if (!line) return;
      if (k === 0 && line.indexOf("M", 1) < 0)
        box.append(svg("path", { class: "area", d: `${line}L${last.toFixed(1)} ${height}L${first.toFixed(1)} ${height}Z` }));
      box.append(svg("path", { class: k ? "line b" : "line", d: line }));
    });
    return box;
  }
  function bar(share) {
    const inner = el("i");
    inner.style.width = Math.max(0, Math.min(100, 100 * share)).toFixed(1) + "%";
    return el("div", { class: "bar" }, inner);
  }

  // ---- tiles ---------------------------------------------------------------------------------------------------------
  const TILES = [
    { id: "events", title: "Throughput", unit: "events/s", series: ["events_per_s"], value: (s) => s.rates.events_per_s,
      sub: (s) => short(s.events) + " since the start" },
    { id: "own", title: "Own latency, p50", unit: "ms", series: ["own_p50_ms", "own_p99_ms"],
      value: (s) => s.rates.own_ms.p50, sub: (s) => `p99 ${short(s.rates.own_ms.p99)} · p99.9 ${short(s.rates.own_ms.p999)}` },
    { id: "end", title: "End to end, p50", unit: "ms", series: ["end_p50_ms", "end_p99_ms"],
      value: (s) => s.rates.end_to_end_ms.p50,
      sub: (s) => `p99 ${short(s.rates.end_to_end_ms.p99)} · p99.9 ${short(s.rates.end_to_end_ms.p999)}` },
    { id: "lag", title: "Lag", unit: "events", series: ["lag"], value: (s) => s.rates.lag,
      sub: (s) => `${s.partitions.length} partition${s.partitions.length === 1 ? "" : "s"}${s.paused ? " · paused" : ""}` },
    { id: "alerts", title: "Alerts", unit: "since the start", series: ["alerts_per_s"], value: (s) => s.alerts,
      sub: (s) => short(s.rates.alerts_per_s) + " a second" },
    { id: "table", title: "Users in memory", unit: "", series: ["cpu_share"], value: (s) => s.table.users,
      sub: (s) => `${percent(s.table.used_bytes / s.table.limit_bytes, 0)} of the table · CPU ${percent(s.rates.cpu_share, 0)}` },
  ];
  for (const t of TILES) {
    const big = el("p", { class: "big" }, el("span", { id: "v-" + t.id }, "–"), el("small", {}, t.unit));
    $("tiles").append(el("div", { class: "tile" }, el("h2", {}, t.title), big, el("p", { class: "sub", id: "s-" + t.id }),
      el("div", { id: "g-" + t.id })));
  }
  function paintTiles() {
    for (const t of TILES) {
      const v = t.value(status);
      show("v-" + t.id, short(v), v);
      show("s-" + t.id, t.sub(status));
      $("g-" + t.id).replaceChildren(spark(t.series.map((name) => history[name] || []), 300, 42));
    }
  }
  function remember() {
    const r = status.rates;
    const now = { events_per_s: r.events_per_s, alerts_per_s: r.alerts_per_s, lag: r.lag, own_p50_ms: r.own_ms.p50,
      own_p99_ms: r.own_ms.p99, end_p50_ms: r.end_to_end_ms.p50, end_p99_ms: r.end_to_end_ms.p99, cpu_share: r.cpu_share };
    for (const [name, value] of Object.entries(now)) {
      const column = history[name] = history[name] || [];
      column.push(value);
      if (column.length > HISTORY) column.shift();
    }
  }

  // ---- head, stages, partitions --------------------------------------------------------------------------------------
  function state(kind, text) {
    $("state").dataset.state = kind;
    show("state", text);
  }
  function paintHead() {
    state(status.ready ? "ok" : "bad", status.ready ? status.phase : "not ready: " + status.why);
    show("f-version", status.version);
    show("f-up", span(status.uptime_s));
    show("f-model", status.model ? status.model.slice(0, 8) : "none");
    show("f-config", status.config.hash.slice(0, 8));
    $("f-config").title = status.config.file;
  }
  function paintStages() {
    const entries = Object.entries(status.rates.stages_us), total = entries.reduce((sum, [, v]) => sum + (v || 0), 0);
    const stack = svg("svg", { class: "stack", viewBox: "0 0 1000 18", preserveAspectRatio: "none", "aria-hidden": "true" });
    const legend = el("ul", { class: "legend" });
    let x = 0;
    entries.forEach(([name, v], i) => {
      const width = total ? 1000 * (v || 0) / total : 0;
      stack.append(svg("rect", { class: "s" + i % 8, x: x.toFixed(1), y: 0, width: width.toFixed(1), height: 18 }));
      x += width;
      legend.append(el("li", {}, svg("svg", { viewBox: "0 0 9 9", "aria-hidden": "true" },
        svg("rect", { class: "s" + i % 8, width: 9, height: 9, rx: 2 })), name, el("b", {}, isNumber(v) ? v.toFixed(2) + " µs" : "–")));
    });
    $("stages").replaceChildren(stack, legend);
  }
  function paintPartitions() {
    const rows = [...status.partitions].sort((a, b) => a.id - b.id).map((p) => el("tr", {}, el("td", {}, String(p.id)),
      el("td", {}, p.state + (p.degraded ? ", degraded" : "")),
      ...[p.lag, p.committed, p.saved, p.unsaved_users].map((v) => el("td", { class: "n" }, v === null ? "–" : v.toLocaleString("en")))));
    $("partitions").tBodies[0].replaceChildren(...rows);
  }

  // ---- shop ----------------------------------------------------------------------------------------------------------
  const FUNNEL = ["product_view", "add_to_cart", "checkout", "purchase"];
  const points = (x) => (x > 0 ? "▲ " : x < 0 ? "▼ " : "") + Math.abs(100 * x).toFixed(1);
  const tone = (x) => "n " + (x > 0.0005 ? "up" : x < -0.0005 ? "down" : "");
  function move(i) {
    return el("li", {}, el("span", { class: "name", title: i.category }, i.category), el("span", { class: tone(i.change) }, points(i.change)));
  }
  function paintShop() {
    const top = shop.interests.slice(0, 10), largest = top.length ? top[0].share : 1;
    show("shop-note", shop.interests.length ? `share of the model's expectation, last ${shop.recent_minutes} min; change in points`
      : "no model at work, or no event yet");
    $("interests").replaceChildren(...top.map((i) => el("div", { class: "interest" },
      el("span", { class: "name", title: i.category }, i.category), bar(i.share / largest),
      el("span", { class: "n", "data-value": i.share }, percent(i.share)), spark([i.by_minute], 120, 20),
      el("span", { class: i.change === null ? "n" : tone(i.change) }, i.change === null ? "" : points(i.change)))));
    const moved = shop.interests.filter((i) => isNumber(i.change)).sort((a, b) => b.change - a.change);
    const none = () => el("li", { class: "note" }, moved.length ? "none" : "compared from the second minute on");
    const rising = moved.filter((i) => i.change > 0).slice(0, 5), falling = moved.filter((i) => i.change < 0).reverse().slice(0, 5);
    $("rising").replaceChildren(...(rising.length ? rising.map(move) : [none()]));
    $("falling").replaceChildren(...(falling.length ? falling.map(move) : [none()]));
    const count = Object.fromEntries(shop.funnel.map((f) => [f.type, f.count]));
    show("funnel-note", shop.minutes < 60 ? `events, last ${shop.minutes} min` : "events, last hour");
    $("funnel").replaceChildren(...FUNNEL.map((type, k) => {
      const n = count[type] || 0, before = k ? count[FUNNEL[k - 1]] || 0 : 0, first = count[FUNNEL[0]] || 0;
      return el("li", {}, el("div", { class: "step" }, el("span", {}, words(type)), el("b", { "data-value": n }, short(n))),
        bar(first ? n / first : 0), k ? el("span", { class: "note" }, before ? percent(n / before) + " of " + words(FUNNEL[k - 1]) + "s"
          : "–") : null);
    }));
    $("others").replaceChildren(...shop.funnel.filter((f) => !FUNNEL.includes(f.type) && f.count > 0)
      .sort((a, b) => b.count - a.count).map((f) => el("li", {}, words(f.type) + " ", el("b", {}, short(f.count)))));
  }

  // ---- alerts --------------------------------------------------------------------------------------------------------
  function alertRow(a, fresh) {
    const who = el("button", { type: "button", class: "who", title: "Look this user up" }, a.user);
    who.addEventListener("click", () => lookUp(a.user));
    return el("li", { class: fresh ? "alert new" : "alert" }, el("div", { class: "top" },
      el("span", { class: "act", "data-action": a.action }, `${a.action} ${short(a.score)}`), who,
      el("time", { class: "when", datetime: new Date(a.ts).toISOString(), title: day(a.ts) }, clock(a.ts))), reasons(a));
  }
  function reasons(a) {
    return el("ul", { class: "why" }, ...a.symbols.map((s) => el("li", { "data-weight": short(s.weight),
      title: `${s.name}: ${s.value ?? "–"} (threshold ${s.threshold ?? "–"})` }, s.text || s.name)));
  }
  // At most what the list can hold is made into rows, whatever comes within a frame.
  function paintAlerts() {
    if (!held && alerts.length) {
      const rows = document.createDocumentFragment();
      for (const a of alerts.splice(0).slice(-ALERTS_SHOWN).reverse()) rows.append(alertRow(a, shown > 0));
      if (shown === 0) $("alerts").replaceChildren();
      shown += rows.childElementCount;
      $("alerts").prepend(rows);
      while ($("alerts").childElementCount > ALERTS_SHOWN) $("alerts").lastElementChild.remove();
    }
    if (shown === 0 && !$("alerts").childElementCount)
      $("alerts").append(el("li", { class: "empty" }, "None so far. They appear here as they are raised, with their reasons."));
    show("alerts-note", held ? `held, ${alerts.length} waiting` : shown ? `the last ${$("alerts").childElementCount}` : "");
  }

  // ---- one user ------------------------------------------------------------------------------------------------------
  const MONEY = ["purchase", "checkout", "add_to_cart"], TROUBLE = ["login_failed", "error"];
  function strip(events) {
    const list = [...events].reverse(), lanes = ["look", "cart", "trouble"], wide = Math.max(260, $("user").clientWidth);
    const box = svg("svg", { class: "strip", viewBox: `0 0 ${wide} 74`, role: "img", "aria-label": `The last ${list.length} events, oldest left` });
    lanes.forEach((name, k) => {
      box.append(svg("line", { x1: 52, x2: wide, y1: 14 + 21 * k, y2: 14 + 21 * k }));
      const label = svg("text", { x: 0, y: 18 + 21 * k });
      label.textContent = name;
      box.append(label);
    });
    list.forEach((e, i) => {
      const x = 62 + (wide - 72) * (list.length > 1 ? i / (list.length - 1) : 0.5);
      const lane = MONEY.includes(e.type) ? 1 : TROUBLE.includes(e.type) ? 2 : 0;
      if (i && e.session !== list[i - 1].session) box.append(svg("line", { x1: x - 5, x2: x - 5, y1: 4, y2: 62 }));
      const title = svg("title");
      title.textContent = `${clock(e.ts)} ${words(e.type)} ${e.category || ""}`;
      box.append(svg("circle", { cx: x, cy: 14 + 21 * lane, r: e.type === "purchase" ? 6 : 4,
        class: lane === 1 ? "money" : lane === 2 ? "trouble" : "look" }, title));
    });
    return box;
  }
  function scroll(label, table) {
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
  }
  function windowTable(windows) {
    const rows = new Map(), columns = [], rest = [];
    for (const [name, value] of Object.entries(windows)) {
      const m = /^(count|sum|distinct)\.(.+)\.([^.]+)$/.exec(name);
      if (!m) { rest.push([name, value]); continue; }
      const key = m[1] === "count" ? words(m[2]) : m[1] === "sum" ? "sum of " + words(m[2]) : "different categories";
      if (!rows.has(key)) rows.set(key, {});
      rows.get(key)[m[3]] = value;
      if (!columns.includes(m[3])) columns.push(m[3]);
    }
    const body = [...rows].filter(([, v]) => Object.values(v).some((x) => x)).map(([key, v]) => el("tr", {},
      el("th", { scope: "row" }, key), ...columns.map((c) => el("td", { class: v[c] ? "n" : "n zero", "data-value": v[c] }, short(v[c])))));
    const table = el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "within"),
      ...columns.map((c) => el("th", { scope: "col", class: "n" }, c)))), el("tbody", {}, ...body));
    const other = rest.filter(([name]) => !name.startsWith("time.") && !name.startsWith("event."));
    const list = el("table", {}, el("tbody", {}, ...other.filter(([, v]) => v !== -1).map(([name, v]) => el("tr", {},
      el("th", { scope: "row" }, words(name)), el("td", { class: "n" }, name.startsWith("since") || name === "gap" ||
        name === "session.seconds" ? span(v) : short(v))))));
    return [el("div", { class: "block" }, el("h3", {}, "Windows"), scroll("Windows", table)),
      el("div", { class: "block" }, el("h3", {}, "Since, session, cart"), scroll("Other features", list))];
  }
  function facet(name, value, raw) {
    return el("div", {}, el("dt", {}, name), el("dd", raw === undefined ? {} : { "data-value": raw }, value));
  }
  function paintUser(u) {
    const notes = [u.from === "store" ? "was not active: loaded from the store" : null, u.degraded ? "degraded: events are missing from this record" : null, u.unsaved ? "has unsaved changes" : null,
      u.erased_ms !== null ? "was erased " + day(u.erased_ms) : null].filter(Boolean).join(" · ");
    const events = el("table", {}, el("thead", {}, el("tr", {}, ...["time (UTC)", "event", "category", "item"].map((h) => el("th",
      { scope: "col" }, h)), el("th", { scope: "col", class: "n" }, "price"))), el("tbody", {}, ...u.events.map((e) => el("tr", {},
      el("td", { title: day(e.ts) }, clock(e.ts)), el("td", {}, words(e.type)), el("td", {}, e.category || ""), el("td", {}, e.item || ""),
      el("td", { class: "n" }, e.price === null ? "" : short(e.price))))));
    const left = el("div", {}, el("div", { class: "block" }, el("h3", {}, "Interests"), u.interests.length ? el("div", {},
      ...u.interests.map((i) => el("div", { class: "step" }, el("span", { class: "wide" }, i.category),
        el("b", { "data-value": i.score }, percent(i.score))))) : el("p", { class: "note" }, "no state of the model at work")),
      el("div", { class: "block" }, el("h3", {}, "Why alerts were raised"), u.alerts.length ? el("div", {}, ...u.alerts.map((a) =>
        el("div", { class: "block" }, el("div", { class: "step" }, el("span", { class: "act", "data-action": a.action },
          `${a.action} ${short(a.score)}`), el("span", { class: "note" }, day(a.ts) + " " + clock(a.ts))), reasons(a)))) : el("p",
        { class: "note" }, "none among the last thousand alerts")));
    const right = el("div", {}, ...windowTable(u.windows));
    $("user").replaceChildren(el("dl", { class: "facets" }, facet("user", u.user), facet("last event", u.age_s === null ? "–" :
      span(u.age_s) + " ago", u.last_event_ms), facet("intent", percent(u.intent)), facet("risk", u.risk === null ? "–" : short(u.risk), u.risk),
      facet("likes most", u.interests.length ? u.interests[0].category : "–"), facet("partition", String(u.partition), u.partition)),
      notes ? el("p", { class: "note" }, notes) : "", el("div", { class: "block" }, el("h3", {}, "Timeline"), strip(u.events)),
      el("div", { class: "two" }, left, right), el("div", { class: "block" }, el("h3", {}, "Last events"), scroll("Last events", events)));
  }
  let asked = 0;
  async function lookUp(id) {
    const mine = ++asked;
    $("find").value = id;
    $("user").replaceChildren(el("p", { class: "empty" }, "Looking …"));
    let text;
    try {
      const answer = await call("/api/users/" + encodeURIComponent(id));
      const body = await answer.json();
      if (mine !== asked) return;
      if (answer.ok) { paintUser(body); $("h-user").scrollIntoView({ block: "nearest" }); return; }
      text = body.error;
    } catch (e) {
      text = "The daemon does not answer.";
    }
    if (mine === asked) $("user").replaceChildren(el("p", { class: "empty" }, text));
  }

  // ---- talking to the daemon -----------------------------------------------------------------------------------------
  async function call(path, more) {
    for (;;) {
      const answer = await fetch(path, { ...more, cache: "no-store", credentials: "omit",
        headers: token ? { Authorization: "Bearer " + token } : {} });
      if (answer.status !== 401) return answer;
      await askToken(token !== null);
    }
  }
  let asking = null;
  function askToken(wrong) {
    asking = asking || new Promise((resolve) => {
      state("wait", "waiting for the token");
      if (wrong) $("ask-why").textContent = "That token was refused. Try another one.";
      $("token").value = "";
      $("ask").addEventListener("close", () => { token = $("token").value; $("token").value = ""; asking = null; resolve(); }, { once: true });
      $("ask").showModal();
      $("token").focus();
    });
    return asking;
  }
  $("ask").addEventListener("cancel", (e) => e.preventDefault());
  $("ask-form").addEventListener("submit", (e) => { if (!$("token").value) e.preventDefault(); });

  function receive(name, text) {
    const value = JSON.parse(text);
    if (name === "status") { status = value; remember(); }
    if (name === "shop") shop = value;
    if (name === "alert") { alerts.push(value); if (alerts.length > 1000) alerts.shift(); }
    if (!dirty) { dirty = true; requestAnimationFrame(paint); }
  }
  function paint() {
    dirty = false;
    if (status) { paintHead(); paintTiles(); paintStages(); paintPartitions(); }
    if (shop) paintShop();
    paintAlerts();
  }
  async function listen() {
    const answer = await call("/api/stream");
    if (!answer.ok) throw new Error((await answer.json()).error);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const m = /^event: (\w+)\ndata: ([^]*)$/.exec(part);
        if (m) receive(m[1], m[2]);
      }
    }
  }
  async function begin() {
    const [past, known] = await Promise.all([call("/api/history"), call("/api/alerts?limit=100")]);
    if (!past.ok || !known.ok) throw new Error("the daemon refuses");
    const columns = await past.json();
    for (const name of Object.keys(columns)) if (Array.isArray(columns[name])) history[name] = columns[name];
    alerts.splice(0, alerts.length, ...(await known.json()).alerts.reverse());
    $("alerts").replaceChildren();
    shown = 0;
  }
  async function run() {
    for (let wait = 1000; ; wait = Math.min(2 * wait, 10000)) {
      const since = Date.now();
      try {
        await begin();
        await listen();
        state("bad", "the stream ended");
      } catch (e) {
        state("bad", "no connection");
      }
      if (Date.now() - since > 30000) wait = 1000;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  // ---- keys and theme ------------------------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  function theme() {
    const now = chosen || (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = now;
    show("theme-text", now === "dark" ? "Light" : "Dark");
  }
  dark.addEventListener("change", theme);
  const turn = () => { chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; theme(); };
  const hold = () => { held = !held; $("hold").setAttribute("aria-pressed", held); paintAlerts(); };
  $("theme").addEventListener("click", turn);
  $("hold").addEventListener("click", hold);
  $("help").addEventListener("click", () => $("keys").showModal());
  $("lookup").addEventListener("submit", (e) => {
    e.preventDefault();
    if ($("find").value) lookUp($("find").value);
  });
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input") || document.querySelector("dialog[open]")) return;
    const keys = { "/": () => $("find").focus(), p: hold, t: turn, "?": () => $("keys").showModal() };
    if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
  });
  theme();
  run();
})();
