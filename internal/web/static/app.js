// What HTMX cannot do for the control room's pages: pieces of a running answer are
// added as text, keys, drafts, the copy buttons, and times that tick.
// Each page has one event stream; its named events come as events of #stream.
"use strict";
(() => {
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
  const chat = $("main[data-conversation]");
  const composer = $("#composer");
  const text = $("#text");
  const choice = $("#choice");
  const messages = $("#messages");

  // say tells a screen reader, without reading each token.
  const say = (words) => { const box = $("#status"); if (box) box.textContent = words; };

  // Scrolling follows an answer only for who is at the end of the page.
  const atEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
  const toEnd = () => scrollTo({ top: document.documentElement.scrollHeight });
  const keepingEnd = (change) => { const end = atEnd(); change(); if (end) toEnd(); };

  // ---- times ----
  const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
  const older = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const dated = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const span = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
    return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  };
  const localise = (root = document) => {
    for (const t of $$("time[datetime]:not([data-since])", root)) {
      const at = new Date(t.dateTime);
      const now = new Date();
      const words = (at.toDateString() === now.toDateString() ? short : at.getFullYear() === now.getFullYear() ? dated : older).format(at);
      if (t.textContent !== words) t.textContent = words;
      t.title = exact.format(at);
    }
  };
  const tick = () => {
    for (const t of $$("[data-since]")) t.textContent = span(Date.now() - new Date(t.dataset.since));
    for (const t of $$("[data-elapsed]")) if (t.phaseSince) t.textContent = span(Date.now() - t.phaseSince);
  };

  // ---- the page's own state ----
  const mark = () => {
    for (const a of $$("#talks a:not(.edit)")) {
      if (a.pathname === location.pathname) a.setAttribute("aria-current", "page");
      else a.removeAttribute("aria-current");
    }
  };
  const running = () => $("[data-running]");
  const buttons = () => {
    if (!composer) return;
    const busy = !!running();
    $(".stop", composer).hidden = !busy;
    $(".send", composer).hidden = busy;
    const count = $$("#talks .running").length;
    const name = document.title.replace(/^\(\d+\) /, "");
    document.title = count ? `(${count}) ${name}` : name;
  };
  const settle = (root) => { localise(root); mark(); buttons(); tick(); };

  // ---- a running answer ----
  const turnOf = (number) => document.getElementById(`turn-${number}`);
  // upsert shows a turn as the server has it, once.
  const upsert = (data) => {
    if (!data.html || !data.turn) return;
    const made = document.createElement("template");
    made.innerHTML = data.html;
    const fresh = made.content.firstElementChild;
    const old = turnOf(data.turn);
    // What has ended never changes: with as many answers it is the same.
    const ended = (turn) => turn && !turn.hasAttribute("data-running") && $$(".message, .again", turn).length;
    if (old && ended(old) && ended(old) === ended(fresh)) return;
    if (!old && messages && data.turn > 1 && !turnOf(data.turn - 1)) { location.reload(); return; } // some were missed
    for (const fold of [".thinking", ".earlier"]) { // what one has unfolded stays so
      const is = $(fold, fresh);
      if (is && old && $(fold, old)?.open) is.open = true;
    }
    // The newest line between what the model still reads and the rest is the true one.
    if (messages && $(".forgotten", fresh)) for (const line of $$(".forgotten", messages)) line.remove();
    keepingEnd(() => {
      if (old) old.replaceWith(fresh); else if (messages) { $(".empty", messages)?.remove(); messages.append(fresh); }
      for (const form of $$(".turn:not(:last-of-type) > form.again")) form.remove(); // only the last can be answered anew
      htmx.process(fresh);
      settle(fresh);
    });
  };
  const phases = { waiting: "In line", connecting: "Connecting", loading: "Loading the model", reading: "Reading the prompt", thinking: "Thinking", answering: "Answering" };
  const parse = (event) => { try { return JSON.parse(event.detail.data); } catch { return {}; } };
  const add = (event, selector) => {
    const data = parse(event);
    const turn = turnOf(data.turn);
    const box = turn && turn.hasAttribute("data-running") && $(selector, turn);
    if (!box) return;
    phase(turn, event.type === "thinking" ? { phase: "thinking" } : { phase: "answering" });
    keepingEnd(() => {
      const fold = box.closest("details");
      if (fold) fold.hidden = false;
      box.append(data.text); // a text node: nothing in it is markup
    });
  };
  const on = (name, f) => document.addEventListener(name, f);
  const phase = (turn, data) => {
    const line = turn && $("[data-phase]", turn);
    if (!line) return;
    const words = data.text || phases[data.phase] || data.phase;
    const word = $("[data-word]", line);
    if (word.textContent !== words) {
      word.textContent = words;
      if (data.phase !== line.phase) { $("[data-elapsed]", line).phaseSince = data.since ? Date.parse(data.since) : Date.now(); say(words); }
      line.phase = data.phase;
    }
    line.hidden = data.phase === "answering" && !data.text;
    tick();
  };
  on("text", (e) => add(e, "[data-text]"));
  on("thinking", (e) => add(e, "[data-thinking]"));
  on("phase", (e) => { const data = parse(e); phase(turnOf(data.turn), data); });
  on("reset", (e) => { upsert(parse(e)); say("An answer is being written"); });
  on("idle", (e) => upsert(parse(e)));
  // Somebody deleted the conversation on another page: nothing here goes on.
  on("deleted", (e) => {
    const made = document.createElement("template");
    made.innerHTML = parse(e).html || "";
    const fresh = made.content.firstElementChild;
    if (!fresh || !messages) return;
    for (const turn of $$("[data-running]")) {
      turn.removeAttribute("data-running");
      $("[aria-busy]", turn)?.removeAttribute("aria-busy");
      $("[data-phase]", turn)?.remove();
    }
    for (const form of $$("form.again", messages)) form.remove();
    for (const button of $$("button", composer)) button.disabled = true; // the draft stays, to be copied
    keepingEnd(() => {
      messages.append(fresh);
      htmx.process(fresh);
      settle(fresh);
    });
    say("The conversation is deleted");
  });
  on("end", (e) => {
    const data = parse(e);
    upsert(data);
    say(data.end === "stop" ? "The answer is complete" : `The answer ended: ${data.end}`);
  });

  // ---- the connection ----
  const notice = $("#connection");
  let out = false; // signed out: nothing else is told until the stream is back
  const tell = (words) => { if (notice && !out) { notice.hidden = !words; notice.textContent = words || ""; } };
  const signedOut = () => {
    if (!notice || out) return;
    out = true;
    notice.hidden = false;
    notice.textContent = "You are signed out. What you typed is kept. ";
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = "Reload to sign in";
    notice.append(link);
  };
  on("htmx:sse:error", (e) => {
    const status = e.detail?.status;
    // An expired session of Cloudflare Access answers with a redirect to another
    // site, which fetch may not follow: the page asks whether we are still let in.
    if (out || status === 401 || status === 403) return signedOut();
    tell("The connection is lost. Trying again…");
    fetch("/models", { headers: { Accept: "application/json" }, redirect: "manual" })
      .then((r) => { if (r.type === "opaqueredirect" || r.status === 401 || r.status === 403) signedOut(); })
      .catch(() => {});
  });
  on("htmx:sse:after:connection", (e) => {
    const status = e.detail?.connection?.status;
    if (status === 401 || status === 403) return signedOut();
    out = false;
    tell("");
  });
  // hx-sse connects again by itself once it was connected; the first time it does not.
  const open = (source) => {
    if (source.isConnected && !source._htmx?.sse) htmx.ajax("GET", source.getAttribute("hx-sse:connect"), { source });
  };
  const connect = (source) => setTimeout(() => { if (!out) open(source); }, 2000);
  // A stream says something each 15 s. One that is silent for longer than data-silence,
  // in seconds, is dead without an end, as after a change of networks, or was set aside
  // while the page was hidden and never taken up: it is cut, so that hx-sse connects again.
  const stream = $("#stream");
  // Who is signed out is not asked for again and again, but once whenever the page is
  // looked at anew: it may have been signed in beside it.
  on("htmx:sse:before:connection", (e) => { if (out && e.detail?.connection?.attempt > 0) e.preventDefault(); });
  on("visibilitychange", () => { if (out && stream && !document.hidden) open(stream); });
  let heard = Date.now();
  for (const name of ["htmx:sse:after:connection", "htmx:sse:after:message", "htmx:sse:error"]) on(name, () => { heard = Date.now(); });
  setInterval(() => {
    if (!stream || out || document.hidden || Date.now() - heard < stream.dataset.silence * 1000) return;
    heard = Date.now();
    document.dispatchEvent(new Event("visibilitychange"));
    stream._htmx?.sse?.reader?.cancel();
  }, 1000);
  on("stopping", () => tell("The server stops. Trying again…"));

  // ---- errors of forms ----
  const complain = (form, words, field) => {
    const box = form && $("[data-error]", form);
    if (!box) { tell(words); return; }
    box.hidden = !words;
    box.textContent = words || "";
    // What was wrong before may be mended: only what is said now stands.
    for (const input of $$("[aria-invalid]", form)) input.removeAttribute("aria-invalid");
    for (const beside of $$("[data-error-for]", form)) beside.hidden = true;
    const input = field && form.elements[field];
    if (input instanceof Element) {
      input.setAttribute("aria-invalid", "true");
      const beside = $(`[data-error-for="${CSS.escape(field)}"]`, form);
      if (beside) { beside.textContent = words; beside.hidden = false; box.hidden = true; }
      input.focus();
    }
  };
  const formOf = (e) => { const source = e.detail?.ctx?.sourceElement; return source?.closest?.("form"); };
  on("htmx:after:request", (e) => {
    const ctx = e.detail?.ctx;
    const form = formOf(e);
    const status = ctx?.response?.status;
    if (!status) return;
    if (status === 401 || (status === 403 && ctx.sourceElement?.id === "stream")) return signedOut();
    if (ctx.sourceElement?.id === "stream") { tell("The connection is lost. Trying again…"); return connect(ctx.sourceElement); }
    if (status < 400) {
      if (form) complain(form, "");
      if (form === composer && status === 204 && !/\/stop$/.test(ctx.request?.action || "")) {
        text.value = "";
        forget();
        grow();
        toEnd();
      }
      if (form?.hasAttribute("data-reload")) location.reload();
      return;
    }
    let said = {};
    try { said = JSON.parse(ctx.text || "{}"); } catch { /* not ours */ }
    complain(form, said.error || `That did not work (${status}).`, said.field);
  });
  on("htmx:error", (e) => {
    const form = formOf(e);
    if (form) complain(form, "The server cannot be reached. What you typed is kept.");
    if (e.detail?.ctx?.sourceElement?.id === "stream") { tell("The connection is lost. Trying again…"); connect(e.detail.ctx.sourceElement); }
  });
  on("htmx:before:request", (e) => {
    const form = formOf(e);
    const question = form?.dataset.confirm;
    if (question && !confirm(question)) e.preventDefault();
  });
  on("htmx:config:request", (e) => {
    const form = formOf(e);
    if (form?.hasAttribute("data-with-choice") && choice) e.detail.ctx.request.body?.set?.("choice", choice.value);
  });

  // ---- the composer ----
  const key = (name) => `runner:${name}:${chat?.dataset.new === undefined ? chat?.dataset.conversation : "new"}`;
  const keep = () => { try { localStorage.setItem(key("draft"), text.value); } catch { /* a private window */ } };
  const forget = () => { try { localStorage.removeItem(key("draft")); } catch { /* a private window */ } };
  const grow = () => { text.style.height = "auto"; text.style.height = `${Math.min(text.scrollHeight, innerHeight * 0.4)}px`; };
  if (composer) {
    try { if (!text.value) text.value = localStorage.getItem(key("draft")) || ""; } catch { /* a private window */ }
    grow();
    text.addEventListener("input", () => { keep(); grow(); });
    text.addEventListener("keydown", (e) => {
      if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
        e.preventDefault();
        if (text.value.trim() && !running()) $(".send", composer).click(); // nothing while it is disabled
      }
    });
    document.addEventListener("keydown", (e) => {
      // What lies over the page takes Esc for itself: the browser closes it.
      if (e.key === "Escape" && running() && !$("dialog[open], :popover-open")) { e.preventDefault(); $(".stop", composer).click(); }
      if (e.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName)) { e.preventDefault(); text.focus(); }
    });
    // The model that was chosen last is chosen for a new conversation.
    const remembered = () => { try { return localStorage.getItem("runner:choice"); } catch { return null; } };
    // Without one, and in a conversation, what the server says holds. A choice that is in
    // no list stays, marked so: no other may take its place unseen.
    let chosen = (chat.dataset.new !== undefined && remembered()) || "";
    const choose = () => {
      if (!chosen) return;
      let option = [...choice.options].find((o) => o.value === chosen || (chosen.endsWith("/") && o.value.startsWith(chosen)));
      if (!option) {
        const [, name, model] = chosen.match(/^([^/]*)\/(.*)$/) || [];
        if (!name) return;
        const group = $$("optgroup", choice).find((g) => $(`option[value^="${CSS.escape(name)}/"]`, g));
        option = new Option([model || "no model is known", name, group ? group.dataset.mark || "not listed" : "not configured"].join(" · "), chosen);
        (group || choice).append(option);
      }
      option.selected = true;
    };
    choose();
    choice.addEventListener("change", () => {
      chosen = choice.value;
      try { localStorage.setItem("runner:choice", chosen); } catch { /* a private window */ }
    });
    // The list is asked for anew when a model server goes, comes or loads another model, but
    // not under the hands of who has it open.
    const servers = () => $$("#hosts .host").map((h) => `${h.className} ${h.firstChild?.textContent} ${$(".detail", h)?.textContent}`).join();
    let seen = servers();
    on("htmx:after:swap", () => {
      choose();
      const now = servers();
      if (now === seen || document.activeElement === choice) return;
      seen = now;
      htmx.trigger(choice, "refresh");
    });
  }

  // ---- copying ----
  document.addEventListener("click", async (e) => {
    const button = e.target.closest?.("button.copy");
    if (!button) return;
    const from = button.dataset.copy ? $(button.dataset.copy, button.closest("article")) : $("pre", button.closest(".code"));
    if (!from) return;
    try {
      await navigator.clipboard.writeText(from.innerText);
    } catch { // over plain http there is no clipboard
      const range = document.createRange();
      range.selectNodeContents(from);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    const was = button.textContent;
    button.textContent = "Copied";
    say("Copied");
    setTimeout(() => { button.textContent = was; }, 1500);
  });

  // The list leads to the settings of a conversation by an address of their own.
  const settings = () => {
    if (location.hash !== "#settings" || !$("#settings")) return;
    $("#sidebar")?.matches(":popover-open") && $("#sidebar").hidePopover();
    $("#settings").showPopover();
    history.replaceState(null, "", location.pathname);
  };
  addEventListener("hashchange", settings);

  on("htmx:after:swap", () => settle());
  settle();
  settings();
  setInterval(tick, 1000);
  setInterval(localise, 60000);
  if (messages && chat && chat.dataset.new === undefined) {
    history.scrollRestoration = "manual"; // a reload, too, begins at the end
    toEnd();
  }
})();
